"""Choosing a plan within a budget (`plan.py`) on held-out shots of the base classes; nothing is trained.

B images      C classes      d joint width      Z regions of an image
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .bank import Shots, add_second_look, build_bank
from .budgeted import BudgetedCLIP
from .classes import Classes, lengths
from .fit import ZOOM_HALVES, half_of_each_class
from .head import SpotlighterHead
from .plan import First, Plan, firsts, one_look
from .zoom import ZOOM_WIDTHS, Zoom

SHARES = (0.25, 0.5, 0.75, 1.0)  # of the second look in the logits
SURE = 1.0  # standard errors by which a plan has to be better than one look (the rule of Breiman et al., 1984)


class Seen(NamedTuple):
    """The shots as the plans look at them, in their order."""

    first: dict[float, Tensor]  # by share kept: class tokens (B, d)
    regions: dict[First, Tensor]  # (B, widths, Z, d)

    def under(self, plan: Plan, shots: Shots) -> Shots:
        """The shots as a plan looks at them, given those of one look at all patches."""
        if plan.tokens:
            return shots
        f, again = self.first.get(plan.keep, shots.f), None  # a glance leaves the bank its texts alone
        if plan.zoom is not None:
            (look,) = (look for look in self.regions if (look.keep, look.count) == (plan.keep, plan.zoom.count))
            again = self.regions[look][:, ZOOM_WIDTHS.index(plan.zoom.width)]  # (B, Z, d)
        return Shots(f, None, shots.y, again)


@torch.no_grad()
def encode_for_plans(
    spotlit: BudgetedCLIP, batches: Iterable[tuple[Tensor, Tensor]], looks: list[First], alone: Plan
) -> Seen:
    """All that is to be chosen from, of batches of images (B, 3, H, W) and labels (B,); `alone` is the one look."""
    first: dict[float, list[Tensor]] = {}
    regions: dict[First, list[Tensor]] = {look: [] for look in looks}
    keeps = {look.keep for look in looks} | ({alone.keep} if not alone.tokens else set())
    for images, _ in batches:
        for keep in sorted(keeps):
            seen = spotlit.look_first(images, keep)  # its map is of all patches, and so the same at all shares
            if keep:
                first.setdefault(keep, []).append(seen.f)
        for side in sorted({look.side for look in looks}):
            alike = [look for look in looks if look.side == side]
            most = max(look.count for look in alike)  # the strongest regions of more are those of fewer
            widths = [spotlit.regions_of(images, seen, most, width, side) for width in ZOOM_WIDTHS]
            for look in alike:
                regions[look].append(torch.stack(widths, dim=1)[:, :, : look.count])  # (B, widths, Z, d)
    return Seen(
        {keep: torch.cat(parts) for keep, parts in first.items()},
        {look: torch.cat(parts) for look, parts in regions.items()},
    )


@torch.no_grad()
def held_out(
    head: SpotlighterHead, shots: Shots, seen: Seen, alone: Plan, t: Tensor, z: Tensor, seed: int
) -> Iterator[tuple[Tensor, Plan, Tensor | None, Tensor]]:
    """What plans answer on shots that random halves hold out: which (B,), the plan, and logits (n, C) of its first look, None of a
    glance and of the one look, and of both. The one look comes first in each half.
    """
    generator = torch.Generator().manual_seed(max(seed, 0))
    for _ in range(ZOOM_HALVES):
        mask = half_of_each_class(shots.y, generator)
        whole = shots if alone.tokens else shots._replace(f=seen.first[alone.keep], v=None)
        bank = build_bank(head, whole[mask], t, z)
        classes = Classes(bank.text, bank.prototypes, lengths(t))
        yield ~mask, alone, None, head.logits(whole[~mask].f, whole[~mask].v, classes, bank)
        banks = {}
        for keep, f in seen.first.items():
            part = build_bank(head, Shots(f, None, shots.y)[mask], t, z)
            banks[keep] = part, head.logits(f[~mask], None, classes, part)
        for look, regions in seen.regions.items():
            part, first = banks.get(look.keep, (bank, None))
            for number, width in enumerate(ZOOM_WIDTHS):
                again = regions[:, number]  # (B, Z, d)
                both = add_second_look(head, part, again[mask], shots.y[mask], t, z)
                second = head.second_logits(again[~mask], classes, both)
                for share in SHARES if first is not None else (1.0,):
                    plan = Plan(look.keep, False, Zoom(0, width, look.count, share), look.side, look.cost)
                    yield ~mask, plan, first, second if first is None else first.lerp(second, share)


@torch.no_grad()
def choose_plan(head: SpotlighterHead, shots: Shots, seen: Seen, alone: Plan, t: Tensor, z: Tensor, seed: int) -> Plan:
    """The plan with the least cross-entropy on held-out shots, if it beats the one look by more than the standard error of their
    difference; else the one look. Each is judged on the same random halves.
    """
    if half_of_each_class(shots.y, torch.Generator()).all():
        print("Spotlighter spends its budget on one look: with one shot a class there is none on which to choose how")
        return alone
    losses: dict[Plan, Tensor] = {}  # of each image, summed over the halves that hold it out
    times = torch.zeros(len(shots.y), device=shots.y.device)
    for out, plan, _, logits in held_out(head, shots, seen, alone, t, z, seed):
        times += out if plan == alone else 0
        total = losses.setdefault(plan, torch.zeros(len(shots.y), device=out.device))
        total[out] += F.cross_entropy(logits, shots.y[out], reduction="none")
    mean = {plan: total / times.clamp_min(1) for plan, total in losses.items()}
    best = min(mean, key=lambda plan: mean[plan].sum().item())
    better = mean[alone] - mean[best]
    error = better.std() / len(better) ** 0.5
    return best if better.mean() > SURE * error else alone


def spend(
    spotlit: BudgetedCLIP,
    budget: float,
    shots: Shots,
    batches: Iterable[tuple[Tensor, Tensor]],
    t: Tensor,
    z: Tensor,
    seed: int,
    encoding: AbstractContextManager | None = None,
) -> Shots:
    """Give the head the plan that held-out shots choose within a budget; the shots, whose images are in `batches`, as it looks at
    them. `encoding` is a context for the image encoder alone, such as mixed precision.
    """
    head, after = spotlit.head, spotlit.drop.after
    alone = one_look(spotlit.cost, budget, after)
    looks = firsts(spotlit.cost, budget, after, glances=not spotlit.conditional)
    with encoding or nullcontext():
        seen = encode_for_plans(spotlit, batches, looks, alone)
    head.plan = choose_plan(head, shots, seen, alone, t, z, seed)
    head.zoom = head.plan.zoom
    return seen.under(head.plan, shots)
