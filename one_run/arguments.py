"""Arguments that several commands share. No PyTorch here."""

import argparse
import os


def add_data_root(parser: argparse._ActionsContainer) -> None:
    """`--root`, `--data` and the environment variable DATA are one thing; it becomes `root`."""
    parser.add_argument(
        "--root",
        "--data",
        metavar="FOLDER",
        default=os.environ.get("DATA") or "data",
        help="data root: the folder that holds the data sets (default: the environment variable DATA, else data)",
    )
