"""A finished run as a classifier of pictures.

    from one_run.predictor import Predictor

    predictor = Predictor("output/fewshot/folder/shots_16/Spotlighter/vit_b16/seed1")
    for one in predictor.predict(["a.jpg", "b.jpg"]):
        print(one.path, one.classname, one.probability)

It needs the run's folder and its backbone's weights; the pictures that the run was trained on need not be here.
"""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dassl.data.transforms import build_transform
from dassl.errors import InputError
from dassl.utils import cores, read_image

from .calibration import temperature_of
from .rebuild import logits_of, rebuild_to_predict


class Prediction(NamedTuple):
    """Of one picture."""

    path: str
    classnames: Sequence[str]
    probabilities: Tensor  # (C,) fp32, on the CPU

    @property
    def classname(self) -> str:
        return self.top(1)[0][0]

    @property
    def probability(self) -> float:
        return self.top(1)[0][1]

    def top(self, count: int) -> list[tuple[str, float]]:
        """The likeliest classes and their probabilities, the likeliest first; of equal ones, in the classes' order."""
        order = self.probabilities.argsort(descending=True, stable=True)[:count].tolist()
        return [(self.classnames[label], self.probabilities[label].item()) for label in order]


class Broken(NamedTuple):
    """A picture that cannot be read."""

    path: str
    why: InputError


class Predictor:
    """The classifier that a training run has learned: `classnames`, `predict`, and `each` for many pictures."""

    def __init__(
        self,
        run: str | Path,
        classes: Sequence[str] | str = "",
        use_cuda: bool | None = None,
        epoch: int | None = None,
        calibrated: bool = False,
        root: str = "",
    ):
        """run: the folder of a finished training run, of any method.

        classes: names to predict among, or base, new or all of the run's data set (default: those it was trained on).
        use_cuda: default where there is a GPU. epoch: which checkpoint (default: the last). calibrated: probabilities by
        a temperature, which is fitted on the run's validation images in the data root `root` once, and kept in its record.
        """
        run = Path(run)
        use_cuda = torch.cuda.is_available() if use_cuda is None else use_cuda
        self.temperature = temperature_of(run, epoch, root, use_cuda) if calibrated else 1.0
        self.trainer = rebuild_to_predict(run, classes, use_cuda, epoch)
        if hasattr(self.trainer, "warn_of_same_texts"):  # of words that the backbone does not know
            state = self.trainer.class_state
            self.trainer.warn_of_same_texts(getattr(state, "text", state))
        self.classnames: list[str] = list(self.trainer.dm.dataset.classnames)
        self.transform = build_transform(self.trainer.cfg, is_train=False)
        self.batch_size: int = self.trainer.cfg.DATALOADER.TEST.BATCH_SIZE

    def predict(self, paths: Iterable[str | Path] | str | Path) -> list[Prediction]:
        """Of files, or of one, in their order; the first that cannot be read is an InputError."""
        found = []
        for one in self.each(paths):
            if isinstance(one, Broken):
                raise one.why
            found.append(one)
        return found

    def each(self, paths: Iterable[str | Path] | str | Path) -> Iterator[Prediction | Broken]:
        """The same one after the other, as batches are done; what cannot be read is among them."""
        batches: deque[list[tuple[str, Future]]] = deque()
        names = map(str, [paths] if isinstance(paths, str | Path) else paths)
        readers = ThreadPoolExecutor(cores())
        try:
            while batch := list(itertools.islice(names, self.batch_size)):
                batches.append([(path, readers.submit(self.read, path)) for path in batch])
                if len(batches) > 1:  # the next batch is read while this one is classified
                    yield from self.classify(batches.popleft())
            while batches:
                yield from self.classify(batches.popleft())
        finally:  # who stops in the midst does not wait for pictures that nobody asks for
            readers.shutdown(cancel_futures=True)

    def read(self, path: str) -> Tensor | Broken:
        """(3, H, W)"""
        try:
            return self.transform(read_image(path))
        except InputError as error:
            return Broken(path, error)

    def classify(self, batch: list[tuple[str, Future]]) -> Iterator[Prediction | Broken]:
        """Of pairs of a path and what is being read."""
        found = {path: image.result() for path, image in batch}
        whole = [path for path, _ in batch if not isinstance(found[path], Broken)]
        rows: Iterator[Tensor] = iter(())
        if whole:
            rows = iter(self.probabilities(torch.stack([found[path] for path in whole]), whole))  # of (B, C)
        for path, _ in batch:
            yield found[path] if isinstance(found[path], Broken) else Prediction(path, self.classnames, next(rows))

    def probabilities(self, images: Tensor, paths: list[str]) -> Tensor:
        """Of transformed images (B, 3, H, W): (B, C) on the CPU."""
        logits = logits_of(self.trainer, images.to(self.trainer.device), paths)  # (B, C)
        return (logits / self.temperature).softmax(dim=1)
