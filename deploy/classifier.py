"""A trained run as one module: normalised images -> probabilities, with the texts of the classes baked in.

B images      C classes
"""

import torch
import torch.nn as nn
from torch import Tensor

from dassl.utils import InputError

EXAMPLES = 3  # images of which a graph is traced; another number than any size in it


class Classifier(nn.Module):
    """(B, 3, H, W) -> (B, C), by the prediction of a trainer whose classes do not depend on the image.

    Its only weights are the image encoder's: the rest is small, and constants of the graph.
    """

    def __init__(self, trainer, temperature: float = 1.0):
        super().__init__()
        self.visual = trainer.model.clip.visual
        self.predict = lambda images: trainer.predict(images, trainer.class_state)  # no module, so that no text encoder
        self.temperature = temperature

    def forward(self, images: Tensor) -> Tensor:
        return (self.predict(images).float() / self.temperature).softmax(dim=1)


def check_exportable(trainer) -> None:
    """Refuse what is no graph from an image to probabilities."""
    name, model = trainer.cfg.TRAINER.NAME, getattr(trainer, "model", None)
    if not hasattr(trainer, "predict") or not hasattr(getattr(model, "clip", None), "visual"):
        raise InputError(f"{name} cannot be exported: its trainer does not predict as those of trainers/ do.")
    if getattr(model, "conditional", False):
        raise InputError(
            f"{name} cannot be exported, as its texts depend on the image: each would need the whole text encoder. Use predict.py, "
            "or train a method whose texts do not, such as CoOp."
        )
    drop = getattr(getattr(trainer, "head", None), "drop", None)
    if drop is not None and drop.by == "random":
        raise InputError(
            "TRAINER.SPOTLIGHTER.SCORE random cannot be exported, as its choice is drawn by chance: train with another SCORE."
        )


@torch.no_grad()
def graph_of(classifier: Classifier, side: int) -> torch.export.ExportedProgram:
    """Its graph, for any number of images of side x side pixels."""
    device = classifier.visual.conv1.weight.device
    images = torch.randn(EXAMPLES, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    batch = torch.export.Dim("batch", min=1)
    return torch.export.export(classifier.eval(), (images,), dynamic_shapes=({0: batch},), strict=False)
