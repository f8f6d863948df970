"""Where runs stand: the folders of each protocol, and the data sets in the field's order. No PyTorch here.

A run's folder is OUTPUT/<phase's folder>/DATASET/shots_K/METHOD/CFG/seedS, as in the repositories of CoOp and MaPLe.
The protocols are the field's: base-to-new and cross-dataset (Zhou et al., "Conditional Prompt Learning for
Vision-Language Models", CVPR 2022), few-shot and domain generalisation (Zhou et al., "Learning to Prompt for
Vision-Language Models", IJCV 2022).
"""

import functools
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent  # of this repository
CONFIGS = ROOT / "configs"

# --- data sets -----------------------------------------------------------------------------------------------------

BENCHMARKS = (
    "imagenet", "caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "food101", "fgvc_aircraft", "sun397",
    "dtd", "eurosat", "ucf101",
)  # fmt: skip
SHIFTED_IMAGENETS = ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")  # they have no training images
EMBEDDED = tuple(
    f"embedded_{name}" for name in ("shapes", "textures", "compounds", "scenes", "species", "clutter", "small")
)
SHIFTED_SHAPES = tuple(f"embedded_shapes_{name}" for name in ("dark", "lowres", "negative", "sketch"))
GROUPS = {
    "all11": BENCHMARKS,
    "embedded": EMBEDDED,
    "shifts": SHIFTED_IMAGENETS,
    "embedded_shifts": SHIFTED_SHAPES,
}


def is_embedded(dataset: str) -> bool:
    """Whether it is a drawn set, a test bed: its figures never stand beside those of real images."""
    return dataset.startswith("embedded_")


# --- methods -------------------------------------------------------------------------------------------------------

OTHER_FILES = (
    "defaults",
    "teacher",
    "untrained",
    "of_classes",
)  # beside a method's configs, which are no configs of a run


OF_TRAINING = (
    "OPTIM.",
    "DATALOADER.TRAIN_X.",
    "DATALOADER.TRAIN_U.",
)  # keys that have no part where nothing is trained


@functools.cache
def is_untrained(method: str) -> bool:
    """Whether nothing is trained, so that neither shots nor seed matter; a file beside the method's configs says so."""
    return (CONFIGS / "trainers" / method / "untrained.yaml").is_file()


@functools.cache
def is_of_classes(method: str) -> bool:
    """Whether it learns something for each class, which fits no others; a file beside the method's configs says so."""
    return (CONFIGS / "trainers" / method / "of_classes.yaml").is_file()


# --- protocols -----------------------------------------------------------------------------------------------------


class Phase(NamedTuple):
    folder: str  # under the output folder
    classes: str  # DATASET.SUBSAMPLE_CLASSES
    protocol: str  # whose settings it has: SETTINGS.PROTOCOL
    trained: str = ""  # the phase whose model it tests; "" where it trains
    alike: str = ""  # the phase whose very run it is, where a method has the same settings for both


PHASES = {
    "base2new_train": Phase("base2new/train_base", "base", "base2new"),
    "base2new_test": Phase("base2new/test_new", "new", "base2new", trained="base2new_train"),
    "few_shot": Phase("fewshot", "all", "fewshot"),
    "xd_train": Phase("xd_train", "all", "xd", alike="few_shot"),
    "xd_test": Phase("xd", "all", "xd", trained="xd_train"),
    "dg_test": Phase("dg", "all", "xd", trained="xd_train"),
}
# The last phase of each protocol; what comes before follows from it.
PROTOCOLS = {"base2new": "base2new_test", "fewshot": "few_shot", "xd": "xd_test", "dg": "dg_test"}


class Place(NamedTuple):
    """One run among the others of its phase."""

    dataset: str  # as its config file is called
    shots: int
    method: str  # as registered
    config: str  # configs/trainers/<method>/<config>.yaml
    seed: int

    @property
    def path(self) -> Path:
        """Relative to the phase's folder."""
        return Path(self.dataset, f"shots_{self.shots}", self.method, self.config, f"seed{self.seed}")


def place_of(folder: Path) -> Place | None:
    """.../dtd/shots_16/CoOp/vit_b16/seed1 -> its place; None for another path."""
    if len(folder.parts) < 5:
        return None
    dataset, shots_part, method, config, seed_part = folder.parts[-5:]
    shots, seed = re.fullmatch(r"shots_(-?\d{1,9})", shots_part), re.match(r"seed(\d{1,9})", seed_part)
    return Place(dataset, int(shots[1]), method, config, int(seed[1])) if shots and seed else None
