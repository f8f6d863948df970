"""The check of others' trainer files (drop_in/), on a made-up repository."""

import json
from pathlib import Path

import pytest

from tests.drop_in.__main__ import main
from tests.drop_in.repository import attempts, declared_keys, flags, trainer_files
from tests.test_ecosystem import TRAINER

SCRIPT = """
import nowhere

def extend_cfg(cfg):
    from yacs.config import CfgNode as CN
    cfg.TRAINER.SHARED_WORDS = CN()
    cfg.TRAINER.SHARED_WORDS.COUNT = 3
    cfg.TRAINER.SHARED_WORDS.PREC = "fp16"
    cfg.TRAINER.SHARED_WORDS.FLAG = args.flag
"""

NODES = {"Spotlighter": "COOP", "TaskRes": "TaskRes", "CoOp": "COOP"}  # of keys that this code has for such files


@pytest.fixture
def repository(tmp_path) -> Path:
    files = {
        "code/train.py": SCRIPT,
        "code/trainers/words.py": TRAINER,
        "code/trainers/copy_of_words.py": TRAINER,
        "code/trainers/needy.py": TRAINER.replace("SharedWords", "Needy").replace(
            "from clip import clip\n",
            "from clip import clip\nfrom clip.extra import THERE\nfrom .near import NEAR\n",
        ),
        "code/trainers/near.py": "NEAR = 1\n",
        "other/broken.py": "import nowhere_at_all\n" + TRAINER.replace("SharedWords", "Broken"),
        "code/trainers/helpers.py": "",
        "code/clip/__init__.py": "",
        "Dassl/dassl/engine/trainer.py": TRAINER,
        "code/trainers/.ipynb_checkpoints/words-checkpoint.py": TRAINER + "\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_what_is_looked_at(repository):
    found = [path.name for path in trainer_files(repository)]
    assert found == ["copy_of_words.py", "needy.py", "broken.py"]  # words.py is the second of two equal ones


def test_what_goes_with_a_file(repository):
    folder = repository / "code/trainers"
    tries = attempts(folder / "needy.py", repository)
    near, clip = [folder / "near.py"], [repository / "code/clip"]
    given = [(each.beside, each.below, each.root) for each in tries]
    both = (near, clip, None), (near, clip, repository / "code")
    assert given == [([], [], None), (near, [], None), ([], clip, None), *both]
    tries[-1].error = ""
    assert tries[-1].result() == "runs, with near.py, its own clip, its other files"
    (function,) = declared_keys(folder / "needy.py", repository)
    assert function.startswith("def extend_cfg(cfg):") and "nowhere" not in function


def test_the_flags_of_its_authors(repository):
    """As they are where none is given; what is no plain value is left out."""
    (repository / "code/train.py").write_text(
        "import argparse\nparser = argparse.ArgumentParser()\n"
        "parser.add_argument('--root', type=str, default='')\nparser.add_argument('-n', '--some-number', default=3)\n"
        "parser.add_argument('--switch', action='store_true')\nparser.add_argument('--bare')\n"
        "parser.add_argument('--odd', default=1 / 0)\nparser.add_argument('opts', default=None, nargs='+')\n"
    )
    found = flags(repository / "code/trainers/words.py", repository)
    assert found == {"root": "", "some_number": 3, "switch": False, "bare": None, "opts": None}
    assert flags(repository / "other/broken.py", repository) == {}


def test_what_its_code_reads_from_where_it_runs(tmp_path):
    """Weights beside a `clip`, small ones; a file of its repository; a key of `extend_cfg` beside those that are here."""
    folder = tmp_path / "theirs/trainers"
    folder.mkdir(parents=True)
    (tmp_path / "theirs/texts").mkdir()
    (tmp_path / "theirs/texts/one.txt").write_text("one")
    script = "def extend_cfg(cfg):\n    from yacs.config import CfgNode as CN\n    cfg.TRAINER.COOP = CN()\n"
    script += (
        "    cfg.TRAINER.COOP.MORE, cfg.DATASET.TEXTS = args.more, 'texts'\nparser.add_argument('--more', default=2)\n"
    )
    (tmp_path / "theirs/train.py").write_text(script)
    text = TRAINER.replace("SharedWords", "CoOp").replace("cfg.TRAINER.SHARED_WORDS.COUNT", "cfg.TRAINER.COOP.MORE")
    text = text.replace("SHARED_WORDS", "COOP").replace(
        "clip._download(clip._MODELS[cfg.MODEL.BACKBONE.NAME])", "'./clip/ViT-B-16.pt'"
    )
    text = text.replace("class Words(nn.Module):", "open('texts/one.txt').read()\n\n\nclass Words(nn.Module):")
    (folder / "theirs.py").write_text(text)
    assert (
        main(["--repository", str(tmp_path / "theirs"), "--epochs", "1", "--output", str(tmp_path / "table.json")]) == 0
    )
    (row,) = json.loads((tmp_path / "table.json").read_text())["files"]
    assert (row["result"], row["brought"]) == ("runs, with its other files", ["all in ."])


def test_the_table(repository, capsys):
    (repository / "code/trainers/needy.py").unlink()
    (repository / "code/trainers/copy_of_words.py").unlink()
    assert main(["--repository", str(repository), "--epochs", "1"]) == 1
    head, line, words, broken = capsys.readouterr().out.splitlines()
    assert (head, line) == ("| file | result | error |", "|---|---|---|")
    assert words == "| `code/trainers/words.py` | runs |  |"
    assert broken.startswith("| `other/broken.py` | fails | ") and "No module named 'nowhere_at_all'" in broken


@pytest.mark.parametrize(
    ("file", "name", "output"),
    [
        ("spotlighter.py", "Spotlighter", "table.json"),
        ("shared.py", "SharedWords", "table.md"),
        ("CoOp.py", "CoOp", "table.md"),
        ("taskres.py", "TaskRes", "table.json"),
    ],
)
def test_a_file_that_is_called_as_ours(tmp_path, capsys, file, name, output):
    """Its own class is the one that is run; the table goes into a file too."""
    (tmp_path / "theirs/trainers").mkdir(parents=True)
    (tmp_path / "theirs/train.py").write_text(SCRIPT)
    text = TRAINER.replace("SharedWords", name)
    if name in NODES:
        text = text.replace("cfg.TRAINER.SHARED_WORDS.COUNT", "2").replace("SHARED_WORDS", NODES[name])
    (tmp_path / "theirs/trainers" / file).write_text(text)
    line = ["--repository", str(tmp_path / "theirs"), "--epochs", "1", "--output", str(tmp_path / output)]
    assert main(line) == 0
    table, written = capsys.readouterr().out, (tmp_path / output).read_text()
    assert table.endswith(f"| `trainers/{file}` | runs |  |\n")
    if output.endswith(".md"):
        assert written == table
        return
    said = json.loads(written)
    (row,) = said.pop("files")
    assert row == {"file": f"trainers/{file}", "runs": True, "result": "runs", "brought": [], "errors": []}
    assert (said["repository"], said["epochs"], said["commits"]["authors"]) == ("theirs", 1, None)


@pytest.mark.parametrize(
    ("output", "says"), [("table.txt", "ends in .md or .json"), ("none/table.md", "in a folder that is there")]
)
def test_where_the_table_cannot_go(repository, tmp_path, capsys, output, says):
    with pytest.raises(SystemExit) as ended:
        main(["--repository", str(repository), "--output", str(tmp_path / output)])
    assert ended.value.code == 2 and says in capsys.readouterr().err


@pytest.mark.parametrize(("more", "says"), [(["--file", "nope.py"], "nope.py"), ([], "file that registers a trainer")])
def test_what_is_not_there(tmp_path, capsys, more, says):
    with pytest.raises(SystemExit) as ended:
        main(["--repository", str(tmp_path), *more])
    assert ended.value.code == 2 and says in capsys.readouterr().err
