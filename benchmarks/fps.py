"""Images per second of zero-shot CLIP, CoOp and Spotlighter, from a normalised batch on the device to the class.

    python -m benchmarks.fps
    python -m benchmarks.fps --device cpu --backbone ViT-B/16 --batch 16 --rounds 5

All rows share one CLIP, its precision and the batch. Every round times every row once, in rotating order, so that
whatever else the machine does falls on all of them; ratios to zero-shot CLIP are taken within a round. What does not
depend on a batch (text features, the bank's classes) is computed beforehand, as in an evaluation, except in the row
that re-creates the field's usual evaluation. ViT-B/16 has random weights: they decide no time.

    B images      n classes      L text tokens      D width      d joint width      N patch tokens      C = n
"""

import argparse
import contextlib
import io
import math
import statistics
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import DeviceType
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

import clip
import dassl.utils
from benchmarks.field import FieldEvaluation
from benchmarks.machine import device_name, result_file, versions
from benchmarks.statistics import quartiles, rotation
from clip.model import CLIP, convert_weights
from dassl.config import get_cfg_default
from trainers.clip_trainer import PromptedCLIP, load_clip, resolve_precision
from trainers.coop import CoOp
from trainers.prompts import DEFAULT_TEMPLATE, ContextLearner
from trainers.spotlighter import ZOOM_WIDTHS, Shots, Spotlighter, SpotlighterOverHost, Zoom, check_keys
from trainers.zsclip import ZeroshotModel

VIT_B_16 = {
    "embed_dim": 512,
    "image_resolution": 224,
    "vision_layers": 12,
    "vision_width": 768,
    "vision_patch_size": 16,
    "context_length": 77,
    "vocab_size": 49408,
    "transformer_width": 512,
    "transformer_heads": 8,
    "transformer_layers": 12,
}
MAIN = "ViT-B/16"  # whose figures are the ones to quote
BACKBONES = (MAIN, "ViT-Embedded/8")
REFERENCE = "zero-shot CLIP"
CONTROL = "CoOp"  # the same work as the reference, so its ratio says how far the others' can be trusted
TRUSTED = 0.03  # how far from 1 it may be
ZOOMS = (1, 3)
ZOOM_WIDTH = 0.5
SHOTS = 2  # synthetic ones a class, to fill the bank
SECONDS = 0.3  # what one timing lasts at least
ADJECTIVES = (
    "red green blue old young small large wild tame bright dark round flat soft hard wooden golden wet striped quiet"
)
NOUNS = (
    "apple bear boat bridge cat chair church clock cloud cup deer dog door dress duck flower fox fish forest glove "
    "guitar hat horse house kite ladder lamp leaf lion mirror mountain owl pear piano plate river road rose sheep "
    "ship shoe snake spoon star table tower train tree violin wheel"
)


class Predictor(NamedTuple):
    name: str
    predict: Callable[[Tensor], Tensor]  # images (B, 3, H, W) -> classes (B,)


# --- the rows ----------------------------------------------------------------------------------------------------


def build_clip(backbone: str, precision: str, device: torch.device) -> CLIP:
    """A frozen CLIP: ViT-B/16 with random weights, or the shipped one."""
    if backbone != MAIN:
        with contextlib.redirect_stdout(io.StringIO()):
            return load_clip(backbone, precision, device)
    model = CLIP(**VIT_B_16)
    if precision == "fp16":
        convert_weights(model)
    elif precision == "bf16":
        model.bfloat16()
    return model.to(device).requires_grad_(False).eval()


def class_names() -> list[str]:
    """A thousand made-up ones."""
    return [f"{adjective} {noun}" for adjective in ADJECTIVES.split() for noun in NOUNS.split()]


class EncodedCoOp(PromptedCLIP):
    """CoOp whose text features (n, d) have been computed: all rows have the same."""

    def __init__(self, clip_model: CLIP, learner: ContextLearner, text: Tensor):
        super().__init__(clip_model, learner)
        self.register_buffer("text", text, persistent=False)

    def text_features(self) -> Tensor:
        return self.text


