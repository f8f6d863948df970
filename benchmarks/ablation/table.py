"""Cells -> means and gains, the tables in markdown, and the figures that other programs ask for."""

import json
from pathlib import Path
from statistics import fmean

from benchmarks.embedded import CROWDED, FIRST_FIVE, SETS, cell_file
from benchmarks.statistics import paired_interval, signed
from reports.cells import harmonic_mean

from .groups import FITS
from .rows import HOSTS, MAIN, UNTRAINED

SHOWN = (  # set by set; the first two are what the others are compared with
    "zero-shot CLIP", "host alone", "Spotlighter", "KEEP 0.6", "Spotlighter, ZOOM 1", "Spotlighter, ZOOM 3",
    "KEEP 0.6, ZOOM 3",
)  # fmt: skip
FORMS = {  # the names that the JSON file gives to the forms of the method
    "spotlighter": "Spotlighter",
    "spotlighter_fast": "KEEP 0.6",
    "spotlighter_zoom": "Spotlighter, ZOOM 3",
    "spotlighter_fast_zoom": "KEEP 0.6, ZOOM 3",
}


def read_cells(folder: Path, sets, seeds) -> list[dict]:
    """Those that are done."""
    paths = [cell_file(folder, name, seed) for name in sets for seed in seeds]
    return [json.loads(path.read_text()) for path in paths if path.is_file()]


def harmonic(pair) -> float:
    return harmonic_mean(*pair)


class Ablation:
    """The cells of an ablation: accuracies by host, row, set and seed."""

    def __init__(self, cells: list[dict]):
        self.content = cells
        self.cells = {(cell["set"], cell["seed"]): cell["accuracies"] for cell in cells}
        self.sets = [name for name in SETS if any(key[0] == name for key in self.cells)]
        self.seeds = sorted({seed for _, seed in self.cells})

    def rows(self, host: str) -> list[str]:
        return list(dict.fromkeys(row for cell in self.cells.values() for row in cell[host]))

    def seeds_of(self, host: str, row: str) -> list[int]:
        """The seeds at which some set has the row."""
        return [seed for seed in self.seeds if any(row in self.cells[name, seed][host] for name in self.sets)]

    def sets_of(self, host: str, row: str, sets) -> list[str]:
        """Those of the sets that have the row at every one of these seeds (an oracle must know where the object is)."""
        seeds = self.seeds_of(host, row)
        return [name for name in sets if all(row in self.cells[name, seed][host] for seed in seeds)]

    def mean(self, host: str, row: str, sets) -> list[float]:
        """Base, new and H, in percent: H of each cell, averaged over sets and seeds."""
        pairs = [self.cells[name, seed][host][row] for name in sets for seed in self.seeds_of(host, row)]
        return [fmean(p[0] for p in pairs), fmean(p[1] for p in pairs), fmean(map(harmonic, pairs))]

    def gain(self, host: str, row: str, other: str, sets, of=harmonic) -> tuple[float, float]:
        """The row's H minus another's, paired by set and seed: mean, and half its interval over seeds."""
        cell = lambda name, seed, which: of(self.cells[name, seed][host][which])  # noqa: E731
        seeds = self.seeds_of(host, row)
        return paired_interval([fmean(cell(name, s, row) - cell(name, s, other) for name in sets) for s in seeds])

    def choices(self) -> dict[str, str]:
        """What held-out shots chose for the second look: row -> the different choices of each set, in a line."""
        found: dict = {}
        for cell in self.content:
            for row, zoom in cell["choices"].items():
                chosen = "none" if zoom is None else "/".join(map(str, zoom))
                found.setdefault(row, {}).setdefault(cell["set"], []).append(chosen)
        return {
            row: "; ".join(f"{name}: {', '.join(dict.fromkeys(chosen))}" for name, chosen in by_set.items())
            for row, by_set in found.items()
        }


# --- markdown ----------------------------------------------------------------------------------------------------


def markdown(ablation: Ablation, world: int, command: str, images: int) -> str:
    lines = [
        f"# Which parts of Spotlighter earn their place (drawing {world} of the world)",
        "",
        f"Embedded world: a test bed, no benchmark. Base-to-new, 16 shots, {images} test images a class, "
        f"{len(ablation.sets)} sets, seeds {', '.join(map(str, ablation.seeds))}. H is taken in each set and seed, then "
        "averaged; ± is half of Student's 95% interval over the seeds' paired differences (between seeds, not worlds).",
        f"Command: `{command}`.",
    ]
    for host in HOSTS:
        if all(host in cell for cell in ablation.cells.values()):
            lines += ["", f"## {host}", "", *host_table(ablation, host)]
    if UNTRAINED in ablation.rows(MAIN):
        lines += ["", f"## With tau_b fitted on classes left out of the bank ({MAIN})", "", *table_of_fits(ablation)]
    lines += ["", f"## Set by set ({MAIN}): base/new H, and H − host", "", *table_by_set(ablation)]
    if choices := ablation.choices():
        lines += ["", "## What held-out shots chose for the second look", ""]
        lines += [
            "(map 0: attention of the block after the first possible drop, 1: of all blocks from there on; width; regions; share)",
            "",
        ]
        lines += [f"- {row}: {chosen}" for row, chosen in choices.items()]
    return "\n".join(lines) + "\n"


