"""The bank: prototypes and two ridge regressions, computed from the training shots in closed form.

B images      N patch tokens      C classes      d joint width      K prototypes a class      M = C * K
Z regions looked at again
"""

from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from clip.parts import give_back

from .centred import Seen
from .classes import Classes
from .head import Bank, SpotlighterHead
from .tokens import Tokens
from .trained import unit
from .zoom import ZOOM_WIDTHS, Zoom

CLUSTER_STEPS = 6


class Shots(NamedTuple):
    """Features of training images; all rows are unit vectors."""

    f: Tensor  # (B, d) class tokens
    v: Tensor | Tokens | None  # (B, N, d) patch tokens; None where a plan does without
    y: Tensor  # (B,) labels
    again: Tensor | None = (
        None  # (B, maps, widths, Z, d) class tokens of the regions that could be looked at; (B, Z, d) of a plan
    )

    def __getitem__(self, rows):  # a mask or indices over images
        v = None if self.v is None else tokens_of(self)
        return Shots(*(None if part is None else part[rows] for part in self._replace(v=v)))


def tokens_of(shots: Shots) -> Tokens:
    return shots.v if isinstance(shots.v, Tokens) else Tokens(shots.v)


def regions(shots: Shots, zoom: Zoom) -> Tensor:
    """(B, Z, d): those of the regions kept with the shots that a zoom would look at."""
    if shots.again.dim() == 3:  # no others
        return shots.again
    return shots.again[:, zoom.map, ZOOM_WIDTHS.index(zoom.width), : zoom.count].float()


@torch.no_grad()
def remember(head: SpotlighterHead, shots: Shots, t: Tensor, z: Tensor, classnames: list[str]) -> None:
    """Fill the head's buffers from all shots, with its scalars and its zoom as they stand."""
    give_back()
    for name, value in build_bank(head, shots, t, z, head.zoom)._asdict().items():
        setattr(head, name, value.detach().clone())
    head.classnames = list(classnames)


def build_bank(head: SpotlighterHead, shots: Shots, t: Tensor, z: Tensor, zoom: Zoom | None = None) -> Bank:
    """The bank of some shots; t and z (C, d) are the host's and the zero-shot text features of their classes."""
    f, y, C = shots.f, shots.y, len(t)
    anchored = head.anchored(t, z)
    text_mean = anchored.mean(dim=0)
    text = head.centred_text(anchored, text_mean)
    if shots.v is None:
        bank = of_class_tokens(head, shots, t, z, text, text_mean)
        return bank if zoom is None else add_second_look(head, bank, regions(shots, zoom), y, t, z)
    v = tokens_of(shots)
    image_mean, token_mean = f.mean(dim=0), v.mean()
    index = cluster(f, y, C, head.count)  # (B,)
    means_of = partial(cluster_means, index=index, classes=C, count=head.count)

    # Prototypes: what the strongest tokens of each cluster have in common. As there is no bank yet, the
    # sample-wise activation chooses; no gradient, a prototype is memory.
    seen = Seen(len(y))
    with torch.no_grad():
        first = head.levels_of(f, v, Classes(text, text[:, None]), image_mean, token_mean, semantic=False, seen=seen)
        means, counts = means_of(first[:, 0])  # (M, d), (M,)
        by_class = (means * counts[:, None]).view(C, head.count, -1).sum(dim=1)  # (C, d)
        means = torch.where(counts[:, None] > 0, means, by_class.repeat_interleave(head.count, dim=0))
        prototypes = unit(means).view(C, head.count, -1)

    levels = head.levels_of(f, v, Classes(text, prototypes), image_mean, token_mean, seen=seen)  # (B, 2, d)
    none = torch.empty(0, device=f.device)
    bank = Bank(prototypes, text, text_mean, image_mean, token_mean, levels.mean(dim=0).detach(), *[none] * 3)
    # The ridge maps a cluster's key to what its mean image lacks to be its class's text. The mean of its images' keys is
    # the key of their means.
    mean, counts = means_of(f)  # (M, d)
    mean_levels = means_of(levels.flatten(1))[0].unflatten(1, (2, -1))  # (M, 2, d)
    keys = head.interaction(mean, mean_levels, bank)  # X (M, 3d)
    bank = bank._replace(map=ridge(head, keys, counts, residual(head, t, z, text_mean) - (mean - image_mean)))
    return bank if zoom is None else add_second_look(head, bank, regions(shots, zoom), y, t, z)


def add_second_look(head: SpotlighterHead, bank: Bank, again: Tensor, y: Tensor, t: Tensor, z: Tensor) -> Bank:
    """The same ridge for regions (B, Z, d): of each training image the one that its class's text likes best speaks."""
    centred = unit(again - head.scalars.g * again.mean(dim=(0, 1)))
    best = torch.einsum("bzd,bd->bz", centred, bank.text[y]).argmax(dim=1)  # (B,)
    f = again[torch.arange(len(again), device=again.device), best]  # (B, d)
    mean, ridge_map = class_map(head, f, y, t, z, bank.text_mean)
    return bank._replace(again_mean=mean, again_map=ridge_map)


