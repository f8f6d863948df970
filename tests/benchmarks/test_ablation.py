"""The ablation's arithmetic against hand-made cells, and one small run of it."""

import dataclasses
import json
import math

import pytest
import torch

import train
from benchmarks import ablation
from benchmarks.ablation import MAIN, Results, Table, interval
from datasets.embedded import sets
from tests.helpers import REPOSITORY


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A small drawing of the species: 16 images a class to train on, 2 to test."""
    root = tmp_path_factory.mktemp("embedded")
    patch = pytest.MonkeyPatch()
    small = dataclasses.replace(sets.SETS["species"], images={"train": 16, "val": 4, "test": 2})
    patch.setitem(sets.SETS, "species", small)
    sets.write_set("species", str(root))
    patch.undo()
    return root


@pytest.fixture
def two_epochs(monkeypatch):
    hosts = {name: [*options, "OPTIM.MAX_EPOCH", "2"] for name, options in ablation.HOSTS.items()}
    monkeypatch.setattr(ablation, "HOSTS", hosts)


def test_interval():
    """Three differences with mean 2 and deviation 1: Student's quantile for two degrees of freedom is 4.303."""
    mean, half = interval([1.0, 2.0, 3.0])
    assert mean == 2 and half == pytest.approx(4.3027 / math.sqrt(3), abs=1e-3)
    assert math.isnan(interval([1.0])[1])


def test_gains_are_paired_and_averaged_over_sets_first():
    def cell(name, seed, host, ours):
        return {"set": name, "seed": seed, "accuracies": {MAIN: {"host alone": [host, host], "ours": [ours, ours]}}}

    results = Results([cell("shapes", 1, 50, 51), cell("scenes", 1, 80, 83), cell("shapes", 2, 40, 44), cell("scenes", 2, 90, 90)])  # fmt: skip
    assert results.mean(MAIN, "ours", ["shapes"])[2] == pytest.approx(47.5)
    mean, half = results.gain(MAIN, "ours", "host alone", ["shapes", "scenes"])
    assert mean == pytest.approx(2.0) and half == pytest.approx(0.0, abs=1e-9)  # +2 at either seed
    assert results.gain(MAIN, "ours", "host alone", ["shapes"])[0] == pytest.approx(2.5)
    results.cells["shapes", 2][MAIN].pop("ours")
    results.cells["scenes", 2][MAIN].pop("ours")
    assert results.seeds_of(MAIN, "ours") == [1]


def test_the_host_learns_what_it_learns_in_a_run(root, two_epochs, tmp_path):
    """Rows of a table in place of images: the same context as train.py's, from the same seed."""
    arguments = [
        "--root", root, "--seed", 1, "--trainer", "CoOp", "--output-dir", tmp_path,
        "--dataset-config-file", REPOSITORY / "configs/datasets/embedded_species.yaml",
        "--config-file", REPOSITORY / "configs/trainers/CoOp/embedded.yaml",
        "OPTIM.MAX_EPOCH", 2, "DATASET.NUM_SHOTS", 16, "DATASET.SUBSAMPLE_CLASSES", "base", "TEST.NO_TEST", True,
    ]  # fmt: skip
    assert train.main([str(part) for part in arguments]) == 0
    learned = torch.load(tmp_path / "prompt_learner" / "model.pth.tar-2", weights_only=True)["state_dict"]["ctx"]
    trainer = ablation.build(str(root), "species", 1, MAIN, "base")
    start = trainer.model.prompt_learner.ctx.detach().clone()
    table = Table(trainer, trainer.dm.dataset.train_x, root / "embedded_species")
    table.encode(trainer)
    ablation.train_host(trainer, table)
    ours = trainer.model.prompt_learner.ctx.detach()
    assert (ours - start).abs().max() > 1e-3
    torch.testing.assert_close(ours, learned, atol=1e-5, rtol=0)


def test_the_box_covers_the_patches_it_overlaps(root):
    trainer = ablation.build(str(root), "species", 1, MAIN, "base")
    table = Table(trainer, trainer.dm.dataset.train_x[:3], root / "embedded_species")
    cover = table.cover(8)
    for image, (x, y, radius) in enumerate(table.boxes.tolist()):
        inside = [
            sum(
                abs(column + dx + 0.05 - x) <= 0.85 * radius and abs(row + dy + 0.05 - y) <= 0.85 * radius
                for dx in [i / 10 for i in range(80)]
                for dy in [i / 10 for i in range(80)]
            )
            / 100
            for row in range(0, 64, 8)
            for column in range(0, 64, 8)
        ]
        torch.testing.assert_close(cover[image], torch.tensor(inside), atol=1.5, rtol=0)


@pytest.mark.slow
def test_one_small_run(root, two_epochs, tmp_path, capsys):
    """Cells, table and figures are written; a second call goes on from what is there."""
    line = ["--root", root, "--sets", "species", "--seeds", 1, 2, "--rows", "core", "--images", 2, "--workers", 1]
    line = [str(part) for part in [*line, "--out", tmp_path / "out", "--work", tmp_path / "work", "--name", "small"]]
    assert ablation.main(line) == 0
    assert "2 cells, 0 done already" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "small.json").read_text())
    assert found["sets"] == ["species"] and found["seeds"] == [1, 2]
    for key in ("h_gain_over_coop", "h_gain_over_coop_interval", "h_gain_over_zeroshot", "new_gain_over_zeroshot"):
        assert key in found and key in found["forms"]["spotlighter_zoom"]["species"]
    rows = found["cells"][0]["accuracies"][MAIN]
    assert {"host alone", "Spotlighter", "Spotlighter, ZOOM 3", "KEEP 0.6", "KEEP 0.6: host alone"} <= rows.keys()
    assert all(0 <= value <= 100 for pair in rows.values() for value in pair)
    text = (tmp_path / "out" / "small.md").read_text()
    assert "a test bed, no benchmark" in text and "| Spotlighter, ZOOM 3 |" in text
    assert ablation.main(line) == 0
    assert "2 cells, 2 done already" in capsys.readouterr().out


def test_missing_sets_are_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        ablation.main(["--root", str(tmp_path), "--sets", "scenes", "--work", str(tmp_path / "work")])
    assert "has no embedded_scenes: write it with" in capsys.readouterr().err
