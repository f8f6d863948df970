"""The images-per-second benchmark: what it measures is the real prediction, and what it writes. No time is asserted."""

import json

import pytest
import torch

from benchmarks.fps.__main__ import main
from benchmarks.fps.measure import Timing, count_flops, interleave, summarise
from benchmarks.fps.predictors import LEAN, VIT_B_16, Predictor, build_clip, build_rows, class_names
from benchmarks.fps.profiles import PARTS, profile_row
from clip.model import CLIP

CPU = torch.device("cpu")
BACKBONE = "ViT-Embedded/8"
NAMES = class_names()[:7]


@pytest.fixture(scope="module")
def model() -> CLIP:
    return build_clip(BACKBONE, "fp32", CPU)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def rows(model):
    return build_rows(BACKBONE, model, NAMES, [1.0, 0.6], 0.6)


def test_class_names_are_different():
    assert len(set(class_names())) == len(class_names()) == 1000


@torch.no_grad()
def test_every_row_predicts_a_class_and_shares_the_weights(model, images, rows):
    rows, trainer = rows
    names = [row.name for row in rows]
    assert [name.partition(",")[0] for name in names[-3:]] == [
        f"Spotlighter BUDGET {budget:g}" for budget in (0.6, 1, 2.6)
    ]
    assert names[:-3] == [
        "zero-shot CLIP",
        LEAN,
        "CoOp",
        "CoOp, the field's evaluation",
        "Spotlighter KEEP 1",
        "Spotlighter KEEP 0.6",
        "Spotlighter KEEP 0.6 ZOOM 1",
        "Spotlighter KEEP 0.6 ZOOM 3",
    ]
    for row in rows:
        classes = row.predict(images)
        assert classes.shape == (3,) and classes.dtype == torch.long and 0 <= classes.min() <= classes.max() < 7
    assert trainer.model.clip is model
    assert trainer.head.bank.prototypes.shape == (7, 5, model.visual.output_dim)


def test_operations_are_counted_without_computing(images, rows):
    by_name = {row.name: count_flops(row.predict, images) for row in rows[0]}
    clip = by_name["zero-shot CLIP"]
    # Patches, 4 blocks over 64 + 1 tokens, the projection of the class token, 7 classes; two operations a product.
    visual = rows[1].model.clip.visual
    D, L, d = visual.transformer.width, 65, visual.output_dim
    blocks = 4 * (2 * 12 * D * D * L + 2 * 2 * L * L * D)
    assert clip == blocks + 2 * 64 * 3 * 8 * 8 * D + 2 * D * d + 2 * d * 7
    one = L - 1  # tokens for which the last block computes a query, the joined heads and the MLP no more
    assert by_name["CoOp"] == by_name[LEAN] == clip - 2 * one * 10 * D * D - 2 * 2 * one * L * D
    assert clip < by_name["CoOp, the field's evaluation"]
    assert by_name["Spotlighter KEEP 0.6"] < clip < by_name["Spotlighter KEEP 1"]
    assert by_name["Spotlighter KEEP 0.6 ZOOM 1"] < by_name["Spotlighter KEEP 0.6 ZOOM 3"]
    for name, work in by_name.items():
        if "BUDGET" in name:
            assert work / clip == pytest.approx(float(name.rpartition(" ")[2]), rel=0.02)


def test_rounds_rotate_and_ratios_are_paired(images):
    called = []
    rows = [Predictor(name, lambda _, name=name: called.append(name)) for name in "abc"]
    timings = interleave(rows, images, rounds=3, least=0.0, show=lambda _: None)
    assert called == [*"abc", *"abc", *"bca", *"cab"]
    assert [len(own) for own in timings] == [3, 3, 3]
    # The machine is twice as slow in the second round; the second row always takes half of the first one's time.
    timings = [[Timing(1.0, 2.0, 1), Timing(2.0, 2.0, 1)], [Timing(0.5, 1.0, 1), Timing(1.0, 1.0, 1)]]
    slow, fast = summarise(rows[:2], timings, batch=4, flops=[100.0, 80.0], attainable=1e3)
    assert slow["ratio_to_clip"] == 1 and fast["ratio_to_clip"] == 2 and fast["ratio_iqr"] == [2, 2]
    assert slow["images_per_second"] == 3 and fast["images_per_second"] == 6
    assert fast["extra_images_per_second"] == 3 and fast["ratio_by_flops"] == 1.25 and fast["ratio_by_cpu_time"] == 2
    assert fast["share_of_attainable"] == pytest.approx(0.48)


