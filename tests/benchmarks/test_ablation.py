"""The ablation's arithmetic against hand-made cells, and one small run of it."""

import json

import pytest
import torch

import clip
import train
from benchmarks.ablation import __main__ as ablation_main
from benchmarks.ablation import groups, rows
from benchmarks.ablation.__main__ import main
from benchmarks.ablation.encoded import EncodedImages, train_host
from benchmarks.ablation.rows import MAIN, build_spotlighter
from benchmarks.ablation.table import Ablation, as_json, markdown
from benchmarks.machine import RESULTS
from tests.helpers import REPOSITORY
from trainers.spotlighter.classes import Classes


@pytest.fixture
def two_epochs(monkeypatch):
    hosts = {name: [*options, "OPTIM.MAX_EPOCH", "2"] for name, options in rows.HOSTS.items()}
    monkeypatch.setattr(rows, "HOSTS", hosts)


@pytest.mark.parametrize("name", ["ablation", "ablation_fit", "ablation_heads", "ablation_world2"])
def test_the_committed_tables_are_what_their_cells_give(name):
    """To the byte: the JSON file has the cells, which both files are made from."""
    written = (RESULTS / f"{name}.json").read_text()
    content = json.loads(written)
    ablation, world, command = Ablation(content["cells"]), content["world"], content["command"]
    text = markdown(ablation, world, command, images=content["cells"][0]["images"])
    assert text == (RESULTS / f"{name}.md").read_text(encoding="utf-8")
    assert json.dumps(as_json(ablation, world, command), indent=4, separators=(",", ": ")) == written


def test_gains_are_paired_and_averaged_over_sets_first():
    def cell(name, seed, host, ours):
        return {"set": name, "seed": seed, "accuracies": {MAIN: {"host alone": [host, host], "ours": [ours, ours]}}}

    ablation = Ablation([cell("shapes", 1, 50, 51), cell("scenes", 1, 80, 83), cell("shapes", 2, 40, 44), cell("scenes", 2, 90, 90)])  # fmt: skip
    assert ablation.mean(MAIN, "ours", ["shapes"])[2] == pytest.approx(47.5)
    mean, half = ablation.gain(MAIN, "ours", "host alone", ["shapes", "scenes"])
    assert mean == pytest.approx(2.0) and half == pytest.approx(0.0, abs=1e-9)  # +2 at either seed
    assert ablation.gain(MAIN, "ours", "host alone", ["shapes"])[0] == pytest.approx(2.5)
    ablation.cells["shapes", 2][MAIN].pop("ours")
    ablation.cells["scenes", 2][MAIN].pop("ours")
    assert ablation.seeds_of(MAIN, "ours") == [1]


def test_fits_are_compared_with_those_that_leave_no_class_out():
    """To hundredths, base, new and H; a table without such a row has no such part."""

    def cell(seed, **rows):
        accuracies = {"zero-shot CLIP": [50, 50], "host alone": [50, 50], "Spotlighter": [60.5, 60.25], **rows}
        return {"set": "shapes", "seed": seed, "accuracies": {MAIN: accuracies}, "choices": {}}

    untrained = {rows.UNTRAINED: [60, 60], "FIT_UNSEEN 1": [60, 59]}
    text = markdown(Ablation([cell(1, **untrained), cell(2, **untrained)]), 0, "command", images=2)
    assert "| Spotlighter | +0.50 ± 0.00 | +0.25 ± 0.00 | +0.37 ± 0.00 |" in text
    assert "| FIT_UNSEEN 1 | +0.00 ± 0.00 | -1.00 ± 0.00 | -0.50 ± 0.00 |" in text
    assert "second look" not in text  # nothing was chosen
    assert "+0.50 ±" not in markdown(Ablation([cell(1)]), 0, "command", images=2)


def test_rows_of_the_fit(root, two_epochs, monkeypatch):
    """Each of another fit: tau_b moves where classes are left out of the bank, and nowhere else."""
    fitted, found = groups.fitted, {}

    def noted(*args, unseen=None):
        head = fitted(*args, unseen=unseen)
        found[unseen] = head.scalars.tau_b.item()
        return head

    monkeypatch.setattr(groups, "fitted", noted)
    accuracies = groups.fits(str(root), "species", 1, images=2)
    assert accuracies.keys() == {"zero-shot CLIP", "host alone", "+ selected tokens (initial scalars)", *groups.FITS}
    start = torch.tensor(0.1).item()
    assert found[0.0] == start and start not in (found[None], found[1.0])


