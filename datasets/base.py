"""What all benchmarks share: which list of images is read, few-shot sampling, base and new halves.

The rules are the field's (CoOp, Zhou et al., IJCV 2022): same seed, same images as CoOp picks.
A benchmark is a subclass in a file of its own that states all of its facts: names, numbers, folders, split file, prompt
template, sources, and how its original files read. The file is called as the config in configs/datasets/.
"""

import contextlib
import math
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from dassl.data.datasets import DatasetBase, Datum
from dassl.utils import InputError, read_json, write_json

from .paths import inside, on_disk
from .sources import Mirror, Source
from .splits import (
    Item,
    Split,
    as_json,
    check_shared,
    hold_out,
    is_text,
    items_in,
    parse_rows,
    read_lines,
    read_mat,
    read_split,
    sha256_of_split,
)

SUBSAMPLES = ("all", "base", "new")


class Benchmark(DatasetBase):
    """A benchmark in CoOp's layout: `<root>/<dataset_dir>/<image_dir>/...` beside a `split_zhou_*.json`."""

    display_name: str
    classes: int
    rows: tuple[int, ...] = ()  # training, validation and test images, as in CoOp; no training where it only tests
    dataset_dir: str  # folder under the data root
    image_dir: str  # folder of the images, under dataset_dir
    split_file = ""  # CoOp's, under dataset_dir; "" where CoOp reads the original files
    template = "a photo of a {}."  # the hand-written prompt of zero-shot CLIP
    twins: tuple[str, ...] = ()  # names that two classes share
    sources: tuple[Source, ...] = ()  # what datasets.prepare fetches, in this order
    mirror: Mirror | None = None  # all of it in one archive, where its own servers do not answer
    by_hand = ""  # what to do where a licence, a login or a dead server is in the way of its images
    remedy = "python -m datasets.prepare {name} --root {root}"

    def __init__(self, cfg):
        self.root = os.path.abspath(os.path.expanduser(cfg.DATASET.ROOT))
        self.dataset_dir = os.path.join(self.root, self.dataset_dir)
        self.image_dir = os.path.normpath(os.path.join(self.dataset_dir, self.image_dir))
        self.allow_shared = cfg.DATASET.ALLOW_SHARED_IMAGES
        self.allow_outside = cfg.DATASET.ALLOW_OUTSIDE
        self.check_folders()
        split = self.read()
        self.check_classes(split)
        self.split_sha256 = sha256_of_split(split)
        names = {item.label: item.classname for item in split["train"]}
        self.all_classnames = [names[label] for label in sorted(names)]  # before a half is taken
        # CoOp's order: few shots of ALL classes first (train, then val), then the half that was asked for.
        split = self.few_shots(split, cfg.DATASET.NUM_SHOTS, cfg.SEED)
        split = subsample_classes(split, cfg.DATASET.SUBSAMPLE_CLASSES)
        super().__init__(
            train_x=self.data(split["train"]), val=self.data(split["val"]) or None, test=self.data(split["test"])
        )

    @classmethod
    def template_of(cls, cfg) -> str:
        """Its hand-written prompt, of a config."""
        return cls.template

    @classmethod
    def number_of_images(cls) -> int:
        """How many a whole benchmark has; fewer are not divided here."""
        return sum(cls.rows)

    def data(self, items: list[Item]) -> list[Datum]:
        return [Datum(os.path.join(self.image_dir, item.path), item.label, classname=item.classname) for item in items]

    # --- the list of images ---------------------------------------------------------------------------------

    def read(self) -> Split:
        """CoOp's split file, or the one that was built here before, or one built now from the original files."""
        if not self.split_file:
            return self.read_original()
        theirs = os.path.join(self.dataset_dir, self.split_file)
        ours = os.path.join(self.dataset_dir, f"split_own_{type(self).__name__}.json")
        for path in (theirs, ours):
            if os.path.isfile(path):
                split = read_split(path, self.image_dir, self.allow_outside)
                check_shared(split, self.image_dir, path, self.allow_shared)
                return split
        split = self.read_original()
        self.check_classes(split)  # before it is kept
        print(
            f"{theirs} is not there: the images were divided anew, by CoOp's rules but with other random numbers, and "
            "results will not be comparable with published ones to the last digit."
        )
        save(as_json(split), ours)
        return split

    def read_original(self) -> Split:
        """From the benchmark's own annotation files, or lists of folders; subclasses know how."""
        raise InputError(
            f"{type(self).__name__} has no {self.split_file} in {self.dataset_dir} ({self.how_to_get_it()})."
        )

    # For benchmarks that come with lists.

    def annotation_file(self, name: str) -> str:
        path = os.path.join(self.dataset_dir, name)
        if not os.path.isfile(path):
            raise InputError(f"The annotation file {path} is missing ({self.how_to_get_it()}).")
        return path

    def read_rows(self, name: str, parse: Callable, key: str = "") -> list:
        """What `parse` makes of each line of a text file, or each entry of `key` in a .mat file."""
        path = self.annotation_file(name)
        return parse_rows(path, read_mat(path, key) if name.endswith(".mat") else read_lines(path), parse)

    def read_list(self, name: str, parse: Callable[..., Item], key: str = "") -> list[Item]:
        """The same where each is an image, which must be there."""
        items = self.read_rows(name, parse, key)
        split, named_by = {"": items}, self.annotation_file(name)
        split = split if self.allow_outside else inside(split, self.image_dir, named_by)
        return on_disk(split, self.image_dir, named_by)[""]

    def held_out(self, trainval: list[Item], test: list[Item]) -> Split:
        """Official lists for training and test; as in CoOp, a fifth of each class's training images validates."""
        self.check_whole(trainval + test)
        train, val = hold_out(trainval)
        return {"train": train, "val": val, "test": test}

    # --- checks ---------------------------------------------------------------------------------------------

    def check_folders(self) -> None:
        """One sentence for the usual mistakes, before anything is read."""
        name = type(self).__name__
        if not os.path.isdir(self.root):
            raise InputError(
                f"The data root {self.root} does not exist: pass --root FOLDER, a script DATA=FOLDER ({self.how_to_get_it()})."
            )
        for folder in (self.dataset_dir, self.image_dir):
            if not os.path.isdir(folder):
                raise InputError(f"{name} is not under {self.root}: {folder} is missing ({self.how_to_get_it()}).")

    def check_whole(self, items: list[Item]) -> list[Item]:
        """Refuse to divide a benchmark of which a part is missing: the division would stay wrong for good."""
        if len(items) < (whole := self.number_of_images()):
            raise InputError(
                f"{self.dataset_dir} has {len(items):,} of the {whole:,} images of {type(self).__name__}: unpack "
                f"its archives again ({self.how_to_get_it()})."
            )
        return items

    def check_classes(self, split: Split) -> None:
        """Refuse labels with two names, names with two labels, gaps, and classes that have no training image."""
        named = {}
        for item in (item for items in split.values() for item in items):
            if named.setdefault(item.label, item.classname) != item.classname:
                raise InputError(
                    f"{self.dataset_dir}: label {item.label} is both {named[item.label]!r} and {item.classname!r}: "
                    "write the split file again."
                )
        for name in named.values():
            if not name.encode(errors="ignore").decode().replace("_", " ").strip():
                raise InputError(f"{self.dataset_dir}: the class {name!r} has no name in a prompt: rename it.")
            if not is_text(name):
                raise InputError(f"{self.dataset_dir}: the class {name!r} is spelt in no UTF-8: rename it.")
        for one, other in same_in_a_prompt(named.values()):
            if other not in self.twins:
                raise InputError(
                    f"{self.dataset_dir}: the classes {one!r} and {other!r} have the same name in a prompt: "
                    "rename one of them."
                )
        if sorted(named) != list(range(len(named))):
            raise InputError(
                f"{self.dataset_dir}: the {len(named)} labels are not 0 to {len(named) - 1} but between {min(named)} and "
                f"{max(named)}: fetch the benchmark's lists again."
            )
        without = sorted(named.keys() - {item.label for item in split["train"]})
        if without:
            raise InputError(
                f"{self.dataset_dir}: {len(without)} class(es) have no training image, {named[without[0]]!r} first: "
                "add some, or take the class out."
            )

    def how_to_get_it(self) -> str:
        return self.remedy.format(root=self.root, name=type(self).__name__)

    # --- few shots ------------------------------------------------------------------------------------------

    def few_shots(self, split: Split, shots: int, seed: int) -> Split:
        """`shots` training images a class, and at most 4 validation images, drawn by Python's `random`.

        The draw is kept in `split_fewshot/`, with what it was drawn from, and read from there as long as that is the
        same. It is made anyway, so that the random numbers of a run do not depend on the file.
        """
        if shots < 1:
            return split
        with seeded(seed):
            drawn = {
                "train": self.generate_fewshot_dataset(split["train"], num_shots=shots),
                "val": self.generate_fewshot_dataset(split["val"], num_shots=min(shots, 4)) if split["val"] else [],
            }
        counts = Counter(item.label for item in split["train"])
        if short := sum(count < shots for count in counts.values()):
            print(f"{short} of {len(counts)} classes have fewer than {shots} training images, and give all they have")
        if seed < 0:  # another draw each time
            return {**split, **drawn}
        path = os.path.join(self.dataset_dir, "split_fewshot", f"shot_{shots}-seed_{seed}.json")
        made_from = {"split_sha256": self.split_sha256, "shots": shots, "seed": seed}
        kept, kept_from = read_draw(path)
        if kept_from == made_from:
            if all(is_draw_of(kept[part], drawn[part], split[part]) for part in drawn):
                if kept != drawn:
                    print(f"{path} has other images than seed {seed} draws here, and they are taken")
                return {**split, **kept}
            print(f"{path} has other images than those of its list, or not as many of each class: drawn again")
        elif kept is not None:
            print(f"{path} was drawn from another list of images: drawn again")
        save({"made_from": made_from, **as_json(drawn)}, path)
        return {**split, **drawn}


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """While this lasts Python's `random` gives what follows from the seed, whatever was drawn before: the images of a seed
    are the same for whoever asks. Afterwards it goes on as if nothing had been drawn; a run, which begins with its seed,
    goes on behind the draw, as in CoOp. A negative seed is none.
    """
    before = random.getstate()
    if seed >= 0:
        random.seed(seed)
    begins = random.getstate() == before
    try:
        yield
    finally:
        if not begins:
            random.setstate(before)


