"""TensorBoard's file, which a thread of its own writes: that it cannot is one sentence, where the run writes next."""

import contextlib
import threading
from collections.abc import Iterator

from dassl.utils import InputError


def open_writer(log_dir: str):
    """A SummaryWriter; importing it takes seconds."""
    from torch.utils.tensorboard import SummaryWriter

    if not isinstance(threading.excepthook, AllButTheWriters):
        threading.excepthook = AllButTheWriters(threading.excepthook)
    with writing():
        return SummaryWriter(log_dir=log_dir)


@contextlib.contextmanager
def writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"TensorBoard's file cannot be written ({error.strerror or error}): is the disk full, or the output folder "
            "gone? Mend that, and start the same command again."
        ) from error


class AllButTheWriters:
    """Shows what ends a thread, as before, but for a writer's: what is written next raises it again."""

    def __init__(self, show):
        self.show = show

    def __call__(self, ended) -> None:
        if not type(ended.thread).__module__.startswith("tensorboard."):
            self.show(ended)