class CoOpHost:
    """What `SpotlighterOverHost` builds on: CoOp's model alone, without data, and nothing to train."""

    def __init__(self, cfg, coop: EncodedCoOp, classnames: list[str]):
        self.cfg, self.coop, self.device = cfg, coop, coop.text.device
        self.dm = SimpleNamespace(dataset=SimpleNamespace(classnames=classnames))

    def build_model(self):
        self.model = EncodedCoOp(self.coop.clip, self.coop.prompt_learner, self.coop.text)  # with edits of its own

    def register_model(self, *_):
        pass


class SpotlighterOverCoOp(SpotlighterOverHost, CoOpHost):
    """The trainer's own assembly and prediction, over a bank of synthetic shots."""

    def build_model(self):
        with contextlib.redirect_stdout(io.StringIO()):
            super().build_model()
        self.head.eval()

    @torch.no_grad()
    def fill_bank(self, zoom: Zoom | None) -> None:
        """Random unit features in the place of encoded shots: only their number and shape cost time."""
        names, keys = self.dm.dataset.classnames, self.cfg.TRAINER.SPOTLIGHTER
        count, width = SHOTS * len(names), self.zero_shot.shape[1]
        rows = lambda *shape: F.normalize(torch.randn(*shape, width, device=self.device), dim=-1)  # noqa: E731
        labels = torch.arange(count, device=self.device) % len(names)
        again = rows(count, 2, len(ZOOM_WIDTHS), keys.ZOOM) if zoom is not None else None
        self.head.zoom = zoom
        shots = Shots(rows(count), rows(count, 4 * keys.R), labels, again)  # few tokens: the bank holds their means
        self.head.remember(shots, self.model.text_features(), self.zero_shot, names)


def config(backbone: str, keep: float, zoom: int = 0):
    """The project's defaults, with KEEP and ZOOM."""
    cfg = get_cfg_default()
    CoOp.extend_cfg(cfg)
    Spotlighter.extend_cfg(cfg)
    cfg.MODEL.BACKBONE.NAME = backbone
    cfg.TRAINER.SPOTLIGHTER.KEEP, cfg.TRAINER.SPOTLIGHTER.ZOOM = keep, zoom
    check_keys(cfg.TRAINER.SPOTLIGHTER)
    return cfg


@torch.no_grad()
def spotlighter(cfg, coop: EncodedCoOp, names: list[str]) -> tuple[Predictor, SpotlighterOverCoOp]:
    """The row, and the trainer whose prediction it is."""
    keys = cfg.TRAINER.SPOTLIGHTER
    trainer = SpotlighterOverCoOp(cfg, coop, names)
    trainer.build_model()
    trainer.fill_bank(Zoom(map=0, width=ZOOM_WIDTH, count=keys.ZOOM, share=0.5) if keys.ZOOM else None)
    classes = trainer.encode_classes()
    name = spotlighter_name(keys.KEEP) + (f" ZOOM {keys.ZOOM}" if keys.ZOOM else "")
    return Predictor(name, lambda images: trainer.predict(images, classes).argmax(dim=1)), trainer


def spotlighter_name(keep: float) -> str:
    return f"Spotlighter KEEP {keep:g}"


@torch.no_grad()
def build_rows(backbone: str, model: CLIP, names: list[str], keeps: list[float], chosen: float):
    """All rows, the reference first, and the trainer of the chosen one."""
    learner = ContextLearner(model, names, config(backbone, 1.0).TRAINER.COOP).to(model.logit_scale.device)
    learner.requires_grad_(False).eval()
    with contextlib.redirect_stdout(io.StringIO()):
        zero_shot = ZeroshotModel(model, names, [DEFAULT_TEMPLATE])
    coop = EncodedCoOp(model, learner, PromptedCLIP(model, learner).text_features())
    field = FieldEvaluation(model, learner)
    rows = [
        Predictor(REFERENCE, lambda images: zero_shot(images, zero_shot.text).argmax(dim=1)),
        Predictor(CONTROL, lambda images: coop(images, coop.text).argmax(dim=1)),
        Predictor("CoOp, the field's evaluation", lambda images: field(images).argmax(dim=1)),
    ]
    trainers = {}
    for keep, zoom in [(keep, 0) for keep in keeps] + [(chosen, zoom) for zoom in ZOOMS]:
        row, trainers[keep, zoom] = spotlighter(config(backbone, keep, zoom), coop, names)
        rows.append(row)
    return rows, trainers[chosen, 0]


