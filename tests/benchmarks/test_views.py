"""The arithmetic of what views cost, against hand-made records, and one small run."""

import json
import math
from types import SimpleNamespace

import pytest

from benchmarks import views
from benchmarks.machine import RESULTS
from dassl.data.transforms import build_transform
from one_run.config import config_of
from tests.helpers import results


def write(output, method, variant, name, seed, base, new, state="finished"):
    for half, accuracy in (("base", base), ("new", new)):
        folder = views.run_of("", output, half, method, variant, name, seed).folder
        folder.mkdir(parents=True)
        (folder / "results.json").write_text(json.dumps({"state": state, "accuracy": accuracy}))


def test_differences_are_paired_by_seed(tmp_path):
    """Sets are averaged first, then H is taken; Student's quantile for 1 degree. A seed with a run missing is left out."""
    for seed, (without, with_views) in {1: (50, 60), 2: (60, 66), 3: (1, 99)}.items():
        for name, shift in (("shapes", 5), ("scenes", -5)):
            for variant in views.VARIANTS:
                accuracy = (with_views if variant == "VIEWS 4" else without) + shift
                state = "failed" if (seed, name, variant) == (3, "scenes", "VIEWS 16") else "finished"
                write(tmp_path, "CoOp", variant, name, seed, accuracy, accuracy, state)
    rows = views.accuracies(tmp_path, "CoOp", ["shapes", "scenes"], [1, 2, 3])
    assert rows["VIEWS 0"] == {"shapes/1": (55, 55), "scenes/1": (45, 45), "shapes/2": (65, 65), "scenes/2": (55, 55)}
    assert views.differences(rows["VIEWS 4"], rows["VIEWS 0"]) == pytest.approx([10, 6])
    seconds = {"VIEWS 0": 10.0, "VIEWS 4": 2.5, "VIEWS 8": 4.0, "VIEWS 16": 8.0}
    text = views.markdown({"accuracies": {"CoOp": rows}, "train_cpu_seconds": {"CoOp": seconds}})
    half = 12.706 * 4 / math.sqrt(2) / math.sqrt(2)
    assert f"| CoOp | VIEWS 4 | 2 | 63.0 | 63.0 | **63.0** | +8.0 ± {half:.1f} | 2.5 | 25% |" in text
    one = {variant: {"shapes/1": cells["shapes/1"]} for variant, cells in rows.items()}
    text_of_one = views.markdown({"accuracies": {"CoOp": one}, "train_cpu_seconds": {"CoOp": seconds}})
    assert "| CoOp | VIEWS 4 | 1 | 65.0 | 65.0 | **65.0** | +10.0 | 2.5 | 25% |" in text_of_one  # no interval of one
    assert "| CoOp | VIEWS 0 | 2 | 55.0 | 55.0 | **55.0** |  | 10.0 | 100% |" in text


def test_all_runs_crop_and_flip_and_differ_in_views_alone(root, tmp_path):
    """Each in folders of its own."""
    assert list(views.VARIANTS) == ["VIEWS 0", "VIEWS 4", "VIEWS 8", "VIEWS 16"]
    for variant in views.VARIANTS:
        run = views.run_of(str(root), tmp_path, "base", "KgCoOp", variant, "species", 1)
        cfg = config_of(run.request)
        steps = [type(step).__name__ for step in build_transform(cfg, is_train=True).transforms]
        assert steps[:2] == ["RandomResizedCrop", "RandomHorizontalFlip"]
        assert variant == f"VIEWS {cfg.DATALOADER.VIEWS}" and variant.replace(" ", "_") in str(run.folder)


def test_a_small_run_goes_on_where_it_stopped(root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(views, "VARIANTS", {name: views.VARIANTS[name] for name in ("VIEWS 0", "VIEWS 4")})
    monkeypatch.setattr(views, "QUICK", ("OPTIM.MAX_EPOCH", "2"))
    args = SimpleNamespace(root=str(root), sets=["species"], seeds=[1], workers=1, methods=["CoOp"], quick=True)
    args.output, args.out = str(tmp_path / "runs"), str(tmp_path / "views.json")
    assert views.measure(args) == 0
    runs = [
        views.run_of("", tmp_path / "runs", half, "CoOp", "VIEWS 4", "species", 1).folder for half in ("base", "new")
    ]
    before = [(run / "results.json").stat().st_mtime_ns for run in runs]
    assert views.measure(args) == 0
    assert [(run / "results.json").stat().st_mtime_ns for run in runs] == before
    content = json.loads((tmp_path / "views.json").read_text())
    assert content["accuracies"]["CoOp"]["VIEWS 4"] == {"species/1": [results(run)["accuracy"] for run in runs]}
    assert content["command"] == "python -m benchmarks.views --methods CoOp --seeds 1 --sets species"
    seconds = content["train_cpu_seconds"]["CoOp"]
    assert seconds.keys() == set(views.VARIANTS) and min(seconds.values()) > 0
    assert views.markdown(content) in capsys.readouterr().out


def test_what_does_not_exist(tmp_path, capsys):
    assert views.main(["--root", str(tmp_path), "--quick"]) == 2
    assert "has no embedded_" in capsys.readouterr().err


def test_the_committed_figures_are_those_of_the_readme():
    content = json.loads((RESULTS / "views.json").read_text())
    for rows in content["accuracies"].values():
        assert rows.keys() == set(views.VARIANTS) and len({tuple(cells) for cells in rows.values()}) == 1
    assert views.markdown(content) in (RESULTS.parent / "README.md").read_text(encoding="utf-8")
    assert content["command"] in (RESULTS.parent / "README.md").read_text(encoding="utf-8")
