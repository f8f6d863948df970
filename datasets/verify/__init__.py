"""Say which benchmarks are there and whole, and what to do for the others: python -m datasets.verify --root data

`python -m datasets.verify folder --root my_pictures` looks at your own pictures in place of benchmarks.

A benchmark is whole if its reader reads it, every image that its lists name is there, and the lists are CoOp's, by their
SHA-256 where it is known and by their sizes.
Images are counted, and opened only with `--deep`. 0 is returned if all that was asked for is whole.
"""

import argparse
import contextlib
import json
import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from types import SimpleNamespace

from tqdm import tqdm

from dassl.utils import InputError, read_json
from one_run.arguments import add_data_root
from one_run.command import OK, carry_out

from ..base import Benchmark
from ..embedded import READERS as EMBEDDED
from ..prepare import READERS, benchmark_names
from ..prepare.download import digest_of
from ..prepare.install import count_images, has_changed, pictures_under, says_what_is_known
from ..sources import File
from . import own

AT_MOST = 10  # broken images that are listed
NAMED = 3  # folders of which images are in no list
NOT_WHOLE = 1  # exit code
OWN = "folder"  # as the config of one's own pictures is called
COLUMNS = ("benchmark", "there", "images", "split", "SHA-256", "train/val/test", "next")


@dataclass
class Finding:
    name: str
    folder: str
    present: bool = False
    images: int = 0
    images_expected: int = 0
    split: str = "missing"  # CoOp's, another, drawn (embedded sets), own, none needed or missing
    split_sha256: str = ""
    rows: tuple[int, ...] = ()  # train, val, test; train is 0 for a set that only tests
    rows_expected: tuple[int, ...] = ()
    broken: list[str] = field(default_factory=list)
    whole: bool = False
    note: str = ""  # images that are there, and in no list
    next: str = ""


def main(argv: list[str] | None = None) -> int:
    return carry_out(lambda: verify_asked(argv))