def same_in_a_prompt(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of classes that CLIP's tokenizer cannot tell apart, as "A 320" and "a320".

    A token says whether its word ends, so texts have the same tokens where they have the same words.
    """
    names = list(names)
    plain = {"".join(name.replace("_", " ").lower().split()) for name in names}
    if len(plain) == len(names) and all(name.isascii() and "&" not in name for name in plain):
        return []  # only accents, other scripts and HTML's entities have a second spelling
    from clip.simple_tokenizer import words  # only here: PyTorch comes with it

    first, pairs = {}, []
    for name in names:
        key = tuple(words(name.replace("_", " ")))  # as it is written into a prompt
        if key in first:
            pairs.append((first[key], name))
        first.setdefault(key, name)
    return pairs


def read_draw(path: str) -> tuple[Split | None, object]:
    """A few-shot draw that was kept, and what it was made from; None if there is none that can be read."""
    if not os.path.isfile(path):
        return None, None
    try:
        content = read_json(path)
        return items_in(content, ("train", "val")), content["made_from"]
    except (KeyError, ValueError):
        print(f"{path} cannot be read: drawn again")
        return None, None


def is_draw_of(kept: list[Item], drawn: list[Item], items: list[Item]) -> bool:
    """Whether it can be another draw of the same items, such as another Python makes."""
    chosen = {*kept}
    return len(chosen) == len({*drawn}) and chosen <= {item for item in items if item in chosen} and labels_of(kept) == labels_of(drawn)  # fmt: skip


def labels_of(items: list[Item]) -> Counter:
    return Counter(item.label for item in items)


def save(content: dict, path: str) -> None:
    """Keep a list beside the images, if the folder can be written; a run goes on without."""
    try:
        write_json(content, path)
    except (InputError, OSError) as error:
        print(f"{path} is not kept: {error}")


def subsample_classes(split: Split, subsample: str = "all") -> Split:
    """The base half (first ceil(n/2) labels), the new half (the rest) or all classes, relabelled from 0."""
    if subsample not in SUBSAMPLES:
        raise InputError(f"DATASET.SUBSAMPLE_CLASSES is {subsample!r}: choose one of {', '.join(SUBSAMPLES)}.")
    if subsample == "all":
        return split
    labels = sorted({item.label for item in split["train"]})
    half = math.ceil(len(labels) / 2)
    selected = labels[:half] if subsample == "base" else labels[half:]
    if not selected:
        raise InputError(
            f"The {subsample} half of {len(labels)} class(es) is empty: base-to-new needs at least two classes "
            "(DATASET.SUBSAMPLE_CLASSES all uses every class)."
        )
    if split["test"] and not any(item.label in selected for item in split["test"]):
        raise InputError(
            f"The {subsample} half of the classes, {len(selected)} of {len(labels)}, has no test images: add some, or use "
            "every class (DATASET.SUBSAMPLE_CLASSES all)."
        )
    relabel = {label: new_label for new_label, label in enumerate(selected)}
    print(f"SUBSAMPLE {subsample.upper()} CLASSES: {len(selected)} of {len(labels)}")
    return {
        part: [item._replace(label=relabel[item.label]) for item in items if item.label in relabel]
        for part, items in split.items()
    }
