"""A step of the authors' own code, checked out elsewhere, in a process of its own: its `clip` and `trainers` are called as ours.

In FOLDER lie the repositories, as FOLDER/CoOp or FOLDER/KaiyangZhou+CoOp. Their trainers stand on the `dassl` of this
repository, in fp32 on the CPU: `.cuda()` and `.half()`, which that code calls anyway, do nothing there. A line on its
input asks for a step; the answer is its CPU seconds.

No module of ours that is called as one of theirs may be imported here.
"""

import contextlib
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import packaging.version
import torch
from yacs.config import CfgNode

from benchmarks.made_up import made_up
from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import InputError, set_random_seed
from one_run.layout import ROOT

from .timing import clocked


class Code(NamedTuple):
    """Where a method's authors have their trainer."""

    repository: str
    folder: str  # in it, which is searched for modules
    module: str
    keys: dict[str, dict]  # under TRAINER, as their scripts set them for ViT-B/16
    registered: str = ""  # if not as ours is
    clip: str = "clip"  # the package with their `clip.py`
    optimiser: str = "sgd"
    more: tuple[tuple[str, str], ...] = ()  # keys outside TRAINER


COOP = {"N_CTX": 16, "CSC": False, "CTX_INIT": "", "CLASS_TOKEN_POSITION": "end", "PREC": "fp32"}
WORDS = {"CTX_INIT": "a photo of a", "PREC": "fp32"}
SRC = {
    "N_CTX_VISION": 4, "N_CTX_TEXT": 4, "PROMPT_DEPTH_VISION": 9, "PROMPT_DEPTH_TEXT": 9, "TEXT_LOSS_WEIGHT": 25,
    "IMAGE_LOSS_WEIGHT": 10, "GPA_MEAN": 15, "GPA_STD": 1,
}  # fmt: skip
ATTRIBUTES = {
    "USE_ATPROMPT": True, "ATT_NUM": 2, "N_ATT1": 2, "N_ATT2": 2, "N_ATT3": 2, "ATT1_TEXT": "color", "ATT2_TEXT": "shape", "ATT3_TEXT": "none",
}  # fmt: skip
SPACE = {"ALPHA": 0.7, "N_REP_TOKENS": 5, "REP_LAYERS": [6, 7, 8, 9, 10, 11, 12], "PREC": "fp32"}
CODE = {
    "CoOp": Code("KaiyangZhou/CoOp", ".", "trainers.coop", {"COOP": COOP}),
    "CoCoOp": Code("KaiyangZhou/CoOp", ".", "trainers.cocoop", {"COCOOP": {"N_CTX": 4, **WORDS}}),
    "KgCoOp": Code(
        "htyao89/KgCoOp", "KgCoOp", "trainers.kgcoop",
        {"COOP": {**COOP, "N_CTX": 4, "CTX_INIT": True, "W": 8.0}, "COCOOP": {"PREC": "fp32"}},
    ),
    "MaPLe": Code(
        "muzairkhattak/multimodal-prompt-learning", ".", "trainers.maple",
        {"MAPLE": {"N_CTX": 2, "PROMPT_DEPTH": 9, **WORDS}},
    ),
    "PromptSRC": Code("muzairkhattak/PromptSRC", ".", "trainers.promptsrc", {"PROMPTSRC": SRC | WORDS}),
    "CLIPFit": Code("minglllli/CLIPFit", "CLIPFit", "trainers.ClipFit", {"COOP": COOP}, "CoOp_Fit"),
    "TCP": Code(
        "htyao89/Textual-based_Class-aware_prompt_tuning", ".", "trainers.tcp",
        {"COOP": {**COOP, "N_CTX": 4, "W": 1.0}, "COCOOP": {"PREC": "fp32"}}, clip="trainers.clip_text", optimiser="adam",
    ),
    "ATPrompt": Code(
        "zhengli97/ATPrompt", ".", "trainers.coop_atp", {"COOP": {**COOP, "N_CTX": 2}, "ATPROMPT": ATTRIBUTES}, "CoOp_ATP",
    ),
    "MMA": Code(
        "ZjjConan/VLM-MultiModalAdapter", ".", "trainers.mmadapter",
        {"MMADAPTER": {"ADAPTER_START": 5, "ADAPTER_END": 12, "ADAPTER_DIM": 32, "ADAPTER_SCALE": 0.001, "TEXT_CTX_INIT": "a photo of a", "PREC": "fp32"}},
        "MultiModalAdapter",
    ),
    "MMRL": Code("yunncheng/MMRL", ".", "trainers.mmrl", {"MMRL": SPACE | {"REG_WEIGHT": 1.0, "REP_DIM": 512}}, optimiser="adamw", more=(("TASK", "B2N"),)),
    "MMRLpp": Code(
        "yunncheng/MMRL", ".", "trainers.mmrlpp",
        {"MMRLpp": SPACE | {"REG_WEIGHT": 1.0, "REP_DIM": 512, "BETA": 0.9, "PROJ_LORA_DIM": 64, "RES_LORA_DIM": 4}},
        optimiser="adamw", more=(("TASK", "B2N"),),
    ),
}  # fmt: skip


