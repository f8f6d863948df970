"""Numbers that a GPU may still be at work on: they wait until somebody needs one of them, and are then fetched together."""

from collections.abc import Callable

import torch

__all__ = ["Readings", "computes_later"]

MOST = 4096  # that wait at a time; more would only take memory


def computes_later(value) -> bool:
    """Whether to read a value makes the program wait: only on a CPU is a tensor's number there when the tensor is."""
    return torch.is_tensor(value) and value.device.type != "cpu"


class Readings:
    """What is to be done with numbers, in the order in which they came.

    A CPU's number is used at once. Whoever reads one of a GPU waits for all that the GPU has been given to do, and then
    lets it wait for more. So these are kept on the GPU, until `fetch` waits once for all of them.
    """

    def __init__(self):
        self.waiting: list[tuple[object, Callable]] = []

    def add(self, value, use: Callable) -> None:
        """Call `use(number)` when `value`, a number or a tensor of one, is known."""
        if torch.is_tensor(value) and not computes_later(value):
            value = value.item()
        if torch.is_tensor(value):  # as it is now, in a form that holds every number, without the graph behind it
            value = value.detach().reshape(()).to(torch.float64, copy=True)
        elif not self.waiting:
            return use(value)
        self.waiting.append((value, use))
        if len(self.waiting) >= MOST:
            self.fetch()

    def then(self, do: Callable[[], object]) -> None:
        """Call `do()` when all is known that has come before."""
        self.add(None, lambda _: do())

    def fetch(self) -> None:
        """All that waits is known from here on. What is raised where a number is used, is raised here."""
        waiting, self.waiting = self.waiting, []
        tensors = [value for value, _ in waiting if torch.is_tensor(value)]
        numbers = iter(torch.stack(tensors).tolist() if tensors else ())
        for value, use in waiting:
            use(next(numbers) if torch.is_tensor(value) else value)
