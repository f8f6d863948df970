"""What Spotlighter's fit costs as classes grow: memory and processor time, on random features in the place of shots.

    python -m benchmarks.fit
    python -m benchmarks.fit --classes 250 500 --parts bank step
    python -m benchmarks.fit --quick

Each number of classes has a process of its own, so its peak of memory is its own: what the process holds beyond PyTorch
and the imports, the shots' features included, before any CLIP is there. Seconds are of all processor threads, which
other programs on the machine disturb less than the clock. A prediction is timed behind ViT-B/16 with random weights.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.fps.predictors import MAIN, VIT_B_16, build_clip
from benchmarks.on_cpu import apart, peak, write_record
from dassl.utils import InputError
from one_run.command import carry_out
from trainers.spotlighter.bank import Shots, remember
from trainers.spotlighter.fit import FIT_STEPS, carrying_over, fit_scalars, flushed, half_of_each_class, held_out_loss
from trainers.spotlighter.head import SpotlighterHead
from trainers.spotlighter.tokens import Tokens

PARTS = ("bank", "step", "fit", "prediction")
UNSEEN, PULL = 0.25, 1.0  # the config's
SCALE = 100.0  # CLIP's
BATCH = 8  # images of a prediction
QUICK = ["--classes", "20", "--shots", "4", "--width", "512", "--tokens", "16", "--rounds", "1"]


def features(count: int, around: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Unit rows (B, count, d) around others (B, d), off the origin as CLIP's are."""
    random = torch.randn(len(around), count, around.shape[1], generator=generator).div_(around.shape[1] ** 0.5)
    return F.normalize(random.mul_(noise).add_(around[:, None] + 0.5 * around.shape[1] ** -0.5), dim=-1)


def make_shots(args: argparse.Namespace, classes: int) -> tuple[Shots, Tensor, Tensor]:
    """Shots, and the host's and the zero-shot texts (C, d) of their classes."""
    generator = torch.Generator().manual_seed(0)
    t, z = (F.normalize(torch.randn(classes, args.width, generator=generator), dim=-1) for _ in range(2))
    y = torch.arange(classes).repeat(args.shots)
    f = features(1, t[y], noise=2.0, generator=generator)[:, 0]
    tokens = Tokens.room_for(len(y), like=torch.empty(args.tokens, args.width))
    for rows in torch.arange(len(y)).split(100):
        tokens.table[rows] = features(args.tokens, f[rows], noise=1.0, generator=generator).to(tokens.table.dtype)
    return Shots(f, tokens, y), t, F.normalize(t + 0.5 * z, dim=-1)


def cpu_seconds(what: Callable[[], object], rounds: int = 1) -> float:
    """The median of some rounds."""
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        what()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


def measure(args: argparse.Namespace, classes: int) -> dict:
    """The record of one number of classes."""
    torch.set_num_threads(args.threads)
    torch.ones(500, 500) @ torch.ones(500, 500)  # threads and their memory are PyTorch's
    before = peak()
    shots, t, z = make_shots(args, classes)
    names = [str(number) for number in range(classes)]
    head = SpotlighterHead(SCALE)
    record = {"classes": classes, "shots": args.shots, "width": args.width, "tokens": args.tokens}
    record["mib_of_the_shots"] = peak() - before

    def step() -> None:
        memory = half_of_each_class(shots.y, torch.Generator().manual_seed(0))
        with flushed(shots.y.device):
            held_out_loss(head, shots[memory], shots[~memory], t, z).backward()

    def unseen_step() -> None:
        memory = half_of_each_class(shots.y, torch.Generator().manual_seed(0))
        with flushed(shots.y.device):
            carrying_over(head, shots[memory], shots[~memory], t, z, torch.arange(classes) % 2 == 1).backward()

    def whole() -> None:
        fitted = SpotlighterHead(SCALE)
        fit_scalars(fitted, shots, t, z, 1, pull=PULL, levels=0.0, unseen=UNSEEN)
        remember(fitted, shots, t, z, names)

    if "step" in args.parts:
        step_seconds = cpu_seconds(step, args.rounds)
        unseen_seconds = cpu_seconds(unseen_step, args.rounds)
        record |= {"cpu_seconds_of_a_step": step_seconds, "cpu_seconds_of_leaving_classes_out": unseen_seconds}
        record["cpu_seconds_of_all_steps_at_this_rate"] = FIT_STEPS * (step_seconds + UNSEEN * unseen_seconds)
    if "fit" in args.parts:
        record["cpu_seconds_of_the_fit"] = cpu_seconds(whole)
    if {"bank", "prediction"} & set(args.parts):
        record["cpu_seconds_of_the_bank"] = cpu_seconds(lambda: remember(head, shots, t, z, names))
    record["peak_mib"] = peak() - before
    if "prediction" in args.parts:
        del shots
        record |= prediction(head, t, z, names, args.rounds)
    return record


