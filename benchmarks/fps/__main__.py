"""python -m benchmarks.fps: measure, print, write the record."""

import argparse
import sys

import torch

from benchmarks import fps
from benchmarks.machine import device_name, result_file, versions
from dassl.utils import InputError, write_json
from one_run.command import carry_out
from trainers.shared.prompted_clip import resolve_precision

from .measure import measure
from .predictors import BACKBONES, MAIN, build_clip, build_rows, class_names, spotlighter_name
from .show import control_of, show_figures, show_profile, show_rows

SECONDS = 0.3  # what one timing lasts at least


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fps", description=fps.__doc__.splitlines()[0])
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
        raise InputError(f"--device is {args.device!r}: choose cpu or cuda.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"--device {args.device} asks for a GPU that PyTorch does not find here: choose cpu.")
    unknown = [name for name in args.backbone if name not in BACKBONES]
    if unknown:
        raise InputError(f"--backbone {unknown[0]!r} is unknown: choose of {', '.join(BACKBONES)}.")
    for keep in [*args.keep, args.chosen]:
        if not 0 < keep <= 1:
            raise InputError(f"KEEP {keep:g} is no share of the tokens: it must be above 0 and at most 1.")
    if args.precision not in ("auto", "fp32", "bf16", "fp16"):
        raise InputError(f"--precision is {args.precision!r}: choose auto, fp32, bf16 or fp16.")
    if not 1 <= args.classes <= len(class_names()):
        raise InputError(f"--classes is {args.classes}: it must be from 1 to {len(class_names())}.")
    gpu = device.type == "cuda"
    args.batch = args.batch or ([64, 128, 256, 512] if gpu else [16])
    args.rounds = (20 if gpu else 5) if args.rounds is None else args.rounds
    if min(args.batch) < 1 or args.rounds < 1:
        raise InputError("--batch and --rounds must be at least 1.")
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
        "control_ratio": control_of(run["rows"]),
        "figures_from": {"backbone": run["backbone"], "batch": run["batch"], "row": chosen},
        "rows": run["rows"],
        "profile": run["profile"],
    }


def run(args: argparse.Namespace, command: list[str]) -> None:
    check(args)
    torch.manual_seed(0)
    device, chosen, names, runs = args.device, spotlighter_name(args.chosen), class_names()[: args.classes], []
    for backbone in dict.fromkeys(args.backbone):
        print(f"\n{backbone}: building the rows", flush=True)
        model = build_clip(backbone, args.precision, device)
        rows, spotlit = build_rows(backbone, model, names, args.keep, args.chosen)
        side = model.visual.input_resolution
        for batch in args.batch:
            print(f"{backbone}, batch {batch}: warming up", flush=True)
            images = torch.randn(batch, 3, side, side, device=device)  # a normalised batch
            record = measure(rows, spotlit, chosen, images, args.rounds, args.seconds)
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
    write_json(result, args.out)
    show_figures(result, args.out)


def main(argv: list[str] | None = None) -> int:
    """Exit code 0; 2 for what the user can mend, in one sentence."""
    command = sys.argv[1:] if argv is None else argv
    return carry_out(lambda: run(parse_arguments(command), command))


if __name__ == "__main__":
    sys.exit(main())
