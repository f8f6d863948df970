"""Write the data sets of the embedded world: python -m datasets.embedded --root data [--sets species shapes]

All of them (528 MB) take about a minute on two cores. A set is written whole or not at all; one that is there stays.
"""

import argparse
import os
import signal
import sys
from concurrent.futures import Future, ProcessPoolExecutor, as_completed

from dassl.utils import InputError
from one_run.arguments import add_data_root
from one_run.command import carry_out
from one_run.interrupts import take

from .sets import PREFIX, SETS, write_set


def whole_number(at_least: int):
    """An argument type: refuses what is below `at_least` in argparse's one sentence."""

    def integer(text: str) -> int:
        if int(text) < at_least:
            raise argparse.ArgumentTypeError(f"{text} is too small: give {at_least} or more")
        return int(text)

    return integer


def set_name(text: str) -> str:
    """`species`, or as its config and its folder are called: `embedded_species`."""
    return text.removeprefix(PREFIX)


def main() -> int:
    return carry_out(write_asked, interrupted="a set is whole or not there, and the same command writes the others")


def write_asked() -> None:
    parser = argparse.ArgumentParser(prog="python -m datasets.embedded", description=__doc__.splitlines()[0])
    add_data_root(parser)
    parser.add_argument(
        "--sets",
        nargs="+",
        type=set_name,
        choices=sorted(SETS),
        default=list(SETS),
        metavar="SET",
        help=f"some of {', '.join(SETS)} (default: all), each also as its config is called: embedded_species",
    )
    parser.add_argument(
        "--world", type=whole_number(0), default=0, help="another number draws other pictures of the same classes"
    )
    parser.add_argument("--workers", type=whole_number(1), default=os.cpu_count(), help="processes")
    args = parser.parse_args()
    try:
        os.makedirs(args.root, exist_ok=True)
    except OSError as error:
        parser.error(f"The data root {args.root} cannot be made ({error.strerror}): pass another --root FOLDER.")
    write_sets(list(dict.fromkeys(args.sets)), args.root, args.world, args.workers)


def write_sets(names: list[str], root: str, world: int, workers: int) -> None:
    ignoring = dict(initializer=take, initargs=(signal.SIG_IGN,))
    with ProcessPoolExecutor(min(workers, len(names)), **ignoring) as pool:
        try:
            for done in as_completed([pool.submit(write_set, name, root, world) for name in names]):
                print(written(done), flush=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # those at work are waited for
            raise


def written(done: Future) -> str:
    try:
        return done.result()
    except OSError as error:  # a folder that cannot be written, a full disk
        raise InputError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
