"""Many runs: methods x data sets x shots x seeds of one protocol, on this machine, on Ray or on SLURM.

    python -m sweep --methods CoOp Spotlighter Spotlighter:vit_b16_maple --datasets all11 --seeds 1 2 3
    python -m sweep --methods CoOp PromptKD --datasets embedded --protocol fewshot --shots 1 2 4 8 16 --dry-run

It can be stopped and started again at any time: what has finished, as its results.json says, is not done again. A run
that fails does not stop the others; it is listed at the end, with its last lines. Exit code: 0 if all is finished, 1 if
not, 2 for what the user can mend; when stopped 130 (Ctrl-C), 143 (SIGTERM) or 129 (SIGHUP).
"""

import argparse
import os
import sys

from dassl.errors import InputError
from dassl.utils import check_folder
from one_run.arguments import add_data_root
from one_run.command import Stopped, carry_out
from one_run.layout import GROUPS, PROTOCOLS, ROOT

from .on_local import run_locally, slots_of
from .on_ray import run_on_ray
from .on_slurm import run_on_slurm, sbatch_options
from .progress import Progress
from .protocols import (
    Run,
    Setting,
    absolute,
    check_name,
    find_datasets,
    find_method,
    plan,
    whole_number,
)

PLACES = ("local", "ray", "slurm")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sweep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what, where = parser.add_argument_group("which runs"), parser.add_argument_group("where")
    what.add_argument(
        "--methods",
        nargs="*",
        default=[],
        metavar="NAME",
        help="METHOD or METHOD:CFG (configs/trainers/METHOD/CFG.yaml)",
    )
    what.add_argument(
        "--datasets", nargs="*", default=[], metavar="NAME", help=f"data sets, or groups: {', '.join(GROUPS)}"
    )
    what.add_argument("--seeds", nargs="*", default=["1", "2", "3"], metavar="N", help="(1 2 3)")
    what.add_argument("--shots", nargs="*", default=["16"], metavar="N", help="training images a class (16)")
    what.add_argument("--protocol", default="base2new", help=f"{', '.join(PROTOCOLS)} (base2new)")
    what.add_argument(
        "--source", default="", help="what xd and dg train on (imagenet; embedded_shapes for embedded sets)"
    )
    what.add_argument("--teacher", default="", metavar="CFG", help="config of the teachers of methods that have one")
    what.add_argument("--set", nargs="*", default=[], metavar="KEY VALUE", help="config keys, for all runs")
    add_data_root(what)
    what.add_argument(
        "--output",
        default=os.environ.get("OUTPUT") or str(ROOT / "output"),
        help="folder of the runs (the environment variable OUTPUT, else output)",
    )
    what.add_argument("--dry-run", action="store_true", help="print the plan and what of it is finished, do nothing")
    where.add_argument("--on", default="local", help=f"{', '.join(PLACES)} (local)")
    where.add_argument("--threads", metavar="N", help="cores of a run (local: the machine's, shared out; else 4)")
    where.add_argument(
        "--devices", nargs="*", default=[], help="local: cpu, or numbers of GPUs (all there are, or cpu)"
    )
    where.add_argument(
        "--per-device",
        default="1",
        metavar="N",
        help="local: runs at a time on each device, all cores of a CPU being one (1)",
    )
    where.add_argument("--gpus", type=float, default=1, help="ray, slurm: GPUs of a run (1; 0: none; ray: 0.5 too)")
    where.add_argument("--address", default="auto", help="ray: of the cluster")
    where.add_argument("--minutes", default="240", metavar="N", help="slurm: the time limit of an array's element")
    where.add_argument("--slurm", nargs="*", default=[], metavar="NAME=VALUE", help="slurm: more options of sbatch")
    return parser.parse_args(argv)


def planned(args: argparse.Namespace) -> list[Run]:
    for name in ("methods", "datasets", "seeds", "shots"):
        if not getattr(args, name):
            raise InputError(f"--{name} is empty: name at least one.")
    methods = list(dict.fromkeys(find_method(text) for text in args.methods))
    seeds = dict.fromkeys(whole_number(text, "--seeds", 0) for text in args.seeds)
    shots = dict.fromkeys(whole_number(text, "--shots", 1) for text in args.shots)
    data, output, options = absolute(args.root), absolute(args.output), tuple(args.set)
    check_folder("--output", output)
    setting = Setting(data, output, options, teacher_options=options, teacher_config=args.teacher, source=args.source)
    return plan(args.protocol, methods, find_datasets(args.datasets), list(shots), list(seeds), setting)


def is_finished(run: Run, finished: set[Run], data: dict) -> bool:
    """As train.py itself would find. An unknown key, and another finished run in this folder, are errors here already.

    data: what the runs before this one have found of their images, where these are on this machine.
    """
    from one_run.config import config_of
    from one_run.identity import identity_before
    from one_run.record import RunRecord
    from one_run.work import weights_to_test

    request = run.request
    cfg = config_of(request)
    if run.after is not None and run.after not in finished:
        return False  # a test's weights are not there yet
    weights = weights_to_test(cfg, str(request.model_dir)) if request.model_dir else None
    looked_at = (lambda: identity_before(cfg, data, trains=weights is None)) if request.root.is_dir() else None
    return RunRecord(cfg, weights).already_finished(looked_at) is not None


def gpus_here() -> int:
    import torch

    return torch.cuda.device_count()


def show(runs: list[Run], finished: set[Run]) -> None:
    for run in runs:
        print(f"{'finished' if run in finished else 'to do':<8}  {run.label}")


def sweep(args: argparse.Namespace) -> int:
    check_name(args.on, PLACES, "place")
    runs = planned(args)
    finished: set[Run] = set()
    data: dict = {}
    for run in runs:
        if is_finished(run, finished, data):
            finished.add(run)
    if args.dry_run:
        show(runs, finished)
    print(f"{len(runs)} runs: {len(finished)} finished before, {len(runs) - len(finished)} to do.", flush=True)
    if args.dry_run or len(finished) == len(runs):
        return 0
    progress = Progress(runs, finished)
    threads = args.threads and whole_number(args.threads, "--threads", 1)
    try:
        if args.on == "local":
            per_device = whole_number(args.per_device, "--per-device", 1)
            run_locally(progress, slots_of(args.devices, per_device, threads, gpus_here()))
        elif args.on == "ray":
            run_on_ray(progress, args.address, args.gpus, threads or 4)
        else:
            folder, minutes = absolute(args.output) / "slurm", whole_number(args.minutes, "--minutes", 1)
            run_on_slurm(progress, folder, int(args.gpus), threads or 4, minutes, sbatch_options(args.slurm))
    except KeyboardInterrupt as stop:
        counts = f"{progress.count('finished')} of {len(runs)} runs are finished"
        raise Stopped(f"Stopped, {counts}; start again to go on.") from stop
    return progress.conclude()


def main(argv: list[str] | None = None) -> int:
    return carry_out(lambda: sweep(parse_arguments(argv)), interrupted="nothing was begun; start again to go on")


if __name__ == "__main__":
    sys.exit(main())
