"""Many inputs of each kind, and a table of what became of them.

    make fuzz                                     12,000 inputs
    make fuzz SEED=7 BUDGET=100000                inputs, over all kinds
    make fuzz SEED=7 BUDGET=600s                  seconds
    python -m tests.fuzz --seed 7 --kinds configs --first 123 --budget 1      one of them again, with its traceback

Exit code: 0, or 1 where an input ended in a traceback, a hang, a silent wrong number or no sentence.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from .harness import HEAD, SECONDS, inputs, quiet, run, seconds
from .kinds import KINDS

SHOWN = 5  # of a kind's inputs that ended badly


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", default="12000", help="inputs, or seconds as 600s, over all kinds")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--first", type=int, default=0, help="number of the first input of each kind")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_arguments(argv)
    share = float(args.budget.removesuffix("s")) / len(args.kinds)
    print(f"seed {args.seed}; an input may take {SECONDS} s of processor time\n{HEAD}", flush=True)
    bad = {}
    for name in args.kinds:
        with tempfile.TemporaryDirectory() as folder:
            enough = seconds(share) if args.budget.endswith("s") else inputs(round(share))
            with quiet():
                kind = KINDS[name](Path(folder))
            tally = run(kind, args.seed, enough, args.first)
        print(tally.row, flush=True)
        bad[name] = tally.bad
    for name, endings in bad.items():
        for number, ending, why in endings[:SHOWN]:
            print(f"\n{name} {number}: {ending}\n{why}")
    return 1 if any(bad.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
