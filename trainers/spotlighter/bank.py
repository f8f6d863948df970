"""The bank: prototypes and two ridge regressions, computed from the training shots in closed form.

B images      N patch tokens      C classes      d joint width      K prototypes a class      M = C * K
Z regions looked at again
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .classes import Classes
from .head import Bank, SpotlighterHead
from .trained import unit
from .zoom import ZOOM_WIDTHS, Zoom

CLUSTER_STEPS = 6


class Shots(NamedTuple):
    """Features of training images; all rows are unit vectors."""

    f: Tensor  # (B, d) class tokens
    v: Tensor  # (B, N, d) patch tokens
    y: Tensor  # (B,) labels
    again: Tensor | None = None  # (B, maps, widths, Z, d) class tokens of the regions that could be looked at again

    def __getitem__(self, rows):  # a mask or indices over images
        return Shots(*(None if part is None else part[rows] for part in self))


def regions(shots: Shots, zoom: Zoom) -> Tensor:
    """(B, Z, d): those of the regions kept with the shots that a zoom would look at."""
    return shots.again[:, zoom.map, ZOOM_WIDTHS.index(zoom.width), : zoom.count]


@torch.no_grad()
def remember(head: SpotlighterHead, shots: Shots, t: Tensor, z: Tensor, classnames: list[str]) -> None:
    """Fill the head's buffers from all shots, with its scalars and its zoom as they stand."""
    for name, value in build_bank(head, shots, t, z, head.zoom)._asdict().items():
        setattr(head, name, value.detach().clone())
    head.classnames = list(classnames)


def build_bank(head: SpotlighterHead, shots: Shots, t: Tensor, z: Tensor, zoom: Zoom | None = None) -> Bank:
    """The bank of some shots; t and z (C, d) are the host's and the zero-shot text features of their classes."""
    f, v, y = shots.f, shots.v, shots.y
    C, M = len(t), len(t) * head.count
    image_mean, token_mean = f.mean(dim=0), v.mean(dim=(0, 1))
    anchored = head.anchored(t, z)
    text_mean = anchored.mean(dim=0)
    text = head.centred_text(anchored, text_mean)
    index = cluster(f, y, C, head.count)  # (B,)

    # Prototypes: what the strongest tokens of each cluster have in common. As there is no bank yet, the
    # sample-wise activation chooses; no gradient, a prototype is memory.
    with torch.no_grad():
        chosen = head.select(f, v, Classes(text, text[:, None]), image_mean, token_mean, semantic=False)
        means, counts = cluster_means(head.levels(chosen)[:, 0], index, M)  # (M, d), (M,)
        by_class = (means * counts[:, None]).view(C, head.count, -1).sum(dim=1)  # (C, d)
        means = torch.where(counts[:, None] > 0, means, by_class.repeat_interleave(head.count, dim=0))
        prototypes = unit(means).view(C, head.count, -1)

    levels = head.levels(head.select(f, v, Classes(text, prototypes), image_mean, token_mean))  # (B, 2, d)
    none = torch.empty(0, device=f.device)
    bank = Bank(prototypes, text, text_mean, image_mean, token_mean, levels.mean(dim=0).detach(), *[none] * 6)
    # The ridge maps a cluster's key to what its mean image lacks to be its class's text.
    keys, counts = cluster_means(head.interaction(f, levels, bank), index, M)  # X (M, 3d)
    mean, _ = cluster_means(f - image_mean, index, M)  # (M, d)
    target = residual(head, t, z, text_mean) - mean
    bank = bank._replace(keys=keys, counts=counts, map=solve(head, keys, counts, target))
    return bank if zoom is None else add_second_look(head, bank, shots, t, z, zoom)


def add_second_look(head: SpotlighterHead, bank: Bank, shots: Shots, t: Tensor, z: Tensor, zoom: Zoom) -> Bank:
    """The same ridge for regions: of each training image the one that its class's text likes best speaks."""
    again = regions(shots, zoom)  # (B, Z, d)
    centred = unit(again - head.scalars.g * again.mean(dim=(0, 1)))
    best = torch.einsum("bzd,bd->bz", centred, bank.text[shots.y]).argmax(dim=1)  # (B,)
    f = again[torch.arange(len(again), device=again.device), best]  # (B, d)
    mean, index = f.mean(dim=0), cluster(f, shots.y, len(t), head.count)
    means, counts = cluster_means(f - mean, index, len(t) * head.count)  # (M, d)
    keys, target = head.scalars.omega[0] * means, residual(head, t, z, bank.text_mean) - means
    return bank._replace(again_mean=mean, again_keys=keys, again_map=solve(head, keys, counts, target))


def residual(head: SpotlighterHead, t: Tensor, z: Tensor, text_mean: Tensor) -> Tensor:
    """5. What distinguishes a class's text, once for each of its clusters: (M, d)."""
    return (head.anchored(t, z) - text_mean).repeat_interleave(head.count, dim=0)


def solve(head: SpotlighterHead, keys: Tensor, counts: Tensor, target: Tensor) -> Tensor:
    """5. S = (X X' + lambda diag(1 / counts))^-1 R; an empty cluster has a zero key and target, and so no say."""
    kernel = keys @ keys.t() + head.scalars.log_lambda.exp() * torch.diag(1 / counts.clamp_min(1))
    return torch.linalg.solve(kernel, target * (counts > 0)[:, None])


def cluster(f: Tensor, y: Tensor, classes: int, count: int) -> Tensor:
    """K-means by cosine inside every class at once: the cluster (B,) of each image, class * count + k.

    Starts from the order of the images, so it is deterministic; a cluster may stay empty.
    """
    own = y[:, None] == torch.arange(classes, device=y.device)  # (B, C)
    rank = (own.cumsum(dim=0) - 1)[torch.arange(len(y), device=y.device), y]  # the image's number within its class
    k = rank % count
    for _ in range(CLUSTER_STEPS):
        centres, counts = cluster_means(f, y * count + k, classes * count)  # (M, d), (M,)
        similarity = torch.einsum("bd,bkd->bk", f, unit(centres).view(classes, count, -1)[y])  # (B, K)
        k = similarity.masked_fill(counts.view(classes, count)[y] == 0, -2.0).argmax(dim=1)
    return y * count + k


def cluster_means(x: Tensor, index: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """Mean (M, ...) of the rows of each cluster (zero where it is empty), and counts (M,)."""
    member = F.one_hot(index, clusters).to(x.dtype)  # (B, M); a product is deterministic on a GPU too
    counts = member.sum(dim=0)
    return (member.t() @ x) / counts.clamp_min(1)[:, None], counts
