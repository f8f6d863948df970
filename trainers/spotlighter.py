"""Spotlighter: Gao et al., "Spotlighter: Revisiting Prompt Tuning from a Representative Mining View",
Findings of EMNLP 2025 (arXiv 2509.00905); the equations where the paper leaves room are this project's.

Each visual token gets an activation from the image's own belief and from a bank of class prototypes; the
R = 5 strongest, in two levels, and the bank correct what the host's prompts say. The host (CoOp or any other
registered method) is trained as its authors train it; then 21 scalars are fitted on held-out shots. The bank
is no parameter: it is computed from the training shots in closed form, and saved as buffers.

Two more forms of selection live in the image encoder, without a trained parameter: tokens that score low are
dropped between its blocks (KEEP, `clip/tokens.py`), and the regions that it attends to most are looked at again
at full size (ZOOM, `zoom.py`). What each part is worth was measured (benchmarks/README.md): the bank and the second
look carry the gain, while tokens chosen behind the last block add little, for by then the class token knows them.

    B images      N patch tokens      C classes      d joint width      K prototypes a class      M = C * K
    R tokens kept by the head         Z regions looked at again
"""

import math
from functools import partial
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from yacs.config import CfgNode

from clip import InputError
from clip.model import VisionTransformer
from clip.tokens import SCORES, AttentionMaps, DropTokens, number_kept, standardise, survey, take
from dassl.data.data_manager import build_data_loader
from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY, TrainerX

from .clip_trainer import EncodesClassesOnce
from .prompts import template_of, zero_shot_text_features
from .zoom import cut, window_centres

FIRST_LEVEL = 3  # ranks 1-3 are level 1, the others level 2
CLUSTER_STEPS = 6
BELIEVED = 8  # classes that the semantic-wise activation looks at: an image's belief is all but zero beyond them
CHUNK = 512  # images whose tokens are worked on at once
# Initial values and steps were chosen on validation images and inner splits of the embedded world.
FIT_STEPS, FIT_WARMUP, FIT_LR, FIT_LR_SCALE, FIT_LR_FULL = 40, 8, 0.01, 0.1, 0.001
ZOOM_WIDTHS = (0.5, 0.625, 0.75)  # of a region, as shares of the image's side, to choose from
ZOOM_SHARES = (0.5, 0.75, 1.0)  # of the second look in the logits, likewise
ZOOM_HALVES = 4  # random halves of the shots on which the choice is made