# --- counting ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def count_flops(predict: Callable[[Tensor], Tensor], images: Tensor) -> float:
    """Floating-point operations per image of all matrix products and convolutions; nothing is computed for it.

    A fused attention counts as the two products that it replaces.
    """
    counter = FlopCounterMode(display=False)
    with FakeTensorMode(allow_non_fake_inputs=True), counter, sdpa_kernel(SDPBackend.MATH):
        predict(torch.empty_like(images))
    return counter.get_total_flops() / len(images)


def square_product(device: torch.device, dtype: torch.dtype) -> tuple[Predictor, float]:
    """A large square matrix product as a row, and its operations: the rate that the device attains at best."""
    size = 8192 if device.type == "cuda" else 2048
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return Predictor("square matrix product", lambda _: left @ right), 2.0 * size**3


# --- timing ------------------------------------------------------------------------------------------------------


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Timing(NamedTuple):
    seconds: float  # of one batch
    cpu: float  # seconds of all processor threads: what other programs on the machine add little to
    issue: float  # share of it until the host had issued all work; near 1 on a GPU means that the host is the limit


@torch.no_grad()
def time_row(row: Predictor, images: Tensor, repeats: int) -> Timing:
    synchronise(images.device)
    start, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        row.predict(images)
    issued = time.perf_counter()
    synchronise(images.device)
    end = time.perf_counter()
    return Timing((end - start) / repeats, (time.process_time() - cpu) / repeats, (issued - start) / (end - start))


def interleave(rows: list[Predictor], images: Tensor, rounds: int, least: float, show=print) -> list[list[Timing]]:
    """Timings [row][round]; a warm-up of each row says how often to repeat it."""
    repeats = []
    for row in rows:
        seconds = time_row(row, images, 1).seconds
        if seconds < least:  # what is done once, such as choosing kernels, may be most of it
            seconds = time_row(row, images, 1).seconds
        repeats.append(max(1, math.ceil(least / seconds)))
    timings = [[] for _ in rows]
    for round_ in range(rounds):
        start = time.perf_counter()
        for index in rotation(len(rows), round_):
            timings[index].append(time_row(rows[index], images, repeats[index]))
        show(f"round {round_ + 1} of {rounds}: {time.perf_counter() - start:.1f} s")
    return timings


# --- profile -----------------------------------------------------------------------------------------------------

PARTS = (
    "patch embedding",
    "blocks before the drop",
    "drop",
    "blocks after the drop",
    "projection of tokens",
    "prediction",
)
KINDS = {  # what a kernel's own time is put down to, by its name; the first that matches
    "attention": ("scaled_dot_product", "flash", "efficient_attention"),
    "convolution": ("conv",),
    "matrix products": ("addmm", "::mm", "bmm", "matmul", "linear"),
    "layer norm": ("layer_norm",),
    "choosing tokens": ("topk", "sort", "gather", "scatter", "index", "masked_fill"),
    "copies": ("copy_", "cat", "clone", "contiguous"),
    "elementwise": ("aten::mul", "aten::add", "aten::sub", "aten::div", "sigmoid", "clamp"),
}


class Parts:
    """Marks where one part of a prediction ends and the next begins, by hooks on the image encoder's modules.

    Between the marked parts nothing is left out, so their times add up to the whole.
    """

    def __init__(self, visual: nn.Module, after: tuple[int, ...], drops: bool):
        self.visual, self.after, self.drops, self.open = visual, after, drops, None

    def enter(self, part: str | None) -> None:
        if self.open is not None:
            self.open.__exit__(None, None, None)
        self.open = record_function(part) if part else None
        if self.open is not None:
            self.open.__enter__()

    @contextlib.contextmanager
    def marked(self):
        """While this lasts every prediction opens the parts in their order."""
        blocks = self.visual.transformer.resblocks
        first, _, later, last = PARTS[1], PARTS[2], PARTS[3], len(blocks) - 1
        hooks = [self.visual.register_forward_pre_hook(lambda *_: self.enter(PARTS[0]))]
        for i, block in enumerate(blocks):
            name = first if i <= self.after[0] else later
            hooks.append(block.register_forward_pre_hook(lambda *_, name=name: self.enter(name)))
            if i in self.after and self.drops:
                hooks.append(block.register_forward_hook(lambda *_: self.enter(PARTS[2])))
            if i == last:
                hooks.append(block.register_forward_hook(lambda *_: self.enter(PARTS[4])))
        hooks.append(self.visual.register_forward_hook(lambda *_: self.enter(PARTS[5])))
        try:
            yield
        finally:
            self.enter(None)
            for hook in hooks:
                hook.remove()


