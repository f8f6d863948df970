"""Fitting: the scalars, and how to look again, on shots that the bank does not hold.

B images      C classes      d joint width
"""

import contextlib
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from clip.parts import give_back

from .bank import Shots, add_second_look, build_bank, regions
from .classes import Classes, lengths
from .head import SpotlighterHead
from .tokens import Tokens
from .zoom import ZOOM_WIDTHS, Zoom

# Initial values and steps were chosen on validation images and inner splits of the embedded world.
FIT_STEPS, FIT_WARMUP, FIT_LR, FIT_LR_SCALE, FIT_LR_FULL = 40, 8, 0.01, 0.1, 0.001
FEWEST_CLASSES = 3  # of which two stay and one is left out: a bank of one class has nothing to centre
ZOOM_SHARES = (0.5, 0.75, 1.0)  # of the second look in the logits, to choose from
ZOOM_HALVES = 4  # random halves of the shots on which the choice is made


def fit_scalars(
    head: SpotlighterHead, shots: Shots, t: Tensor, z: Tensor, seed: int, *, pull: float, levels: float, unseen: float
) -> None:
    """Fit the 21 scalars: each step builds the bank from a random half of every class's shots and takes the
    cross-entropy on the other half (`levels` as in `held_out_loss`), plus `pull` times the squared distance from the
    initial values. t and z (C, d) are the host's and the zero-shot text features.

    In a share `unseen` of the steps `tau_b`, which classes in the bank have no use for, learns by `carrying_over`.

    The scale `delta` goes first and faster: cross-entropy acts first as a temperature fit, and everything
    else would shrink to serve as one.
    """
    if half_of_each_class(shots.y, torch.Generator()).all():
        print("Spotlighter keeps its initial scalars: with one shot a class there is none to hold out")
        return
    scalars, shots = head.scalars, shots._replace(again=None)  # the first look alone
    others = [p for name, p in scalars.named_parameters() if name != "delta"]
    initial = [p.detach().clone() for p in others]
    late = lambda step: (step >= FIT_WARMUP) * half_cosine(step / FIT_STEPS)  # noqa: E731
    early = lambda step: half_cosine(step / FIT_STEPS)  # noqa: E731
    groups = [({"params": others, "lr": FIT_LR}, late), ({"params": [scalars.delta], "lr": FIT_LR_SCALE}, early)]
    if head.mapping is not None:
        groups.append(({"params": list(head.mapping.parameters()), "lr": FIT_LR_FULL}, late))
    optimiser = torch.optim.Adam([group for group, _ in groups])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, [rate for _, rate in groups])
    # Of their own: the host's random numbers stay as they are, and the halves what they are without classes left out.
    generator, another = (torch.Generator().manual_seed(max(seed, 0)) for _ in range(2))
    with flushed(shots.y.device):
        for step in range(FIT_STEPS):
            give_back()  # what the step before has left in pieces
            memory = half_of_each_class(shots.y, generator)
            halves = {"memory": shots[memory], "out": shots[~memory], "t": t, "z": z}
            carried = 0.0  # first, while the other loss keeps nothing yet for its gradient
            if (left_out := classes_left_out(len(t), step, unseen, another)) is not None:
                carried = carrying_over(head, **halves, left_out=left_out.to(t.device))
            loss = held_out_loss(head, **halves, levels=levels) + carried
            away = sum(((p - p0) ** 2).sum() for p, p0 in zip(others, initial, strict=True))
            optimiser.zero_grad()
            (loss + pull * away).backward()
            del loss, carried  # or their graph keeps what it read of the tokens while the next step reads them
            optimiser.step()
            schedule.step()


@contextlib.contextmanager
def flushed(device: torch.device) -> Iterator[None]:
    """While this lasts a CPU takes numbers below 1e-38 for zero: the probabilities of a thousand classes, and gradients
    through them, are full of such, with which it multiplies many times slower, and which no sum notices.
    """
    if device.type == "cpu":
        torch.set_flush_denormal(True)
    try:
        yield
    finally:
        if device.type == "cpu":
            torch.set_flush_denormal(False)


def held_out_loss(
    head: SpotlighterHead, memory: Shots, out: Shots, t: Tensor, z: Tensor, levels: float = 0.0
) -> Tensor:
    """Cross-entropy of images that the bank does not hold, plus `levels` times that of their level vectors alone."""
    bank = build_bank(head, memory, t, z)
    classes = Classes(bank.text, bank.prototypes, lengths(t))
    loss = F.cross_entropy(head.logits(out.f, out.v, classes, bank), out.y)
    if levels:
        vectors = head.levels_of(out.f, out.v, classes, bank.image_mean, bank.token_mean)  # (B, 2, d)
        for level in vectors.unbind(dim=1):
            loss = loss + levels * F.cross_entropy(head.logit_scale * level @ classes.text.t(), out.y)
    return loss


