"""Early exit, a study: whether images of which the first look is sure should be left alone, so that a budget bounds the mean cost.

    python -m datasets.embedded --root data
    python -m benchmarks.early_exit --root data --seeds 1    # a quarter of an hour on one core; goes on where it stopped

A plan with an exit looks at regions only where the first look's likeliest class has less than a probability: the one with which
held-out shots spend the budget in the mean. Its second look may so cost more than one that every image gets. The same held-out
shots choose among plans without exits, and among all. A cell is one set at one seed. No run exits early, and the embedded world is a
test bed.

    B images      C classes      d joint width
"""

import argparse
import contextlib
import io
import json
import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.ablation.encoded import BATCH, EncodedImages
from benchmarks.ablation.rows import accuracy
from benchmarks.budgets import HEAD, Table, Trained, trained
from benchmarks.embedded import CROWDED, add_arguments, cell_file, cells_of, do_missing, world_of
from benchmarks.statistics import signed
from dassl.utils import replace_file, write_json
from one_run.command import carry_out
from one_run.layout import ROOT
from trainers.spotlighter.bank import Shots
from trainers.spotlighter.choice import SURE, Seen, encode_for_plans, held_out
from trainers.spotlighter.classes import Classes
from trainers.spotlighter.plan import First, Plan, firsts, one_look
from trainers.spotlighter.zoom import ZOOM_WIDTHS

MOST = (1.5, 2.0)  # times the budget, that an image with a second look may cost
OWN, EXIT = "without exits", "with exits"
NEVER = 2.0  # a probability that no first look has


class Exit(NamedTuple):
    """A plan, and from which probability of the likeliest class the first look is enough."""

    plan: Plan
    first: float  # cost of the first look
    sure: float = NEVER

    def cost(self, again: float) -> float:
        """In the mean, where a share of the images is looked at again."""
        return self.first + again * (self.plan.cost - self.first)

    def in_words(self, patch: int) -> str:
        words = self.plan.in_words(patch).rpartition(", at ")[0]
        return words if self.sure == NEVER else f"{words}, where the first look is less than {self.sure:.0%} sure"


class Answers(NamedTuple):
    """Logits (B, C) of a plan's first look, None of a glance, and of both looks."""

    once: Tensor | None
    twice: Tensor

    @classmethod
    def joined(cls, parts: "list[Answers]") -> "Answers":
        """One behind the other."""
        once = None if parts[0].once is None else torch.cat([part.once for part in parts])
        return cls(once, torch.cat([part.twice for part in parts]))

    def where(self, sure: float) -> tuple[Tensor, Tensor]:
        """Logits (B, C) with an exit, and which images (B,) are looked at again."""
        if self.once is None:
            return self.twice, torch.ones(len(self.twice), dtype=torch.bool)
        again = confidence(self.once) < sure
        return torch.where(again[:, None], self.twice, self.once), again


def confidence(logits: Tensor) -> Tensor:
    """Of the likeliest class: (B, C) -> (B,)."""
    return logits.softmax(dim=1).amax(dim=1)


def sure_from(confidences: Tensor, share: float) -> float:
    """The probability below which this share of images lies, at most."""
    count = int(share * len(confidences))
    return confidences.sort().values[count].item() if count < len(confidences) else NEVER


def exit_of(plan: Plan, first: float, answers: Answers, budget: float) -> Exit | None:
    """The plan with the exit that spends the budget on these images; None if it does not pay for the first look."""
    if plan.cost <= budget:
        return Exit(plan, first)
    if first >= budget:
        return None
    return Exit(plan, first, sure_from(confidence(answers.once), (budget - first) / (plan.cost - first)))


# --- choosing ----------------------------------------------------------------------------------------------------


def possible(run: Trained, budget: float) -> tuple[Plan, dict[First, float]]:
    """The one look, and what may come before regions with what it costs by itself; a glance knows no class to be sure of."""
    spotlit = run.base.spotlit
    cost, after = spotlit.cost, spotlit.drop.after
    looks = [*firsts(cost, budget, after, glances=True)]
    looks += [look for most in MOST for look in firsts(cost, most * budget, after, glances=False)]
    alone = one_look(cost, budget, after)
    return alone, {
        look: cost.look(cost.side, look.keep, after) + cost.answer() if look.keep else cost.glance(after[0] + 1)
        for look in dict.fromkeys(looks)
    }


