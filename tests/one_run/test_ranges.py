"""What a user may get wrong in a config, on the whole way from the command line: exit code 2, one sentence, nothing begun."""

import io
import math
import sys

import pytest
import torch
from PIL import Image
from yacs.config import CfgNode

import train
from dassl.engine import TRAINER_REGISTRY
from dassl.ranges import leaves
from dassl.utils import InputError
from one_run.config import build_config, rules_of
from tests.helpers import REPOSITORY, arguments, results

OURS = [name for name in TRAINER_REGISTRY.registered_names() if TRAINER_REGISTRY.get(name).__module__.startswith("trainers.")]  # fmt: skip
CONFIGS = REPOSITORY / "configs"
OTHERS = ("defaults.yaml", "teacher.yaml")  # no configs of a run
ABSURD = [
    0,
    -1,
    0.5,
    math.nan,
    math.inf,
    1e300,
    2**63,
    10**400,
    "",
    "{x}",
    None,
    True,
    (),
    (0,),
    (1, 2, 3, 4),
    ["a"],
    {},
]


def said(capsys) -> str:
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["OPTIM.LR", -1], "OPTIM.LR is -1.0: it must be at least 0."),
        (["OPTIM.LR", "1e300"], "OPTIM.LR is 1e+300"),
        (["OPTIM.LR", "1e999"], "OPTIM.LR is inf: it must be a finite number"),
        (["DATALOADER.TRAIN_X.BATCH_SIZE", 0], "DATALOADER.TRAIN_X.BATCH_SIZE is 0: it must be at least 1."),
        (["DATALOADER.TEST.BATCH_SIZE", -1], "DATALOADER.TEST.BATCH_SIZE is -1"),
        (["TRAIN.PRINT_FREQ", 0], "TRAIN.PRINT_FREQ is 0: it must be at least 1."),
        (["DATALOADER.NUM_WORKERS", -1], "DATALOADER.NUM_WORKERS is -1: it must be at least 0."),
        (["DATALOADER.NUM_WORKERS", 2**63], "DATALOADER.NUM_WORKERS is 9223372036854775808"),
        (["SEED", 2**32], "SEED is 4294967296: it must be at least -4294967295 and at most 4294967295."),
        (["INPUT.SIZE", "(64, 64, 3)"], "INPUT.SIZE is (64, 64, 3): it must be 2 values"),
        (["INPUT.PIXEL_STD", "[0, 0.2, 0.2]"], "INPUT.PIXEL_STD is [0, 0.2, 0.2]: it must be 3 values, each above 0."),
        (["DATALOADER.K_TRANSFORMS", 2], "K_TRANSFORMS is 2: it must be 1, as the method takes one version of a picture"),
        (["INPUT.NO_TRANSFORM", True], "INPUT.NO_TRANSFORM is True: it must be False."),
        (["OPTIM.MAX_EPOCH", 0], "OPTIM.MAX_EPOCH is 0: it must be at least 1."),
        (["TEST.FINAL_MODEL", "bestval"], "TEST.FINAL_MODEL is 'bestval': it must be one of last_step, best_val."),
        (["TEST.SPLIT", "tset"], "TEST.SPLIT is 'tset': it must be one of test, val."),
        (["TRAINER.COOP.N_CTX", 0], "TRAINER.COOP.N_CTX is 0: it must be at least 1."),
        (["OPTIM.LR", "OPTIM.MAX_EPOCH", 3], "OPTIM.LR has no value."),
        (["OPTIM.LR", 0.1, 0.2, "OPTIM.MAX_EPOCH", 3], "'0.2' stands where a key belongs."),
        (["MODEL.BACKBONE.NAME", ""], "No backbone is named: pass --backbone"),
        (["TRAINER.COOP.CTX_INIT", "a photo " * 50], "CTX_INIT 'a photo a"),
        (["TRAINER.COOP.CTX_INIT", "a photo " * 37], "The prompt of the class 'red' is too long for CLIP"),
        (["OPTIM.SGD_NESTEROV", True, "OPTIM.MOMENTUM", 0.0], "OPTIM.SGD_NESTEROV True needs a momentum"),
        (["INPUT.TRANSFORMS", "['random_crop']", "INPUT.CROP_PADDING", 0, "INPUT.SIZE", "(64, 64)", "DATALOADER.KEEP_MB", 0], ""),
    ],
    ids=lambda value: " ".join(map(str, value))[:40] if isinstance(value, list) else "",
)  # fmt: skip
def test_a_wrong_value(data_root, tmp_path, capsys, options, says):
    line = arguments(data_root, tmp_path / "out", options=["OPTIM.MAX_EPOCH", 1, *options])
    if not says:  # what is at the border is fine
        assert train.main(line) == 0
        return
    assert train.main(line) == 2
    sentence = said(capsys)
    assert says in sentence and "truncate" not in sentence


