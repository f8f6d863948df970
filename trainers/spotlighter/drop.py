"""Dropping visual tokens and mapping the class token's attention, between the blocks of CLIP's image encoder.

Pure functions do the surgery, and edits put them between blocks. A sequence is, in this order: the class token,
N living patches, one fold of what was dropped (from the first drop on), visual prompts. Only patches are dropped.

    B images      N living patches, of G x G      n patches kept      L tokens      D width
"""

import contextlib
import zlib
from collections.abc import Callable

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from clip.edits import Edit
from clip.vit import VisionTransformer


def standardise(a: Tensor) -> Tensor:
    """Zero mean and unit deviation over the tokens of each image; (..., N), in fp32."""
    a = a.float()
    deviation = a.std(dim=-1, keepdim=True, correction=min(1, a.shape[-1] - 1))  # of one token: zero
    return (a - a.mean(dim=-1, keepdim=True)) / (deviation + 1e-4)


def log_attention(row: Tensor) -> Tensor:
    """Attention weights as scores: finite where a weight is zero."""
    return row.float().clamp_min(1e-8).log()


def number_kept(count: int, keep: float) -> int:
    """How many of `count` patches the share `keep` is; at least one."""
    return max(1, round(keep * count))


def take(x: Tensor, index: Tensor) -> Tensor:
    """Rows `index` (B, n) of x (B, N, ...)."""
    return x.gather(1, index.view(*index.shape, *[1] * (x.dim() - 2)).expand(-1, -1, *x.shape[2:]))


def coverage_order(side: int) -> Tensor:
    """Ranks (G * G,) of the patches of a G x G grid, such that the first of them, however many, are spread evenly.

    The order in which Bayer's ordered dithering (1973) darkens the pixels of an area.
    """
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    place = torch.zeros(side, side, dtype=torch.long)
    for bit in range((side - 1).bit_length()):  # the lowest bits of the coordinates weigh most
        r, c = (row >> bit) & 1, (column >> bit) & 1
        place = 4 * place + 2 * (r ^ c) + r
    return place.flatten().argsort().argsort()


def choose(score: Tensor, count: int, coverage: Tensor, share: float) -> Tensor:
    """Which patches to keep: indices (B, count), ascending, by score (B, N).

    Of these, the share `share` is kept for its place alone: the first in `coverage` (B, N), ranks on the grid.
    """
    first = coverage.argsort(dim=1).argsort(dim=1) < round(share * count)  # (B, N)
    return score.masked_fill(first, torch.inf).topk(count, dim=1).indices.sort(dim=1).values