def test_hooks_are_gone_after_a_profile(model, images, rows):
    rows, trainer = rows
    chosen = next(row for row in rows if row.name == "Spotlighter KEEP 0.6")
    recorded = profile_row(chosen, images, model.visual, trainer.head.drop.after, drops=True, repeats=1)
    assert list(recorded["parts"]) == list(PARTS) and all(
        part["ms_per_image"] > 0 for part in recorded["parts"].values()
    )
    assert sum(part["share"] for part in recorded["parts"].values()) == pytest.approx(1)
    assert "matrix products" in recorded["kinds"]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.visual.modules())


def test_one_run_writes_its_record(tmp_path, capsys):
    out = tmp_path / "results" / "fps_cpu.json"
    options = f"--device cpu --backbone {BACKBONE} --batch 1 2 --classes 5 --keep 0.5 --rounds 2 --seconds 0"
    assert main([*options.split(), "--out", str(out)]) == 0
    record = json.loads(out.read_text())
    assert {"versions", "device", "cpu_threads", "precision", "batch", "classes", "command", "profile"} <= set(record)
    assert record["precision"] == "fp32" and record["batch"] == [1, 2] and len(record["runs"]) == 2
    assert {"speedup_over_clip_cpu", "extra_images_per_second", "speedup_by_flops", "control_ratio"} <= set(record)
    assert "speedup_over_clip_gpu" not in record
    names = [row["name"] for row in record["rows"]]
    assert [name.partition(",")[0] for name in names[-3:]] == [
        f"Spotlighter BUDGET {budget:g}" for budget in (0.6, 1, 2.6)
    ]
    assert [name for name in names if "ZOOM" not in name and "BUDGET" not in name][4:] == [
        "Spotlighter KEEP 1",
        "Spotlighter KEEP 0.6",
        "Spotlighter KEEP 0.5",
    ]
    wanted = {"images_per_second", "ratio_to_clip", "ratio_iqr", "gflops_per_image", "share_of_attainable"}
    assert all(wanted <= set(row) and row["images_per_second"] > 0 for row in record["rows"])
    assert set(record["profile"]) == {"zero-shot CLIP", "Spotlighter KEEP 0.6"}
    assert str(out) in capsys.readouterr().out


@pytest.mark.parametrize(
    "options, reason",
    [
        ("--keep 1.5", "KEEP 1.5"),
        ("--keep 0", "KEEP 0 "),
        ("--chosen nan", "KEEP nan"),
        ("--backbone ViT-X", "ViT-X"),
        ("--device tpu", "tpu"),
        ("--device cuda:99", "cuda:99"),
        ("--precision fp8", "fp8"),
        ("--device cpu --precision fp16", "fp16"),
        ("--batch 0", "--batch"),
        ("--rounds 0", "--rounds"),
        ("--classes 1001", "1001"),
        ("--backbone ViT-Embedded/8 --device cpu --keep 0.01", "R"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_sentence(options, reason, tmp_path, capsys):
    assert main([*options.split(), "--out", str(tmp_path / "out.json")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and reason in error
    assert not (tmp_path / "out.json").exists()


def test_cuda_asked_for_but_absent_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert main(["--device", "cuda"]) == 2
    assert "choose cpu" in capsys.readouterr().err


def test_vit_b_16_has_its_published_size():
    with torch.device("meta"):
        model = CLIP(**VIT_B_16)
    assert sum(p.numel() for p in model.parameters()) == 149_620_737
