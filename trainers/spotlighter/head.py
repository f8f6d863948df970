"""The head: the equations by which an image's tokens and the bank correct what the host's prompts say.

Steps 1 to 7 below are one prediction. How a bank is made from training images stands in `bank.py`, and how the
scalars are fitted in `fit.py`.

    B images      N patch tokens      C classes      d joint width      K prototypes a class      M = C * K
    R tokens kept by the head         Z regions looked at again
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn as nn
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from clip import InputError

from ..shared.plug_in import rows_of
from .centred import Centred, Seen
from .classes import BELIEVED, Classes, cosines, lengths
from .drop import DropTokens, standardise
from .plan import Plan
from .tokens import Tokens
from .trained import Mapping, Scalars, unit
from .zoom import Zoom

FIRST_LEVEL = 3  # ranks 1-3 are level 1, the others level 2


class Bank(NamedTuple):
    """All that the head keeps of the training images and the base classes."""

    prototypes: Tensor  # P (C, K, d), unit rows
    text: Tensor  # T (C, d), unit rows: anchored and centred text features of the classes seen
    text_mean: Tensor  # t̄ (d,)
    image_mean: Tensor  # m_f (d,)
    token_mean: Tensor  # m_v (d,)
    level_means: Tensor  # m_1, m_2 (2, d)
    map: Tensor  # X' S (3d, d), of the ridge's solution
    again_mean: Tensor  # of regions looked at again, as is the next; empty without ZOOM: (d,)
    again_map: Tensor  # (d, d)


class Selection(NamedTuple):
    """The R strongest tokens of each image, in descending order."""

    activation: Tensor  # (B, R)
    index: Tensor  # (B, R), among the N living ones
    tokens: Tensor  # (B, R, d), centred unit rows


class Explanation(NamedTuple):
    """Why which tokens are selected."""

    sample_wise: Tensor  # (B, N)
    semantic_wise: Tensor  # (B, N)
    activation: Tensor  # A (B, N)
    selection: Selection
    level: Tensor  # (R,), 1 or 2, of each rank


class Belief(NamedTuple):
    """What an image's class token says of it, p = softmax(s unit(f - g m_f) · T)."""

    text: Tensor  # sum_c p_c T_c (B, d)
    most: Tensor  # (B, c) the classes believed in most
    p: Tensor  # (B, c), of these


def sample_wise(tokens: Centred, belief: Belief, classes: Classes) -> Tensor:
    """3. Activation <v_i, sum_c p_c T_c>, standardised: (B, N), of centred tokens."""
    return standardise(tokens.along(belief.text[:, None])[:, 0])


def semantic_wise(tokens: Centred, belief: Belief, classes: Classes) -> Tensor:
    """3. The same of sum_c p_c max_k <v_i, P_ck>, over the classes believed in most."""
    nearest = tokens.nearest(classes.prototypes, belief.most)  # (B, c, N)
    return standardise((belief.p[:, None] @ nearest)[:, 0])


Activation = Callable[[Centred, Belief, Classes], Tensor]