@torch.no_grad()
def profile_row(
    row: Predictor, images: Tensor, visual: nn.Module, after: tuple[int, ...], drops: bool, repeats: int = 2
):
    """{"parts": ..., "kinds": ...}: milliseconds per image, and shares, of a prediction's parts and of kernels."""
    cuda = images.device.type == "cuda"
    parts = Parts(visual, after, drops)
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * cuda
    with parts.marked(), profile(activities=activities) as recorded:
        for _ in range(repeats):
            row.predict(images)
            parts.enter(None)
        synchronise(images.device)
    scale = 1e-3 / (repeats * len(images))  # microseconds of all batches -> milliseconds of an image
    total, kinds = dict.fromkeys(PARTS, 0.0), {}
    for event in recorded.events():
        if event.device_type == DeviceType.CPU and event.name in total:  # the host's range, with the kernels it issued
            total[event.name] += scale * (event.device_time_total if cuda else event.cpu_time_total)
    for event in recorded.key_averages():
        if event.key.startswith("aten::"):
            kind = next((kind for kind, names in KINDS.items() if any(name in event.key for name in names)), "other")
            kinds[kind] = kinds.get(kind, 0.0) + scale * (
                event.self_device_time_total if cuda else event.self_cpu_time_total
            )
    return {"parts": with_shares(total), "kinds": with_shares(dict(sorted(kinds.items(), key=lambda x: -x[1])))}


def with_shares(times: dict[str, float]) -> dict[str, dict[str, float]]:
    whole = sum(times.values()) or 1.0
    return {name: {"ms_per_image": value, "share": value / whole} for name, value in times.items()}


# --- one backbone at one batch size -------------------------------------------------------------------------------


def summarise(rows: list[Predictor], timings: list[list[Timing]], batch: int, flops: list[float], attainable: float):
    """A record of each row; ratios and differences to the reference, the first row, are taken round by round."""
    rates = [[batch / timing.seconds for timing in own] for own in timings]
    records = []
    for row, own, times, work in zip(rows, rates, timings, flops, strict=True):
        ratios = [a / b for a, b in zip(own, rates[0], strict=True)]
        speed = statistics.median(own)
        records.append(
            {
                "name": row.name,
                "images_per_second": speed,
                "ratio_to_clip": statistics.median(ratios),
                "ratio_iqr": list(quartiles(ratios)),
                "extra_images_per_second": statistics.median(a - b for a, b in zip(own, rates[0], strict=True)),
                "gflops_per_image": work / 1e9,
                "ratio_by_flops": flops[0] / work,
                "share_of_attainable": work * speed / attainable,
                "ratio_by_cpu_time": statistics.median(b.cpu / a.cpu for a, b in zip(times, timings[0], strict=True)),
                "issue_share": statistics.median(timing.issue for timing in times),
            }
        )
    return records


def measure(rows, trainer, chosen: str, images: Tensor, rounds: int, least: float) -> dict:
    """One record: all rows at one batch, images (B, 3, H, W), and the profiles of the reference and the chosen row."""
    product, work = square_product(images.device, trainer.model.clip.dtype)
    *timings, products = interleave([*rows, product], images, rounds, least)
    attainable = work / statistics.median(timing.seconds for timing in products)
    flops = [count_flops(row.predict, images) for row in rows]
    drop = trainer.head.drop
    after = drop.after if drop is not None else tuple(b - 1 for b in trainer.cfg.TRAINER.SPOTLIGHTER.DROP_AFTER)
    visual = trainer.model.clip.visual
    profiles = {
        row.name: profile_row(row, images, visual, after, row.name == chosen and drop is not None)
        for row in rows
        if row.name in (REFERENCE, chosen)
    }
    return {
        "batch": len(images),
        "attainable_gflops_per_second": attainable / 1e9,
        "rows": summarise(rows, timings, len(images), flops, attainable),
        "profile": profiles,
    }