def host_table(ablation: Ablation, host: str) -> list[str]:
    lines = ["| row | base | new | H | H − host | H − host, first five | H − host, clutter and small |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for row in ablation.rows(host):
        sets, seeds = ablation.sets_of(host, row, ablation.sets), ablation.seeds_of(host, row)
        base, new, h = ablation.mean(host, row, sets)
        gains = []
        for group in (sets, [s for s in sets if s in FIRST_FIVE], [s for s in sets if s in CROWDED]):
            gains.append(signed(ablation.gain(host, row, "host alone", group)) if group else "")
        mark = "" if sets == ablation.sets else f" ({', '.join(sets)})"
        mark += "" if seeds == ablation.seeds else f" (seeds {', '.join(map(str, seeds))})"
        lines.append(f"| {row}{mark} | {base:.1f} | {new:.1f} | {h:.1f} | {' | '.join(gains)} |")
    return lines


def table_of_fits(ablation: Ablation) -> list[str]:
    """Each fit against the one that leaves no class out; to hundredths, as there is little between them."""
    hundredths = "{:+.2f} ± {:.2f}".format
    lines = [f"| row, minus that with {UNTRAINED} | base | new | H |", "|---|---|---|---|"]
    for row in (row for row in FITS if row in ablation.rows(MAIN) and row != UNTRAINED):
        halves = (lambda pair: pair[0], lambda pair: pair[1], harmonic)
        gains = [hundredths(*ablation.gain(MAIN, row, UNTRAINED, ablation.sets, of=of)) for of in halves]
        lines.append(f"| {row} | {' | '.join(gains)} |")
    return lines


def table_by_set(ablation: Ablation) -> list[str]:
    shown = [row for row in SHOWN if row in ablation.rows(MAIN)]
    lines = ["| set | " + " | ".join(shown) + " |", "|---" * (len(shown) + 1) + "|"]
    for name in ablation.sets:
        texts = []
        for row in shown:
            base, new, h = ablation.mean(MAIN, row, [name])
            gain = "" if row in SHOWN[:2] else f" ({signed(ablation.gain(MAIN, row, 'host alone', [name]))})"
            texts.append(f"{base:.1f}/{new:.1f} {h:.1f}{gain}")
        lines.append(f"| {name} | {' | '.join(texts)} |")
    return lines


# --- JSON --------------------------------------------------------------------------------------------------------


def as_json(ablation: Ablation, world: int, command: str) -> dict:
    forms = summary(ablation)
    return {
        "world": world,
        "sets": ablation.sets,
        "seeds": ablation.seeds,
        "command": command,
        **forms["spotlighter"]["mean"],
        "forms": forms,
        "cells": ablation.content,
    }


def summary(ablation: Ablation) -> dict:
    """The figures of each form of the method, on average and set by set; what selecting regions is worth."""
    groups = {"mean": ablation.sets, **{name: [name] for name in ablation.sets}}
    found = {
        form: {group: figures(ablation, row, sets) for group, sets in groups.items()}
        for form, row in FORMS.items()
        if row in ablation.rows(MAIN)
    }
    crowded = [name for name in ablation.sets if name in CROWDED]
    return found | (
        {"selection_on_clutter_and_small": selection(ablation, crowded)}
        if crowded and FORMS["spotlighter_zoom"] in ablation.rows(MAIN)
        else {}
    )


def figures(ablation: Ablation, row: str, sets) -> dict:
    base, new, h = ablation.mean(MAIN, row, sets)
    result = {"base": base, "new": new, "h": h}
    for name, gain, half in (
        ("h_gain_over_coop", *ablation.gain(MAIN, row, "host alone", sets)),
        ("h_gain_over_zeroshot", *ablation.gain(MAIN, row, "zero-shot CLIP", sets)),
        ("new_gain_over_zeroshot", *ablation.gain(MAIN, row, "zero-shot CLIP", sets, of=lambda pair: pair[1])),
    ):
        result |= {name: gain, f"{name}_interval": [gain - half, gain + half]}
    return result


def selection(ablation: Ablation, crowded: list[str]) -> dict:
    """H of the second look minus that of the controls, on the sets where what surrounds the object matters."""
    own, none, rows, found = "Spotlighter, ZOOM 3", "Spotlighter", ablation.rows(MAIN), {}
    for how in ("random regions", "centre region", "oracle region"):
        if f"ZOOM, {how}" in rows:
            found[f"h_gain_over_{how.replace(' ', '_')}"] = ablation.gain(MAIN, own, f"ZOOM, {how}", crowded)
    found["h_gain_over_no_zoom"] = won = ablation.gain(MAIN, own, none, crowded)
    if "ZOOM, oracle region" in rows:
        found["share_of_the_oracles_gain"] = won[0] / ablation.gain(MAIN, "ZOOM, oracle region", none, crowded)[0]
    return found
