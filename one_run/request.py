"""What is asked of one run, as data; `train.py` takes the same from its command line. No PyTorch here."""

from dataclasses import dataclass
from pathlib import Path

from .layout import ROOT


@dataclass(frozen=True)
class Request:
    """A run of a method on a data set; with `model_dir` it tests what that folder's run has learned."""

    method: str  # as registered
    files: tuple[Path, ...]  # configs: the data set's, then the method's
    root: Path  # the data root: the folder that holds the data sets
    output_dir: Path
    seed: int
    protocol: str = "base2new"  # whose settings it has: one_run/settings.py
    options: tuple[str, ...] = ()  # KEY VALUE ...
    model_dir: Path | None = None

    @property
    def given(self) -> dict:
        """What `one_run.config.build_config` takes by name."""
        return {
            "root": str(self.root),
            "output_dir": str(self.output_dir),
            "seed": self.seed,
            "protocol": self.protocol,
        }

    @property
    def command(self) -> tuple[str, ...]:
        """The same for a new Python: train.py and its arguments."""
        dataset_file, method_file = self.files
        tested = [] if self.model_dir is None else ["--model-dir", self.model_dir, "--eval-only"]
        parts = [
            ROOT / "train.py", "--root", self.root, "--seed", self.seed,
            "--trainer", self.method, "--protocol", self.protocol,
            "--dataset-config-file", dataset_file, "--config-file", method_file,
            "--output-dir", self.output_dir, *tested, *self.options,
        ]  # fmt: skip
        return tuple(map(str, parts))
