"""Our methods against their authors' code, in one setting: same checkpoint, seed, images and precision.

The figures in `published_code.json` are what the published code gave (`published_code.py` measures them again).
"""

import json

import pytest
import torch
from published_code import CASES, COOP, DEEP, DEPTHS, RECORD, build, run, tree, write_checkpoint, write_images

import trainers as trainers
from dassl.engine import TRAINER_REGISTRY

RECORDED = json.loads(RECORD.read_text())
# Keys of ours where they are not those of the published code.
OWN_KEYS = {
    "ZeroshotCLIP": tree("ZSCLIP", {"PREC": "fp32"}),
    "ZeroshotCLIP2": tree("ZSCLIP", {"PREC": "fp32"}),
    "KgCoOp": tree("KGCOOP", {"CTX_INIT": "a photo of a", "W": 8.0, "PREC": "fp32"}),
    "CLIPFit": tree("CLIPFIT", {"W": 8.0, "PREC": "fp32"}),
    "TextRefiner": tree("TEXTREFINER", {"CTX_INIT": "a photo of a", "MEMORY_SIZE": 25, "ALPHA": 0.2, "BALANCE": 10.0, "DISTILL": 5.0, "PREC": "fp32"}),
    "ProGrad": tree("PROGRAD", {"N_CTX": 4, "CTX_INIT": False, "PREC": "fp32"}),
}


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """The data root and the checkpoint that the published code was run with."""
    root = tmp_path_factory.mktemp("setting")
    write_images(root)
    return root, write_checkpoint(root / "clip.pt")


def distance(ours: torch.Tensor, theirs: list) -> float:
    """The norm of the difference, relative to theirs."""
    theirs = torch.tensor(theirs, dtype=torch.float64)
    return ((ours - theirs).norm() / theirs.norm()).item()


@pytest.mark.parametrize("case", CASES)
def test_as_published(case, setting):
    theirs = RECORDED[case]
    method = TRAINER_REGISTRY.get(case.split()[0])
    trainer = build(case.split()[0], OWN_KEYS.get(case, CASES[case][3]), *setting, install=method.extend_cfg)
    ours = run(trainer)
    off = {part: distance(ours[part], theirs[part]) for part in ("logits before", "losses", "logits after") if theirs[part]}
    learned = trainer.from_published(theirs["learned"])
    print("FIG", case, off, sorted(learned) , sorted(ours["learned"]))
    for name in set(learned) & set(ours["learned"]):
        print("FIG", name, distance(ours["learned"][name]["first"], learned[name]["first"]),distance(ours["learned"][name]["change"], learned[name]["change"]))
