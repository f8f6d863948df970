"""Which images judge (one_run/judges.py): none of the test in place of validation, unless a publication did so."""

import json
import shutil

import pytest

import train
from tests.helpers import arguments, results

BEST, SPLIT = ["TEST.FINAL_MODEL", "best_val"], ["TEST.SPLIT", "val"]
SHARED = ["DATASET.ALLOW_SHARED_IMAGES", True]
PAPER = ["SETTINGS.MODE", "paper"]


@pytest.fixture(scope="module")
def roots(data_root, tmp_path_factory):
    """Data roots without validation images, and with the test's for validation, as ImageNet has them."""

    def root(name, change):
        folder = tmp_path_factory.mktemp(name) / "caltech-101"
        shutil.copytree(data_root / "caltech-101", folder)
        (folder / "101_ObjectCategories" / "again").symlink_to(folder / "101_ObjectCategories")
        split = json.loads((folder / "split_zhou_Caltech101.json").read_text())
        (folder / "split_zhou_Caltech101.json").write_text(json.dumps(split | change(split)))
        return folder.parent

    return {
        "none": root("none", lambda split: {"val": []}),
        "test": root("test", lambda split: {"val": split["test"]}),
        "some": root("some", lambda split: {"val": split["val"] + split["test"][:1]}),
        "whole": data_root,
        "links": root("links", lambda split: {"val": [[f"again/{path}", *of] for path, *of in split["test"]]}),
    }


def run(roots, which, output, method="CoOp", options=(), **flags) -> int:
    more = ["OPTIM.MAX_EPOCH", 1, *(SHARED if which in ("test", "some", "links") else []), *options]
    return train.main(arguments(roots[which], output, method, options=more, **flags))


@pytest.mark.parametrize(
    ("which", "method", "options", "says"),
    [
        ("none", "CoOp", BEST, "Caltech101 has no validation images, by which TEST.FINAL_MODEL best_val chooses the model"),
        ("none", "CoOp", SPLIT, "Caltech101 has no validation images, which TEST.SPLIT val tests on"),
        ("none", "ZeroshotCLIP", SPLIT, "leave TEST.SPLIT test."),
        ("none", "CoOp", BEST + PAPER, "has no validation images"),
        ("test", "CoOp", BEST, "TEST.FINAL_MODEL best_val would choose the model on these: leave TEST.FINAL_MODEL as it is"),
        ("test", "CoOp", SPLIT, "with SETTINGS.MODE paper, which tables name."),
        ("some", "CoOp", BEST, "The validation images of Caltech101 are among its test images"),
        ("links", "CoOp", BEST, "The validation images of Caltech101 are among its test images"),
        ("test", "ZeroshotCLIP", SPLIT, "TEST.SPLIT val would pass these off as others"),
    ],
)  # fmt: skip
def test_refused_before_training(roots, tmp_path, capsys, which, method, options, says):
    assert run(roots, which, tmp_path, method, options) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and err.count("\n") == 1 and says in err
    assert "Evaluate on" not in out and not list(tmp_path.rglob("*.tar*"))
    assert results(tmp_path)["refused"]  # so that no table counts it


@pytest.mark.parametrize(
    ("which", "method", "options", "chosen"),
    [
        ("none", "CoOp", [], False),
        ("test", "CoOp", PAPER, False),
        ("whole", "CoOp", BEST, False),
        ("test", "CoOp", BEST + PAPER, True),
        ("test", "ZeroshotCLIP", BEST, False),  # of which there is nothing to choose
        ("none", "ZeroshotCLIP", BEST, False),
    ],
)
def test_carried_out(roots, tmp_path, which, method, options, chosen):
    assert run(roots, which, tmp_path, method, options) == 0
    record = results(tmp_path)
    assert record["state"] == "finished" and record["chosen_on_test"] is chosen


def test_a_method_that_chooses_on_validation_images_does_so_in_the_mode_paper_alone(roots, tmp_path):
    """As its config's row says; so it works as its authors' did, on a set such as ImageNet too."""
    rows = tmp_path / "method.yaml"
    rows.write_text(
        "MODEL: {BACKBONE: {NAME: ViT-Embedded/8}}\nINPUT: {SIZE: [64, 64]}\n"
        "_SETTINGS_:\n  - {mode: paper, TEST.FINAL_MODEL: best_val}\n"
    )
    for mode, final, chosen in (("strict", "last_step", False), ("paper", "best_val", True)):
        output = tmp_path / mode
        assert run(roots, "test", output, options=["SETTINGS.MODE", mode], config_file=rows) == 0
        record = results(output)
        assert (record["config"]["TEST"]["FINAL_MODEL"], record["chosen_on_test"]) == (final, chosen)


@pytest.mark.parametrize(("which", "options", "chosen"), [("whole", [], False), ("test", PAPER, True)])
def test_a_best_model_is_tested_without_validation_images(roots, tmp_path, capsys, which, options, chosen):
    """Only training needs them; the test's record says what the training's did."""
    assert run(roots, which, tmp_path / "run", options=BEST + options) == 0
    flags = {"eval_only": True, "model_dir": tmp_path / "run"}
    assert run(roots, "none", tmp_path / "test", options=BEST, **flags) == 0
    assert "model-best.pth.tar" in capsys.readouterr().out and results(tmp_path / "test")["chosen_on_test"] is chosen
    assert run(roots, "none", tmp_path / "last", options=[*BEST, "OPTIM.LR", 0.5], load_epoch=1, **flags) == 0
    assert results(tmp_path / "last")["chosen_on_test"] is False
    assert run(roots, "none", tmp_path / "val", options=BEST + SPLIT, **flags) == 2
    assert "has no validation images, which TEST.SPLIT val tests on" in capsys.readouterr().err
