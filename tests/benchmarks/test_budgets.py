"""Budgets (benchmarks/budgets.py): the table's arithmetic against hand-made cells, and one small run."""

import json
import math

import pytest
import torch
import torch.nn.functional as F

from benchmarks import budgets
from benchmarks.budgets import CONTROLS, HEAD, Table, control, own
from benchmarks.machine import RESULTS
from trainers.spotlighter.bank import Bank
from trainers.spotlighter.classes import Classes
from trainers.spotlighter.head import SpotlighterHead


def cell(name, seed, cost=0.9, **rows):
    accuracies = {"head": HEAD, "one": own(1.0), "oracle": control("oracle", 1.0)}
    accuracies = {accuracies[row]: [value, value] for row, value in rows.items()}
    plans = {row: {"words": f"a glance, at {cost:.2f} of it", "cost": cost} for row in accuracies if row != HEAD}
    return {"set": name, "seed": seed, "accuracies": accuracies, "plans": plans}


def test_gains_are_paired_by_set_and_seed():
    cells = [cell("small", 1, 0.8, head=50, one=60, oracle=70), cell("scenes", 1, 1.0, head=80, one=80)]
    cells += [cell("small", 2, 0.8, head=52, one=66, oracle=76), cell("scenes", 2, 1.0, head=84, one=84)]
    table = Table(cells)
    assert table.mean(own(1.0), ["small"]) == pytest.approx(63) and table.cost(own(1.0), table.sets) == pytest.approx(
        0.9
    )
    mean, half = table.gain(own(1.0), HEAD, ["small", "scenes"])  # +5 and +7
    assert mean == pytest.approx(6) and half == pytest.approx(12.706 * math.sqrt(2) / math.sqrt(2), rel=1e-3)
    assert table.sets_of(control("oracle", 1.0)) == ["small"]  # where it is known where the object is
    text = budgets.markdown(table, 0, "the command", 50)
    assert "| budget 1 | 0.90 | 72.5 | +6.0 ± 12.7 |" in text and "test bed" in text and "*small* a glance (2)" in text
    found = budgets.as_json(table, cells, 0, "the command")["clutter_and_small"]
    assert found["share_of_the_oracles"] == pytest.approx(12 / 22)


@pytest.mark.parametrize("name", ["budgets", "budgets_world5"])
def test_the_committed_tables_are_what_their_cells_give(name):
    """To the byte."""
    written = (RESULTS / f"{name}.json").read_text()
    content = json.loads(written)
    world, command = content["world"], content["command"]
    table = Table(content["cells"], budgets.references_of(world))
    assert budgets.markdown(table, world, command, 50) == (RESULTS / f"{name}.md").read_text(encoding="utf-8")
    again = budgets.as_json(table, content["cells"], world, command)
    assert json.dumps(again, indent=4, separators=(",", ": ")) == written


def test_regions_by_the_bank_are_where_the_two_likeliest_classes_differ():
    """Four tokens in two dimensions: the second is like the one class, the last like the other, more so."""
    head = SpotlighterHead(logit_scale=100.0, prototypes=1)
    with torch.no_grad():
        head.scalars.g.zero_()
        head.scalars.g_v.zero_()
    text = torch.eye(3)[:, :3]  # three classes
    classes = Classes(text, text[:, None])  # each with its text as its one prototype
    bank = Bank(**{name: torch.zeros(3) for name in Bank._fields})
    f = F.normalize(torch.tensor([[0.7, 0.7, 0.1]]), dim=-1)  # the third class is not among the two likeliest
    v = F.normalize(torch.tensor([[[0.5, 0.5, 0.0], [1.0, 0.2, 0.0], [0.1, 0.1, 1.0], [0.0, 1.0, 0.0]]]), dim=-1)
    found = budgets.map_by("bank", head, f, v, budgets.Known(bank, {"new": classes}), "new")[0]
    assert found.argsort(descending=True).tolist()[:2] == [3, 1] and found[0] == found[2] == pytest.approx(0, abs=1e-6)


def test_maps_for_nothing(root, tmp_path):
    argv = ["--root", root, "--sets", "species", "--seeds", 1, "--images", 2, "--budgets", 1, "--workers", 1, "--name", "free"]  # fmt: skip
    argv = [str(part) for part in [*argv, "--work", tmp_path / "work", "--out", tmp_path]]
    assert budgets.main([*argv, "--controls", *budgets.FREE]) == 0
    rows = json.loads((tmp_path / "free.json").read_text())["rows"]
    assert set(rows) - {"KEEP 0.6", "ZOOM 3"} == {HEAD, own(1.0), *(control(name, 1.0) for name in budgets.FREE)}


def test_a_small_run(root, tmp_path):
    argv = ["--root", root, "--sets", "species", "--seeds", 1, "--images", 2, "--budgets", 1, "--workers", 1]
    argv = [str(part) for part in [*argv, "--work", tmp_path / "work", "--out", tmp_path, "--name", "small"]]
    assert budgets.main(argv) == 0
    content = json.loads((tmp_path / "small.json").read_text())
    rows = {HEAD, own(1.0), *(control(name, 1.0) for name in CONTROLS if name != "oracle")}
    assert rows <= set(content["rows"]) and (tmp_path / "small.png").stat().st_size > 1000
    assert all(row["cost"] is None or row["cost"] < 1.05 for row in content["rows"].values())
    assert content["rows"][HEAD]["gain"] == 0.0
    work = tmp_path / "work" / "small" / "species_1.json"
    former = work.read_text().replace('"seed": 1', '"seed":  1')
    work.write_text(former)
    assert budgets.main(argv) == 0 and work.read_text() == former  # a finished cell is not done again