class Scalars(nn.Module):
    """The 21 trained numbers, named as in the equations below."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.ones(2))  # weights of the sample-wise and the semantic-wise activation
        self.rho = nn.Parameter(torch.zeros(5))  # a bonus for each rank; ranks beyond the fifth share the last
        self.gamma = nn.Parameter(torch.zeros(3))  # how much of level 1, level 2 and both joins the feature
        self.omega = nn.Parameter(torch.tensor([1.0, 0.5, 0.5]))  # class token, level 1, level 2 in the bank's kernel
        self.alpha = nn.Parameter(torch.tensor(0.5))  # how much of the bank's map joins the feature
        self.g = nn.Parameter(torch.tensor(0.5))  # share of the mean taken from image and text features
        self.g_v = nn.Parameter(torch.tensor(1.0))  # the same for tokens
        self.b = nn.Parameter(torch.tensor(0.5))  # weight of the zero-shot anchor
        self.log_lambda = nn.Parameter(torch.tensor(10.0).log())  # ridge of the bank's map
        self.tau_w = nn.Parameter(torch.tensor(1.0))  # temperature of the weights within a level
        self.tau_b = nn.Parameter(torch.tensor(0.1))  # temperature of carrying over; base classes give it no gradient
        self.delta = nn.Parameter(torch.tensor(-0.7))  # log factor on the logit scale


class Mapping(nn.Module):
    """`HEAD: full`, the mapping modules of the paper's framework figure, for comparison with published numbers.

    Image side: the image's prototypes ask its kept tokens (cross-attention), then a transformer layer. Text side: a
    linear layer over [prototype, text] with a residual to the prototype. What both agree on joins the logits.
    """

    def __init__(self, width: int):
        super().__init__()
        heads = max(1, width // 64)
        self.cross = nn.MultiheadAttention(width, heads, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.text = nn.Linear(2 * width, width)
        self.beta = nn.Parameter(torch.tensor(0.1))  # its share in the logits

    def forward(self, prototypes: Tensor, tokens: Tensor, classes: "Classes") -> Tensor:
        """prototypes (B, K, d) that the image believes in, kept tokens (B, R, d) -> cosines (B, C)."""
        asked, _ = self.cross(prototypes, tokens, tokens, need_weights=False)  # (B, K, d)
        image = unit(self.layer(prototypes + asked).mean(dim=1))  # (B, d)
        mean = classes.prototypes.mean(dim=1)  # (C, d)
        text = unit(mean + self.text(torch.cat([mean, classes.text], dim=-1)))  # (C, d)
        return self.beta * image @ text.t()


class Shots(NamedTuple):
    """Features of training images; all rows are unit vectors."""

    f: Tensor  # (B, d) class tokens
    v: Tensor  # (B, N, d) patch tokens
    y: Tensor  # (B,) labels
    again: Tensor | None = None  # (B, maps, widths, Z, d) class tokens of the regions that could be looked at again

    def __getitem__(self, rows):  # a mask or indices over images
        return Shots(*(None if part is None else part[rows] for part in self))


class Bank(NamedTuple):
    """All that the head keeps of the training images and the base classes."""

    prototypes: Tensor  # P (C, K, d), unit rows
    text: Tensor  # T (C, d), unit rows: anchored and centred text features of the classes seen
    text_mean: Tensor  # t̄ (d,)
    image_mean: Tensor  # m_f (d,)
    token_mean: Tensor  # m_v (d,)
    level_means: Tensor  # m_1, m_2 (2, d)
    keys: Tensor  # X (M, 3d), means of the clusters
    counts: Tensor  # (M,), images in each cluster
    map: Tensor  # S (M, d), the ridge's solution
    again_mean: Tensor  # the same three for regions looked at again; empty without ZOOM: (d,)
    again_keys: Tensor  # (M, d)
    again_map: Tensor  # (M, d)


class Classes(NamedTuple):
    """What prediction needs of the classes asked for; computed once per evaluation."""

    text: Tensor  # T (C, d)
    prototypes: Tensor  # P (C, K, d)
    own: Tensor | None = None  # (B, C, d), each image's own T, where the host's prompts depend on the image


class Selection(NamedTuple):
    """The R strongest tokens of each image, in descending order."""

    activation: Tensor  # (B, R)
    index: Tensor  # (B, R), among the N living ones
    tokens: Tensor  # (B, R, d), centred unit rows


class Zoom(NamedTuple):
    """Where and how the second look goes."""

    map: int  # which of `AttentionMaps.maps`
    width: float  # of a region, as a share of the image's side
    count: int  # Z
    share: float  # of the second look in the logits


def unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=-1)


def cosines(x: Tensor, classes: Classes) -> Tensor:
    """Unit rows (B, ..., d) against the texts of all classes -> (B, ..., C)."""
    if classes.own is None:
        return x @ classes.text.t()
    return torch.einsum("b...d,bcd->b...c", x, classes.own)


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


class SpotlighterHead(nn.Module):
    """The head: 21 scalars, and the bank once `remember` has filled it.

    With g = b = alpha = gamma = delta = 0 (and no second look) its logits are the host's.
    """

    def __init__(self, logit_scale: float, kept: int = 5, prototypes: int = 5, levels: int = 2, full: int = 0):
        """`full` is the joint width d where the paper's mapping modules are wanted, else 0."""
        super().__init__()
        self.scalars = Scalars()
        self.mapping = Mapping(full) if full else None
        self.drop: DropTokens | None = None  # saved with the head, as it is computed from the same shots
        self.logit_scale = logit_scale  # s, CLIP's
        self.kept, self.count, self.level_count = kept, prototypes, levels  # R, K, and 1 or 2 levels
        self.classnames: list[str] = []  # of the classes in the bank
        self.zoom: Zoom | None = None
        self.trained_with: dict = {}  # config keys
        for name in Bank._fields:
            self.register_buffer(name, torch.empty(0))

    # --- equations ----------------------------------------------------------------------------------------

    def anchored(self, t: Tensor, z: Tensor) -> Tensor:
        """1. t' = unit(t + b z): the host's text features t (C, d), pulled to the zero-shot ones z (C, d)."""
        return unit(t + self.scalars.b * z)

    def centred_text(self, anchored: Tensor, text_mean: Tensor) -> Tensor:
        """1. T = unit(t' - g t̄). The mean stays the base classes', also for classes never seen."""
        return unit(anchored - self.scalars.g * text_mean)

    def belief(self, f: Tensor, classes: Classes, image_mean: Tensor) -> Tensor:
        """2. p = softmax(s unit(f - g m_f) · T): (B, C)."""
        return (self.logit_scale * unit(f - self.scalars.g * image_mean) @ classes.text.t()).softmax(dim=1)

    def activations(self, f: Tensor, v: Tensor, classes: Classes, image_mean: Tensor, semantic: bool = True):
        """3. Sample-wise and semantic-wise activation, both (B, N), standardised, of centred tokens v (B, N, d).

        sample_i = <v_i, sum_c p_c T_c>;  semantic_i = sum_c p_c max_k <v_i, P_ck>, over the classes believed in most.
        """
        p = self.belief(f, classes, image_mean)  # (B, C)
        sample_wise = standardise(torch.einsum("bnd,bd->bn", v, p @ classes.text))
        if not semantic:
            return sample_wise, torch.zeros_like(sample_wise)
        p, believed = p.topk(min(BELIEVED, p.shape[1]), dim=1)  # (B, c)
        nearest = torch.einsum("bnd,bckd->bnck", v, classes.prototypes[believed]).amax(dim=-1)  # (B, N, c)
        return sample_wise, standardise(torch.einsum("bnc,bc->bn", nearest, p))

    def select(
        self, f: Tensor, v: Tensor, classes: Classes, image_mean, token_mean, semantic: bool = True
    ) -> Selection:
        """4. The R tokens with the largest A = theta · (sample-wise, semantic-wise).

        Worked on in chunks of images, which under a gradient are computed again rather than kept.
        """

        def part(f: Tensor, v: Tensor):
            v = unit(v - self.scalars.g_v * token_mean)  # (b, N, d)
            sample_wise, semantic_wise = self.activations(f, v, classes, image_mean, semantic)
            activation = self.scalars.theta[0] * sample_wise + self.scalars.theta[1] * semantic_wise
            top, index = activation.topk(self.kept, dim=1)  # (b, R)
            return top, index, take(v, index)

        if len(f) <= CHUNK:
            return Selection(*part(f, v))
        chunks = zip(f.split(CHUNK), v.split(CHUNK), strict=True)
        return Selection(
            *map(torch.cat, zip(*(checkpoint(part, *c, use_reentrant=False) for c in chunks), strict=True))
        )

    def levels(self, chosen: Selection) -> Tensor:
        """4. Level vectors (B, 2, d): sums of a level's tokens, weighted by softmax((A_r + rho_r) / tau_w)."""
        q = self.scalars
        rank = torch.arange(self.kept, device=chosen.activation.device).clamp_max(len(q.rho) - 1)
        weights = (chosen.activation + q.rho[rank]) / q.tau_w.clamp_min(0.05)  # (B, R)
        together = lambda w, tokens: unit((w.softmax(dim=1)[..., None] * tokens).sum(dim=1))  # noqa: E731  (B, d)
        first = FIRST_LEVEL if self.level_count == 2 and self.kept > FIRST_LEVEL else self.kept
        one = together(weights[:, :first], chosen.tokens[:, :first])
        two = together(weights[:, first:], chosen.tokens[:, first:]) if first < self.kept else one
        return torch.stack([one, two], dim=1)

    def interaction(self, f: Tensor, levels: Tensor, bank: Bank) -> Tensor:
        """5. x = [w0 (f - m_f), w1 (l1 - m1), w2 (l2 - m2)]: (B, 3d)."""
        parts = torch.cat([(f - bank.image_mean)[:, None], levels - bank.level_means], dim=1)  # (B, 3, d)
        return (self.scalars.omega[:, None] * parts).flatten(1)

    def logits(self, f: Tensor, v: Tensor, classes: Classes, bank: Bank) -> Tensor:
        """6. Logits (B, C) = s e^delta unit(f - g m_f + alpha x X' S + gamma levels) · T."""
        q = self.scalars
        chosen = self.select(f, v, classes, bank.image_mean, bank.token_mean)
        levels = self.levels(chosen)  # (B, 2, d)
        x = self.interaction(f, levels, bank)  # (B, 3d)
        both = torch.cat([levels, unit(levels.sum(dim=1, keepdim=True))], dim=1)  # (B, 3, d)
        u = f - q.g * bank.image_mean + q.alpha * (x @ bank.keys.t() @ bank.map) + (q.gamma[:, None] * both).sum(dim=1)
        similarity = cosines(unit(u), classes)  # (B, C)
        if self.mapping is not None:
            p = self.belief(f, classes, bank.image_mean)
            asked = torch.einsum("bc,ckd->bkd", p, classes.prototypes)  # (B, K, d)
            similarity = similarity + self.mapping(asked, chosen.tokens, classes)
        return self.logit_scale * q.delta.exp() * similarity

    def second_logits(self, again: Tensor, classes: Classes, bank: Bank) -> Tensor:
        """7. The second look: log-sum-exp over Z regions' logits (B, C), from their class tokens (B, Z, d) alone."""
        q = self.scalars
        away = again - bank.again_mean
        u = again - q.g * bank.again_mean + q.alpha * (q.omega[0] * away @ bank.again_keys.t() @ bank.again_map)
        logits = self.logit_scale * q.delta.exp() * cosines(unit(u), classes)  # (B, Z, C)
        return logits.logsumexp(dim=1) - math.log(again.shape[1])

    # --- the bank -----------------------------------------------------------------------------------------

    def build_bank(self, shots: Shots, t: Tensor, z: Tensor, zoom: Zoom | None = None) -> Bank:
        """The bank of some shots; t and z (C, d) are the host's and the zero-shot text features of their classes."""
        f, v, y = shots.f, shots.v, shots.y
        C, M = len(t), len(t) * self.count
        image_mean, token_mean = f.mean(dim=0), v.mean(dim=(0, 1))
        anchored = self.anchored(t, z)
        text_mean = anchored.mean(dim=0)
        text = self.centred_text(anchored, text_mean)
        index = cluster(f, y, C, self.count)  # (B,)

        # Prototypes: what the strongest tokens of each cluster have in common. As there is no bank yet, the
        # sample-wise activation chooses; no gradient, a prototype is memory.
        with torch.no_grad():
            chosen = self.select(f, v, Classes(text, text[:, None]), image_mean, token_mean, semantic=False)
            means, counts = cluster_means(self.levels(chosen)[:, 0], index, M)  # (M, d), (M,)
            by_class = (means * counts[:, None]).view(C, self.count, -1).sum(dim=1)  # (C, d)
            means = torch.where(counts[:, None] > 0, means, by_class.repeat_interleave(self.count, dim=0))
            prototypes = unit(means).view(C, self.count, -1)

        levels = self.levels(self.select(f, v, Classes(text, prototypes), image_mean, token_mean))  # (B, 2, d)
        none = torch.empty(0, device=f.device)
        bank = Bank(prototypes, text, text_mean, image_mean, token_mean, levels.mean(dim=0).detach(), *[none] * 6)
        # The ridge maps a cluster's key to what its mean image lacks to be its class's text.
        keys, counts = cluster_means(self.interaction(f, levels, bank), index, M)  # X (M, 3d)
        mean, _ = cluster_means(f - image_mean, index, M)  # (M, d)
        target = self.residual(t, z, text_mean) - mean
        bank = bank._replace(keys=keys, counts=counts, map=self.solve(keys, counts, target))
        return bank if zoom is None else self.add_second_look(bank, shots, t, z, zoom)

    def add_second_look(self, bank: Bank, shots: Shots, t: Tensor, z: Tensor, zoom: Zoom) -> Bank:
        """The same ridge for regions: of each training image the one that its class's text likes best speaks."""
        again = regions(shots, zoom)  # (B, Z, d)
        centred = unit(again - self.scalars.g * again.mean(dim=(0, 1)))
        best = torch.einsum("bzd,bd->bz", centred, bank.text[shots.y]).argmax(dim=1)  # (B,)
        f = again[torch.arange(len(again), device=again.device), best]  # (B, d)
        mean, index = f.mean(dim=0), cluster(f, shots.y, len(t), self.count)
        means, counts = cluster_means(f - mean, index, len(t) * self.count)  # (M, d)
        keys, target = self.scalars.omega[0] * means, self.residual(t, z, bank.text_mean) - means
        return bank._replace(again_mean=mean, again_keys=keys, again_map=self.solve(keys, counts, target))

    def residual(self, t: Tensor, z: Tensor, text_mean: Tensor) -> Tensor:
        """5. What distinguishes a class's text, once for each of its clusters: (M, d)."""
        return (self.anchored(t, z) - text_mean).repeat_interleave(self.count, dim=0)

    def solve(self, keys: Tensor, counts: Tensor, target: Tensor) -> Tensor:
        """5. S = (X X' + lambda diag(1 / counts))^-1 R; an empty cluster has a zero key and target, and so no say."""
        kernel = keys @ keys.t() + self.scalars.log_lambda.exp() * torch.diag(1 / counts.clamp_min(1))
        return torch.linalg.solve(kernel, target * (counts > 0)[:, None])

    @property
    def bank(self) -> Bank:
        if not len(self.prototypes):
            raise InputError("Spotlighter's bank is empty: load a finished run with --model-dir, or train first.")
        return Bank(*(getattr(self, name) for name in Bank._fields))

    @torch.no_grad()
    def remember(self, shots: Shots, t: Tensor, z: Tensor, classnames: list[str]) -> None:
        """Fill the buffers from all shots, with the scalars and the zoom as they stand."""
        for name, value in self.build_bank(shots, t, z, self.zoom)._asdict().items():
            setattr(self, name, value.detach().clone())
        self.classnames = list(classnames)

    def describe(self, t: Tensor, z: Tensor, classnames: list[str]) -> Classes:
        """The classes asked for: those in the bank keep their prototypes, others get theirs carried over.

        P_new,k = unit(T_new + sum_c softmax_c(<T_new, T_c> / tau_b) (P_ck - T_c)); no image of theirs is used.
        """
        bank = self.bank
        text = self.centred_text(self.anchored(t, z), bank.text_mean)  # (C', d)
        near = (text @ bank.text.t() / self.scalars.tau_b.clamp_min(0.02)).softmax(dim=1)  # (C', C)
        residuals = bank.prototypes - bank.text[:, None]  # (C, K, d)
        prototypes = unit(text[:, None] + torch.einsum("nc,ckd->nkd", near, residuals))  # (C', K, d)
        seen = {name: index for index, name in enumerate(self.classnames)}
        rows = torch.tensor([seen.get(name, -1) for name in classnames], device=text.device)  # (C',)
        return Classes(text, torch.where((rows >= 0)[:, None, None], bank.prototypes[rows], prototypes))

    def forward(self, f: Tensor, v: Tensor, classes: Classes, again: Tensor | None = None) -> Tensor:
        """f (B, d), v (B, N, d) and, of regions looked at again, (B, Z, d), unit rows -> logits (B, C)."""
        logits = self.logits(f, v, classes, self.bank)
        return logits if again is None else logits.lerp(self.second_logits(again, classes, self.bank), self.zoom.share)

    # --- saving: a bank has the shape of the classes it was built from, not of those now asked for ---------

    def get_extra_state(self):
        zoom = None if self.zoom is None else tuple(self.zoom)
        return {"classnames": self.classnames, "zoom": zoom, "trained_with": self.trained_with}

    def set_extra_state(self, state):
        self.classnames = state["classnames"]
        self.zoom = None if state["zoom"] is None else Zoom(*state["zoom"])
        self.trained_with = state["trained_with"]

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        shaped_by_classes = [(self, name, prefix + name) for name in Bank._fields]
        if self.drop is not None:
            shaped_by_classes.append((self.drop, "prototypes", f"{prefix}drop.prototypes"))
        for module, name, saved in shaped_by_classes:
            if saved in state_dict:
                setattr(module, name, torch.empty_like(state_dict[saved], device=getattr(module, name).device))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


