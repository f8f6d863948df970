"""Look at your own pictures as a run would read them, and say all that is wrong with them at once."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dassl.utils import InputError

from ..base import same_in_a_prompt
from ..folder import from_root, named, read_names
from ..listing import Own, read_class_folders, read_csv, what_was_passed_over
from ..splits import PARTS, TO_DIVIDE, Item, shared_images

NAMED = 3  # examples of what is wrong
TOLD = 20  # sentences on folders and lines that cannot be read


@dataclass
class Look:
    name: str
    folder: str
    images: int = 0
    parts: dict[str, int] = field(default_factory=dict)  # empty where the images are divided by a run
    classes: dict[str, int] = field(default_factory=dict)  # name -> images
    passed_over: str = ""
    broken: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # one sentence each
    remarks: list[str] = field(default_factory=list)  # what may be meant so
    whole: bool = False


def look(
    root: str,
    broken_images: Callable[[list[str]], list[str]],
    csv: str = "",
    names: str = "",
    allow_outside: bool = False,
) -> Look:
    """All pictures are opened, as one that is broken stops a run. What cannot be read is told, and the rest looked at."""
    found = Look("folder", root)
    wrong: list[str] = []
    try:
        own = (
            read_csv(root, from_root(root, csv), wrong.append, allow_outside)
            if csv
            else read_class_folders(root, wrong=wrong.append)
        )
    except InputError as error:
        found.problems = [*shortened(wrong), str(error)]
        return found
    try:
        own.split = named(own.split, read_names(root, names, {item.classname for item in own.split["train"]}))
    except InputError as error:
        wrong.append(str(error))
    items = [item for part in own.split.values() for item in part]
    found.images = len(items)
    found.parts = {part: len(own.split[part]) for part in PARTS} if own.divided else {}
    found.classes = dict(sorted(Counter(item.classname for item in items).items()))
    found.passed_over = what_was_passed_over(own)
    found.broken = broken_images(sorted({os.path.join(root, item.path) for item in items}))
    found.problems = [*shortened(wrong), *few_images(own), *twins(own), *shared(own, root), *copies(own, root)]
    found.remarks = [*one_class(own)]
    if found.broken:
        found.problems.append(f"broken: {some(found.broken)}: save them again, or take them out.")
    found.whole = not found.problems
    return found


def some(things: list[str]) -> str:
    return ", ".join(things[:NAMED]) + (f" and {len(things) - NAMED:,} more" if len(things) > NAMED else "")


def shortened(sentences: list[str]) -> list[str]:
    more = len(sentences) - TOLD
    return [*sentences[:TOLD], *[f"{more:,} more of this kind."] * (more > 0)]


# --- what can be wrong ------------------------------------------------------------------------------------------


def one_class(own: Own) -> Iterator[str]:
    names = {item.classname for item in own.split["train"]}
    if len(names) == 1:
        yield f"there is one class, {min(names)!r}, so that every prediction is right and 100% says nothing."


def few_images(own: Own) -> Iterator[str]:
    counts = {part: Counter(item.classname for item in own.split[part]) for part in PARTS}
    few = [f"{name!r} ({count})" for name, count in sorted(counts["train"].items()) if count < TO_DIVIDE]
    untested = [repr(name) for name in sorted(counts["train"].keys() - counts["test"].keys())]
    if not own.divided and few:
        yield f"too few images to divide, which takes {TO_DIVIDE}: {some(few)}: add some, or take the class out."
    if own.divided and untested:
        yield f"no images to test on: {some(untested)}: add some to test/, or rows with split test."


def twins(own: Own) -> Iterator[str]:
    by_label = {item.label: item.classname for item in own.split["train"]}
    pairs = [f"{one!r} and {other!r}" for one, other in same_in_a_prompt(by_label.values())]
    if pairs:
        yield f"classes with the same name in a prompt: {some(pairs)}: rename one of them."


def shared(own: Own, root: str) -> Iterator[str]:
    """Pictures that are listed twice."""
    twice = [
        f"{path} ({' and '.join(place(own, *each) for each in both)})"
        for path, both in shared_images(own.split, root).items()
    ]
    if twice:
        yield f"{len(twice):,} image(s) listed twice: {some(twice)}: take one of the two out."


def copies(own: Own, root: str) -> Iterator[str]:
    """The same picture under two names, where it could come into two parts or has two classes."""
    twice = [
        " = ".join(f"{item.path} ({place(own, part, item.classname)})" for part, item in same)
        for same in same_files(own, root)
        if not own.divided or len({(part, item.classname) for part, item in same}) > 1
    ]
    if twice:
        yield f"{len(twice):,} image(s) are there under two names: {some(twice)}: keep one of them."


def same_files(own: Own, root: str) -> list[list[tuple[str, Item]]]:
    """Groups of pictures of different names and the same bytes; only files of one size are read."""
    by_size, by_digest = defaultdict(dict), defaultdict(list)
    for part, items in own.split.items():
        for item in items:
            path = os.path.join(root, item.path)
            by_size[os.path.getsize(path)].setdefault(os.path.realpath(path), (part, item))
    for size, files in by_size.items():
        for path, where in files.items() if len(files) > 1 else ():
            with open(path, "rb") as file:
                by_digest[size, hashlib.sha256(file.read()).hexdigest()].append(where)
    return [group for group in by_digest.values() if len(group) > 1]


def place(own: Own, part: str, classname: str) -> str:
    return f"{part}, {classname!r}" if own.divided else repr(classname)


# --- how it is told ---------------------------------------------------------------------------------------------


def report(found: Look) -> str:
    lines = [f"{found.folder}: {found.images:,} images of {len(found.classes):,} classes"]
    if found.classes:
        fewest, most = (pick(found.classes, key=found.classes.get) for pick in (min, max))
        several = f"{found.classes[fewest]:,} ({fewest!r}) to {found.classes[most]:,} ({most!r})"
        same = found.classes[fewest] == found.classes[most]
        lines.append(f"  a class: {f'{found.classes[most]:,}' if same else several}")
        parts = ", ".join(f"{count:,} {part}" for part, count in found.parts.items())
        lines.append(
            f"  parts: {parts or 'about half trains, a fifth validates and the rest tests, drawn from the path'}"
        )
    lines += [f"  {found.passed_over}"] * bool(found.passed_over)
    lines += [f"  remark: {remark}" for remark in found.remarks]
    return "\n".join([*lines, *(f"  wrong: {problem}" for problem in found.problems), *["  whole"] * found.whole])
