"""train.py's arguments for short runs of every method on a tiny CLIP with random weights."""

from pathlib import Path

import torch

from tests.clip_weights import random_state
from tests.helpers import REPOSITORY, arguments
from tests.trainers.by_hand import SIZES

DEPTHS = {
    "VPT": ("PROMPT_DEPTH_VISION",),
    "MaPLe": ("PROMPT_DEPTH",),
    "TCP": ("BLOCK",),
    "MMA": ("ADAPTER_START", "ADAPTER_END"),
    "MMRL": ("REP_LAYERS",),
    "MMRLpp": ("REP_LAYERS",),
    **dict.fromkeys(("IVLP", "PromptSRC"), ("PROMPT_DEPTH_VISION", "PROMPT_DEPTH_TEXT")),
}
METHODS = (
    "ATPrompt",
    "CLAP",
    "CLIPAdapter",
    "CLIPFit",
    "CLIPLoRA",
    "CoCoOp",
    "CoOp",
    "GDA",
    "IVLP",
    "KgCoOp",
    "LinearProbe",
    "MaPLe",
    "MMA",
    "MMRL",
    "MMRLpp",
    "ProGrad",
    "PromptKD",
    "PromptSRC",
    "TaskRes",
    "TCP",
    "TextRefiner",
    "TipAdapter",
    "TipAdapterF",
    "VPT",
)

NO_STEPS = ("GDA", "TipAdapter")  # train nothing


class ShortRuns:
    """Called with a method, its arguments; `host` is a plug-in's. All runs have the folder `out`."""

    def __init__(self, root, folder: Path):
        self.root, self.folder, self.weights = root, folder, str(folder / "clip.pt")
        torch.save(random_state(SIZES), self.weights)

    def __call__(self, method: str, *options, host: str = "", precision: str = "fp32", output: str = "out", **flags):
        learns = host or method
        node = f"TRAINER.{'ZSCLIP' if learns.startswith('ZeroshotCLIP') else learns.upper()}."
        own = ["INPUT.SIZE", (32, 32), "OPTIM.MAX_EPOCH", 2, f"{node}PREC", precision]
        own += [f"TRAINER.{method.upper()}.HOST", host] if host else []
        own += ["TRAINER.SPOTLIGHTER.FIT", False] if method == "Spotlighter" and host else []
        own += [part for name in DEPTHS.get(learns, ()) for part in (node + name, (2,) if name == "REP_LAYERS" else 2)]
        if learns == "PromptKD":
            own += [f"{node}TEACHER_DIR", self.teacher(), f"{node}TEACHER_NAME", self.weights]
        flags = {
            "config_file": REPOSITORY / f"configs/trainers/{learns}/embedded.yaml",
            "backbone": self.weights,
            **flags,
        }
        return arguments(self.root, self.folder / output, method, options=[*own, *options], **flags)

    def teacher(self) -> Path:
        """PromptKD's, trained on the CPU when it is asked for first."""
        import train

        if not (self.folder / "teacher").exists():
            line = self("PromptSRC", "OPTIM.MAX_EPOCH", 1, "TEST.NO_TEST", True, output="teacher")
            assert train.main(line) == 0
        return self.folder / "teacher"
