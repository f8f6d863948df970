"""What a budget of arithmetic buys: H against the cost of an image, beside controls at the same cost, on the embedded sets.

    python -m datasets.embedded --root data
    python -m benchmarks.budgets --root data                            # half an hour on two cores; goes on where it stopped
    python -m datasets.embedded --root data-5 --world 5
    python -m benchmarks.budgets --root data-5 --name budgets_world5 --budgets 1    # to confirm, once

Every plan is chosen as a run chooses it, on shots of the base classes. A control is the same with other regions or tokens, and
chooses its plan among them for itself: regions at random, in the centre, or on the object (the oracle), and tokens dropped at
random. A cell is one set at one seed; H is taken in each, then averaged. The embedded world is a test bed.
"""

import argparse
import contextlib
import io
import json
import math
import sys
import time
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import matplotlib
import torch

from benchmarks.ablation.encoded import BATCH, EncodedImages, train_host
from benchmarks.ablation.rows import Texts, accuracy, fitted, tables_of, texts_of
from benchmarks.embedded import CROWDED, add_arguments, cell_file, cells_of, do_missing, folder_of, trainer_on, world_of
from benchmarks.machine import RESULTS, check_not_smaller
from benchmarks.statistics import paired_interval, signed
from dassl.utils import replace_file, write_json
from one_run.command import carry_out
from one_run.layout import ROOT
from reports.cells import harmonic_mean
from trainers.spotlighter.bank import Bank, Shots, remember
from trainers.spotlighter.centred import Centred
from trainers.spotlighter.choice import spend
from trainers.spotlighter.classes import Classes
from trainers.spotlighter.over_host import SpotlighterOverHost
from trainers.spotlighter.plan import one_look

BUDGETS = (0.6, 1.0, 1.5, 2.6)
HEAD = "all tokens, one look"  # Spotlighter without a budget, which the others are compared with
CONTROLS = {"random regions": "random", "centre": "centre", "oracle": "oracle", "random tokens": "own"}
FREE = {"regions by the head": "head", "regions by the bank": "bank"}  # tried, and not kept: `map_by`
REFERENCES = {
    "KEEP 0.6": "KEEP 0.6",
    "ZOOM 3": "Spotlighter, ZOOM 3",
}  # here -> in the ablation of the same world, if it is there


def own(budget: float) -> str:
    return f"budget {budget:g}"


def control(name: str, budget: float) -> str:
    return f"budget {budget:g}, {name}"


# --- cells -------------------------------------------------------------------------------------------------------


class Known(NamedTuple):
    """What the head knows once it has seen all shots at all tokens."""

    bank: Bank
    classes: dict[str, Classes]  # of either half


@torch.no_grad()
def map_by(how: str, head, f: torch.Tensor, v: torch.Tensor, known: Known, half: str) -> torch.Tensor:
    """(B, G * G) where the head's activation is, or where the prototypes of the two likeliest classes disagree most, of a whole look
    with all its tokens (B, d), (B, G * G, d), for which no budget is charged.
    """
    bank, classes = known.bank, known.classes[half]
    if how == "head":
        return head.explain(f, v, classes, bank.image_mean, bank.token_mean).activation
    two = head.believe(f, classes, bank.image_mean).most[:, :2]  # (B, 2)
    nearest = Centred(v, bank.token_mean, head.scalars.g_v).nearest(classes.prototypes, two)  # (B, 2, G * G)
    return (nearest[:, 0] - nearest[:, 1]).abs()


class Looking:
    """A trainer's looks at tables of images, with the regions of a control where one is named."""

    def __init__(self, trainer, how: str, random_tokens: bool, known: Known | None = None):
        self.spotlit, self.how, self.known = trainer.spotlit, how, known
        self.spotlit.drop.by = "random" if random_tokens else trainer.own.SCORE
        self.place: torch.Tensor | None = None
        look_first = type(self.spotlit).look_first

        def placed(images, keep, mapped=True):
            first = look_first(self.spotlit, images, keep, mapped)
            return first if self.place is None else first._replace(maps=self.place[:, None])

        self.spotlit.look_first = placed  # type: ignore[method-assign]

    def batches(self, table: EncodedImages, half: str = "base"):
        activation = None if self.how in ("own", *FREE.values()) else table.activation(self.how)
        for rows in torch.arange(len(table.y)).split(BATCH):
            images = table.images[rows]
            self.place = None if activation is None else activation[rows]
            if self.how in FREE.values():
                with torch.no_grad():
                    whole = self.spotlit.model.image_features(images, tokens=True)
                self.place = map_by(self.how, self.spotlit.head, *whole, self.known, half)
            yield images, table.y[rows]

    @torch.no_grad()
    def accuracy(self, table: EncodedImages, classes, half: str) -> float:
        logits = [
            self.spotlit.answer(images, self.spotlit.first_look(images), classes)
            for images, _ in self.batches(table, half)
        ]
        return accuracy(torch.cat(logits), table.y)


