"""How long a training will take and what it holds, said once its first steps are done."""

import functools

import torch

from dassl.utils import Readings
from dassl.utils.memory import peak_memory

from .stopwatch import Stopwatch

WARM_UP = 1  # steps that are not measured: what is computed once, such as frozen features, falls into the first
MEASURED = 5


class Forecast:
    """Told of each step. A GPU is not waited for: what it took is looked up, and said, when numbers are read next."""

    def __init__(self, device: torch.device, readings: Readings):
        self.stopwatch, self.readings, self.steps = Stopwatch(device), readings, 0

    def after_step(self, left: int) -> None:
        """`left` steps are still to come, of all epochs."""
        self.steps += 1
        if self.steps == WARM_UP:
            self.stopwatch.__enter__()
        elif self.steps == WARM_UP + MEASURED:
            self.stopwatch.__exit__()
            self.readings.then(functools.partial(self.say, left))

    def say(self, left: int) -> None:
        seconds = self.stopwatch.total() / MEASURED
        print(
            f"At the rate of the first {WARM_UP + MEASURED} steps ({seconds:.3f} s each) the training takes "
            f"{in_words(seconds * left)} more; {held()}"
        )


def held() -> str:
    """What the process and its tensors on a GPU have taken at most."""
    process, gpu = peak_memory()
    taken = [f"{mib:,.0f} MiB {where}" for mib, where in ((gpu, "on the GPU"), (process, "of the process")) if mib]
    return f"at most {' and '.join(taken)} so far" if taken else "memory not known"


def in_words(seconds: float) -> str:
    """About 3 h 10 min; about 12 min; about 40 s."""
    if seconds < 60:
        return f"about {max(1, round(seconds))} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"about {hours:,} h {minutes} min" if hours else f"about {minutes} min"
