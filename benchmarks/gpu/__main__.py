"""python -m benchmarks.gpu: all parts, one after the other; JSON and Markdown are written as cells are done."""

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks import gpu
from benchmarks.machine import device_name, result_file, versions
from dassl.utils import InputError, replace_file, write_json
from one_run.command import carry_out

from .cells import Settings, is_failure
from .parts import PARTS, network_forbidden, prepare, records
from .show import goals, is_try, line, markdown

FOUND_FAULTS = 1  # the exit code, if an error came, numbers are too far from the CPU's, or equal runs differ


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=gpu.__doc__.splitlines()[0])
    add = parser.add_argument
    add("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: only to see that it works")
    add("--quick", action="store_true", help="a small size, to see that it works")
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    add("--no-network", action="store_true", help="forbid every download; none is needed")
    add("--seconds", type=float, help="what one timing lasts at least (default: 0.2; 0 with --quick)")
    add("--rounds", type=int, help="how often each is timed (default: 10; 1 with --quick)")
    add("--budget", type=float, default=400.0, help="seconds after which no further cell begins")
    add("--out", help="the JSON file; the Markdown goes beside it (default: benchmarks/results/gpu_<name>.json)")
    return parser


def settings_of(args: argparse.Namespace, folder: str) -> Settings:
    """Refuse what cannot be measured."""
    use_cuda = args.device == "cuda"
    if use_cuda and not torch.cuda.is_available():
        raise InputError("PyTorch finds no GPU here: add --device cpu --quick to see whether this command works.")
    seconds = (0.0 if args.quick else 0.2) if args.seconds is None else args.seconds
    rounds = (1 if args.quick else 10) if args.rounds is None else args.rounds
    if seconds < 0 or rounds < 1 or args.budget <= 0:
        raise InputError("--seconds must be at least 0, --rounds at least 1, --budget above 0.")
    return Settings(folder, use_cuda, args.quick, seconds, rounds, time.time() + args.budget, args.no_network)


def driver() -> str | None:
    """The version of NVIDIA's driver, which PyTorch does not tell."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.split()
        return said[0] if said else None
    return None


def about(settings: Settings, command: list[str]) -> dict:
    """What a reader has to know of the machine and the command."""
    return {
        **versions(),
        "device": device_name(torch.device("cuda" if settings.use_cuda else "cpu")),
        "on_gpu": settings.use_cuda,
        "quick": settings.quick,
        "driver": driver() if settings.use_cuda else None,
        "cuda": torch.version.cuda if settings.use_cuda else None,
        "cpu_threads": torch.get_num_threads(),
        "command": " ".join(["python -m benchmarks.gpu", *command]),
        "seconds": 0,
        "goals": [],
        "parts": {},
    }


def run(args: argparse.Namespace, command: list[str]) -> int:
    with contextlib.ExitStack() as stack:
        if args.no_network:
            stack.enter_context(network_forbidden())
        settings = settings_of(args, stack.enter_context(tempfile.TemporaryDirectory()))
        out = args.out or result_file("gpu", settings.device, settings.quick)
        result = about(settings, command)
        measure(args.parts, settings, result, out)
    for goal in result["goals"]:
        reached = {True: "reached", False: "not reached", None: "not measured"}[goal["reached"]]
        print(f"{goal['goal']}: {reached}" + (f", {goal['measured']:,.2f}" if goal["measured"] is not None else ""))
    if is_try(result):
        print("A try of the command itself: the goals are those of a GPU, at full size.")
    faults = [record for part in result["parts"].values() for record in part if is_failure(record)]
    print(f"{len(faults)} faults, {result['seconds']} s. Results: {out}, {Path(out).with_suffix('.md')}")
    return FOUND_FAULTS if faults else 0


def measure(names: list[str], settings: Settings, result: dict, out: str) -> None:
    """All parts, into the result, which is written whenever a cell is done."""
    started = time.time()
    prepare(settings)
    for part in names:
        print(f"\n{part}", flush=True)
        result["parts"][part] = []
        for record in records(part, settings):
            print(f"{record['cell']} ({record.get('seconds', 0):.1f} s): {line(record)}", flush=True)
            result["parts"][part].append(record)
            result |= {"seconds": round(time.time() - started)}
            result |= {"goals": [] if is_try(result) else goals(result["parts"])}
            write(result, out)
    write(result, out)


def write(result: dict, out: str) -> None:
    write_json(result, out)
    page = markdown(result).encode()
    replace_file(str(Path(out).with_suffix(".md")), lambda file: file.write(page))


def main(argv: list[str] | None = None) -> int:
    """Exit code 0; 1 where faults were found; 2 for what the user can mend, in one sentence."""
    command = sys.argv[1:] if argv is None else argv
    return carry_out(lambda: run(parser().parse_args(command), command))


if __name__ == "__main__":
    sys.exit(main())
