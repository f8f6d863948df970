"""A few rows that are asked for alone, with every token kept and no second look."""

from benchmarks.embedded import folder_of
from trainers.spotlighter.bank import Shots

from .encoded import train_host
from .rows import (
    MAIN,
    PAPER,
    UNTRAINED,
    accuracies_of,
    build_spotlighter,
    fitted,
    make_head,
    papers_form,
    score,
    tables_of,
    texts_of,
)

FITS = {  # name: what differs from a training run's fit
    UNTRAINED: {"unseen": 0.0},
    "Spotlighter": {},
    "FIT_UNSEEN 1": {"unseen": 1.0},
}


def first_looks(root: str, set_name: str, seed: int, images: int) -> tuple:
    """A trainer whose host has learned, texts, shots, tables, and the rows without a head: {row: [base, new]}."""
    base, new = (build_spotlighter(root, set_name, seed, MAIN, half) for half in ("base", "new"))
    tables = tables_of(base, new, folder_of(root, set_name).resolve(), images)
    for table in tables.values():
        table.encode(base)
    train_host(base, tables["train"])
    texts, shots = texts_of(base, new), Shots(tables["train"].f, tables["train"].v, tables["train"].y)
    result = {"zero-shot CLIP": accuracies_of(tables, texts.z), "host alone": accuracies_of(tables, texts.t)}
    return base, texts, shots, tables, result


def heads_that_are_trained(root: str, set_name: str, seed: int, images: int) -> dict:
    """Rows that differ in what the head trains: 21 scalars, the mapping modules too, or the paper's form: {row: [base, new]}."""
    base, texts, shots, tables, result = first_looks(root, set_name, seed, images)
    result["Spotlighter"] = score(fitted(base, shots, texts, seed), shots, texts, tables)
    result["HEAD full"] = score(fitted(base, shots, texts, seed, full=shots.f.shape[1]), shots, texts, tables)
    return result | {PAPER: papers_form(root, set_name, seed, tables)}


def fits(root: str, set_name: str, seed: int, images: int) -> dict:
    """Rows that differ in the fit alone: {row: [base, new]}."""
    base, texts, shots, tables, result = first_looks(root, set_name, seed, images)
    result["+ selected tokens (initial scalars)"] = score(make_head(base), shots, texts, tables)
    for name, options in FITS.items():
        result[name] = score(fitted(base, shots, texts, seed, **options), shots, texts, tables)
    return result