class SpotlighterHead(nn.Module):
    """The head: 21 scalars, and the bank once `remember` has filled it.

    With g = b = alpha = gamma = delta = 0 (and no second look) its logits are the host's.
    """

    def __init__(
        self,
        logit_scale: float,
        kept: int = 5,
        prototypes: int = 5,
        levels: int = 2,
        full: int = 0,
        activations: tuple[Activation, Activation] = (sample_wise, semantic_wise),
    ):
        """`full` is the joint width d where the paper's mapping modules are wanted, else 0; `activations` are the two
        that theta weighs.
        """
        super().__init__()
        self.scalars = Scalars()
        self.mapping = Mapping(full) if full else None
        self.drop: DropTokens | None = None  # saved with the head, as it is computed from the same shots
        self.logit_scale = logit_scale  # s, CLIP's
        self.kept, self.count, self.level_count = kept, prototypes, levels  # R, K, and 1 or 2 levels
        self.activations = activations
        self.classnames: list[str] = []  # of the classes in the bank
        self.zoom: Zoom | None = None
        self.plan: Plan | None = None  # of BUDGET; its zoom is `zoom` too
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

    def believe(self, f: Tensor, classes: Classes, image_mean: Tensor) -> Belief:
        p = self.belief(f, classes, image_mean)  # (B, C)
        most, which = p.topk(min(BELIEVED, p.shape[1]), dim=1)  # (B, c)
        return Belief(p @ classes.text, which, most)

    def explain(
        self,
        f: Tensor,
        v: Tensor,
        classes: Classes,
        image_mean: Tensor,
        token_mean: Tensor,
        semantic: bool = True,
    ) -> Explanation:
        """3. and 4. Of f (B, d) and v (B, N, d) the R tokens with the largest A = theta · (sample-wise, semantic-wise).

        Without `semantic` the second is zero.
        """
        tokens = Centred(v, token_mean, self.scalars.g_v)
        return self.strongest(tokens, self.believe(f, classes, image_mean), classes, semantic)

    def strongest(self, tokens: Centred, belief: Belief, classes: Classes, semantic: bool) -> Explanation:
        """The same, of centred tokens and a belief."""
        first = self.activations[0](tokens, belief, classes)  # (B, N)
        second = self.activations[1](tokens, belief, classes) if semantic else torch.zeros_like(first)  # (B, N)
        activation = self.scalars.theta[0] * first + self.scalars.theta[1] * second
        top, index = activation.topk(self.kept, dim=1)  # (B, R)
        level = 1 + (torch.arange(self.kept) >= self.first_level).long()
        return Explanation(first, second, activation, Selection(top, index, tokens.take(index)), level)

    def of_selections(
        self,
        wanted: Callable[[Tensor, Selection, Classes], Tensor],
        f: Tensor,
        v: Tensor | Tokens,
        classes: Classes,
        image_mean: Tensor,
        token_mean: Tensor,
        semantic: bool = True,
        seen: Seen | None = None,
    ) -> Tensor:
        """What is `wanted` of images and their selections (B, ...), a few at a time: a gradient computes that again rather than
        keeps it.

        `seen` keeps what was read of the tokens for another call, which asks the same first.
        """
        if torch.compiler.is_exporting():  # a graph has no number of images by which to part them
            belief, centred = self.believe(f, classes, image_mean), Centred(v, token_mean, self.scalars.g_v)
            return wanted(f, self.strongest(centred, belief, classes, semantic).selection, classes)
        tokens = (v if isinstance(v, Tokens) else Tokens(v)).split()
        size = len(tokens[0])

        def part(f: Tensor, tokens: Tokens, belief: Belief, classes: Classes, seen: Seen) -> Tensor:
            centred = Centred(tokens, token_mean, self.scalars.g_v, seen)
            return wanted(f, self.strongest(centred, belief, classes, semantic).selection, classes)

        again = functools.partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
        if len(tokens) == 1 or not torch.is_grad_enabled():
            again = lambda what, *of: what(*of)  # noqa: E731
        belief = again(self.believe, f, classes, image_mean)
        beliefs = [Belief(*some) for some in zip(*(x.split(size) for x in belief), strict=True)]
        seen = (Seen(len(f)) if seen is None else seen).parts(size)
        parts = zip(f.split(size), tokens, beliefs, classes.split(size, len(f)), seen, strict=True)
        return torch.cat([again(part, *one) for one in parts])

    def levels_of(self, *of, **options) -> Tensor:
        """4. Level vectors (B, 2, d), by what `of_selections` takes."""
        return self.of_selections(lambda f, chosen, classes: self.levels(chosen), *of, **options)

    @property
    def first_level(self) -> int:
        """How many ranks are level 1; the others, if any, are level 2."""
        return min(self.kept, FIRST_LEVEL) if self.level_count == 2 else self.kept

    def levels(self, chosen: Selection) -> Tensor:
        """4. Level vectors (B, 2, d): sums of a level's tokens, weighted by softmax((A_r + rho_r) / tau_w).

        Where no rank is level 2, both are the first.
        """
        q, first = self.scalars, self.first_level
        rank = torch.arange(self.kept, device=chosen.activation.device).clamp_max(len(q.rho) - 1)
        weights = (chosen.activation + q.rho[rank]) / q.tau_w.clamp_min(0.05)  # (B, R)
        together = lambda w, tokens: unit((w.softmax(dim=1)[..., None] * tokens).sum(dim=1))  # noqa: E731  (B, d)
        one = together(weights[:, :first], chosen.tokens[:, :first])
        two = together(weights[:, first:], chosen.tokens[:, first:]) if first < self.kept else one
        return torch.stack([one, two], dim=1)

    def interaction(self, f: Tensor, levels: Tensor, bank: Bank) -> Tensor:
        """5. x = [w0 (f - m_f), w1 (l1 - m1), w2 (l2 - m2)]: (B, 3d)."""
        parts = torch.cat([(f - bank.image_mean)[:, None], levels - bank.level_means], dim=1)  # (B, 3, d)
        return (self.scalars.omega[:, None] * parts).flatten(1)

    def logits(self, f: Tensor, v: Tensor | Tokens | None, classes: Classes, bank: Bank) -> Tensor:
        """6. Logits (B, C) of f (B, d) and v (B, N, d), by the selections; without v of the class token alone."""
        if v is None:
            return self.class_logits(f, bank.image_mean, bank.map, classes)
        wanted = functools.partial(self.corrected, bank=bank)
        return self.of_selections(wanted, f, v, classes, bank.image_mean, bank.token_mean)

    def corrected(self, f: Tensor, chosen: Selection, classes: Classes, bank: Bank) -> Tensor:
        """6. Logits (B, C) = s e^delta unit(f - g m_f + alpha x X' S + gamma levels) · T, times |t| of each class."""
        q = self.scalars
        levels = self.levels(chosen)  # (B, 2, d)
        x = self.interaction(f, levels, bank)  # (B, 3d)
        both = torch.cat([levels, unit(levels.sum(dim=1, keepdim=True))], dim=1)  # (B, 3, d)
        u = f - q.g * bank.image_mean + q.alpha * (x @ bank.map) + (q.gamma[:, None] * both).sum(dim=1)
        similarity = cosines(unit(u), classes)  # (B, C)
        if self.mapping is not None:
            p = self.belief(f, classes, bank.image_mean)
            believed = torch.einsum("bc,ckd->bkd", p, classes.prototypes)  # (B, K, d)
            similarity = similarity + self.mapping(believed, chosen.tokens, classes.text, classes.prototypes)
        return self.logit_scale * q.delta.exp() * similarity

    def second_logits(self, again: Tensor, classes: Classes, bank: Bank) -> Tensor:
        """7. The second look: log-sum-exp over Z regions' logits (B, C), from their class tokens (B, Z, d) alone."""
        logits = self.class_logits(again, bank.again_mean, bank.again_map, classes)  # (B, Z, C)
        return logits.logsumexp(dim=1) - math.log(again.shape[1])

    def class_logits(self, f: Tensor, mean: Tensor, ridge: Tensor, classes: Classes) -> Tensor:
        """6. without levels: logits (..., C) of class tokens f (..., d), by their mean (d,) and the map X' S (d, d) of theirs."""
        q = self.scalars
        u = f - q.g * mean + q.alpha * (q.omega[0] * (f - mean) @ ridge)
        return self.logit_scale * q.delta.exp() * cosines(unit(u), classes)

    def classes(self, t: Tensor, z: Tensor, rows: Tensor, bank: Bank) -> Classes:
        """Classes by their texts t and z (C', d), and by where they stand in a bank: rows (C',), -1 if nowhere.

        Those in the bank have their prototypes there, the others, never seen, get theirs carried over:
        P_new,k = unit(T_new + sum_c softmax_c(<T_new, T_c> / tau_b) (P_ck - T_c)); no image of theirs is used.
        """
        text = self.centred_text(self.anchored(t, z), bank.text_mean)  # (C', d)
        near = (text @ bank.text.t() / self.scalars.tau_b.clamp_min(0.02)).softmax(dim=1)  # (C', C)
        residuals = bank.prototypes - bank.text[:, None]  # (C, K, d)
        prototypes = unit(text[:, None] + torch.einsum("nc,ckd->nkd", near, residuals))  # (C', K, d)
        prototypes = torch.where((rows >= 0)[:, None, None], bank.prototypes[rows], prototypes)
        return Classes(text, prototypes, lengths(t))

    # --- with the bank ------------------------------------------------------------------------------------

    @property
    def bank(self) -> Bank:
        if not len(self.prototypes):
            raise InputError(
                "Spotlighter's bank is empty, as in a checkpoint of an epoch before the head was fitted: let the run finish, or train first."
            )
        return Bank(*(getattr(self, name) for name in Bank._fields))

    def describe(self, t: Tensor, z: Tensor, classnames: list[str]) -> Classes:
        """The classes asked for, by their texts t and z (C', d) and their names."""
        rows = torch.tensor(rows_of(classnames, self.classnames), device=t.device)
        return self.classes(t, z, rows, self.bank)

    def forward(self, f: Tensor | None, v: Tensor | None, classes: Classes, again: Tensor | None = None) -> Tensor:
        """f (B, d), v (B, N, d) and, of regions looked at again, (B, Z, d), unit rows -> logits (B, C). Without f the regions
        alone answer, without v class tokens alone.
        """
        if f is None:
            return self.second_logits(again, classes, self.bank)
        logits = self.logits(f, v, classes, self.bank)
        return logits if again is None else logits.lerp(self.second_logits(again, classes, self.bank), self.zoom.share)

    # --- saving: a bank has the shape of the classes it was built from, not of those now asked for ---------

    def get_extra_state(self):
        zoom = None if self.zoom is None else tuple(self.zoom)
        plan = None if self.plan is None else tuple(self.plan._replace(zoom=zoom))
        return {"classnames": self.classnames, "zoom": zoom, "plan": plan, "trained_with": self.trained_with}

    def set_extra_state(self, state):
        self.classnames = state["classnames"]
        self.zoom = None if state["zoom"] is None else Zoom(*state["zoom"])
        plan = state.get("plan")  # there was none before there were budgets
        self.plan = None if plan is None else Plan(*plan)._replace(zoom=self.zoom)
        self.trained_with = state["trained_with"]

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        for x in ("", "again_"):  # before X' S was saved, X and S were
            if (keys := state_dict.pop(f"{prefix}{x}keys", None)) is not None:
                state_dict[f"{prefix}{x}map"] = keys.t() @ state_dict[f"{prefix}{x}map"] if len(keys) else keys
        state_dict.pop(f"{prefix}counts", None)
        shaped_by_classes = [(self, name, prefix + name) for name in Bank._fields]
        if self.drop is not None:
            shaped_by_classes.append((self.drop, "prototypes", f"{prefix}drop.prototypes"))
        for module, name, saved in shaped_by_classes:
            if saved in state_dict:
                setattr(module, name, torch.empty_like(state_dict[saved], device=getattr(module, name).device))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