def build(root: str, set_name: str, seed: int, half: str):
    options = ["DATASET.NUM_SHOTS", 16, "DATASET.SUBSAMPLE_CLASSES", half, "TRAINER.SPOTLIGHTER.BUDGET", 1.0]
    return trainer_on(root, set_name, seed, "Spotlighter", options)


class Trained(NamedTuple):
    """A trainer with its host and scalars, and no plan yet, and what its looks are scored on."""

    base: SpotlighterOverHost
    tables: dict[str, EncodedImages]  # "train", "base" and "new"
    shots: Shots
    texts: Texts

    def remember(self, seen: Shots) -> dict[str, Classes]:
        """The head remembers the shots; the classes of either half."""
        head, texts = self.base.head, self.texts
        remember(head, seen, texts.t["base"], texts.z["base"], texts.names["base"])
        return {half: head.describe(texts.t[half], texts.z[half], texts.names[half]) for half in ("base", "new")}


def trained(root: str, set_name: str, seed: int, images: int) -> Trained:
    base, new = (build(root, set_name, seed, half) for half in ("base", "new"))
    tables = tables_of(base, new, folder_of(root, set_name).resolve(), images)
    spotlit, head, train = base.spotlit, base.head, tables["train"]
    with torch.no_grad():
        whole = [spotlit.first_look(some) for some in train.images.split(BATCH)]
    train.f, train.v = torch.cat([first.f for first in whole]), torch.cat([first.v for first in whole])
    for table in tables.values():  # controls ask how many patches there are
        table.maps = torch.zeros(len(table.y), 1, train.v.shape[1])
    shots = Shots(train.f, train.v, train.y)
    train_host(base, train)
    texts = texts_of(base, new)
    head.load_state_dict(fitted(base, shots, texts, seed).state_dict() | {k: v for k, v in head.state_dict().items() if k.startswith("drop.")}, strict=False)  # fmt: skip
    base.shot_batches = lambda pictures=False: zip(train.images.split(BATCH), train.y.split(BATCH), strict=True)
    base.survey_shots()
    head.plan = head.zoom = None
    return Trained(base, tables, shots, texts)


def measured(root: str, set_name: str, seed: int, budgets: list[float], controls: list[str], images: int) -> dict:
    """Accuracies, base and new, of all rows, and the plans that were chosen."""
    run = trained(root, set_name, seed, images)
    base, tables, shots, texts = run
    spotlit, head, train = base.spotlit, base.head, tables["train"]
    t, z = texts.t["base"], texts.z["base"]

    def answers(looking: Looking, seen: Shots) -> list[float]:
        described = run.remember(seen)
        return [looking.accuracy(tables[half], described[half], half) for half in ("base", "new")]

    def spent(budget: float, how: str = "own", random_tokens: bool = False):
        looking = Looking(base, how, random_tokens, known)
        head.plan = head.zoom = None
        begun = time.process_time()
        seen = spend(spotlit, budget, shots, looking.batches(train), t, z, seed)
        taken = time.process_time() - begun
        plan = {"words": head.plan.in_words(spotlit.cost.patch), "cost": head.plan.cost, "cpu_seconds": taken}
        return answers(looking, seen), plan

    accuracies = {HEAD: answers(Looking(base, "own", False), shots)}
    plans = {HEAD: {"words": HEAD, "cost": one_look(spotlit.cost, 1.0, spotlit.drop.after).cost}}
    classes = run.remember(shots)
    known = Known(head.bank, classes)
    for budget in budgets:
        accuracies[own(budget)], plans[own(budget)] = spent(budget)
    for name in controls:
        how = (CONTROLS | FREE)[name]
        if 1.0 in budgets and (how != "oracle" or train.boxes is not None):
            row = control(name, 1.0)
            accuracies[row], plans[row] = spent(1.0, how, random_tokens=name == "random tokens")
    return {"accuracies": accuracies, "plans": plans}


def run_cell(
    set_name: str, seed: int, root: str, budgets: list[float], controls: list[str], images: int, work: Path
) -> str:
    torch.set_num_threads(1)
    begun = time.monotonic()
    with contextlib.redirect_stdout(io.StringIO()):
        cell = measured(root, set_name, seed, budgets, controls, images)
    write_json({"set": set_name, "seed": seed, **cell}, str(cell_file(work, set_name, seed)))
    return f"{set_name}, seed {seed}: {time.monotonic() - begun:.0f} s"


