"""How long a training will take and what it holds, said once its first steps are done."""

import time

import torch

from dassl.utils.memory import peak_memory

WARM_UP = 1  # steps that are not measured: what is computed once, such as frozen features, falls into the first
MEASURED = 5


class Forecast:
    """Told of each step; it waits for a GPU twice in a run, and takes part in nothing else."""

    def __init__(self, device: torch.device):
        self.device, self.steps, self.started = device, 0, 0.0

    def after_step(self, left: int) -> None:
        """`left` steps are still to come, of all epochs."""
        self.steps += 1
        if self.steps == WARM_UP:
            self.started = self.now()
        elif self.steps == WARM_UP + MEASURED:
            seconds = (self.now() - self.started) / MEASURED
            print(
                f"At the rate of the first {self.steps} steps ({seconds:.3f} s each) the training takes "
                f"{in_words(seconds * left)} more; {self.memory()}"
            )

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.monotonic()

    def memory(self) -> str:
        process, gpu = peak_memory()
        taken = [f"{mib:,.0f} MiB {where}" for mib, where in ((gpu, "on the GPU"), (process, "of the process")) if mib]
        return f"at most {' and '.join(taken)} so far" if taken else "memory not known"


def in_words(seconds: float) -> str:
    """About 3 h 10 min; about 12 min; about 40 s."""
    if seconds < 60:
        return f"about {max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    return f"about {hours:,} h {rest} min" if hours else f"about {minutes} min"
