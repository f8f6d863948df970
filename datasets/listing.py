"""Which pictures are a user's own: in class folders, in parts of such, or in a CSV file; and what is passed over there.

Folders are searched at any depth, in torchvision's order (its ImageFolder). Names are compared in one spelling (NFC):
Macs write an accent as a sign of its own. The first thing that is wrong stops a run; who looks for all of them passes a
`wrong` that does not raise, and what is left is read on.
"""

import csv
import os
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

from dassl.utils import InputError, is_picture
from one_run.folder import state_of

from .paths import Told, inside, on_disk, refuse
from .splits import PARTS, Item, Split, class_folders

PART_NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
PART_OF = {name: part for part, names in PART_NAMES.items() for name in names}
NO_CLASSES = ("split_fewshot",)  # the draws of few shots are kept there
OF_CACHES = {".npy", ".json", ".lock"}  # the files in a DATALOADER.TEST.CACHE_DIR
OF_OTHERS = ("__MACOSX", "@eaDir")  # an archive's second copies, a network disk's thumbnails
NO_SUFFIX, NO_CLASS = "without a suffix", "in no class folder"  # why a file is passed over, beside its suffix


@dataclass
class Own:
    """What was found. Labels are in the order of class names, which are those of the folders or of the list."""

    split: Split
    divided: bool = False  # by the user; if not, all pictures are in "train"
    passed_over: Counter = field(default_factory=Counter)  # reason, or suffix -> files
    results: list[str] = field(default_factory=list)  # folders that hold runs, and so are no classes


@dataclass
class Tree:
    """The pictures under one folder: paths relative to it, with /."""

    pictures: list[str] = field(default_factory=list)
    passed_over: Counter = field(default_factory=Counter)
    holds_runs: bool = False


def part_of(name: str) -> str | None:
    """train, val or test, however it is written; None for any other name."""
    return PART_OF.get(name.strip().lower())


def nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def what_was_passed_over(own: Own) -> str:
    """One line; empty if nothing was."""
    told = []
    if own.passed_over:
        kinds = ", ".join(f"{count:,} {reason}" for reason, count in own.passed_over.most_common())
        told.append(f"{own.passed_over.total():,} files are passed over: {kinds}")
    if own.results:
        told.append(f"{', '.join(f'{name}/' for name in own.results)} holds results of runs, and is no class")
    return "; ".join(told)


# --- folders ----------------------------------------------------------------------------------------------------


def read_class_folders(root: str, outputs: Collection[str] = (), wrong: Told = refuse) -> Own:
    """One folder a class, or such folders under train/, val/ and test/. `outputs` are folders that runs write to."""
    folders = [name for name in class_folders(root) if name not in (*NO_CLASSES, *OF_OTHERS)]
    parts = [name for name in folders if part_of(name)]
    trees, results = search(root, [name for name in folders if name not in parts], outputs, wrong)
    with_pictures = [name for name in parts if loose_pictures(os.path.join(root, name))]
    if not parts or (trees and with_pictures == parts):  # a class may be called `train`
        more, more_results = search(root, parts, outputs, wrong)
        own = Own({"train": items_of({**trees, **more}, root, wrong)}, False, Counter(), results + more_results)
        return finished(own, {**trees, **more}, root, [root], wrong)
    check_parts(root, parts, [*trees], wrong)
    own, searched = Own({}, True, results=results), {}
    for name in parts:
        directory = os.path.join(root, name)
        if not (classes := class_folders(directory)):
            continue  # which was told
        trees, results = search(directory, classes, outputs, wrong)
        own.split.setdefault(part_of(name), []).extend(items_of(trees, directory, wrong, under=name))
        own.results += [f"{name}/{result}" for result in results]
        searched |= {f"{name}/{folder}": tree for folder, tree in trees.items()}
    return finished(own, searched, root, [root, *(os.path.join(root, name) for name in parts)], wrong)


def finished(own: Own, trees: dict[str, Tree], root: str, above: Iterable[str], wrong: Told) -> Own:
    """With labels, all parts, and what was passed over in the class folders and beside them."""
    for tree in trees.values():
        own.passed_over += tree.passed_over
    own.passed_over += Counter({NO_CLASS: sum(len(loose_pictures(directory)) for directory in above)})
    own.split = relabelled({part: own.split.get(part, []) for part in PARTS}, root, wrong)
    return own


def check_parts(root: str, parts: list[str], others: list[str], wrong: Told) -> None:
    """Folders for training, validation and test hold class folders, and nothing lies beside them."""
    by_part: dict[str, list[str]] = {}
    for name in parts:
        by_part.setdefault(part_of(name), []).append(name)
    for names in by_part.values():
        if len(names) > 1:
            wrong(f"{root} holds both {names[0]}/ and {names[1]}/, which are one part: join them.")
    for name in parts:
        if not class_folders(os.path.join(root, name)):
            wrong(
                f"{os.path.join(root, name)} holds no class folders: put the class folders into it, or, if it is a class, "
                "rename it."
            )
    if others:
        wrong(
            f"{root} holds {parts[0]}/ and beside it {others[0]}/, which is none of {', '.join(PARTS)}: move it away, or "
            f"into {parts[0]}/."
        )
    if "train" not in by_part:
        wrong(f"{root} holds {parts[0]}/ and no train/: put the class folders to train on into train/.")