# --- fitting ---------------------------------------------------------------------------------------------------


def fit_scalars(head: SpotlighterHead, shots: Shots, t: Tensor, z: Tensor, keys, seed: int) -> None:
    """Fit the 21 scalars: each step builds the bank from a random half of every class's shots and takes the
    cross-entropy on the other half, plus `LOSS.PULL` times the squared distance from the initial values.

    The scale `delta` goes first and faster: cross-entropy acts first as a temperature fit, and everything
    else would shrink to serve as one.
    """
    if half_of_each_class(shots.y, torch.Generator()).all():
        print("Spotlighter keeps its initial scalars: with one shot a class there is none to hold out")
        return
    scalars = head.scalars
    others = [p for name, p in scalars.named_parameters() if name != "delta"]
    initial = [p.detach().clone() for p in others]
    late = lambda step: (step >= FIT_WARMUP) * half_cosine(step / FIT_STEPS)  # noqa: E731
    early = lambda step: half_cosine(step / FIT_STEPS)  # noqa: E731
    groups = [({"params": others, "lr": FIT_LR}, late), ({"params": [scalars.delta], "lr": FIT_LR_SCALE}, early)]
    if head.mapping is not None:
        groups.append(({"params": list(head.mapping.parameters()), "lr": FIT_LR_FULL}, late))
    optimiser = torch.optim.Adam([group for group, _ in groups])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, [rate for _, rate in groups])
    generator = torch.Generator().manual_seed(max(seed, 0))  # its own: the host's random numbers stay as they are
    for _ in range(FIT_STEPS):
        memory = half_of_each_class(shots.y, generator)
        loss = held_out_loss(head, shots[memory], shots[~memory], t, z, keys.LOSS.LEVELS)
        pull = sum(((p - p0) ** 2).sum() for p, p0 in zip(others, initial, strict=True))
        optimiser.zero_grad()
        (loss + keys.LOSS.PULL * pull).backward()
        optimiser.step()
        schedule.step()


