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
    attention: (
        Tensor  # (B, G * G), by which a plan without patch tokens looks again; R is 0 then, and the other maps are NaN
    )
    plan: str = ""  # of a BUDGET, in words


@torch.no_grad()
def look(trainer, images: Tensor) -> Look:
    """What a trainer of Spotlighter makes of transformed images (B, 3, H, W)."""
    spotlit, images = trainer.spotlit, images.to(trainer.device)
    head = spotlit.head
    with trainer.autocast():
        classes = trainer.encode_classes() if trainer.class_state is None else trainer.class_state
        first = spotlit.first_look(images)
        logits = spotlit.answer(images, first, classes)  # (B, C)
    patch = spotlit.model.clip.visual.conv1.stride[0]
    side = spotlit.model.clip.visual.input_resolution // patch
    kept = first.alive  # (B, N)
    if kept is None:
        kept = torch.arange(side * side, device=images.device).expand(len(images), -1)
    windows = torch.empty(len(images), 0, 4)
    if head.zoom is not None:
        centres = inside(spotlit.centres(first), head.zoom.width)  # (B, Z, 2)
        windows = torch.cat([centres - head.zoom.width / 2, centres + head.zoom.width / 2], dim=-1)

    whole = torch.full((3, len(images), side * side), torch.nan, device=images.device)
    selected, level = kept[:, :0], torch.empty(0, dtype=torch.long)  # of a plan that does without patch tokens
    if first.v is not None:
        why = head.explain(first.f, first.v, classes, head.bank.image_mean, head.bank.token_mean)
        maps = torch.stack([why.sample_wise, why.semantic_wise, why.activation]).float()  # (3, B, N)
        whole = whole.scatter(2, kept.expand(3, -1, -1), maps)  # (3, B, G * G)
        selected, level = kept.gather(1, why.selection.index), why.level
    result = Look(
        probabilities=logits.float().softmax(dim=1),
        sample_wise=whole[0],
        semantic_wise=whole[1],
        activation=whole[2],
        selected=selected,
        level=level,
        alive=torch.zeros_like(whole[0], dtype=torch.bool).scatter(1, kept, True),
        windows=windows,
        attention=whole[0] if first.v is not None or first.maps is None else first.maps[:, 0],
    )
    plan = "" if head.plan is None else head.plan.in_words(patch)
    return Look(*(part.cpu() if torch.is_tensor(part) else part for part in result))._replace(plan=plan)
