"""What all benchmarks share: CoOp's split files, few-shot sampling, base and new halves.

The rules are the field's (CoOp, Zhou et al., IJCV 2022): same seed, same images as CoOp picks.
A benchmark is a subclass that states facts: folder, split file, prompt template.
"""

import math
import os

from dassl.data.datasets import DatasetBase, Datum
from dassl.utils import InputError, read_json

SUBSAMPLES = ("all", "base", "new")


class Benchmark(DatasetBase):
    """A benchmark in CoOp's layout: `<root>/<dataset_dir>/<image_dir>/...` beside a `split_zhou_*.json`."""

    dataset_dir: str  # folder under the data root
    image_dir: str  # folder of the images, under dataset_dir
    split_file: str  # {"train" | "val" | "test": [[path under image_dir, label, class name], ...]}
    template = "a photo of a {}."  # the hand-written prompt of zero-shot CLIP
    remedy = "see README.md, section 'The real benchmarks'"

    def __init__(self, cfg):
        root = os.path.abspath(os.path.expanduser(cfg.DATASET.ROOT))
        self.dataset_dir = os.path.join(root, self.dataset_dir)
        self.image_dir = os.path.join(self.dataset_dir, self.image_dir)
        self._check_folders(root)

        train, val, test = read_split(os.path.join(self.dataset_dir, self.split_file), self.image_dir)
        # CoOp's order: few shots of ALL classes first (train, then val), then the half that was asked for.
        shots = cfg.DATASET.NUM_SHOTS
        if shots >= 1:
            train = self.generate_fewshot_dataset(train, num_shots=shots)
            val = self.generate_fewshot_dataset(val, num_shots=min(shots, 4))
        train, val, test = subsample_classes(train, val, test, subsample=cfg.DATASET.SUBSAMPLE_CLASSES)
        super().__init__(train_x=train, val=val, test=test)

    def _check_folders(self, root: str) -> None:
        """One sentence for the three usual mistakes, before anything is read."""
        name, remedy = type(self).__name__, self.remedy.format(root=root)
        if not os.path.isdir(root):
            raise InputError(f"The data root {root} does not exist: pass --root FOLDER ({name}: {remedy}).")
        for folder in (self.dataset_dir, self.image_dir):
            if not os.path.isdir(folder):
                raise InputError(f"{name} is not under {root}: {folder} is missing ({remedy}).")
        if not os.path.isfile(os.path.join(self.dataset_dir, self.split_file)):
            raise InputError(f"{name} has no {self.split_file} in {self.dataset_dir} ({remedy}).")


def read_split(path: str, image_dir: str) -> tuple[list[Datum], list[Datum], list[Datum]]:
    """Read a `split_zhou_*.json`: train, val and test items, in the file's order."""
    try:
        split = read_json(path)
        rows = [[(image, int(label), name) for image, label, name in split[part]] for part in ("train", "val", "test")]
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} is not a split file (lists train, val, test of [path, label, class name]): {error!r}. "
            "Fetch or write it again."
        ) from error
    missing = [image for part in rows for image, _, _ in part if not os.path.isfile(os.path.join(image_dir, image))]
    if missing:
        raise InputError(
            f"{path} names {len(missing)} images that are not in {image_dir}, {missing[0]} first: "
            "unpack the images again, or take the split file that belongs to them."
        )
    return tuple(
        [Datum(impath=os.path.join(image_dir, image), label=label, classname=name) for image, label, name in part]
        for part in rows
    )


def subsample_classes(*parts: list[Datum], subsample: str = "all") -> list[list[Datum]]:
    """The base half (first ceil(n/2) labels), the new half (the rest) or all classes, relabelled from 0."""
    if subsample not in SUBSAMPLES:
        raise InputError(f"DATASET.SUBSAMPLE_CLASSES is {subsample!r}: choose one of {', '.join(SUBSAMPLES)}.")
    if subsample == "all":
        return list(parts)
    labels = sorted({item.label for item in parts[0]})
    half = math.ceil(len(labels) / 2)
    selected = labels[:half] if subsample == "base" else labels[half:]
    if not selected:
        raise InputError(
            f"The {subsample} half of {len(labels)} class(es) is empty: base-to-new needs at least two classes "
            "(DATASET.SUBSAMPLE_CLASSES all uses every class)."
        )
    relabel = {label: new_label for new_label, label in enumerate(selected)}
    print(f"SUBSAMPLE {subsample.upper()} CLASSES: {len(selected)} of {len(labels)}")
    return [
        [
            Datum(impath=item.impath, label=relabel[item.label], domain=item.domain, classname=item.classname)
            for item in part
            if item.label in relabel
        ]
        for part in parts
    ]