def held_out_loss(
    head: SpotlighterHead, memory: Shots, out: Shots, t: Tensor, z: Tensor, levels: float = 0.0
) -> Tensor:
    """Cross-entropy of images that the bank does not hold, plus `levels` times that of their level vectors alone."""
    bank = head.build_bank(memory, t, z)
    classes = Classes(bank.text, bank.prototypes)
    loss = F.cross_entropy(head.logits(out.f, out.v, classes, bank), out.y)
    if levels:
        vectors = head.levels(head.select(out.f, out.v, classes, bank.image_mean, bank.token_mean))  # (B, 2, d)
        for level in vectors.unbind(dim=1):
            loss = loss + levels * F.cross_entropy(head.logit_scale * level @ classes.text.t(), out.y)
    return loss


@torch.no_grad()
def choose_zoom(head: SpotlighterHead, shots: Shots, t: Tensor, z: Tensor, most: int, seed: int) -> Zoom | None:
    """Whether to look again, where, how wide, at how many regions, with what share: the least cross-entropy on
    held-out shots. Each candidate is judged on the same random halves; None, the first look alone, is one of them.
    """
    if half_of_each_class(shots.y, torch.Generator()).all():
        print("Spotlighter does not zoom: with one shot a class there is none on which to choose how")
        return None
    counts = [count for count in (1, 3) if count <= most]
    looks = [(m, width, count) for m in range(shots.again.shape[1]) for width in ZOOM_WIDTHS for count in counts]
    losses = dict.fromkeys([None, *(Zoom(*look, share) for look in looks for share in ZOOM_SHARES)], 0.0)
    generator = torch.Generator().manual_seed(max(seed, 0))
    for _ in range(ZOOM_HALVES):
        mask = half_of_each_class(shots.y, generator)
        memory, out = shots[mask], shots[~mask]
        bank = head.build_bank(memory, t, z)
        classes = Classes(bank.text, bank.prototypes)
        first = head.logits(out.f, out.v, classes, bank)
        losses[None] += F.cross_entropy(first, out.y).item()
        for look in looks:
            zoom = Zoom(*look, share=1.0)
            second = head.second_logits(regions(out, zoom), classes, head.add_second_look(bank, memory, t, z, zoom))
            for share in ZOOM_SHARES:
                losses[zoom._replace(share=share)] += F.cross_entropy(first.lerp(second, share), out.y).item()
    return min(losses, key=losses.get)


