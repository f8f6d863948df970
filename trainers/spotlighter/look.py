"""What a picture of a prediction shows: which tokens it is made of, and why those.

B images      G x G patches      N patches left      C classes      R tokens selected      Z regions looked at again
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .zoom import inside


class Look(NamedTuple):
    """All that a picture shows of a batch of images; fp32 and on the CPU. Maps are NaN where a patch was dropped."""

    probabilities: Tensor  # (B, C)
    sample_wise: Tensor  # (B, G * G), row by row from the upper left
    semantic_wise: Tensor  # (B, G * G)
    activation: Tensor  # (B, G * G), theta_0 * sample-wise + theta_1 * semantic-wise
    selected: Tensor  # (B, R), places among the G * G, the strongest first
    level: Tensor  # (R,), 1 or 2, of each rank
    alive: Tensor  # (B, G * G), whether the encoder kept the patch
    windows: Tensor  # (B, Z, 4): left, upper, right and lower border, as shares of the side; Z = 0 without zoom


@torch.no_grad()
def look(trainer, images: Tensor) -> Look:
    """What a trainer of Spotlighter makes of transformed images (B, 3, H, W)."""
    spotlit, images = trainer.spotlit, images.to(trainer.device)
    with trainer.autocast():
        classes = trainer.encode_classes() if trainer.class_state is None else trainer.class_state
        first = spotlit.first_look(images)
        logits = spotlit.answer(images, first, classes)  # (B, C)
    bank = spotlit.head.bank
    why = spotlit.head.explain(first.f, first.v, classes, bank.image_mean, bank.token_mean)

    side = spotlit.model.clip.visual.input_resolution // spotlit.model.clip.visual.conv1.stride[0]
    kept = first.alive  # (B, N)
    if kept is None:
        kept = torch.arange(side * side, device=images.device).expand(len(images), -1)
    maps = torch.stack([why.sample_wise, why.semantic_wise, why.activation]).float()  # (3, B, N)
    whole = torch.full((*maps.shape[:2], side * side), torch.nan, device=images.device)
    whole = whole.scatter(2, kept.expand(3, -1, -1), maps)  # (3, B, G * G)

    windows = torch.empty(len(images), 0, 4)
    if spotlit.head.zoom is not None:
        width = spotlit.head.zoom.width
        centres = inside(spotlit.centres(first), width)  # (B, Z, 2)
        windows = torch.cat([centres - width / 2, centres + width / 2], dim=-1)
    result = Look(
        probabilities=logits.float().softmax(dim=1),
        sample_wise=whole[0],
        semantic_wise=whole[1],
        activation=whole[2],
        selected=kept.gather(1, why.selection.index),
        level=why.level,
        alive=~whole[2].isnan(),
        windows=windows,
    )
    return Look(*(part.cpu() for part in result))
