"""Looking at visual tokens and dropping them, between the blocks of CLIP's image encoder.

Pure functions do the surgery, and edits put them between blocks. A sequence is, in this order: the class token,
N living patches, one fold of what was dropped (from the first drop on), visual prompts. Only patches are dropped.

    B images      N living patches, of G x G      n patches kept      L tokens      D width
"""

from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from .model import Edit, VisionTransformer

SCORES = ("probe", "attention", "prototypes", "random")


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


class DropTokens(nn.Module, Edit):
    """After blocks `after` (counted from 0) keep the share `keep` of the living patches, fold the rest into one token.

    `score` says which are kept:
        probe       a linear read-out of the patch that foretells how much the later blocks will attend to it
        attention   how much the class token attends to it in the next block, of which this row alone is computed
        prototypes  attention, plus the patch's cosine to the nearest prototype of that depth, both standardised
        random      chance
    and `grid` is the share of the kept places that is spread evenly over the image instead, whatever the score.
    Probe and prototypes are buffers that `survey` fills. `alive` (B, N) are the patches left of the last batch.
    """

    def __init__(self, visual: VisionTransformer, keep: float, after: tuple[int, ...], score: str, grid: float):
        super().__init__()
        self.blocks = tuple(visual.transformer.resblocks)  # a tuple, so that CLIP's weights stay CLIP's
        self.keep, self.after, self.by, self.grid = keep, after, score, grid
        side, width = visual.input_resolution // visual.conv1.stride[0], visual.transformer.width
        self.register_buffer("coverage", coverage_order(side), persistent=False)  # (G * G,)
        self.register_buffer("probe", torch.zeros(len(after), width))
        self.register_buffer("mean", torch.zeros(len(after), width))
        self.register_buffer("prototypes", torch.zeros(len(after), 1, width))  # (depths, classes, D), unit rows
        self.alive: Tensor | None = None

    def embed(self, x: Tensor) -> Tensor:
        self.alive = torch.arange(len(self.coverage), device=x.device).expand(len(x), -1)  # (B, N)
        self.folded = None  # the weight (B, 1) that the fold stands for
        return x

    def patches_left(self, count: int) -> int:
        return self.alive.shape[1]

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
        if self.by == "random":  # its own numbers, the same in every pass
            return torch.rand(patches.shape[:2], generator=torch.Generator().manual_seed(i)).to(x.device)
        depth, hidden = self.after.index(i), whiten(patches)
        if self.by == "probe":
            return standardise(hidden @ self.probe[depth])
        attention = log_attention(self.blocks[i + 1].class_attention(x)[:, 1 : 1 + patches.shape[1]])
        if self.by == "attention":
            return attention
        centred = F.normalize(hidden - self.mean[depth], dim=-1)
        return standardise(attention) + standardise((centred @ self.prototypes[depth].t()).amax(dim=-1))


def whiten(patches: Tensor) -> Tensor:
    """Zero mean and unit deviation over the width of every token; fp32."""
    return F.layer_norm(patches.float(), patches.shape[-1:])


class AttentionMaps(Edit):
    """What the class token attends to, on the whole grid: `maps` (B, 2, G * G), standardised, of the last batch.

    The first map is that of block `first`, the second the sum over all blocks from there on. Where a patch was
    dropped a map is NaN. List it before `drop`, whose `alive` says which patches a row is about.
    """

    def __init__(self, first: int, patches: int, drop: DropTokens | None = None):
        self.first, self.patches, self.drop = first, patches, drop

    def embed(self, x: Tensor) -> Tensor:
        self.maps = torch.zeros(len(x), 2, self.patches, device=x.device)
        return x

    def needs_class_attention(self, i: int) -> bool:
        return i >= self.first

    def after_block(self, x: Tensor, i: int, class_attention: Tensor | None) -> Tensor:
        if i < self.first:
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


# --- what a drop can know beforehand -----------------------------------------------------------------------------


class _Notes(Edit):
    """Writes down the N patches behind some blocks, and the class token's attention to them in all blocks."""

    def __init__(self, after: tuple[int, ...], patches: int):
        self.after, self.patches, self.hidden, self.rows = after, slice(1, 1 + patches), {}, []

    def needs_class_attention(self, i: int) -> bool:
        return True

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