def answers_of(run: Trained, seen: Seen, alone: Plan, seed: int) -> tuple[Tensor, dict[Plan, Answers]]:
    """What plans answer on held-out shots, of all halves one behind the other: which shots, and answers by plan."""
    which: list[Tensor] = []
    found: dict[Plan, list[Answers]] = {}
    for out, plan, once, twice in held_out(run.base.head, run.shots, seen, alone, run.texts.t["base"], run.texts.z["base"], seed):  # fmt: skip
        which += [out.nonzero()[:, 0]] if plan == alone else []
        found.setdefault(plan, []).append(Answers(once, twice))
    return torch.cat(which), {plan: Answers.joined(parts) for plan, parts in found.items()}


def choose(exits: Iterable[Exit], answers: dict[Plan, Answers], alone: Plan, which: Tensor, y: Tensor) -> Exit:
    """The least cross-entropy, if it beats the one look by more than a standard error over images; else the one look."""

    def losses(exit_: Exit) -> Tensor:
        logits, _ = answers[exit_.plan].where(exit_.sure)
        total = torch.zeros(len(y)).index_add_(0, which, F.cross_entropy(logits, y[which], reduction="none"))
        return total / torch.zeros(len(y)).index_add_(0, which, torch.ones(len(which))).clamp_min(1)  # (B,)

    by_exit = {exit_: losses(exit_) for exit_ in exits}
    best = min(by_exit, key=lambda exit_: by_exit[exit_].sum().item())
    only = Exit(alone, alone.cost)
    better = losses(only) - by_exit[best]
    return best if better.mean() > SURE * better.std() / len(better) ** 0.5 else only


# --- cells -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def scored(run: Trained, chosen: Exit, table: EncodedImages, classes: Classes) -> tuple[float, float]:
    """Accuracy, and the share of the images that are looked at again."""
    spotlit, head, plan = run.base.spotlit, run.base.head, chosen.plan
    logits, again = [], []
    for images in table.images.split(BATCH):
        first = spotlit.first_look(images)
        once = None if first.f is None else head.logits(first.f, first.v, classes, head.bank)
        if plan.zoom is None:
            answers, sure = Answers(once, once), 0.0
        else:
            regions = spotlit.regions_of(images, first, plan.zoom.count, plan.zoom.width, plan.side)
            second = head.second_logits(regions, classes, head.bank)
            answers, sure = Answers(once, second if once is None else once.lerp(second, plan.zoom.share)), chosen.sure
        out, looked = answers.where(sure)
        logits.append(out)
        again.append(looked)
    return accuracy(torch.cat(logits), table.y), torch.cat(again).double().mean().item()


def measured(root: str, set_name: str, seed: int, budget: float, images: int) -> dict:
    """Accuracies, base and new, of the rows; the plans, and what they cost in the mean over test images."""
    run = trained(root, set_name, seed, images)
    spotlit, shots = run.base.spotlit, run.shots
    alone, looks = possible(run, budget)
    seen = encode_for_plans(spotlit, run.base.shot_batches(pictures=True), list(looks), alone)
    which, answers = answers_of(run, seen, alone, seed)
    by_shape = {(look.keep, look.count, look.side): (look, first) for look, first in looks.items()}
    exits = []
    for plan in answers.keys() - {alone}:
        _, first = by_shape[plan.keep, plan.zoom.count, plan.side]
        exits += [each for each in [exit_of(plan, first, answers[plan], budget)] if each is not None]
    exits.sort()  # a set has no order of its own
    chosen = {
        HEAD: Exit(alone, alone.cost),
        OWN: choose([each for each in exits if each.sure == NEVER], answers, alone, which, shots.y),
        EXIT: choose(exits, answers, alone, which, shots.y),
    }
    accuracies, plans = {}, {}
    for row, exit_ in chosen.items():
        plan = exit_.plan
        run.base.head.plan, run.base.head.zoom = plan, plan.zoom
        again = None
        if plan.zoom is not None:
            regions = seen.regions[by_shape[plan.keep, plan.zoom.count, plan.side][0]]
            again = regions[:, ZOOM_WIDTHS.index(plan.zoom.width)]
        remembered = shots if plan.tokens else Shots(seen.first.get(plan.keep, shots.f), None, shots.y, again)
        classes = run.remember(remembered)
        results = [scored(run, exit_, run.tables[half], classes[half]) for half in ("base", "new")]
        accuracies[row] = [found for found, _ in results]
        shares = [share for _, share in results]
        cost = fmean(exit_.cost(share) for share in shares)
        words = exit_.in_words(spotlit.cost.patch)
        plans[row] = {"words": f"{words}, at {cost:.2f}", "cost": cost, "looked_at_again": shares}
    return {"accuracies": accuracies, "plans": plans}