# --- the table ---------------------------------------------------------------------------------------------------


class Table:
    """Accuracies by set, seed and row; a row is of the sets and seeds that all have it."""

    def __init__(self, cells: list[dict], references: dict[tuple[str, int], dict] | None = None):
        self.cells = {(cell["set"], cell["seed"]): dict(cell["accuracies"]) for cell in cells}
        self.plans = {(cell["set"], cell["seed"]): cell["plans"] for cell in cells}
        for key, rows in (references or {}).items():
            if key in self.cells:
                self.cells[key] |= rows
        self.seeds = sorted({seed for _, seed in self.cells})
        self.sets = list(dict.fromkeys(name for name, _ in self.cells))
        self.rows = list(dict.fromkeys(row for rows in self.cells.values() for row in rows))

    def sets_of(self, row: str) -> list[str]:
        return [name for name in self.sets if all(row in self.cells.get((name, seed), ()) for seed in self.seeds)]

    def h(self, row: str, sets: list[str], seed: int) -> float:
        return fmean(harmonic_mean(*self.cells[name, seed][row]) for name in sets)

    def mean(self, row: str, sets: list[str]) -> float:
        return fmean(self.h(row, sets, seed) for seed in self.seeds)

    def gain(self, row: str, other: str, sets: list[str]) -> tuple[float, float]:
        """H minus another row's, paired by set and seed: mean, and half of Student's interval over seeds."""
        return paired_interval([self.h(row, sets, seed) - self.h(other, sets, seed) for seed in self.seeds])

    def cost(self, row: str, sets: list[str]) -> float | None:
        found = [self.plans[name, seed].get(row, {}).get("cost") for name in sets for seed in self.seeds]
        return None if None in found else fmean(found)

    def words(self, row: str, name: str) -> str:
        """The plans of a set, each with how many seeds chose it."""
        chosen = [self.plans[name, seed][row]["words"].rpartition(", at ")[0] for seed in self.seeds]
        return "; ".join(f"{plan} ({chosen.count(plan)})" for plan in dict.fromkeys(chosen))


def markdown(table: Table, world: int, command: str, images: int) -> str:
    lines = [
        f"# What a budget buys (drawing {world} of the world)",
        "",
        f"Embedded world: a test bed, no benchmark. Base-to-new over CoOp, 16 shots, {images} test images a class, seeds "
        f"{', '.join(map(str, table.seeds))}. Cost: multiplications of an image, zero-shot CLIP's on the same backbone being 1. H is "
        "taken in each set and seed, then averaged; differences are paired, ± half of Student's 95% interval over seeds. "
        "KEEP 0.6 and ZOOM 3 are the ablation's runs on the same images and seeds, with hosts of their own.",
        f"Command: `{command}`.",
        "",
        "| row | cost | H | H − all tokens | " + " | ".join(table.sets) + " |",
        "|---" * (4 + len(table.sets)) + "|",
    ]
    for row in table.rows:
        sets = table.sets_of(row)
        if not sets:
            continue
        cost, mark = table.cost(row, sets), "" if sets == table.sets else f" ({', '.join(sets)})"
        gains = [
            "" if row == HEAD or name not in sets else signed(table.gain(row, HEAD, [name])) for name in table.sets
        ]
        whole = "" if row == HEAD else signed(table.gain(row, HEAD, sets))
        lines.append(
            f"| {row}{mark} | {'' if cost is None else f'{cost:.2f}'} | {table.mean(row, sets):.1f} | {whole} | {' | '.join(gains)} |"
        )
    lines += ["", "What held-out shots chose, and at how many seeds:", ""]
    for row in (row for row in table.rows if row.startswith("budget") and "," not in row):
        lines += [f"- {row}: " + " / ".join(f"*{name}* {table.words(row, name)}" for name in table.sets)]
    return "\n".join(lines) + "\n"


def as_json(table: Table, cells: list[dict], world: int, command: str) -> dict:
    crowded = [name for name in table.sets if name in CROWDED]
    found: dict = {"world": world, "command": command, "rows": {}}
    for row in table.rows:
        if sets := table.sets_of(row):
            gain, half = table.gain(row, HEAD, sets)
            found["rows"][row] = {
                "sets": sets,
                "cost": table.cost(row, sets),
                "h": table.mean(row, sets),
                "gain": gain,
                "half": None if math.isnan(half) else half,
            }
    if crowded and control("oracle", 1.0) in table.rows:
        won = {
            row: table.gain(row, HEAD, crowded)[0]
            for row in (own(1.0), *(control(name, 1.0) for name in CONTROLS | FREE))
            if row in table.rows
        }
        found["clutter_and_small"] = won | {"share_of_the_oracles": won[own(1.0)] / won[control("oracle", 1.0)]}
    return found | {"cells": cells}