def regions(shots: Shots, zoom: Zoom) -> Tensor:
    """(B, Z, d): those of the regions kept with the shots that a zoom would look at."""
    return shots.again[:, zoom.map, ZOOM_WIDTHS.index(zoom.width), : zoom.count]


def half_cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(progress * math.pi))


def half_of_each_class(y: Tensor, generator: torch.Generator) -> Tensor:
    """A mask (B,) of a random half of each class's images; of an odd number, the smaller half but at least one."""
    order = torch.argsort(y.cpu() + torch.rand(len(y), generator=generator))  # by class, shuffled within
    counts = torch.bincount(y.cpu())
    rank = torch.arange(len(y)) - (counts.cumsum(0) - counts)[y.cpu()[order]]
    mask = torch.zeros(len(y), dtype=torch.bool)
    mask[order] = rank < (counts // 2).clamp_min(1)[y.cpu()[order]]
    return mask.to(y.device)


# --- over a host -----------------------------------------------------------------------------------------------


class SpotlighterOverHost(EncodesClassesOnce):
    """The layer over a host: it trains as the host does, and predicts through the head.

    A host is any trainer whose `self.model` gives `image_features(images, tokens=True)` -> f (B, d), v (B, N, d)
    and `text_features()` -> (C, d), all unit rows, and `logit_scale()`, with CLIP itself as `self.model.clip`, and
    puts the edits of the list `self.model.image_edits` between the blocks of the image encoder.
    What else `PromptedCLIP` offers is used where it is there: `zero_shot_text`, where the joint space is not that of
    `clip`; `learner_edits`, the host's own deep prompts; and `conditional`, where the prompts depend on the image:
    the bank and the fit then take the prompts of the mean training image, a prediction those of its own image.
    """

    extra_trainable_parameters = 21

    def build_model(self):
        super().build_model()
        keys, model = self.cfg.TRAINER.SPOTLIGHTER, self.model
        wanted = ("image_features", "text_features", "logit_scale", "clip", "image_edits")
        missing = [name for name in wanted if not hasattr(model, name)]
        if missing:
            raise InputError(
                f"TRAINER.SPOTLIGHTER.HOST {keys.HOST} cannot carry Spotlighter: its model has no {', '.join(missing)}."
            )
        if keys.JOINT:
            self.check_joint()
        visual = model.clip.visual
        check_encoder(visual, keys, self.cfg.MODEL.BACKBONE.NAME)
        dataset = self.dm.dataset
        zero_shot_text = getattr(model, "zero_shot_text", partial(zero_shot_text_features, model.clip))
        self.zero_shot = zero_shot_text(dataset.classnames, template_of(dataset))  # (C, d)
        with torch.random.fork_rng():  # the mapping modules' first values are not the host's random numbers
            torch.manual_seed(max(self.cfg.SEED, 0))
            self.head = SpotlighterHead(
                logit_scale=model.logit_scale().item(),
                kept=keys.R,
                prototypes=keys.K,
                levels=keys.LEVELS,
                full=self.zero_shot.shape[1] if keys.HEAD == "full" else 0,
            )
        after = tuple(sorted(block - 1 for block in keys.DROP_AFTER))  # the config counts blocks from 1
        if keys.KEEP < 1:
            self.head.drop = DropTokens(visual, keys.KEEP, after, keys.SCORE, keys.GRID)
        self.maps = AttentionMaps(after[0] + 1, (visual.positional_embedding.shape[0] - 1), self.head.drop)
        model.image_edits += [edit for edit in (self.maps if keys.ZOOM else None, self.head.drop) if edit is not None]
        self.head.trained_with = self.settings()
        self.initial = {name: value.detach().clone() for name, value in self.head.named_parameters()}
        self.head.to(self.device)

        count = sum(p.numel() for p in self.head.parameters())
        if keys.HEAD == "lite":
            assert count == 21, f"the head trains {count} scalars, not 21"
        self.extra_trainable_parameters = count
        print(
            f"Spotlighter over {keys.HOST}: {count:,} trainable "
            f"{'scalars' if keys.HEAD == 'lite' else 'numbers'} beside the host's prompts (and a bank of buffers)"
        )
        # The scalars are fitted after the host's epochs, by an optimiser of their own; only JOINT trains them in step.
        optimiser = torch.optim.Adam(self.head.parameters(), lr=FIT_LR / 10) if keys.JOINT else None
        self.register_model("spotlighter", self.head, optimiser)

    def check_joint(self):
        """Refuse to train the head in step with a host that offers no place for it."""
        shots, batch = len(self.dm.dataset.train_x), self.cfg.DATALOADER.TRAIN_X.BATCH_SIZE
        rules = [
            (hasattr(super(), "compute_loss"), f"needs a host with compute_loss, which {type(self).__name__} has not"),
            (not self.is_conditional(), "needs a host whose prompts are the same for all images"),
            (getattr(self, "scaler", None) is None, "does not go with PREC amp: choose fp32, bf16 or fp16"),
            (
                batch < shots,
                f"keeps shots outside each batch in its bank: DATALOADER.TRAIN_X.BATCH_SIZE must be below {shots}",
            ),
        ]
        for holds, why in rules:
            if not holds:
                raise InputError(f"TRAINER.SPOTLIGHTER.JOINT True {why}.")

    def load_model(self, directory, epoch=None):
        """Load host and head; a head that was trained with other settings than the config's is refused."""
        super().load_model(directory, epoch)
        for key, then in self.head.trained_with.items():
            now = self.settings()[key]
            if now != then and not (key == "ZOOM" and self.head.zoom is None):
                raise InputError(
                    f"TRAINER.SPOTLIGHTER.{key} is {now!r}, and the model in {directory} was trained with {then!r}: "
                    "test it with the settings that it was trained with."
                )

    def settings(self) -> dict:
        """The keys that a trained head depends on."""
        keys = self.cfg.TRAINER.SPOTLIGHTER
        names = [
            "HOST",
            "HEAD",
            "R",
            "K",
            "LEVELS",
            "KEEP",
            "ZOOM",
            *(["DROP_AFTER", "SCORE", "GRID"] if keys.KEEP < 1 else []),
        ]
        return {name: list(keys[name]) if isinstance(keys[name], tuple) else keys[name] for name in names}

    # --- training -----------------------------------------------------------------------------------------

    def before_train(self):
        super().before_train()
        if self.start_epoch == 0:  # else its checkpoint has it
            self.survey_shots()

    def survey_shots(self):
        """What the drops inside the encoder can know beforehand, from the shots."""
        if self.head.drop is not None:
            edits = getattr(self.model, "learner_edits", list)()
            survey(self.model.clip.visual, self.head.drop, self.shot_batches(), self.dm.dataset.num_classes, edits)

    def run_epoch(self):
        if not any(self._optims.values()):  # zero-shot CLIP as host has nothing to train
            return
        if self.cfg.TRAINER.SPOTLIGHTER.JOINT:
            self.shots = self.encode_shots()
        super().run_epoch()

    def compute_loss(self, images, labels):
        """The host's loss; with JOINT also the head's, whose bank then holds the shots outside the batch."""
        loss, shown = super().compute_loss(images, labels)
        keys = self.cfg.TRAINER.SPOTLIGHTER
        if not keys.JOINT:
            return loss, shown
        memory = torch.ones(len(self.shots.y), dtype=torch.bool)
        memory[self.batch_index] = False
        batch = Shots(*self.model.image_features(images, tokens=True), labels)
        t = self.model.text_features()
        ours = held_out_loss(
            self.head, self.shots[memory.to(labels.device)], batch, t, self.zero_shot, keys.LOSS.LEVELS
        )
        return loss + ours, {**shown, "loss_head": ours.item()}

    def after_epoch(self):
        """Before a checkpoint is written, or validation images are classified, the head is fitted."""
        last = self.epoch + 1 == self.max_epoch
        frequency = self.cfg.TRAIN.CHECKPOINT_FREQ
        periodic = frequency > 0 and (self.epoch + 1) % frequency == 0
        if last or periodic or self.cfg.TEST.FINAL_MODEL == "best_val":
            self.fit_head()
        super().after_epoch()

    def fit_head(self):
        self.set_model_mode("eval")
        keys, seed, head = self.cfg.TRAINER.SPOTLIGHTER, self.cfg.SEED, self.head
        shots = self.encode_shots()
        t = self.typical_text(shots.f.mean(dim=0))
        if not keys.JOINT:
            with torch.no_grad():  # every fit starts from the initial values
                for name, value in head.named_parameters():
                    value.copy_(self.initial[name])
            if keys.FIT:
                fit_scalars(head, shots, t, self.zero_shot, keys, seed)
        if keys.ZOOM:
            head.zoom = choose_zoom(head, shots, t, self.zero_shot, keys.ZOOM, seed)
            print(f"Spotlighter's second look: {head.zoom or 'none'}")
        head.remember(shots, t, self.zero_shot, self.dm.dataset.classnames)
        self.set_model_mode("train")

    def shot_batches(self):
        """The training images as the test transform shows them: images (B, 3, H, W) and labels (B,)."""
        with torch.random.fork_rng():  # a loader takes a random number, which is the host's
            loader = build_data_loader(
                self.cfg,
                data_source=self.dm.dataset.train_x,
                batch_size=self.cfg.DATALOADER.TEST.BATCH_SIZE,
                tfm=build_transform(self.cfg, is_train=False),
                is_train=False,
            )
            yield from map(self.parse_batch_test, loader)

    @torch.no_grad()
    def encode_shots(self) -> Shots:
        parts = []
        for images, labels in self.shot_batches():
            f, v = self.model.image_features(images, tokens=True)
            again = ()
            if self.cfg.TRAINER.SPOTLIGHTER.ZOOM:
                most, maps = self.cfg.TRAINER.SPOTLIGHTER.ZOOM, self.maps.maps.unbind(dim=1)
                looks = [[self.look_again(images, m, w, most) for w in ZOOM_WIDTHS] for m in maps]
                again = (
                    torch.stack([torch.stack(widths, dim=1) for widths in looks], dim=1),
                )  # (B, maps, widths, Z, d)
            parts.append((f, v, labels, *again))
        return Shots(*map(torch.cat, zip(*parts, strict=True)))

    def look_again(self, images: Tensor, activation: Tensor, width: float, count: int) -> Tensor:
        """Class tokens (B, Z, d) of the strongest regions of images (B, 3, H, W), by an activation (B, G * G)."""
        windows = cut(images, window_centres(activation, count), width)  # (B Z, 3, H, W)
        return self.model.image_features(windows).view(len(images), count, -1)

    # --- evaluation ---------------------------------------------------------------------------------------

    def is_conditional(self) -> bool:
        return getattr(self.model, "conditional", False)

    @torch.no_grad()
    def typical_text(self, image_mean: Tensor) -> Tensor:
        """(C, d) the host's texts; if they depend on the image, those of the mean training image (d,)."""
        if not self.is_conditional():
            return self.model.text_features()
        return self.model.text_features(unit(image_mean)[None])[0]

    def encode_classes(self) -> Classes:
        t = self.typical_text(self.head.bank.image_mean)
        return self.head.describe(t, self.zero_shot, self.dm.dataset.classnames)

    def predict(self, images: Tensor, class_state: Classes) -> Tensor:
        f, v = self.model.image_features(images, tokens=True)
        if self.is_conditional():
            anchored = self.head.anchored(self.model.text_features(f), self.zero_shot)  # (B, C, d)
            class_state = class_state._replace(own=self.head.centred_text(anchored, self.head.bank.text_mean))
        zoom, again = self.head.zoom, None
        if zoom is not None:
            again = self.look_again(images, self.maps.maps[:, zoom.map], zoom.width, zoom.count)
        return self.head(f, v, class_state, again)


def check_keys(keys) -> None:
    """Refuse settings that no encoder could serve, in one sentence each."""
    rules = [
        ("HEAD", keys.HEAD in ("lite", "full"), "'lite' (21 scalars) or 'full' (the paper's mapping modules)"),
        ("R", keys.R >= 1, "the number of tokens kept by the head, at least 1"),
        ("K", keys.K >= 1, "the number of prototypes a class, at least 1"),
        ("LEVELS", keys.LEVELS in (1, 2), "1 or 2"),
        ("KEEP", 0 < keys.KEEP <= 1, "the share of tokens kept, above 0 and at most 1"),
        ("SCORE", keys.SCORE in SCORES, f"one of {', '.join(SCORES)}"),
        ("GRID", 0 <= keys.GRID <= 1, "the share of kept places on a regular grid, from 0 to 1"),
        ("ZOOM", keys.ZOOM in (0, 1, 3), "0 (off), 1 or 3 regions"),
        (
            "DROP_AFTER",
            are_blocks(keys.DROP_AFTER),
            "different blocks, at least one, as in (1,)",
        ),
    ]
    for name, holds, allowed in rules:
        if not holds:
            raise InputError(f"TRAINER.SPOTLIGHTER.{name} is {keys[name]!r}: it must be {allowed}.")


def are_blocks(blocks: tuple) -> bool:
    return len(set(blocks)) == len(blocks) > 0 and all(type(block) is int for block in blocks)


def check_encoder(visual: nn.Module, keys, backbone: str) -> None:
    """Refuse what this image encoder cannot do."""
    if not isinstance(visual, VisionTransformer):
        raise InputError(
            f"Spotlighter selects visual tokens, and MODEL.BACKBONE.NAME {backbone} is a residual network, which has "
            "none: choose a ViT, such as ViT-B/16."
        )
    layers, left = visual.transformer.layers, visual.positional_embedding.shape[0] - 1
    outside = [block for block in keys.DROP_AFTER if not 1 <= block < layers]
    if outside:
        raise InputError(
            f"TRAINER.SPOTLIGHTER.DROP_AFTER names block {outside[0]}: {backbone} has {layers} blocks, and tokens can "
            f"be dropped after blocks 1 to {layers - 1}."
        )
    for _ in keys.DROP_AFTER if keys.KEEP < 1 else ():
        left = number_kept(left, keys.KEEP)
    if left < keys.R:
        raise InputError(
            f"TRAINER.SPOTLIGHTER.R is {keys.R}: the encoder leaves {left} tokens (KEEP {keys.KEEP:g}), so R must be "
            f"from 1 to {left}."
        )


@TRAINER_REGISTRY.register()
class Spotlighter(TrainerX):
    """Builds the layered trainer for `TRAINER.SPOTLIGHTER.HOST`, found by name in the registry."""

    host_key = "TRAINER.SPOTLIGHTER.HOST"  # whose config keys are needed too

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.SPOTLIGHTER = CfgNode()
        cfg.TRAINER.SPOTLIGHTER.HOST = "CoOp"  # any registered method with prompts
        cfg.TRAINER.SPOTLIGHTER.HEAD = "lite"  # lite: the 21 scalars; full: with the paper's mapping modules
        cfg.TRAINER.SPOTLIGHTER.FIT = True  # False keeps the scalars' initial values
        cfg.TRAINER.SPOTLIGHTER.JOINT = False  # train the head in step with the host, whose prompts then feel it
        cfg.TRAINER.SPOTLIGHTER.R = 5  # tokens kept by the head
        cfg.TRAINER.SPOTLIGHTER.K = 5  # prototypes a class
        cfg.TRAINER.SPOTLIGHTER.LEVELS = 2  # ranks 1-3 and the rest apart, or 1: all together
        cfg.TRAINER.SPOTLIGHTER.KEEP = 1.0  # share of living patch tokens kept at each drop inside the encoder
        cfg.TRAINER.SPOTLIGHTER.DROP_AFTER = (1,)  # blocks, counted from 1, after which tokens are dropped
        cfg.TRAINER.SPOTLIGHTER.SCORE = "probe"  # by which score; see clip/tokens.py
        cfg.TRAINER.SPOTLIGHTER.GRID = 0.75  # share of the kept places spread evenly, whatever the score
        cfg.TRAINER.SPOTLIGHTER.ZOOM = 0  # at most so many regions looked at again (0, 1, 3); held-out shots choose
        cfg.TRAINER.SPOTLIGHTER.LOSS = CfgNode()
        cfg.TRAINER.SPOTLIGHTER.LOSS.PULL = 1.0  # times the squared distance from the initial values
        cfg.TRAINER.SPOTLIGHTER.LOSS.LEVELS = 0.0  # times the cross-entropy of the level vectors alone

    def __new__(cls, cfg):
        keys = cfg.TRAINER.SPOTLIGHTER
        check_keys(keys)
        host = TRAINER_REGISTRY.get(keys.HOST)
        if host is cls:
            raise InputError("TRAINER.SPOTLIGHTER.HOST cannot be Spotlighter itself: name a method such as CoOp.")
        return type(f"Spotlighter{host.__name__}", (SpotlighterOverHost, host), {})(cfg)
