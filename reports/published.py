"""The published figures, and which of them may stand beside runs of ours."""

import csv
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean

from one_run.layout import is_embedded

from .cells import harmonic_mean
from .protocols import AVERAGE
from .result import Result, ResultError

FILE = Path(__file__).with_name("published_base2new_vitb16_16shot.csv")
SHOTS, BACKBONE = 16, "ViT-B/16"
SOURCE = "Gao et al., Findings of EMNLP 2025"


def published() -> list[Result]:
    """The published figures, as printed: base, new and H, and the rows `average`."""
    lines = [line for line in FILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return [
        Result(
            f"{line['method']} (published)", line["dataset"], SHOTS, -1, part, float(line[column]),
            backbone=BACKBONE, published=True, transductive="PromptKD" in line["method"],
        )
        for line in csv.DictReader(lines)
        for part, column in (("base", "base"), ("new", "new"), ("H", "hm"))
    ]  # fmt: skip


def beside(results: list[Result]) -> list[Result]:
    """The published figures that may stand beside these results; the average if they are on just its sets."""
    figures = published()
    all_sets = {figure.dataset for figure in figures} - {AVERAGE}
    ours = {result.dataset for result in results if result.shots == SHOTS and not is_embedded(result.dataset)}
    if not ours & all_sets:
        why = (
            "the embedded sets are a test bed, whose figures are never set beside published ones"
            if all(is_embedded(result.dataset) for result in results)
            else f"they are of {SHOTS} shots on {', '.join(sorted(all_sets))}, and none of these runs is"
        )
        raise ResultError(f"No published figures stand beside these runs: {why}. Leave out --against.")
    wanted = ours & all_sets | ({AVERAGE} if ours == all_sets else set())
    return [figure for figure in figures if figure.dataset in wanted]


def contradictions(results: Iterable[Result]) -> list[tuple[str, str, str, float, float]]:
    """Published (method, set, part, figure as printed, as computed from the others), where they differ by over 0.01."""
    figures: dict = defaultdict(lambda: defaultdict(dict))
    for result in results:
        if result.published:
            figures[result.method][result.dataset][result.part] = result.value
    found = []
    for method, sets in figures.items():
        for dataset, printed in sets.items():
            computed = {"H": harmonic_mean(printed["base"], printed["new"])}
            if dataset == AVERAGE:
                computed |= {
                    part: fmean(sets[name][part] for name in sets if name != AVERAGE) for part in ("base", "new")
                }
            found += [
                (method, dataset, part, printed[part], value)
                for part, value in computed.items()
                if abs(round(value, 2) - printed[part]) > 0.0101
            ]
    return found
