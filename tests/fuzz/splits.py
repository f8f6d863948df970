"""Split files and kept few-shot draws: the very rows that stand there, or a sentence, or drawn again."""

import json
from pathlib import Path
from random import Random

from dassl.config import get_cfg_default, merge_options
from dassl.data.datasets import DATASET_REGISTRY
from datasets import caltech101 as caltech101  # registers

from .harness import RIGHT, Kind, Wrong
from .mutate import perhaps_spoilt, spoilt_json
from .results import written

CLASSES, COUNTS, SHOTS = ("cat", "dog", "sea_horse"), {"train": 5, "val": 2, "test": 3}, 2


def write_benchmark(root: Path) -> tuple[Path, dict[str, list]]:
    """Its split file, and what stands in it. Its pictures are empty files, as nobody looks."""
    home = root / "caltech-101"
    split = {part: [] for part in COUNTS}
    for label, name in enumerate(CLASSES):
        (home / "101_ObjectCategories" / name).mkdir(parents=True)
        for part, count in COUNTS.items():
            for number in range(count):
                path = f"{name}/{part}_{number}.jpg"
                (home / "101_ObjectCategories" / path).touch()
                split[part].append([path, label, name])
    file = home / "split_zhou_Caltech101.json"
    file.write_text(json.dumps(split))
    return file, split


class Splits(Kind):
    name, inputs = "splits", 700

    def __init__(self, folder):
        super().__init__(folder)
        self.home = folder / "caltech-101"
        self.file, self.split = write_benchmark(folder)
        self.draw = self.home / "split_fewshot" / f"shot_{SHOTS}-seed_1.json"
        self.fresh = self.read(SHOTS)
        self.kept = json.loads(self.draw.read_text())

    def read(self, shots: int) -> dict[str, list]:
        """All rows of the data set that is built."""
        cfg = get_cfg_default()
        merge_options(cfg, ["DATASET.ROOT", str(self.folder), "SEED", 1, "DATASET.NUM_SHOTS", shots])
        made = DATASET_REGISTRY.get("Caltech101")(cfg)
        stem = len(str(self.home / "101_ObjectCategories")) + 1
        return {
            part: [[item.impath[stem:], item.label, item.classname] for item in items or ()]
            for part, items in (("train", made.train_x), ("val", made.val), ("test", made.test))
        }

    def one(self, chance: Random) -> str:
        self.draw.unlink(missing_ok=True)
        self.file.write_text(json.dumps(self.split))
        if chance.random() < 0.5:
            data = perhaps_spoilt(chance, spoilt_json(chance, self.split, (0, 1, 2, "train", "val", "test")))
            self.file.write_bytes(data)
            found, content = self.read(-1), written(data)
            wanted = content and {part: content[part] for part in COUNTS}
            if repr(found) != repr(wanted):  # 1 is not True
                raise Wrong(f"other rows than those of {data[:300]!r}")
            return RIGHT
        text = spoilt_json(chance, self.kept, (0, 1, 2, "train", "val", "made_from", "seed", "shots"))
        self.draw.write_bytes(perhaps_spoilt(chance, text))
        found = self.read(SHOTS)
        for part in ("train", "val"):
            there = [row in self.split[part] and type(row[1]) is int for row in found[part]]
            if not all(there) or sorted(row[1] for row in found[part]) != sorted(row[1] for row in self.fresh[part]):
                raise Wrong(f"a draw of {found[part]}"[:400])
        return RIGHT