def fold(patches: Tensor, weight: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """The weighted mean (B, 1, D) of the patches (B, N, D) that are not `kept` (B, n), and its weight (B, 1).

    weight (B, N) is positive. Where all are kept the mean is zero and so is its weight.
    """
    weight = weight.scatter(1, kept, 0.0)  # (B, N)
    mass = weight.sum(dim=1, keepdim=True)  # (B, 1)
    share = weight / mass.clamp_min(torch.finfo(weight.dtype).tiny)
    return (share[:, None] @ patches.to(weight.dtype)).to(patches.dtype), mass


def seeds_of(images: Tensor) -> list[int]:
    """A number for each image (B, 3, H, W), by its pixels alone: the mean colours of its quarters, in steps of 1/16.

    So coarse that what was rounded, the pixels or the place where a window was cut out, all but never changes it.
    """
    quarters = F.adaptive_avg_pool2d(images.double(), 2)  # (B, 3, 2, 2)
    return [zlib.crc32(steps.tobytes()) for steps in (16 * quarters).round().to(torch.int32).cpu().numpy()]


class DropTokens(nn.Module, Edit):
    """After blocks `after` (counted from 0) keep the share `keep` of the living patches, fold the rest into one token.

    `score` says which are kept, a name of `SCORES` or a function like those (attribute `by`, which may be set anew), and
    `grid` is the share of the kept places that is spread evenly over the image instead, whatever the score.
    Probe and prototypes are buffers that `survey` fills. `alive` (B, N) are the patches left of the last batch.
    """

    def __init__(
        self, visual: VisionTransformer, keep: float, after: tuple[int, ...], score: "str | Score", grid: float
    ):
        super().__init__()
        self.blocks = tuple(visual.transformer.resblocks)  # a tuple, so that CLIP's weights stay CLIP's
        self.keep, self.after, self.by, self.grid = keep, after, score, grid
        side, width = visual.input_resolution // visual.conv1.stride[0], visual.transformer.width
        self.register_buffer("coverage", coverage_order(side), persistent=False)  # (G * G,)
        self.register_buffer("probe", torch.zeros(len(after), width))
        self.register_buffer("mean", torch.zeros(len(after), width))
        self.register_buffer("prototypes", torch.zeros(len(after), 1, width))  # (depths, classes, D), unit rows
        self.alive: Tensor | None = None
        self.seeds: list[int] = []  # of the last batch's images, where chance decides

    @property
    def rule(self) -> "Score":
        return SCORES[self.by] if isinstance(self.by, str) else self.by

    def see(self, images: Tensor) -> None:
        if self.rule is by_chance:
            self.seeds = seeds_of(images)

    def embed(self, x: Tensor) -> Tensor:
        self.alive = torch.arange(len(self.coverage), device=x.device).expand(x.shape[0], -1)  # (B, N)
        self.folded = None  # the weight (B, 1) that the fold stands for
        return x

    def patches_left(self, count: int) -> int:
        return self.alive.shape[1]

    def reads_all(self, i: int) -> bool:
        return i in self.after

    def after_block(self, x: Tensor, i: int, class_attention: Tensor | None) -> Tensor:
        if i not in self.after:
            return x
        N = self.alive.shape[1]
        if number_kept(N, self.keep) == N:
            return x
        patches, rest = x[:, 1 : 1 + N], x[:, 1 + N :]
        score = self.score(x, patches, i)  # (B, N)
        kept = choose(score, number_kept(N, self.keep), self.coverage[self.alive], self.grid)  # (B, n)
        token, mass = fold(patches, score.softmax(dim=1), kept)
        if self.folded is not None:  # the former fold and what is dropped now, by their shares of the whole image
            mass = mass * (1 - self.folded)
            total = self.folded + mass
            token = ((self.folded / total)[..., None] * rest[:, :1] + (mass / total)[..., None] * token).to(x.dtype)
            mass, rest = total, rest[:, 1:]
        self.folded, self.alive = mass, self.alive.gather(1, kept)
        return torch.cat([x[:, :1], take(patches, kept), token, rest], dim=1)  # (B, 1 + n + 1 + prompts, D)

    def score(self, x: Tensor, patches: Tensor, i: int) -> Tensor:
        """(B, N) for the patches (B, N, D) of the sequence x (B, L, D) behind block i; its softmax weighs the fold."""
        return self.rule(self, x, patches, i)


# --- scores: of the patches (B, N, D) of a sequence x (B, L, D) behind block i, for a drop: (B, N) ---------------------


def by_probe(drop: DropTokens, x: Tensor, patches: Tensor, i: int) -> Tensor:
    """A linear read-out of the patch that foretells how much the later blocks will attend to it."""
    return standardise(whiten(patches) @ drop.probe[drop.after.index(i)])


def by_attention(drop: DropTokens, x: Tensor, patches: Tensor, i: int) -> Tensor:
    """How much the class token attends to it in the next block, of which this row alone is computed."""
    return log_attention(drop.blocks[i + 1].class_attention(x)[:, 1 : 1 + patches.shape[1]])


def by_prototypes(drop: DropTokens, x: Tensor, patches: Tensor, i: int) -> Tensor:
    """Attention, plus the patch's cosine to the nearest prototype of that depth, both standardised."""
    depth = drop.after.index(i)
    centred = F.normalize(whiten(patches) - drop.mean[depth], dim=-1)
    nearest = (centred @ drop.prototypes[depth].t()).amax(dim=-1)
    return standardise(by_attention(drop, x, patches, i)) + standardise(nearest)


def by_chance(drop: DropTokens, x: Tensor, patches: Tensor, i: int) -> Tensor:
    """Random numbers of the image's own: the same in any batch, at any place in it, on any device."""
    generators = [torch.Generator().manual_seed(seed + i) for seed in drop.seeds]
    return torch.stack([torch.rand(patches.shape[1], generator=g) for g in generators]).to(x.device)


Score = Callable[[DropTokens, Tensor, Tensor, int], Tensor]
SCORES: dict[str, Score] = {
    "probe": by_probe,
    "attention": by_attention,
    "prototypes": by_prototypes,
    "random": by_chance,
}


def whiten(patches: Tensor) -> Tensor:
    """Zero mean and unit deviation over the width of every token; fp32."""
    return F.layer_norm(patches.float(), patches.shape[-1:])


# --- where to look again -------------------------------------------------------------------------------------------


class AttentionMaps(Edit):
    """What the class token attends to, on the whole grid: `maps` (B, 2, G * G), standardised, of the last batch.

    The first map is that of block `first`, the second the sum over all blocks from there on. Where a patch was
    dropped a map is NaN. List it before `drop`, whose `alive` says which patches a row is about.
    """

    def __init__(self, first: int, patches: int, drop: DropTokens | None = None):
        self.first, self.patches, self.drop = first, patches, drop
        self.maps: Tensor | None = None
        self.at_rest = False

    @contextlib.contextmanager
    def resting(self):
        """While this lasts nothing is mapped, and `maps` stays that of the last batch before."""
        self.at_rest = True
        try:
            yield
        finally:
            self.at_rest = False

    def embed(self, x: Tensor) -> Tensor:
        if self.at_rest:
            return x
        self.maps = torch.zeros(x.shape[0], 2, self.patches, device=x.device)
        return x

    def needs_class_attention(self, i: int) -> bool:
        return i >= self.first and not self.at_rest

    def reads_all(self, i: int) -> bool:
        return False

    def after_block(self, x: Tensor, i: int, class_attention: Tensor | None) -> Tensor:
        if not self.needs_class_attention(i):
            return x
        alive = self.drop.alive if self.drop is not None else None
        count = self.patches if alive is None else alive.shape[1]
        row = standardise(log_attention(class_attention[:, 1 : 1 + count].detach()))  # (B, N)
        if alive is not None:
            row = torch.full_like(self.maps[:, 0], torch.nan).scatter(1, alive, row)  # (B, G * G)
        if i == self.first:
            self.maps[:, 0] = row
        self.maps[:, 1] += row
        return x