@torch.no_grad()
def prediction(head: SpotlighterHead, t: Tensor, z: Tensor, names: list[str], rounds: int) -> dict:
    """What the head adds to zero-shot CLIP's prediction: the share of processor time, round by round."""
    visual = build_clip(MAIN, "fp32", torch.device("cpu"))
    images, classes = torch.randn(BATCH, 3, 224, 224), head.describe(t, z, names)

    def zero_shot() -> None:
        SCALE * F.normalize(visual.encode_image(images, []), dim=-1) @ z.t()

    def spotlighter() -> None:
        f, v = visual.encode_image(images, [], tokens=True)
        head(F.normalize(f, dim=-1), F.normalize(v, dim=-1), classes)

    f, v = (F.normalize(x, dim=-1) for x in visual.encode_image(images, [], tokens=True))
    zero_shot(), spotlighter()
    ratios, alone = [], cpu_seconds(lambda: head(f, v, classes), 10)
    for _ in range(rounds):
        ratios.append(cpu_seconds(spotlighter, 3) / cpu_seconds(zero_shot, 3))
    return {
        "prediction_to_zero_shot": statistics.median(ratios),
        "cpu_seconds_of_the_head_for_an_image": alone / BATCH,
        "cpu_seconds_of_zero_shot_for_an_image": cpu_seconds(zero_shot, rounds) / BATCH,
    }


def run(args: argparse.Namespace, command: list[str]) -> None:
    if min(args.classes) < 2 or args.shots < 2 or args.tokens < 5 or min(args.width, args.rounds, args.threads) < 1:
        raise InputError(
            "--classes and --shots must be at least 2, --tokens at least 5, --width, --rounds and --threads at least 1."
        )
    if "prediction" in args.parts and args.width != VIT_B_16["embed_dim"]:
        raise InputError("--width must be 512, ViT-B/16's, for --parts prediction.")
    runs = []
    for classes in args.classes:
        runs.append(apart(measure, args, classes))
        print("\n".join(f"{name:<45}{value:10,.4g}" for name, value in runs[-1].items()), end="\n\n", flush=True)
    write_record("fit", command, args.out, threads=args.threads, steps=FIT_STEPS, runs=runs)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fit", description=__doc__.splitlines()[0])
    parser.add_argument("--classes", nargs="+", type=int, default=[250, 500, 1000], help="numbers of classes")
    parser.add_argument("--shots", type=int, default=16, help="images a class")
    parser.add_argument("--width", type=int, default=512, help="of the joint space")
    parser.add_argument("--tokens", type=int, default=196, help="patch tokens an image")
    parser.add_argument(
        "--threads", type=int, default=1, help="of PyTorch: one wastes no seconds on waiting for others"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what is measured")
    parser.add_argument("--rounds", type=int, default=3, help="how often a step and a prediction are timed")
    parser.add_argument("--quick", action="store_true", help="a small size, to see that it works")
    parser.add_argument("--out", help="the JSON file (default: benchmarks/results/fit_cpu.json)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Exit code 0; 2 for what the user can mend, in one sentence."""
    command = sys.argv[1:] if argv is None else argv
    args = parser().parse_args([*QUICK, *command] if "--quick" in command else command)
    return carry_out(lambda: run(args, command))


if __name__ == "__main__":
    sys.exit(main())