def draw(table: Table, path: Path) -> None:
    """H against cost: own plans as a line, controls as points."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.2), dpi=150)
    rows = [row for row in table.rows if row.startswith("budget") and "," not in row]
    points = sorted((table.cost(row, table.sets), table.mean(row, table.sets)) for row in rows)
    axes.plot(*zip(*points, strict=True), "o-", color="#d62728", label="budget: chosen by held-out shots", zorder=3)
    axes.axhline(table.mean(HEAD, table.sets), color="#1f77b4", lw=1)
    axes.plot(
        table.cost(HEAD, table.sets), table.mean(HEAD, table.sets), "s", color="#1f77b4", label="all tokens, one look"
    )
    for marker, name in zip("vx^DPs", CONTROLS | FREE, strict=True):
        row = control(name, 1.0)
        if table.sets_of(row) == table.sets:
            axes.plot(table.cost(row, table.sets), table.mean(row, table.sets), marker, label=f"budget 1, {name}")
    axes.set(xlabel="cost of an image (zero-shot CLIP = 1)", ylabel="H, mean over sets and seeds")
    axes.set_title(
        f"Embedded world: a test bed ({len(table.sets)} sets, seeds {table.seeds[0]}-{table.seeds[-1]})", fontsize=10
    )
    axes.legend(fontsize=8)
    figure.tight_layout()
    replace_file(str(path), lambda file: figure.savefig(file, format="png"))
    pyplot.close(figure)


def references_of(world: int) -> dict[tuple[str, int], dict]:
    """Rows of the ablation of the same world, on the same images, with a host of their own."""
    path = RESULTS / ("ablation.json" if world == 0 else f"ablation_world{world}.json")
    if not path.is_file():
        return {}
    found = {}
    for cell in json.loads(path.read_text())["cells"]:
        rows = next(iter(cell["accuracies"].values()))
        found[cell["set"], cell["seed"]] = {here: rows[there] for here, there in REFERENCES.items() if there in rows}
    return found


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.budgets", description=__doc__.splitlines()[0])
    add_arguments(parser, seeds=[1, 2, 3, 4, 5])
    parser.add_argument("--budgets", nargs="+", type=float, default=list(BUDGETS), help="(0.6 1 1.5 2.6)")
    parser.add_argument(
        "--controls",
        nargs="+",
        choices=[*CONTROLS, *FREE],
        default=list(CONTROLS),
        metavar="CONTROL",
        help=f"some of: {', '.join(CONTROLS)}, and, with a map that is had for nothing, {', '.join(FREE)}",
    )
    parser.add_argument("--images", type=int, default=50, help="test images a class")
    parser.add_argument("--name", default="budgets", help="of the results: <out>/<name>.md, .json and .png")
    parser.add_argument("--out", default=str(RESULTS), help="folder of the table")
    parser.add_argument("--work", default=str(ROOT / "output" / "budgets"), help="folder of the finished cells")
    return parser.parse_args(argv)


def measure(args: argparse.Namespace, command: str) -> None:
    work, cells = Path(args.work) / args.name, cells_of(args)
    remedy = "give the new table another --name or --out"
    rows = [HEAD, *REFERENCES, *map(own, args.budgets)]
    rows += [control(name, 1.0) for name in args.controls if 1.0 in args.budgets]
    check_not_smaller(Path(args.out) / f"{args.name}.json", remedy, sets=args.sets, seeds=args.seeds, rows=rows)
    do = partial(run_cell, root=args.root, budgets=args.budgets, controls=args.controls, images=args.images, work=work)
    do_missing(do, cells, args.workers, work)
    found = [json.loads(cell_file(work, *cell).read_text()) for cell in cells]
    world = world_of(args.root, args.sets[0])
    table, out = Table(found, references_of(world)), Path(args.out)
    text = markdown(table, world, command, args.images)
    replace_file(str(out / f"{args.name}.md"), lambda file: file.write(text.encode()))
    write_json(as_json(table, found, world, command), str(out / f"{args.name}.json"))
    draw(table, out / f"{args.name}.png")
    print(text)


def main(argv: list[str] | None = None) -> int:
    """Exit code 0; 2 for what the user can mend, in one sentence."""
    argv = sys.argv[1:] if argv is None else argv
    command = f"python -m benchmarks.budgets {' '.join(argv)}".strip()
    return carry_out(
        lambda: measure(parse_arguments(argv), command), interrupted="the same command goes on where it stopped"
    )


if __name__ == "__main__":
    sys.exit(main())