def run_cell(set_name: str, seed: int, root: str, budget: float, images: int, work: Path) -> str:
    torch.set_num_threads(1)
    begun = time.monotonic()
    with contextlib.redirect_stdout(io.StringIO()):
        cell = measured(root, set_name, seed, budget, images)
    write_json({"set": set_name, "seed": seed, **cell}, str(cell_file(work, set_name, seed)))
    return f"{set_name}, seed {seed}: {time.monotonic() - begun:.0f} s"


# --- the table ---------------------------------------------------------------------------------------------------


def markdown(table: Table, world: int, command: str, images: int, budget: float) -> str:
    crowded = [name for name in table.sets if name in CROWDED]
    lines = [
        f"# Early exit at a budget of {budget:g} (drawing {world} of the world)",
        "",
        f"Embedded world: a test bed, no benchmark. Base-to-new over CoOp, 16 shots, {images} test images a class, seeds "
        f"{', '.join(map(str, table.seeds))}. Cost: in the mean over test images, base and new, zero-shot CLIP's being 1. Differences of H "
        "are paired, ± half of Student's 95% interval over seeds.",
        f"Command: `{command}`.",
        "",
        f"| row | cost | H | H − all tokens | {' | '.join(table.sets)} |",
        "|---" * (4 + len(table.sets)) + "|",
    ]
    for row in table.rows:
        cells = [signed(table.gain(row, HEAD, [name])) for name in table.sets]
        whole = [f"{table.cost(row, table.sets):.2f}", f"{table.mean(row, table.sets):.1f}", signed(table.gain(row, HEAD, table.sets))]  # fmt: skip
        lines.append(f"| {row} | {' | '.join(whole + cells)} |")
    lines += ["", f"With exits against without: {signed(table.gain(EXIT, OWN, table.sets))} of H"]
    lines[-1] += f", on {' and '.join(crowded)} {signed(table.gain(EXIT, OWN, crowded))}." if crowded else "."
    lines += ["", "What held-out shots chose, and at how many seeds:", ""]
    for row in (OWN, EXIT):
        lines.append(f"- {row}: " + " / ".join(f"*{name}* {table.words(row, name)}" for name in table.sets))
    return "\n".join(lines) + "\n"


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.early_exit", description=__doc__.splitlines()[0])
    add_arguments(parser, seeds=[1, 2, 3])
    parser.add_argument("--budget", type=float, default=1.0)
    parser.add_argument("--images", type=int, default=50, help="test images a class")
    parser.add_argument("--name", default="early_exit", help="of the results: <out>/<name>.md and .json")
    parser.add_argument("--out", default=str(ROOT / "output"), help="folder of the table")
    parser.add_argument("--work", default=str(ROOT / "output" / "early_exit"), help="folder of the finished cells")
    return parser.parse_args(argv)


def measure(args: argparse.Namespace, command: str) -> None:
    work, cells = Path(args.work) / args.name, cells_of(args)
    do = partial(run_cell, root=args.root, budget=args.budget, images=args.images, work=work)
    do_missing(do, cells, args.workers, work)
    found = [json.loads(cell_file(work, *cell).read_text()) for cell in cells]
    world = world_of(args.root, args.sets[0])
    text = markdown(Table(found), world, command, args.images, args.budget)
    replace_file(str(Path(args.out) / f"{args.name}.md"), lambda file: file.write(text.encode()))
    content = {"world": world, "command": command, "budget": args.budget, "images": args.images, "cells": found}
    write_json(content, str(Path(args.out) / f"{args.name}.json"))
    print(text)


def main(argv: list[str] | None = None) -> int:
    """Exit code 0; 2 for what the user can mend, in one sentence."""
    argv = sys.argv[1:] if argv is None else argv
    command = f"python -m benchmarks.early_exit {' '.join(argv)}".strip()
    return carry_out(
        lambda: measure(parse_arguments(argv), command), interrupted="the same command goes on where it stopped"
    )


if __name__ == "__main__":
    sys.exit(main())
