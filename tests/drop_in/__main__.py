"""Which trainer files of a public repository train, save and test here, unchanged: its checkout -> a table.

    python -m tests.drop_in --repository FOLDER [--file trainers/coop.py] [--epochs 2] [--output table.md]

Each file is put into `trainers/` of a copy of this code, alone. Where it fails so, once more with the modules beside it
that it imports, then with its own `clip` and whatever else it imports from its repository, in a folder of its name, at
last beside all other files of its repository, which it may read. Its config keys are those that this code's `configs/` has
for it (`trainers/<Method>/defaults.yaml`, else `published/<Method>.yaml`) and what it lacks of those of `extend_cfg` in the
authors' `train.py`, whose flags are not given; their `configs/` are not read. The weights that some read from their
`clip/` folder are there, small ones. It trains some epochs on a small data set with a small CLIP (tests/published_code.py), is saved, loaded and tested, in a
process of its own. Without a GPU, "cuda", which published code says anyway, is the CPU there, and `.half()` does nothing.

`--output` writes the table into a file too, as Markdown (.md) or with all that is known (.json). The exit code is 1 where
a file fails.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from dassl.utils.files import replace_file, write_json
from tests.drop_in.repository import Attempt, attempts, declared_keys, flags, trainer_files
from tests.drop_in.run import SAID
from tests.helpers import REPOSITORY

HOUSE = ("clip", "configs", "dassl", "datasets", "inert", "one_run", "trainers")  # what a run needs
LIMIT = 600  # seconds for a file
HEAD = "| file | result | error |\n|---|---|---|"


def build_house(house: Path, attempt: Attempt) -> None:
    for folder in HOUSE:
        shutil.copytree(REPOSITORY / folder, house / folder, ignore=shutil.ignore_patterns("__pycache__"))
    ours = house / "trainers"
    for path in [attempt.file, *attempt.beside]:
        copy(path, ours / path.name)
    for path in attempt.below:
        for stem in [file.stem for file in [attempt.file, *attempt.beside] if file.suffix == ".py"]:
            copy(path, ours / stem / path.name)
    for path in attempt.root.iterdir() if attempt.root else ():
        if not (house / path.name).exists():
            (house / path.name).symlink_to(path)


def copy(path: Path, target: Path) -> None:
    if path.is_dir():
        shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    else:
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target)


def carry_out(attempt: Attempt, repository: Path, epochs: int) -> str:
    """The sentence of the error; empty where it trains, saves and tests."""
    with tempfile.TemporaryDirectory() as scratch:
        house = Path(scratch) / "house"
        build_house(house, attempt)
        asked = {"stem": attempt.file.stem, "epochs": epochs, "keys": declared_keys(attempt.file, repository)}
        asked["flags"] = flags(attempt.file, repository)
        line = [sys.executable, "-m", "tests.drop_in.run", json.dumps(asked)]
        searched = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
        environment = os.environ | {"PYTHONPATH": searched, "OMP_NUM_THREADS": "1", "FEATURES_CACHE": ""}
        try:
            done = subprocess.run(line, cwd=house, env=environment, capture_output=True, text=True, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            return f"it took more than {LIMIT} s"
        said = [line.removeprefix(SAID) for line in done.stdout.splitlines() if line.startswith(SAID)]
        if said:
            return json.loads(said[-1])
        last = (done.stderr.strip() or done.stdout.strip() or "nothing was said").splitlines()[-1]
        return f"the process ended with code {done.returncode} ({last})"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", type=Path, required=True, help="folder of the authors' repository")
    parser.add_argument("--file", action="append", type=Path, help="one of its trainer files; default: all")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--output", type=Path, help="a file for the table too: .md or .json")
    arguments = parser.parse_args(argv)
    check_output(parser, arguments.output)
    repository = arguments.repository.resolve()
    files = [repository / file for file in arguments.file or ()] or trainer_files(repository)
    missing = [str(file) for file in files if not file.is_file()]
    if missing or not files:
        parser.error(f"{repository} has no {', '.join(missing) or 'file that registers a trainer'}")
    print(HEAD)
    rows = []
    for file in files:
        errors = []
        for attempt in attempts(file, repository):
            attempt.error = carry_out(attempt, repository, arguments.epochs)
            if not attempt.error:
                break
            errors.append(attempt.error)
        errors = list(dict.fromkeys(errors)) if attempt.error else []
        brought = [str(path.relative_to(repository)) for path in [*attempt.beside, *attempt.below]]
        brought += [f"all in {attempt.root.relative_to(repository)}"] if attempt.root else []
        rows.append(Row(str(file.relative_to(repository)), not errors, attempt.result(), brought, errors))
        print(rows[-1].in_markdown(), flush=True)
        if arguments.output:
            write(arguments.output, repository, arguments.epochs, rows)
    return int(not all(row.runs for row in rows))


@dataclass(frozen=True)
class Row:
    """How a file went."""

    file: str  # in its repository, as what it brought
    runs: bool
    result: str
    brought: list[str]
    errors: list[str]  # of all attempts, none where the last one ran

    def in_markdown(self) -> str:
        return f"| `{self.file}` | {self.result} | {' // '.join(self.errors).replace('|', '/')} |"


def check_output(parser: argparse.ArgumentParser, output: Path | None) -> None:
    """Before anything is run, which takes long."""
    if output is None:
        return
    if output.suffix not in (".md", ".json"):
        parser.error(f"--output {output} ends in {output.suffix or 'nothing'}: name a file that ends in .md or .json")
    if not output.absolute().parent.is_dir() or output.is_dir():
        parser.error(f"--output {output} cannot be written: name a file in a folder that is there")


def write(output: Path, repository: Path, epochs: int, rows: list[Row]) -> None:
    """Whole each time, with what is known so far."""
    if output.suffix == ".md":
        text = "\n".join([HEAD, *(row.in_markdown() for row in rows)]) + "\n"
        replace_file(str(output), lambda file: file.write(text.encode()))
        return
    commits = {"authors": commit_of(repository), "ours": commit_of(REPOSITORY)}
    known = {"repository": repository.name, "commits": commits, "epochs": epochs, "files": list(map(asdict, rows))}
    write_json(known, str(output))


def commit_of(folder: Path) -> str | None:
    """None outside a checkout."""
    done = subprocess.run(["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or None


if __name__ == "__main__":
    sys.exit(main())
