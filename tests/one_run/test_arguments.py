"""Arguments that several commands share (../one_run/arguments.py)."""

import argparse

import pytest

import datasets.prepare
import datasets.verify
from datasets.embedded.__main__ import main as write_embedded
from one_run.arguments import add_data_root


def root(*arguments: str) -> str:
    parser = argparse.ArgumentParser()
    add_data_root(parser)
    return parser.parse_args(arguments).root


def test_three_names_for_the_data_root(monkeypatch):
    monkeypatch.delenv("DATA", raising=False)
    assert root() == "data"
    monkeypatch.setenv("DATA", "")
    assert root() == "data"
    monkeypatch.setenv("DATA", "mine")
    assert root() == "mine"
    assert root("--root", "theirs") == root("--data", "theirs") == "theirs"


@pytest.mark.parametrize("main", [datasets.prepare.main, datasets.verify.main, write_embedded])
def test_every_command_of_datasets_says_so(main, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["command", "--help"])
    with pytest.raises(SystemExit, match="0"):
        main()
    said = " ".join(capsys.readouterr().out.split())
    assert "--root FOLDER, --data FOLDER data root: the folder that holds the data sets" in said
    assert "(default: the environment variable DATA, else data)" in said