def search(
    directory: str, folders: list[str], outputs: Collection[str], wrong: Told
) -> tuple[dict[str, Tree], list[str]]:
    """(the pictures of each of `folders`, those that hold results of runs and no pictures of their own)."""
    trees, results, spelt = {}, [], {}
    for name in folders:
        tree = pictures_under(
            os.path.join(directory, name), outputs, onerror=lambda error: wrong(cannot_be_listed(error))
        )
        if not tree.pictures and tree.holds_runs and loose_pictures(os.path.join(directory, name)):
            wrong(
                f"{os.path.join(directory, name)} holds pictures and the results of a run: choose another --output-dir, and "
                "move those results there."
            )
            continue
        is_cache = not tree.pictures and ".npy" in tree.passed_over and tree.passed_over.keys() <= OF_CACHES
        if is_cache or (tree.holds_runs and not any("/" not in path for path in tree.pictures)):
            results.append(name)
            continue
        if not tree.pictures:
            passed = f" (passed over: {', '.join(tree.passed_over)})" if tree.passed_over else ""
            wrong(
                f"The class folder {os.path.join(directory, name)} holds no images{passed}: put some into it, remove it, or set the data root (DATA of the scripts, --root) to the folder that holds your class folders."
            )
            continue
        if (other := spelt.setdefault(nfc(name), name)) != name:
            wrong(
                f"{directory} holds two folders {nfc(name)!r}, of which one spells its accents as signs of their own: join "
                f"them ({other!r} and {name!r})."
            )
        trees[name] = tree
    return trees, results


def cannot_be_listed(error: OSError) -> str:
    return f"The folder {error.filename} cannot be listed ({error.strerror}): correct its rights, or take it out."


def pictures_under(
    directory: str, outputs: Collection[str] = (), onerror: Callable[[OSError], object] | None = None
) -> Tree:
    """At any depth, through links too. Hidden files and folders are passed over, and so are folders of runs.

    onerror: called with the error of a folder that cannot be listed.
    """
    tree, seen, outputs = Tree(), set(), {os.path.realpath(path) for path in outputs}
    for folder, folders, names in os.walk(directory, onerror=onerror, followlinks=True):
        real = os.path.realpath(folder)
        is_run = real in outputs or state_of(folder) is not None
        tree.holds_runs |= is_run
        if is_run or real in seen:  # a link may lead back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in OF_OTHERS)
        under = os.path.relpath(folder, directory).replace(os.sep, "/")
        for name in sorted(name for name in names if not name.startswith(".")):
            if is_picture(name):
                tree.pictures.append(name if under == "." else f"{under}/{name}")
            else:
                tree.passed_over[os.path.splitext(name)[1].lower() or NO_SUFFIX] += 1
    return tree


def loose_pictures(directory: str) -> list[str]:
    """Pictures that lie in a folder itself."""
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries if is_picture(entry.name) and os.path.isfile(entry.path)]


def items_of(trees: dict[str, Tree], directory: str, wrong: Told, under: str = "") -> list[Item]:
    items = [
        Item("/".join(filter(None, (under, folder, path))), 0, nfc(folder))
        for folder, tree in trees.items()
        for path in tree.pictures
    ]
    if not items:
        wrong(f"{directory} holds no class folders with images: put the images there, one folder a class.")
    return items


def relabelled(split: Split, source: str, wrong: Told) -> Split:
    """The same with labels in the order of class names; every class has training images."""
    labels = {name: label for label, name in enumerate(sorted({item.classname for item in split["train"]}))}
    for part, items in split.items():
        for name in dict.fromkeys(item.classname for item in items if item.classname not in labels):
            wrong(f"{source}: the class {name!r} has {part} images and no training image: add some.")
    return {
        part: [Item(path, labels[name], name) for path, _, name in items if name in labels]
        for part, items in split.items()
    }


# --- CSV files --------------------------------------------------------------------------------------------------


def read_csv(root: str, path: str, wrong: Told = refuse, allow_outside: bool = False) -> Own:
    """path,class[,split], with paths from `root` on; what has no split trains, if there is such a column."""
    split: Split = {part: [] for part in PARTS}
    divided = False
    for number, row in csv_rows(path, ("path", "class"), wrong):
        divided |= "split" in row
        part = part_of(row.get("split") or "train")
        if part is None:
            wrong(f"{path}, line {number}: the split {row['split']!r} is none of {', '.join(PARTS)}.")
            continue
        split[part].append(Item(row["path"], 0, sys.intern(nfc(row["class"]))))
    split = split if allow_outside else inside(split, root, path, wrong)
    split = on_disk(split, root, named_by=path, remedy="correct the list", wrong=wrong)
    if not divided:
        split["train"] = list(dict.fromkeys(split["train"]))  # a picture named twice must not come into two parts
    return Own(relabelled(split, path, wrong), divided)


def csv_rows(path: str, columns: tuple[str, ...], wrong: Told = refuse) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, row) of a CSV file with a header line; each row has a value in every one of `columns`.

    Lines may end as on Windows, and the file may begin with a byte order mark.
    """
    count, problem = 0, ""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
            for row in reader:
                if problem := what_is_wrong(row, columns):
                    wrong(f"{path}, line {reader.line_num}: {problem}")
                else:
                    count += 1
                    yield reader.line_num, {key: (value or "").strip() for key, value in row.items()}
                if not {*columns} <= {*reader.fieldnames}:
                    break  # as wrong as all others
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"The CSV file {path} cannot be read ({error}): correct the path or the file.") from error
    if not (count or problem):
        raise InputError(f"The CSV file {path} has no rows below its header: write {','.join(columns)} and the rows.")


def what_is_wrong(row: dict, columns: tuple[str, ...]) -> str:
    """With a row of a CSV file; "" where nothing is."""
    if None not in row and all(row.get(column) and not row[column].isspace() for column in columns):
        return ""
    header = ",".join(key for key in row if key is not None)
    if None in row:
        return (
            f"there are {len(row[None])} values more than columns (the header is {header}): put a value that has "
            "a comma in it into double quotes."
        )
    without = next(column for column in columns if not (row.get(column) or "").strip())
    return f"there is no {without} (the header is {header})."
