"""Which cells are asked for, a trainer on one, and cells done in processes of their own."""

import argparse

import pytest
import torch

from benchmarks import embedded
from dassl.errors import InputError


def parse(*argv) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    embedded.add_arguments(parser, seeds=[1, 2])
    return parser.parse_args([str(part) for part in argv])


def test_the_sets_are_two_groups():
    assert (*embedded.FIRST_FIVE, *embedded.CROWDED) == embedded.SETS and len(embedded.SETS) == 7


def test_the_data_root(monkeypatch):
    monkeypatch.delenv("DATA", raising=False)
    assert parse().root == "data"
    monkeypatch.setenv("DATA", "elsewhere")
    assert parse().root == "elsewhere"
    assert parse("--root", "here").root == parse("--data", "here").root == "here"


def test_cells(root):
    assert embedded.cells_of(parse("--root", root, "--sets", "species", "--seeds", 3, 1)) == [
        ("species", 3),
        ("species", 1),
    ]
    with pytest.raises(InputError, match="has no embedded_shapes: write it with python -m datasets.embedded --root"):
        embedded.cells_of(parse("--root", root))


def test_the_world_of_a_set(root):
    assert embedded.world_of(root, "species") == 0


def test_a_trainer_is_built_from_its_seed(root):
    first, again, other = (
        embedded.trainer_on(root, "species", seed, "CoOp", ["DATASET.NUM_SHOTS", 2]) for seed in (1, 1, 2)
    )
    names = [[item.impath for item in trainer.dm.dataset.train_x] for trainer in (first, again, other)]
    assert first.cfg.SEED == 1 and first.cfg.TRAINER.NAME == "CoOp" and first.device == torch.device("cpu")
    assert names[0] == names[1] != names[2]
    assert str(root) == first.cfg.DATASET.ROOT


def length(name: str, seed: int) -> int:
    if seed < 0:
        raise InputError(f"{name} has no seed {seed}: choose another.")
    return len(name) + seed


def test_cells_in_processes():
    cells = [("shapes", 1), ("small", 2), ("species", 3)]
    done = list(embedded.in_processes(length, cells, workers=2))
    assert [number for number, _, _ in done] == ["[1/3]", "[2/3]", "[3/3]"]
    assert {cell: result for _, cell, result in done} == {cell: length(*cell) for cell in cells}


def test_an_error_in_a_process_is_its_own():
    with pytest.raises(InputError, match="small has no seed -1"):
        list(embedded.in_processes(length, [("small", -1)], workers=1))