def checkout(folder: Path, method: str) -> Path:
    """Where the method's authors' code is searched for modules."""
    owner, name = CODE[method].repository.split("/")
    for place in (folder / name, folder / f"{owner}+{name}"):
        if place.is_dir():
            return (place / CODE[method].folder).resolve()
    raise InputError(
        f"{folder} has no {name}: git clone https://github.com/{CODE[method].repository} there, or leave out --authors."
    )


class Authors:
    """Calling it takes one step, and gives its CPU seconds."""

    def __init__(self, folder: Path, method: str, trainer, batch: int):
        asked = {
            "method": method,
            "folder": str(checkout(folder, method)),
            "weights": trainer.cfg.MODEL.BACKBONE.NAME,
            "names": trainer.dm.dataset.classnames,
            "size": list(trainer.cfg.INPUT.SIZE),
            "batch": batch,
        }
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115  as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, json.dumps(asked)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            text=True,
        )

    def __call__(self) -> float:
        with contextlib.suppress(BrokenPipeError):
            print(flush=True, file=self.process.stdin)
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.said.seek(0)
            raise RuntimeError(f"The authors' step ended: {(self.said.read().strip().splitlines() or ['killed'])[-1]}")
        return float(line)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.said.close()


# --- in that process ---------------------------------------------------------------------------------------------------


def build(asked: dict[str, Any]):
    """Their trainer, in the midst of an epoch."""
    code = CODE[asked["method"]]
    sys.path.insert(0, asked["folder"])  # from here on `clip` and `trainers` are theirs
    if importlib.util.find_spec("pkg_resources") is None:  # setuptools had it, and their `clip` takes a version from it
        sys.modules["pkg_resources"] = SimpleNamespace(packaging=packaging)
    for kind in (torch.Tensor, torch.nn.Module):
        kind.cuda = kind.half = lambda self, *_, **__: self
    module = importlib.import_module(code.module)
    if hasattr(module, "IMAGENET_TEMPLATES"):
        module.IMAGENET_TEMPLATES = ["a photo of a {}."]  # they are encoded once a run
    cfg = get_cfg_default()
    for node, keys in code.keys.items():
        cfg.TRAINER[node] = CfgNode(keys)
    cfg.USE_CUDA, cfg.DATASET.NAME, cfg.INPUT.SIZE = False, "Caltech101", tuple(asked["size"])
    cfg.MODEL.BACKBONE.NAME, cfg.OPTIM.NAME, cfg.OPTIM.LR, cfg.OPTIM.MAX_EPOCH = "ViT-B/16", code.optimiser, 0.002, 50
    for key, value in code.more:
        cfg[key] = value
    set_random_seed(1)
    kind = made_up(TRAINER_REGISTRY.get(code.registered or asked["method"]), tuple(asked["names"]))
    with contextlib.ExitStack() as patches:
        for package in {code.clip, "clip"}:
            theirs = importlib.import_module(f"{package}.clip")
            patches.enter_context(mock.patch.object(theirs, "_download", lambda *_: asked["weights"]))
        trainer = kind(cfg)
    trainer.batch_idx, trainer.num_batches = 0, sys.maxsize
    trainer.set_model_mode("train")
    return trainer


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    sys.stdout = sys.stderr  # their code prints
    asked = json.loads(sys.argv[1])
    trainer = build(asked)
    batch = {
        "img": torch.randn(asked["batch"], 3, *asked["size"]),
        "label": torch.randint(len(asked["names"]), (asked["batch"],)),
    }
    step = clocked(lambda: trainer.forward_backward(batch))
    for _ in sys.stdin:
        print(step(), flush=True, file=answers)


if __name__ == "__main__":
    main()