@pytest.mark.parametrize("name", OURS)
def test_absurd_values(name):
    """Of every key: either it is fine, or the user is told; numbers that are none are never fine."""
    options = ["DATASET.NAME", "ImageFolder"]
    cfg = build_config(name, options=options)
    own = [key for key, _ in leaves(cfg) if key.startswith("TRAINER.")]
    for key in own if name != "CoOp" else dict(leaves(cfg)):
        if key in ("TRAINER.NAME", "DATASET.NAME", getattr(TRAINER_REGISTRY.get(name), "host_key", "")):
            continue
        for value in ABSURD:
            try:
                kept = dict(leaves(build_config(name, options=[*options, key, value])))[key]
            except InputError as error:
                assert key in str(error)
            else:
                assert not isinstance(kept, (int, float)) or abs(kept) <= (1 if type(kept) is int else 2**63), (
                    key,
                    value,
                )


@pytest.mark.parametrize("name", OURS)
def test_every_number_of_a_method_has_a_rule(name):
    cfg = build_config(name)
    numbers = {key for key, value in leaves(cfg.TRAINER, "TRAINER.") if type(value) in (int, float, tuple)}
    assert numbers <= rules_of(cfg, name).keys() <= dict(leaves(cfg)).keys()


SHIPPED = [path for path in sorted((CONFIGS / "trainers").glob("[!_]*/*.yaml")) if path.name not in OTHERS]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_shipped_config_keeps_to_the_rules(path):
    build_config(path.parent.name, [path])


