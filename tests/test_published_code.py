"""Our methods against their authors' code, in one setting: same checkpoint, seed, images and precision.

The figures in `published_code.json` are what the published code gave (`published_code.py` measures them again).
"""

import json

import pytest
import torch

import trainers as trainers
from dassl.engine import TRAINER_REGISTRY
from tests.published_code import (
    CASES,
    LAYERS,
    RECORD,
    TEXT_LAYERS,
    build,
    run,
    tree,
    write_checkpoint,
    write_images,
)  # fmt: skip

RECORDED = json.loads(RECORD.read_text())
# Keys of ours where they are not those of the published code.
OWN_KEYS = {
    "ZeroshotCLIP": tree("ZSCLIP", {"PREC": "fp32"}),
    "ZeroshotCLIP2": tree("ZSCLIP", {"PREC": "fp32"}),
    "KgCoOp": tree("KGCOOP", {"CTX_INIT": "a photo of a", "W": 8.0, "PREC": "fp32"}),
    "CLIPAdapter": tree("CLIPADAPTER", {"PREC": "fp32"}),
    "CLIPFit": tree("CLIPFIT", {"W": 8.0, "PREC": "fp32"}),
    "TaskRes": tree("TASKRES", {"RESIDUAL_SCALE": 0.5, "PREC": "fp32"}),
    "TextRefiner": tree(
        "TEXTREFINER",
        {"CTX_INIT": "a photo of a", "MEMORY_SIZE": 25, "ALPHA": 0.2, "BALANCE": 10.0, "DISTILL": 5.0, "PREC": "fp32"},
    ),
    "TCP": tree("TCP", {"BLOCK": 9, "PREC": "fp32"}) | {"OPTIM.NAME": "adam", "OPTIM.ADAM_EPS": 1e-3},
    "ProGrad": tree("PROGRAD", {"N_CTX": 6, "CTX_INIT": True, "PREC": "fp32"}),
}


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """The data root, and the checkpoint that the published code of a case was run with."""
    root = tmp_path_factory.mktemp("setting")
    write_images(root)
    of_layers = {
        layers: write_checkpoint(root / f"clip{layers}.pt", layers) for layers in {LAYERS, *TEXT_LAYERS.values()}
    }
    return root, lambda case: of_layers[TEXT_LAYERS.get(case, LAYERS)]


def distance(ours: torch.Tensor, theirs) -> float:
    """The norm of the difference, relative to theirs."""
    theirs = torch.as_tensor(theirs, dtype=torch.float64)
    return ((ours - theirs).norm() / theirs.norm().clamp_min(1e-12)).item()


def in_our_names(trainer, learned: dict) -> dict:
    """Theirs, each tensor's figures under our name; a checkpoint of the authors' code is read in the same way."""
    if type(trainer).__name__ == "TextRefiner":  # its published checkpoints are two files, so none is read
        parts = {"prompt_learner.": "", "mid_image_trans.conv1.": "project.", "extractor.": "refiner."}
        return {ours + name.removeprefix(theirs): value for name, value in learned.items() for theirs, ours in parts.items() if name.startswith(theirs)}  # fmt: skip
    columns = {}
    for part in ("first", "change"):
        state = {name: torch.tensor(value[part], dtype=torch.float64) for name, value in learned.items()}
        columns[part] = trainer.from_published(state)
    return {name: {part: columns[part][name] for part in columns} for name in columns["first"]}


@pytest.mark.parametrize("case", CASES)
def test_as_published(case, setting):
    """Logits, the loss of each of six steps, what is learned at first and how it has moved: all to 1e-4, norm-wise."""
    theirs = RECORDED[case]
    method = TRAINER_REGISTRY.get(case.split()[0])
    (root, clip_of), keys = setting, OWN_KEYS.get(case, CASES[case][3])
    trainer = build(case.split()[0], keys, root, clip_of(case), install=method.extend_cfg)
    ours = run(trainer)
    learned = in_our_names(trainer, theirs["learned"])
    learned.pop("aggregate", None)  # PromptSRC's: a buffer of ours, an attribute of theirs
    assert ours["learned"].keys() == learned.keys()
    learned.pop("project.0.bias", None)  # TextRefiner's: a batch norm takes it away again, so rounding alone moves it
    for part in ("logits before", "losses", "logits after"):
        assert len(ours[part]) == len(theirs[part])
        assert distance(ours[part], theirs[part]) < 1e-4, part
    for name, value in learned.items():
        for part in ("first", "change"):
            assert distance(ours["learned"][name][part], value[part]) < 1e-4, (name, part)
