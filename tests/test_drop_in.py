"""The check of others' trainer files (drop_in/), on a made-up repository."""

from pathlib import Path

import pytest

from tests.drop_in.__main__ import main
from tests.drop_in.repository import attempts, declared_keys, trainer_files
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
    assert [(each.beside, each.below) for each in tries] == [([], []), (near, []), ([], clip), (near, clip)]
    tries[-1].error = ""
    assert tries[-1].result() == "runs, with near.py, its own clip"
    (function,) = declared_keys(folder / "needy.py", repository)
    assert function.startswith("def extend_cfg(cfg):") and "nowhere" not in function


def test_the_table(repository, capsys):
    (repository / "code/trainers/needy.py").unlink()
    (repository / "code/trainers/copy_of_words.py").unlink()
    assert main(["--repository", str(repository), "--epochs", "1"]) == 1
    head, line, words, broken = capsys.readouterr().out.splitlines()
    assert (head, line) == ("| file | result | error |", "|---|---|---|")
    assert words == "| `code/trainers/words.py` | runs |  |"
    assert broken.startswith("| `other/broken.py` | fails | ") and "No module named 'nowhere_at_all'" in broken


@pytest.mark.parametrize(("more", "says"), [(["--file", "nope.py"], "nope.py"), ([], "file that registers a trainer")])
def test_what_is_not_there(tmp_path, capsys, more, says):
    with pytest.raises(SystemExit) as ended:
        main(["--repository", str(tmp_path), *more])
    assert ended.value.code == 2 and says in capsys.readouterr().err