@pytest.mark.parametrize("path", sorted((CONFIGS / "datasets").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_data_set_keeps_to_the_rules(path):
    build_config("CoOp", [path])


def test_a_foreign_trainers_keys_have_no_rules(monkeypatch):
    """It was written for Dassl: its keys stand in a defaults.yaml, and only the engine's are checked."""

    class Foreign:
        @staticmethod
        def extend_cfg(cfg):
            cfg.TRAINER.FOREIGN = CfgNode({"LIMIT": math.inf})

    monkeypatch.setitem(TRAINER_REGISTRY._obj_map, "Foreign", Foreign)
    cfg = build_config("Foreign", options=["DATALOADER.K_TRANSFORMS", 2, "TRAINER.FOREIGN.LIMIT", -math.inf])
    assert cfg.TRAINER.FOREIGN.LIMIT < -1e300 and cfg.DATALOADER.K_TRANSFORMS == 2
    with pytest.raises(InputError, match=r"OPTIM\.LR"):
        build_config("Foreign", options=["OPTIM.LR", -1.0])


@pytest.mark.parametrize("template", ["a {nice} photo of a {}.", "{} {x}", "no place", "{} and {}", "{0}", "{", "{}}"])
def test_a_template_that_cannot_be_filled(template):
    with pytest.raises(InputError, match="TEMPLATE is .*a text with one {} where the class name goes"):
        build_config("CoOp", options=["DATASET.NAME", "ImageFolder", "DATASET.FOLDER.TEMPLATE", template])


def test_the_least_that_is_allowed_runs(data_root, tmp_path):
    least = {
        "INPUT.TRANSFORMS": ["random_crop", "cutout", "gaussian_noise", "randaugment", "colorjitter", "randomgrayscale", "gaussian_blur", "normalize"],
        "INPUT.CROP_PADDING": 0, "INPUT.CUTOUT_N": 0, "INPUT.CUTOUT_LEN": 0, "INPUT.GN_STD": 0, "INPUT.RANDAUGMENT_N": 0,
        "INPUT.RANDAUGMENT_M": 0, "INPUT.COLORJITTER_B": 0, "INPUT.COLORJITTER_C": 0, "INPUT.COLORJITTER_S": 0,
        "INPUT.COLORJITTER_H": 0, "INPUT.RGS_P": 0, "INPUT.GB_P": 1, "INPUT.GB_K": 1, "DATALOADER.NUM_WORKERS": 0,
        "DATALOADER.KEEP_MB": 0, "DATALOADER.TRAIN_X.BATCH_SIZE": 1, "DATALOADER.TEST.BATCH_SIZE": 1, "OPTIM.WEIGHT_DECAY": 0,
        "OPTIM.MOMENTUM": 0, "OPTIM.GAMMA": 0, "OPTIM.LR_SCHEDULER": "single_step", "OPTIM.STEPSIZE": (1,), "OPTIM.MAX_EPOCH": 2,
        "OPTIM.WARMUP_EPOCH": 0, "TRAIN.CHECKPOINT_FREQ": -1, "TRAIN.PRINT_FREQ": 1, "DATASET.NUM_SHOTS": 1, "TRAINER.COOP.N_CTX": 1,
    }  # fmt: skip
    assert train.main(arguments(data_root, tmp_path, options=[part for pair in least.items() for part in pair])) == 0
    assert results(tmp_path)["state"] == "finished"


def test_a_rate_of_zero_learns_nothing(data_root, tmp_path):
    """A control, if the warm-up has no rate either."""
    still = ["OPTIM.LR", 0, "OPTIM.WARMUP_CONS_LR", 0, "OPTIM.MAX_EPOCH", 2, "TRAIN.CHECKPOINT_FREQ", 1]
    assert train.main(arguments(data_root, tmp_path, options=still)) == 0
    first, last = (
        torch.load(tmp_path / "prompt_learner" / f"model.pth.tar-{epoch}", weights_only=True)["state_dict"]["ctx"]
        for epoch in (1, 2)
    )
    assert torch.equal(first, last)


# --- numbers that are none, and a console that lacks letters ----------------------------------------------------------


@pytest.mark.parametrize("method", ["CoOp", "Spotlighter"])
def test_a_checkpoint_that_holds_no_numbers(data_root, tmp_path, capsys, method):
    """No accuracy comes of it; the tensor is named."""
    assert train.main(arguments(data_root, tmp_path / "run", method, options=["OPTIM.MAX_EPOCH", 1])) == 0
    path = tmp_path / "run" / "prompt_learner" / "model.pth.tar-1"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["state_dict"]["ctx"][0, 0] = math.nan
    torch.save(checkpoint, path)
    (tmp_path / "run" / "results.json").unlink()  # which has its SHA-256; foreign runs have none
    capsys.readouterr()
    line = arguments(data_root, tmp_path / "test", method, eval_only=True, model_dir=tmp_path / "run")
    assert train.main(line) == 2
    assert "ctx of prompt_learner is infinite or NaN" in capsys.readouterr().err
    assert results(tmp_path / "test")["accuracy"] is None


def test_a_last_step_to_no_number_is_not_saved(data_root, tmp_path, capsys):
    """One batch an epoch: the loss before it was fine."""
    options = ["OPTIM.LR", 1e38, "OPTIM.WARMUP_EPOCH", -1, "OPTIM.MAX_EPOCH", 1, "DATALOADER.TRAIN_X.BATCH_SIZE", 12]
    options += ["TEST.NO_TEST", True, "OPTIM.WEIGHT_DECAY", 1e38]
    assert train.main(arguments(data_root, tmp_path, options=options)) == 2
    assert "ctx of prompt_learner is infinite or NaN: train again with a lower OPTIM.LR" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.tar*"))


def test_a_run_on_a_console_that_lacks_letters(tmp_path, monkeypatch):
    for name in ("caf\u00e9", "\u732b"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(8):
            Image.effect_noise((64, 64), 50).convert("RGB").save(tmp_path / "pictures" / name / f"{number}.png")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    parts = ["--root", tmp_path / "pictures", "--trainer", "ZeroshotCLIP", "--output-dir", tmp_path / "out"]
    parts += ["--dataset-config-file", CONFIGS / "datasets/folder.yaml"]
    parts += ["--config-file", CONFIGS / "trainers/ZeroshotCLIP/embedded.yaml", "TEST.PER_CLASS_RESULT", "True"]
    assert train.main([str(part) for part in parts]) == 0
    sys.stdout.flush()
    assert "caf\u00e9" in (tmp_path / "out" / "log.txt").read_text(encoding="utf-8")
    assert set(results(tmp_path / "out")["classwise"]) == {"caf\u00e9", "\u732b"}
