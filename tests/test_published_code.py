"""Our methods against their authors' code, in one setting: same checkpoint, seed, images and precision.

The figures in `published_code.json` are what the published code gave (`published_code.py` measures them again).
"""

import json
import math

import pytest
import torch

import trainers as trainers
from dassl.engine import TRAINER_REGISTRY
from tests.published_code import (
    CASES,
    COOP,
    LAYERS,
    MMA,
    MMRL,
    RECORD,
    TEXT_LAYERS,
    build,
    run,
    tree,
    write_checkpoint,
    write_images,
)  # fmt: skip
from tests.published_scripts import GDA_PASSES, RUNNERS, SameDropout
from trainers.dept import TransferHead
from trainers.shared.prompted_clip import load_clip

RECORDED = json.loads(RECORD.read_text())
# Keys of ours where they are not those of the published code.
OWN_KEYS = {
    "ZeroshotCLIP": tree("ZSCLIP", {"PREC": "fp32"}),
    "ZeroshotCLIP2": tree("ZSCLIP", {"PREC": "fp32"}),
    "KgCoOp": tree("KGCOOP", {"CTX_INIT": "a photo of a", "W": 8.0, "PREC": "fp32"}),
    "CLIPAdapter": tree("CLIPADAPTER", {"PREC": "fp32"}),
    "CLIPLoRA": CASES["CLIPLoRA"][3] | tree("CLIPLORA", {"PREC": "fp32"}),
    "CLIPFit": tree("CLIPFIT", {"W": 8.0, "PREC": "fp32"}),
    "CLAP": tree("CLAP", {"CONSTRAINT": "l2", "PREC": "fp32"}),
    "CLAP none": tree("CLAP", {"CONSTRAINT": "none", "PREC": "fp32"}),
    "TaskRes": tree("TASKRES", {"RESIDUAL_SCALE": 0.5, "PREC": "fp32"}),
    "GDA": tree("GDA", {"PREC": "fp32"}),
    **dict.fromkeys(("GDA base", "GDA new"), tree("GDA", {"SHRINK": False, "AUGMENT": GDA_PASSES, "PREC": "fp32"})),
    "TipAdapter": tree("TIPADAPTER", {"PREC": "fp32"}),
    "TipAdapterF": CASES["TipAdapterF"][3] | tree("TIPADAPTERF", {"PREC": "fp32"}),
    "TextRefiner": tree(
        "TEXTREFINER",
        {"CTX_INIT": "a photo of a", "MEMORY_SIZE": 25, "ALPHA": 0.2, "BALANCE": 10.0, "DISTILL": 5.0, "PREC": "fp32"},
    ),
    "TCP": tree("TCP", {"BLOCK": 9, "PREC": "fp32"}) | {"OPTIM.NAME": "adam", "OPTIM.ADAM_EPS": 1e-3},
    "ATPrompt": tree("ATPROMPT", {"N_CTX": 2, "PREC": "fp32"}),
    "ATPrompt deep": tree("ATPROMPT", {"N_CTX": 2, "PROMPT_DEPTH": 3, "PREC": "fp32"}),
    **{
        f"DePT {host}": {"TRAINER.DEPT.HOST": host, "DATASET.SUBSAMPLE_CLASSES": "base"} | keys
        for host, keys in (
            ("CoOp", tree("COOP", COOP)),
            ("KgCoOp", tree("KGCOOP", {"CTX_INIT": "a photo of a", "W": 2.0, "PREC": "fp32"})),
            ("MaPLe", CASES["MaPLe"][3]),
        )
    },
    "MMA": tree("MMA", MMA),
    "MMRLpp": tree("MMRLPP", MMRL | {"BETA": 0.6, "PROJ_LORA_DIM": 6, "RES_LORA_DIM": 3}),
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
    if "dept" in trainer.get_model_names():  # no checkpoints of it are published
        parts = {
            "prompt_learner.": "",
            "film_lp_img.": "image.",
            "film_lp_text.": "text.",
            "linear_probe_proj.": "linear.",
        }
        learned = {ours + name.removeprefix(theirs): value for name, value in learned.items() for theirs, ours in parts.items() if name.startswith(theirs)}  # fmt: skip
        return {name: value for name, value in learned.items() if name not in trainer.unused_tensors}
    columns = {}
    for part in ("first", "change"):
        state = {name: torch.tensor(value[part], dtype=torch.float64) for name, value in learned.items()}
        columns[part] = trainer.from_published(state)
    return {name: {part: columns[part][name] for part in columns} for name in columns["first"]}


class AfterKgCoOp(TransferHead):
    """A head that is drawn after what DePT's authors draw in their KgCoOp, and do not use."""

    def __init__(self, width, classnames):
        torch.randn(1, 512)
        load_clip("ViT-B/16", "fp32", torch.device("cpu"))
        for wide, out in ((512, 512), (512, 128), (128, 512)):
            torch.nn.Linear(wide, out, bias=wide == out)
        super().__init__(width, classnames)


@pytest.mark.parametrize("case", CASES)
def test_as_published(case, setting, monkeypatch):
    """Logits, the loss of each of six steps, what is learned at first and how it has moved: all to 1e-4, norm-wise."""
    theirs = RECORDED[case]
    if case == "DePT KgCoOp":
        monkeypatch.setattr("trainers.dept.TransferHead", AfterKgCoOp)
    method = TRAINER_REGISTRY.get(case.split()[0])
    (root, clip_of), keys = setting, OWN_KEYS.get(case, CASES[case][3])
    if case == "CLIPLoRA":
        monkeypatch.setattr("torch.nn.functional.dropout", SameDropout())
    trainer = build(case.split()[0], keys, root, clip_of(case), install=method.extend_cfg)
    if case == "MMRL new":
        trainer.model.prompt_learner.learned = {"dataset": "another", "classes": []}
    if case.startswith("GDA "):
        trainer.is_transform_fixed = lambda: False  # else its passes are one
    if case == "GDA new":
        trainer.model.prompt_learner.names = []  # of the classes with shots, none is asked for
    if case in RUNNERS:  # whose scale is a constant; CLIP's is the same, but here rounded to fp16
        trainer.model.clip.logit_scale.fill_(math.log(100))
    ours = run(trainer)
    learned = in_our_names(trainer, theirs["learned"])
    learned.pop("_extra_state", None)  # MMRL's: which classes it has learned
    learned.pop("aggregate", None)  # PromptSRC's: a buffer of ours, an attribute of theirs
    assert ours["learned"].keys() == learned.keys()
    learned.pop("project.0.bias", None)  # TextRefiner's: a batch norm takes it away again, so rounding alone moves it
    for part in ("logits before", "losses", "logits after"):
        assert len(ours[part]) == len(theirs[part])
        assert distance(ours[part], theirs[part]) < 1e-4, part
    for name, value in learned.items():
        for part in ("first", "change"):
            assert distance(ours["learned"][name][part], value[part]) < 1e-4, (name, part)
