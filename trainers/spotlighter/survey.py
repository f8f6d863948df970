"""What a drop can know beforehand, from the training images: which patches the later blocks will attend to.

B images      C classes      N patches      D width
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from clip.edits import Edit
from clip.vit import VisionTransformer

from .drop import DropTokens, log_attention, standardise, take, whiten


class _Notes(Edit):
    """Writes down the N patches behind some blocks, and the class token's attention to them in all blocks."""

    def __init__(self, after: tuple[int, ...], patches: int):
        self.after, self.patches, self.hidden, self.rows = after, slice(1, 1 + patches), {}, []

    def needs_class_attention(self, i: int) -> bool:
        return True

    def reads_all(self, i: int) -> bool:
        return i in self.after

    def after_block(self, x: Tensor, i: int, class_attention: Tensor | None) -> Tensor:
        self.rows.append(standardise(log_attention(class_attention[:, self.patches])))  # (B, N)
        if i in self.after:
            self.hidden[i] = whiten(x[:, self.patches])  # (B, N, D)
        return x


@torch.no_grad()
def survey(
    visual: VisionTransformer,
    drop: DropTokens,
    batches,
    classes: int,
    edits: Sequence[Edit] = (),
    ridge: float = 10.0,
    top: int = 5,
) -> None:
    """Fill the buffers of `drop` from training images; `batches` yields images (B, 3, H, W) and labels (B,), and
    `edits` are a host's own, which run here too.

    The probe of a depth is the ridge regression, in closed form, from a patch behind that block to the attention
    that the class token pays it in all later blocks of the whole encoder, log and standardised; both are taken
    relative to their image's mean, as a score only has to rank the patches of one image. Prototypes are each
    class's mean patch at that depth, over the `top` patches that receive most of that attention.
    """
    depths, width, device = len(drop.after), drop.probe.shape[1], drop.probe.device
    gram, moment = torch.zeros(depths, width, width, device=device), torch.zeros(depths, width, device=device)
    total, kept = torch.zeros(depths, width, device=device), torch.zeros(depths, classes, width, device=device)
    patches, images_of = 0, torch.zeros(classes, device=device)
    for images, labels in batches:
        notes = _Notes(drop.after, len(drop.coverage))
        visual(images.to(visual.conv1.weight.dtype), edits=[*edits, notes])
        member = F.one_hot(labels, classes).float()  # (B, C)
        for depth, i in enumerate(drop.after):
            hidden = notes.hidden[i]  # (B, N, D)
            target = torch.stack(notes.rows[i + 1 :]).sum(dim=0)  # (B, N)
            centred = (hidden - hidden.mean(dim=1, keepdim=True)).flatten(0, 1)  # (B N, D)
            gram[depth] += centred.t() @ centred
            moment[depth] += centred.t() @ target.flatten()
            total[depth] += hidden.sum(dim=(0, 1))
            strongest = target.topk(min(top, target.shape[1]), dim=1).indices
            kept[depth] += member.t() @ take(hidden, strongest).mean(dim=1)  # (C, B) (B, D)
        patches += hidden.shape[0] * hidden.shape[1]
        images_of += member.sum(dim=0)
    drop.probe = torch.linalg.solve(gram + ridge * torch.eye(width, device=device), moment)
    drop.mean = total / patches
    drop.prototypes = F.normalize(kept / images_of.clamp_min(1)[:, None] - drop.mean[:, None], dim=-1)
