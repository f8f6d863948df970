"""How long a device is at work on something."""

import time

import torch


class Stopwatch:
    """Seconds of the work that is done under `with`, all times together; what is not under it does not count.

    A GPU works on while the program goes on to read the next pictures, so the clock beside the program would miss what
    is done meanwhile. There the marks stand in the GPU's own list of work, and are read at the end, when it is done.
    """

    def __init__(self, device: torch.device):
        self.on_gpu = device.type != "cpu"
        self.marks: list = []
        self.seconds = 0.0

    def mark(self):
        if not self.on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def __enter__(self) -> None:
        self.marks.append(self.mark())

    def __exit__(self, *error) -> None:
        begun, ended = self.marks.pop(), self.mark()
        if self.on_gpu:
            self.marks += [begun, ended]
        else:
            self.seconds += ended - begun

    def total(self) -> float:
        """Seconds of all times, for which a GPU is waited for once."""
        if self.marks:
            self.marks[-1].synchronize()
            pairs = zip(self.marks[::2], self.marks[1::2], strict=True)
            self.seconds += sum(begun.elapsed_time(ended) for begun, ended in pairs) / 1000
            self.marks = []
        return self.seconds