def verify_asked(argv: list[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m datasets.verify", description=__doc__.splitlines()[0])
    parser.add_argument(
        "names",
        nargs="*",
        default=["all"],
        metavar="NAME",
        help="default: all, and embedded sets; folder: your own pictures",
    )
    add_data_root(parser)
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    parser.add_argument("--deep", action="store_true", help="open every image of the split, and list the broken ones")
    parser.add_argument("--csv", default="", metavar="FILE", help="with folder: DATASET.FOLDER.CSV")
    parser.add_argument("--names-csv", default="", metavar="FILE", help="with folder: DATASET.FOLDER.NAMES")
    parser.add_argument("--allow-outside", action="store_true", help="with folder: DATASET.ALLOW_OUTSIDE")
    args = parser.parse_args(argv)
    root = os.path.abspath(os.path.expanduser(args.root))
    try:
        if not os.path.isdir(root):
            raise InputError(f"The data root {root} does not exist: pass --root FOLDER.")
        own_alone = args.names == [OWN]
        if OWN in args.names and not own_alone:
            raise InputError("Your own pictures are a data root of their own: name folder alone.")
        if not own_alone and (args.csv or args.names_csv or args.allow_outside):
            raise InputError(
                "--csv, --names-csv and --allow-outside are for your own pictures: python -m datasets.verify folder ..."
            )
        names = [] if own_alone else benchmark_names(args.names, embedded_sets(root))
    except InputError as error:
        parser.error(str(error))
    if own_alone:
        return verify_own(root, args.csv, args.names_csv, args.allow_outside, args.json)
    return verify(names, root, args.deep, args.json)


def verify(names: list[str], root: str, deep: bool, as_json: bool) -> int:
    findings = [examine(name, root, deep) for name in names]
    print(json.dumps([asdict(finding) for finding in findings], indent=2) if as_json else table(findings))
    return OK if all(finding.whole for finding in findings) else NOT_WHOLE


def verify_own(root: str, csv: str, names: str, allow_outside: bool, as_json: bool) -> int:
    found = own.look(root, lambda paths: broken_images(paths, OWN), csv, names, allow_outside)
    print(json.dumps([asdict(found)], indent=2) if as_json else own.report(found))
    return OK if found.whole else NOT_WHOLE


def embedded_sets(root: str) -> tuple[str, ...]:
    """Those that are there; reading them needs no download."""
    return tuple(sorted(name for name in os.listdir(root) if name in EMBEDDED))


def examine(name: str, root: str, deep: bool = False) -> Finding:
    drawn = name in EMBEDDED
    reader = (EMBEDDED if drawn else READERS)[name]
    folder = os.path.join(root, reader.dataset_dir)
    remedy = reader.remedy.format(name=name, root=root)
    images_expected = images_of_embedded_set(folder) if drawn else reader.number_of_images()
    finding = Finding(name, folder, images_expected=images_expected, rows_expected=reader.rows)
    finding.images = count_images(os.path.join(folder, reader.image_dir))
    finding.present = finding.images > 0
    finding.split, path = whose_split(reader, folder, "drawn" if drawn else "CoOp's")
    if path:
        finding.split_sha256 = digest_of(path)
    if finding.images < finding.images_expected:
        finding.next = remedy
    elif finding.split == "missing":
        finding.next = f"{remedy} (fetches {reader.split_file})"
    else:
        with contextlib.redirect_stdout(sys.stderr):
            read(finding, reader, root, deep, remedy)
    return finding


def whose_split(reader: type[Benchmark], folder: str, shipped: str) -> tuple[str, str]:
    """Whose list of images is read, and its file."""
    if not reader.split_file:
        return "none needed", ""
    for whose, name in ((shipped, reader.split_file), ("own", f"split_own_{reader.__name__}.json")):
        if os.path.isfile(path := os.path.join(folder, name)):
            return ("another" if whose == shipped and is_another(reader, path) else whose), path
    return "missing", ""


def is_another(reader: type[Benchmark], path: str) -> bool:
    """Whether a list is known not to be CoOp's, in spite of its name."""
    known = [source for source in reader.sources if isinstance(source, File) and source.name == reader.split_file]
    with contextlib.suppress(ValueError):  # reading it will say more
        return not all(says_what_is_known(path, source) for source in known)
    return False


def images_of_embedded_set(folder: str) -> int:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return int(read_json(os.path.join(folder, "world.json"))["images"])
    return 1  # unfinished, or not ours: reading it will say more


def read(finding: Finding, reader: type[Benchmark], root: str, deep: bool, remedy: str) -> None:
    """Let the reader itself say whether it can read; all shots, all classes."""
    settings = SimpleNamespace(
        ROOT=root, NUM_SHOTS=-1, SUBSAMPLE_CLASSES="all", ALLOW_SHARED_IMAGES=False, ALLOW_OUTSIDE=False
    )
    try:
        data = reader(SimpleNamespace(DATASET=settings, SEED=1))
    except (InputError, OSError) as error:
        finding.next = str(error)
        return
    test_only = finding.rows_expected and not finding.rows_expected[0]
    finding.rows = (0 if test_only else len(data.train_x), len(data.val or ()), len(data.test))
    if deep:
        items = [*(() if test_only else data.train_x), *(data.val or ()), *data.test]
        finding.broken = broken_images(sorted({item.impath for item in items}), finding.name)[:AT_MOST]
    finding.note = what_is_not_listed(finding, data)
    changed = [each.name for each in reader.sources if has_changed(os.path.join(finding.folder, each.name))]
    if changed:
        names = " and ".join(changed)
        finding.next = f"{names} changed since it came (see {changed[0]}.sha256): move it away, then {remedy}"
    elif finding.broken:
        finding.next = f"broken: {', '.join(finding.broken)}; unpack the images again: move them away, then {remedy}"
    elif finding.split == "own":  # its parts may differ by a rounding
        finding.whole = sum(finding.rows) == sum(finding.rows_expected)
        finding.next = f"{remedy} for CoOp's split; results are not comparable with published ones"
    else:
        same_sizes = finding.rows == finding.rows_expected or not finding.rows_expected
        finding.whole = same_sizes and finding.split != "another"
        finding.next = "" if finding.whole else f"the lists are not CoOp's: move them away, then {remedy}"


def what_is_not_listed(finding: Finding, data: Benchmark) -> str:
    """Why more images are there than its lists name: CoOp leaves two of Caltech101's folders out."""
    listed = {os.path.normpath(item.impath) for part in (data.train_x, data.val, data.test) for item in part or ()}
    if finding.images <= len(listed):
        return ""
    places = Counter(
        os.path.relpath(os.path.dirname(path), data.image_dir)
        for path in pictures_under(data.image_dir)
        if path not in listed
    )
    named = [f"{count:,} in {place}" for place, count in places.most_common(NAMED) if place != os.curdir]
    more = ", such as" if len(places) > NAMED else ","
    where = f"{more} {' and '.join(named)}" if named else ""
    return f"the lists leave {places.total():,} of the {finding.images:,} images out{where}"


def broken_images(paths: list[str], name: str) -> list[str]:
    """Those that cannot be opened."""
    from dassl.utils import read_image  # only here: PyTorch comes with it, which takes seconds

    def is_broken(path: str) -> bool:
        try:
            read_image(path)
        except InputError:
            return True
        return False

    broken = []
    with ThreadPoolExecutor() as pool:  # decoders let other threads run
        for path, bad in zip(paths, tqdm(pool.map(is_broken, paths), name, len(paths), disable=None), strict=True):
            if bad:
                broken.append(path)
    return broken


def table(findings: list[Finding]) -> str:
    rows = [COLUMNS, *(row(finding) for finding in findings)]
    widths = [max(len(line[column]) for line in rows) for column in range(len(COLUMNS) - 1)]
    return "\n".join("  ".join([*map(str.ljust, line, widths), line[-1]]).rstrip() for line in rows)


def row(finding: Finding) -> tuple[str, ...]:
    parts = "/".join(map(str, finding.rows)) or "-"
    if finding.rows and finding.rows != finding.rows_expected and finding.rows_expected:
        parts += f" (not {'/'.join(map(str, finding.rows_expected))})"
    return (
        finding.name,
        "yes" if finding.present else "no",
        f"{finding.images:,} / {finding.images_expected:,}",
        finding.split,
        finding.split_sha256[:12] or "-",
        parts,
        "; ".join(filter(None, ("whole" * finding.whole, finding.next, finding.note))),
    )