def test_rows_of_heads(root, two_epochs, monkeypatch):
    """The paper's form trains a host of its own: the others' is as without it."""
    found = groups.heads_that_are_trained(str(root), "species", 1, images=2)
    assert list(found) == ["zero-shot CLIP", "host alone", "Spotlighter", "HEAD full", rows.PAPER]
    monkeypatch.setattr(groups, "papers_form", lambda *_: [0, 0])
    again = groups.heads_that_are_trained(str(root), "species", 1, images=2)
    assert {**again, rows.PAPER: found[rows.PAPER]} == found and min(found[rows.PAPER]) > 0


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
    trainer = build_spotlighter(str(root), "species", 1, MAIN, "base")
    start = trainer.model.prompt_learner.ctx.detach().clone()
    table = EncodedImages(trainer, trainer.dm.dataset.train_x, root / "embedded_species")
    table.encode(trainer)
    train_host(trainer, table)
    ours = trainer.model.prompt_learner.ctx.detach()
    assert (ours - start).abs().max() > 1e-3
    torch.testing.assert_close(ours, learned, atol=1e-5, rtol=0)


def test_the_box_covers_the_patches_it_overlaps(root):
    trainer = build_spotlighter(str(root), "species", 1, MAIN, "base")
    table = EncodedImages(trainer, trainer.dm.dataset.train_x[:3], root / "embedded_species")
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


@torch.no_grad()
def test_the_oracle_keeps_what_the_box_covers(root):
    trainer = build_spotlighter(str(root), "species", 1, MAIN, "base", keep=0.5, score="oracle")
    images = EncodedImages(trainer, trainer.dm.dataset.train_x[:3], root / "embedded_species")
    images.encode(trainer)
    kept = torch.zeros(3, 64, dtype=torch.bool).scatter(1, trainer.head.drop.alive, True)
    assert (kept.sum(dim=1) == 32).all()
    for cover, mask in zip(images.cover(8), kept, strict=True):
        assert cover[mask].min() >= cover[~mask].max() - 1e-3 and cover[mask].max() > 0


def test_chance_selects_in_the_row_of_random_tokens(root):
    """The same tokens, whatever they are."""
    trainer = build_spotlighter(str(root), "species", 1, MAIN, "base")
    head = rows.make_head(trainer, **rows.HEADS["random tokens"])
    chosen = [head.explain(torch.rand(4, 128), torch.rand(4, 64, 128), Classes(torch.rand(3, 128), torch.rand(3, 5, 128)), torch.zeros(128), torch.zeros(128)).selection for _ in range(2)]  # fmt: skip
    assert torch.equal(chosen[0].index, chosen[1].index) and chosen[0].index.unique().numel() > 5


@pytest.mark.slow
def test_one_small_run(root, two_epochs, tmp_path, capsys):
    """Cells, table and figures are written; a second call goes on from what is there."""
    line = ["--root", root, "--sets", "species", "--seeds", 1, 2, "--rows", "core", "--images", 2, "--workers", 1]
    line = [str(part) for part in [*line, "--out", tmp_path / "out", "--work", tmp_path / "work", "--name", "small"]]
    assert main(line) == 0
    assert "2 cells, 0 done already" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "small.json").read_text())
    assert found["sets"] == ["species"] and found["seeds"] == [1, 2]
    for key in ("h_gain_over_coop", "h_gain_over_coop_interval", "h_gain_over_zeroshot", "new_gain_over_zeroshot"):
        assert key in found and key in found["forms"]["spotlighter_zoom"]["species"]
    cell = found["cells"][0]["accuracies"][MAIN]
    assert {"host alone", "Spotlighter", "Spotlighter, ZOOM 3", "KEEP 0.6", "KEEP 0.6: host alone"} <= cell.keys()
    assert all(0 <= value <= 100 for pair in cell.values() for value in pair)
    text = (tmp_path / "out" / "small.md").read_text()
    assert "a test bed, no benchmark" in text and "| Spotlighter, ZOOM 3 |" in text
    assert main(line) == 0
    assert "2 cells, 2 done already" in capsys.readouterr().out


def refuse(*cell, **options):
    raise clip.InputError("TRAINER.SPOTLIGHTER.R is 0: it must be at least 1.")


def test_an_error_of_any_layer_is_one_sentence(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ablation_main, "run_cell", refuse)
    line = ["--root", str(root), "--sets", "species", "--seeds", "1", "--workers", "1", "--work", str(tmp_path)]
    assert main([*line, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "error: TRAINER.SPOTLIGHTER.R is 0: it must be at least 1.\n"
    assert not (tmp_path / "out").exists()


def test_missing_sets_are_named(tmp_path, capsys):
    assert main(["--root", str(tmp_path), "--sets", "scenes", "--work", str(tmp_path / "work")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "has no embedded_scenes: write it with" in error and error.count("\n") == 1
    assert not (tmp_path / "work").exists()