def carrying_over(head: SpotlighterHead, memory: Shots, out: Shots, t: Tensor, z: Tensor, left_out: Tensor) -> Tensor:
    """A term of a loss, which is zero and has a gradient for `tau_b` alone: that of `unseen_loss`.

    The other scalars keep to the classes seen: the bank that they serve has all of these, and this one has not.
    """
    tau_b = head.scalars.tau_b
    if left_out[memory.y].all():  # of no image there is no bank
        return torch.zeros_like(tau_b)
    others = [p for p in head.parameters() if p is not tau_b and p.requires_grad]
    for p in others:  # their part of the graph would be kept, and never used
        p.requires_grad_(False)
    try:
        out = out._replace(f=out.f.detach(), v=out.v if isinstance(out.v, Tokens) else out.v.detach())
        (slope,) = torch.autograd.grad(unseen_loss(head, memory, out, t.detach(), z, left_out), tau_b)
    finally:
        for p in others:
            p.requires_grad_(True)
    return slope * (tau_b - tau_b.detach())


def unseen_loss(head: SpotlighterHead, memory: Shots, out: Shots, t: Tensor, z: Tensor, left_out: Tensor) -> Tensor:
    """Cross-entropy with the classes of a mask (C,) left out of the bank, and described as new ones are at test time.

    It goes over all classes and the images in `out` of all: those left out alone may be too few to be told apart.
    Its gradient is that of `tau_b`, in which the bank has no part.
    """
    seen = ~left_out
    rows = torch.where(seen, seen.cumsum(dim=0) - 1, -1)  # (C,), in the bank
    memory = memory[seen[memory.y]]
    with torch.no_grad():
        bank = build_bank(head, memory._replace(y=rows[memory.y]), t[seen], z[seen])
    return F.cross_entropy(head.logits(out.f, out.v, head.classes(t, z, rows, bank), bank), out.y)


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
    alone = shots._replace(again=None)  # halves of the regions are taken from those of one look at a time
    losses = dict.fromkeys([None, *(Zoom(*look, share) for look in looks for share in ZOOM_SHARES)], 0.0)
    generator = torch.Generator().manual_seed(max(seed, 0))
    for _ in range(ZOOM_HALVES):
        mask = half_of_each_class(shots.y, generator)
        memory, out = alone[mask], alone[~mask]
        bank = build_bank(head, memory, t, z)
        classes = Classes(bank.text, bank.prototypes, lengths(t))
        first = head.logits(out.f, out.v, classes, bank)
        losses[None] += F.cross_entropy(first, out.y).item()
        for look in looks:
            zoom = Zoom(*look, share=1.0)
            again = regions(shots, zoom)  # (B, Z, d)
            both = add_second_look(head, bank, again[mask], memory.y, t, z)
            second = head.second_logits(again[~mask], classes, both)
            for share in ZOOM_SHARES:
                losses[zoom._replace(share=share)] += F.cross_entropy(first.lerp(second, share), out.y).item()
    return min(losses, key=losses.get)


def half_cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(progress * math.pi))


def classes_left_out(count: int, step: int, share: float, generator: torch.Generator) -> Tensor | None:
    """A mask (C,) of the half of `count` classes, the smaller one, that a step takes as never seen; None in the others.

    The steps, counted from 0, in which some are left out are the given share of all, spread evenly.
    """
    due = math.floor((step + 1) * share) > math.floor(step * share)
    if not due or count < FEWEST_CLASSES:
        return None
    return torch.randperm(count, generator=generator) < count // 2


def half_of_each_class(y: Tensor, generator: torch.Generator) -> Tensor:
    """A mask (B,) of a random half of each class's images; of an odd number, the smaller half but at least one."""
    order = torch.argsort(y.cpu() + torch.rand(len(y), generator=generator))  # by class, shuffled within
    counts = torch.bincount(y.cpu())
    rank = torch.arange(len(y)) - (counts.cumsum(0) - counts)[y.cpu()[order]]
    mask = torch.zeros(len(y), dtype=torch.bool)
    mask[order] = rank < (counts // 2).clamp_min(1)[y.cpu()[order]]
    return mask.to(y.device)