def of_class_tokens(head: SpotlighterHead, shots: Shots, t: Tensor, z: Tensor, text: Tensor, text_mean: Tensor) -> Bank:
    """A bank without patch tokens: a class's text stands where its prototypes would."""
    mean, ridge_map = class_map(head, shots.f, shots.y, t, z, text_mean)
    none = torch.empty(0, device=text.device)
    return Bank(text[:, None], text, text_mean, mean, none, none, ridge_map, none, none)


def class_map(
    head: SpotlighterHead, f: Tensor, y: Tensor, t: Tensor, z: Tensor, text_mean: Tensor
) -> tuple[Tensor, Tensor]:
    """5. without levels: the mean (d,) of class tokens (B, d), and X' S (d, d) of theirs."""
    mean, index = f.mean(dim=0), cluster(f, y, len(t), head.count)
    means, counts = cluster_means(f - mean, index, len(t), head.count)  # (M, d)
    keys, target = head.scalars.omega[0] * means, residual(head, t, z, text_mean) - means
    return mean, ridge(head, keys, counts, target)


def residual(head: SpotlighterHead, t: Tensor, z: Tensor, text_mean: Tensor) -> Tensor:
    """5. What distinguishes a class's text, once for each of its clusters: (M, d)."""
    return (head.anchored(t, z) - text_mean).repeat_interleave(head.count, dim=0)


def ridge(head: SpotlighterHead, keys: Tensor, counts: Tensor, target: Tensor) -> Tensor:
    """5. X' S = X' (X X' + lambda diag(1 / counts))^-1 R: (e, d), of keys X (M, e) and targets R (M, d).

    With the rows of X and R times sqrt(counts) it is X' (X X' + lambda)^-1 R or, the same, (X' X + lambda)^-1 X' R: the
    smaller of both is solved. An empty cluster has no say.
    """
    root, penalty = counts.sqrt()[:, None], head.scalars.log_lambda.exp()
    x, r = root * keys, root * target
    if len(x) <= x.shape[1]:
        return x.t() @ solve(x @ x.t(), penalty, r)
    return solve(x.t() @ x, penalty, x.t() @ r)


def solve(square: Tensor, penalty: Tensor, right: Tensor) -> Tensor:
    """(A + penalty I)^-1 right, of a positive A that fp32's rounding may have left not quite positive."""
    matrix = square + penalty * torch.eye(len(square), device=square.device)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if failed:
        return torch.linalg.solve(matrix.double(), right.double()).to(right.dtype)
    return torch.cholesky_solve(right, factor)


def cluster(f: Tensor, y: Tensor, classes: int, count: int) -> Tensor:
    """K-means by cosine inside every class at once: the cluster (B,) of each image, class * count + k.

    Starts from the order of the images, so it is deterministic; a cluster may stay empty.
    """
    rows, here = rows_by_class(y, classes)  # (C, n)
    x = f[rows]  # (C, n, d)
    k = torch.arange(rows.shape[1], device=y.device).expand(rows.shape) % count  # (C, n)
    for _ in range(CLUSTER_STEPS):
        member = (F.one_hot(k, count) * here[..., None]).to(f.dtype)  # (C, n, K)
        centres = unit(member.mT @ x)  # (C, K, d)
        k = (x @ centres.mT).masked_fill(member.sum(dim=1, keepdim=True) == 0, -2.0).argmax(dim=-1)
    index = torch.empty_like(y)
    index[rows[here]] = (torch.arange(classes, device=y.device)[:, None] * count + k)[here]
    return index


def cluster_means(x: Tensor, index: Tensor, classes: int, count: int) -> tuple[Tensor, Tensor]:
    """Mean (M, e) of the rows of x (B, e) in each cluster, zero where it is empty, and counts (M,)."""
    rows, here = rows_by_class(index // count, classes)  # (C, n)
    member = (F.one_hot(index % count, count)[rows] * here[..., None]).to(x.dtype)  # (C, n, K)
    counts = member.sum(dim=1).flatten()
    sums = (member.mT @ x[rows]).flatten(0, 1)  # a product is deterministic on a GPU too
    return sums / counts.clamp_min(1)[:, None], counts


def rows_by_class(y: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Each class's images in their order (C, n), and which of these places are taken: the others hold image 0."""
    counts, order = torch.bincount(y, minlength=classes), y.argsort(stable=True)
    here = torch.arange(int(counts.max()), device=y.device) < counts[:, None]  # (C, n)
    rows = torch.zeros_like(here, dtype=torch.long)
    rows[here] = order
    return rows, here
