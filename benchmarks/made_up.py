"""A trainer without a data set: its classes have made-up names, and its batches come from elsewhere.

No `clip` and no `trainers` are imported here, as those may be another repository's.
"""

from types import SimpleNamespace

SHOTS = 16  # of each class, if there were images


class MadeUp:
    """In front of a trainer's class."""

    names: tuple[str, ...]  # C

    def build_data_loader(self):
        count = len(self.names)
        facts = {"classnames": list(self.names), "num_classes": count, "template": "a photo of a {}."}
        self.dm = SimpleNamespace(dataset=SimpleNamespace(train_x=range(SHOTS * count), **facts))
        self.train_loader_x = SimpleNamespace(dataset=SimpleNamespace())
        self.train_loader_u = self.val_loader = self.test_loader = None
        self.num_classes, self.num_source_domains, self.lab2cname = count, 0, dict(enumerate(self.names))

    def init_writer(self, log_dir: str) -> None:
        """Nobody reads it."""

    def survey_shots(self) -> None:
        """There are none."""


def made_up(base: type, names: tuple[str, ...]) -> type:
    return type(f"MadeUp{base.__name__}", (MadeUp, base), {"names": names})
