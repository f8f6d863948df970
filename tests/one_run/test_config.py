"""Data -> the config of a run (one_run/config.py): files are read once, names looked up in the merged tree."""

import builtins
from collections import Counter
from pathlib import Path

import pytest
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from dassl.utils import InputError
from one_run.config import build_config, explain_undeclared_keys
from tests.helpers import REPOSITORY

CONFIGS = REPOSITORY / "configs"
FILES = (CONFIGS / "datasets" / "caltech101.yaml", CONFIGS / "trainers" / "Spotlighter" / "embedded_fast.yaml")


def test_every_file_is_read_once(monkeypatch):
    """The method's file here stands on two others, and names a host, whose keys are needed too."""
    opened, real = Counter(), builtins.open

    def counted(path, *args, **kwargs):
        opened[Path(path).resolve()] += str(path).endswith(".yaml")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", counted)
    build_config("Spotlighter", FILES)
    read = {path: times for path, times in opened.items() if times}
    assert len(read) >= 3 and set(read.values()) == {1}, read


def test_a_name_counts_wherever_it_stands(tmp_path):
    """Method, host and data set may be named by a file, a flag or an option; an option wins."""
    (tmp_path / "mine.yaml").write_text('TRAINER:\n  NAME: "Spotlighter"\n  SPOTLIGHTER:\n    HOST: "MaPLe"\n')
    cfg = build_config("", [tmp_path / "mine.yaml"])
    assert cfg.TRAINER.NAME == "Spotlighter" and {"SPOTLIGHTER", "MAPLE"} <= set(cfg.TRAINER)
    cfg = build_config("", [tmp_path / "mine.yaml"], ["TRAINER.SPOTLIGHTER.HOST", "KgCoOp"])
    assert "KGCOOP" in cfg.TRAINER and "MAPLE" not in cfg.TRAINER
    cfg = build_config("CoOp", options=["TRAINER.NAME", "VPT", "DATASET.NAME", "ImageFolder"])
    assert cfg.TRAINER.NAME == "VPT" and "VPT" in cfg.TRAINER and "COOP" not in cfg.TRAINER
    assert "FOLDER" in cfg.DATASET  # keys that a data set brings


def test_options_win_over_flags_and_flags_over_files(tmp_path):
    (tmp_path / "mine.yaml").write_text("SEED: 1\nOUTPUT_DIR: a\nOPTIM:\n  LR: 0.1\n")
    cfg = build_config("CoOp", [tmp_path / "mine.yaml"], ["OPTIM.LR", "1e-3"], seed=2, output_dir="", root=None)
    assert (cfg.SEED, cfg.OUTPUT_DIR, cfg.OPTIM.LR, cfg.DATASET.ROOT) == (2, "a", 0.001, "")
    assert build_config("CoOp", [tmp_path / "mine.yaml"], ["SEED", 3], seed=2).SEED == 3


@pytest.mark.parametrize(
    ("method", "options", "says"),
    [
        ("", [], "No method is named: pass --trainer, one of"),
        ("CoOpp", [], "'CoOpp' is unknown; the nearest name is 'CoOp'"),
        ("Spotlighter", ["TRAINER.SPOTLIGHTER.HOST", "Spotlighter"], "cannot be Spotlighter itself"),
        ("Spotlighter", ["TRAINER.SPOTLIGHTER.HOST", "CoOpp"], "TRAINER.SPOTLIGHTER.HOST 'CoOpp' is unknown"),
        ("CoOp", ["TRAINER.COOP.N_CTXX", 1], "TRAINER.COOP.N_CTXX is unknown; the nearest is TRAINER.COOP.N_CTX"),
        ("CoOp", ["OPTIM.LR"], "OPTIM.LR has no value"),
        (
            "CLIPLoRA",
            ["TRAINER.CLIPLORA.DROPOUT", 1],
            "DROPOUT is 1.0: it must be at least 0 and below 1",
        ),  # nothing would be learned
        ("DePT", ["TRAINER.DEPT.HOST", "coop"], "TRAINER.DEPT.HOST 'coop' is unknown; the nearest name is 'CoOp'"),
        (
            "CoOp",
            ["TRAINER.MAPLE.N_CTX", 2],
            "TRAINER.MAPLE.* is MaPLe's, and this run is of CoOp: choose a config file",
        ),
    ],
)
def test_what_is_refused(method, options, says):
    with pytest.raises(InputError, match=says):
        build_config(method, options=options)


@pytest.mark.parametrize("method", ["Spotlighter", "DePT"])
def test_a_config_over_another_host_is_named(method):
    """The host that an option names has none of the keys of the host that the file is over."""
    file = CONFIGS / "trainers" / method / "embedded.yaml"
    said = f"^The config key TRAINER.COOP is CoOp's, and this run is of {method} over KgCoOp \\(in .*embedded.yaml\\): choose"
    with pytest.raises(InputError, match=said):
        build_config(method, [file], [f"TRAINER.{method.upper()}.HOST", "KgCoOp"])


# --- a trainer file written for Dassl, which declares no keys ----------------------------------------------------


@pytest.fixture
def foreign(monkeypatch):
    """Its config: its own node is not declared."""
    monkeypatch.setitem(TRAINER_REGISTRY._obj_map, "Foreign", type("Foreign", (), {}))
    return build_config("Foreign")


@pytest.mark.parametrize(
    ("ask", "key"),
    [
        (lambda cfg: cfg.TRAINER.FOREIGN.N_CTX, "TRAINER.FOREIGN"),
        (lambda cfg: cfg.clone().TRAINER.FOREIGN, "TRAINER.FOREIGN"),
    ],
)
def test_a_missing_key_is_explained(foreign, ask, key):
    with (
        pytest.raises(InputError, match=rf"{key}\. .*configs/trainers/Foreign/defaults\.yaml"),
        explain_undeclared_keys(foreign),
    ):
        ask(foreign)


def test_a_missing_key_of_its_node_is_explained(foreign):
    foreign.defrost()
    foreign.TRAINER.FOREIGN = CfgNode({"PREC": "fp32"})
    with pytest.raises(InputError, match=r"TRAINER\.FOREIGN\.N_CTX\."), explain_undeclared_keys(foreign):
        foreign.TRAINER.FOREIGN.N_CTX  # noqa: B018


@pytest.mark.parametrize(
    "fault",
    [
        lambda cfg: None.start(),
        lambda cfg: cfg.TRAINNER,
        lambda cfg: cfg.OPTIM.RATE,
        lambda cfg: "text".nothing,
        lambda cfg: exec("raise AttributeError('said by hand')"),
    ],
)
def test_a_bug_of_its_own_stays_what_it_is(foreign, fault):
    with pytest.raises(AttributeError), explain_undeclared_keys(foreign):
        fault(foreign)


def test_an_unknown_key_in_its_options_is_explained(foreign):
    with pytest.raises(InputError, match=r"FOREIGN\.N is unknown.*configs/trainers/Foreign/defaults\.yaml"):
        build_config("Foreign", options=["TRAINER.FOREIGN.N", 1])
    with pytest.raises(InputError, match=r"OPTIM\.LRR is unknown; the nearest is OPTIM\.LR\.$"):
        build_config("Foreign", options=["OPTIM.LRR", 1])  # has nothing to do with the trainer