# --- showing -----------------------------------------------------------------------------------------------------


def show_rows(record: dict, device: torch.device) -> None:
    title = f"{record['backbone']}, batch {record['batch']}, {record['classes']} classes, {record['precision']}"
    print(f"\n{title}; a square matrix product attains {record['attainable_gflops_per_second']:,.0f} GFLOP/s")
    gpu = device.type == "cuda"
    host = f"{'issued' if gpu else 'by CPU time':>13}"
    print(
        f"{'':<30}{'images/s':>10}{'to CLIP':>9}{'quartiles':>15}{'by FLOPs':>10}{'GFLOP/image':>13}{'attained':>10}"
        f"{host}"
    )
    for row in record["rows"]:
        low, high = row["ratio_iqr"]
        host = f"{row['issue_share']:>13.0%}" if gpu else f"{row['ratio_by_cpu_time']:>13.3f}"
        print(
            f"{row['name']:<30}{row['images_per_second']:>10,.1f}{row['ratio_to_clip']:>9.3f}"
            f"{f'{low:.3f}-{high:.3f}':>15}{row['ratio_by_flops']:>10.3f}{row['gflops_per_image']:>13.2f}"
            f"{row['share_of_attainable']:>10.0%}{host}"
        )
    control = next(row["ratio_to_clip"] for row in record["rows"] if row["name"] == CONTROL)
    if abs(control - 1) > TRUSTED:
        print(f"{CONTROL} does {REFERENCE}'s work and came out at {control:.3f}: the machine was busy, measure again")
    if gpu:
        print("issued: share of the time until the host had issued all work; near 100% the host is the limit")


def show_profile(profiles: dict) -> None:
    names = list(profiles)
    for table in ("parts", "kinds"):
        labels = list(dict.fromkeys(label for name in names for label in profiles[name][table]))
        print(f"\n{'ms per image (share), by ' + table:<34}" + "".join(f"{name:>26}" for name in names))
        for label in labels:
            cells = (profiles[name][table].get(label, {"ms_per_image": 0.0, "share": 0.0}) for name in names)
            print(f"{label:<34}" + "".join(f"{cell['ms_per_image']:>18.3f} ({cell['share']:>4.0%})" for cell in cells))


# --- command -----------------------------------------------------------------------------------------------------


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fps", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    add("--backbone", nargs="+", default=list(BACKBONES), help=f"of {', '.join(BACKBONES)}")
    add("--precision", default="auto", help="auto (fp32 on a CPU, bf16 on a GPU), fp32, bf16 or fp16")
    add("--batch", nargs="+", type=int, help="batch sizes (default: 16 on a CPU; 64 128 256 512 on a GPU)")
    add("--classes", type=int, default=100, help="number of made-up class names")
    add("--keep", nargs="+", type=float, default=[0.75, 0.6, 0.5], help="shares of patch tokens; 1 is always measured")
    add("--chosen", type=float, default=0.6, help="the KEEP that the figures are about")
    add("--rounds", type=int, help="how often every row is timed (default: 5 on a CPU, 20 on a GPU)")
    add("--seconds", type=float, default=SECONDS, help="what one timing lasts at least")
    add("--out", help="the JSON file (default: benchmarks/results/fps_<device>.json)")
    return parser.parse_args(argv)


