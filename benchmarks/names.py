"""What reading the list of a data set costs at ImageNet's size: its names, their hashes, the draw of the shots.

    python -m benchmarks.names
    python -m benchmarks.names --quick

A tree of empty files stands in ImageNet's place, 1,331,167 of them, so that no time is a picture's.
Each part is measured in a process of its own; its memory is what that holds at its peak beyond its imports.
"""

import argparse
import csv
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from benchmarks.on_cpu import apart, peak, write_record
from dassl.config import get_cfg_default
from dassl.utils import InputError, set_random_seed
from datasets.folder import ImageFolder
from datasets.imagenet import CLASSNAMES, ImageNet
from datasets.verify import examine
from one_run.command import carry_out
from one_run.identity import identity_of_data

SYNSETS = [f"n{1_440_764 + 13 * number:08d}" for number in range(CLASSNAMES.entries)]
QUICK = (4_000, 2_000)  # training and test images, of as many classes


def make_tree(root: Path, train: int, test: int) -> None:
    """`imagenet/`, with folders of empty files, and a list of all as one's own pictures have it."""
    (root / "imagenet").mkdir()
    (root / "imagenet/classnames.txt").write_text("".join(f"{name} thing {name}\n" for name in SYNSETS))
    with open(root / "all.csv", "w", newline="", encoding="utf-8") as file:
        listed = csv.writer(file)
        listed.writerow(["path", "class", "split"])
        for part, count in (("train", train), ("val", test)):
            for label, synset in enumerate(SYNSETS):
                folder = root / "imagenet/images" / part / synset
                folder.mkdir(parents=True)
                for number in range(label, count, len(SYNSETS)):
                    name = f"{synset}_{number}.JPEG"
                    os.close(os.open(folder / name, os.O_CREAT | os.O_WRONLY))
                    listed.writerow([f"{part}/{synset}/{name}", synset, "train" if part == "train" else "test"])


def config(root: Path, shots: int):
    cfg = get_cfg_default()
    ImageFolder.extend_cfg(cfg)
    cfg.DATASET.ROOT, cfg.DATASET.NUM_SHOTS, cfg.SEED = str(root), shots, 1
    set_random_seed(1)
    return cfg


def benchmark(root: Path, shots: int) -> None:
    """A run's data set, and what the run is known by; its pictures are read for that, which are empty here."""
    cfg = config(root, shots)
    identity_of_data(cfg, ImageNet(cfg))


def own_folders(root: Path) -> None:
    ImageFolder(config(root / "imagenet/images/train", 16))


def own_list(root: Path) -> None:
    cfg = config(root / "imagenet/images", 16)
    cfg.DATASET.FOLDER.CSV = str(root / "all.csv")
    ImageFolder(cfg)


def verified(root: Path) -> None:
    if not (finding := examine("imagenet", str(root))).whole:
        raise InputError(f"The tree is not whole: {finding.next}")


PARTS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "shots": ("ImageNet, 16 shots a class", lambda root: benchmark(root, 16)),
    "all": ("ImageNet, all images", lambda root: benchmark(root, -1)),
    "verify": ("python -m datasets.verify imagenet", verified),
    "folders": ("the training images as one's own class folders, 16 shots a class", own_folders),
    "csv": ("the same and the test images in a CSV file, 16 shots a class", own_list),
}


def measure(part: str, root: Path, train: int, test: int) -> dict:
    ImageNet.rows = (train, test, test)  # what is a whole one
    title, what = PARTS[part]
    before, cpu, clock = peak(), time.process_time(), time.monotonic()
    with redirect_stdout(StringIO()):
        what(root)
    return {
        "part": part,
        "what": title,
        "cpu_seconds": time.process_time() - cpu,
        "seconds": time.monotonic() - clock,
        "peak_mib": peak() - before,
        "mib_of_imports": before,
    }


def run(args: argparse.Namespace, command: list[str]) -> None:
    train, test = QUICK if args.quick else ImageNet.rows[:2]
    if args.folder and not os.path.isdir(args.folder):
        raise InputError(f"There is no folder {args.folder} to make the tree in: make it, or leave out --folder.")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        disk = os.statvfs(folder)
        if disk.f_files > 0 and disk.f_favail < 1.1 * (train + test):
            raise InputError(f"{folder} has no room for {train + test:,} files: name another --folder.")
        root = Path(folder)
        make_tree(root, train, test)
        runs = []
        for part in args.parts:
            runs.append(apart(measure, part, root, train, test))
            print(
                "{what:<70}{cpu_seconds:8.2f} CPU-s {seconds:8.2f} s {peak_mib:8.0f} MiB".format(**runs[-1]), flush=True
            )
    write_record("names", command, args.out, images={"train": train, "test": test}, runs=runs)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.names", description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS], help="what is measured")
    parser.add_argument("--folder", help="where the tree is made, and removed again (default: for temporary files)")
    parser.add_argument("--quick", action="store_true", help="a small tree, to see that it works")
    parser.add_argument("--out", help="the JSON file (default: benchmarks/results/names_cpu.json)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Exit code 0; 2 for what the user can mend, in one sentence."""
    command = sys.argv[1:] if argv is None else argv
    return carry_out(lambda: run(parser().parse_args(command), command))


if __name__ == "__main__":
    sys.exit(main())