def check(args: argparse.Namespace) -> None:
    """Refuse what cannot be measured, and fill in what depends on the device."""
    try:
        device = torch.device(args.device)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise clip.InputError(f"--device is {args.device!r}: choose cpu or cuda.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise clip.InputError(f"--device {args.device} asks for a GPU that PyTorch does not find here: choose cpu.")
    unknown = [name for name in args.backbone if name not in BACKBONES]
    if unknown:
        raise clip.InputError(f"--backbone {unknown[0]!r} is unknown: choose of {', '.join(BACKBONES)}.")
    for keep in [*args.keep, args.chosen]:
        if not 0 < keep <= 1:
            raise clip.InputError(f"KEEP {keep:g} is no share of the tokens: it must be above 0 and at most 1.")
    if args.precision not in ("auto", "fp32", "bf16", "fp16"):
        raise clip.InputError(f"--precision is {args.precision!r}: choose auto, fp32, bf16 or fp16.")
    if not 1 <= args.classes <= len(class_names()):
        raise clip.InputError(f"--classes is {args.classes}: it must be from 1 to {len(class_names())}.")
    gpu = device.type == "cuda"
    args.batch = args.batch or ([64, 128, 256, 512] if gpu else [16])
    args.rounds = (20 if gpu else 5) if args.rounds is None else args.rounds
    if min(args.batch) < 1 or args.rounds < 1:
        raise clip.InputError("--batch and --rounds must be at least 1.")
    auto = "bf16" if gpu and args.precision == "auto" else args.precision
    args.precision = resolve_precision(auto, device)
    args.device = device
    args.keep = sorted({1.0, *args.keep, args.chosen}, reverse=True)
    args.out = args.out or result_file("fps", device)


def main_figures(runs: list[dict], chosen: str, device: torch.device) -> dict:
    """The figures to quote: of ViT-B/16 where measured, at the batch size at which zero-shot CLIP is fastest."""
    of_main = [run for run in runs if run["backbone"] == MAIN] or runs
    run = max(of_main, key=lambda run: run["rows"][0]["images_per_second"])
    row = next(row for row in run["rows"] if row["name"] == chosen)
    return {
        f"speedup_over_clip_{'gpu' if device.type == 'cuda' else 'cpu'}": row["ratio_to_clip"],
        "extra_images_per_second": row["extra_images_per_second"],
        "speedup_by_flops": row["ratio_by_flops"],
        "control_ratio": next(row["ratio_to_clip"] for row in run["rows"] if row["name"] == CONTROL),
        "figures_from": {"backbone": run["backbone"], "batch": run["batch"], "row": chosen},
        "rows": run["rows"],
        "profile": run["profile"],
    }


def run(args: argparse.Namespace, command: list[str]) -> dict:
    check(args)
    torch.manual_seed(0)
    device, chosen, names, runs = args.device, spotlighter_name(args.chosen), class_names()[: args.classes], []
    for backbone in dict.fromkeys(args.backbone):
        print(f"\n{backbone}: building the rows", flush=True)
        model = build_clip(backbone, args.precision, device)
        rows, trainer = build_rows(backbone, model, names, args.keep, args.chosen)
        side = model.visual.input_resolution
        for batch in args.batch:
            print(f"{backbone}, batch {batch}: warming up", flush=True)
            images = torch.randn(batch, 3, side, side, device=device)  # a normalised batch
            record = measure(rows, trainer, chosen, images, args.rounds, args.seconds)
            facts = {"backbone": backbone, "precision": args.precision, "classes": args.classes}
            runs.append({**facts, **record})
            show_rows(runs[-1], device)
            show_profile(runs[-1]["profile"])
    result = {
        "versions": versions(cuda=torch.version.cuda if device.type == "cuda" else None),
        "device": device_name(device),
        "cpu_threads": torch.get_num_threads(),
        "precision": args.precision,
        "batch": args.batch,
        "classes": args.classes,
        "chosen_keep": args.chosen,
        "rounds": args.rounds,
        "command": " ".join(["python -m benchmarks.fps", *command]),
        **main_figures(runs, chosen, device),
        "runs": runs,
    }
    dassl.utils.write_json(result, args.out)
    return result


def main(argv: list[str] | None = None) -> int:
    """Exit code 0; 2 for what the user can mend, in one sentence."""
    command = sys.argv[1:] if argv is None else argv
    args = parse_arguments(argv)
    try:
        result = run(args, command)
    except (clip.InputError, dassl.utils.InputError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    source = result["figures_from"]
    speedup = next(value for name, value in result.items() if name.startswith("speedup_over_clip"))
    print(
        f"\n{source['row']} on {source['backbone']}, batch {source['batch']}: {speedup:.3f} times zero-shot CLIP, "
        f"{result['extra_images_per_second']:+,.1f} images/s. Results: {args.out}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
