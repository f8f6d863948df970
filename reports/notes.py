"""What must be said under a table: how it was made, and what is missing or does not fit."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from one_run.layout import OF_TRAINING, is_embedded

from . import published
from .protocols import AVERAGE, Protocol, rank
from .result import Result

DAGGER, STAR = "†", "*"
TRANSDUCTIVE = f"{DAGGER} transductive: trained on unlabelled images of the classes that are new at test, too."
BEST_EPOCH = {  # by `Result.chosen_on_test`
    True: "model chosen on its test images",
    False: "best epoch on validation images",
    None: "best epoch, on images that the record does not tell from those of the test",
}
EMBEDDED = "Embedded world: a test bed, no benchmark; its figures are never set beside published ones."


def in_words(seeds: Iterable[int], form: str = "{}") -> str:
    seeds = list(seeds)
    return f"seed{'s' * (len(seeds) > 1)} {form.format(', '.join(map(str, seeds)))}"


def by(results: Iterable[Result], key: Callable[[Result], str]) -> dict[str, str]:
    """Values of a key -> the methods that have them, in words."""
    methods = defaultdict(set)
    for result in results:
        methods[key(result)].add(result.method)
    return {value: ", ".join(sorted(methods[value])) for value in sorted(methods)}


# --- how it was made -------------------------------------------------------------------------------------------


def how_made(results: list[Result], protocol: Protocol, expected: list[int], dashes: bool, partial: bool) -> list[str]:
    """`dashes`: some cells of the table are not there."""
    ours = [result for result in results if not result.published]
    counted = [result for result in ours if result.value is not None]
    notes = [
        *modes(counted),
        averaging(ours, protocol, expected),
        *backbones(counted),
        *deviations(counted, protocol.settings),
    ]
    shots = sorted({result.shots for result in ours})
    if not protocol.over_shots and len(shots) > 1:
        notes.append(f"Shots differ: {', '.join(map(str, shots))}.")
    if any(result.transductive for result in results):
        notes.append(TRANSDUCTIVE)
    if any(result.published for result in results):
        notes += about_published(results, counted)
    notes += single_classes(counted, protocol)
    if any(is_embedded(result.dataset) for result in ours):
        notes.append(EMBEDDED)
    if dashes or partial:
        star = f"; {STAR}: the mean of those that are there, of the same seeds for base and new" if partial else ""
        notes.append(f"-: not all seeds are there{star}.")
    return notes


def single_classes(counted: list[Result], protocol: Protocol) -> list[str]:
    """Where one class is all there is, any model is right."""
    columns = defaultdict(set)
    for result in counted:
        if result.one_class:
            columns[protocol.block_of(result)].add(protocol.column_of(result))
    where = [protocol.place_of(block, sorted(columns[block])) for block in sorted(columns, key=rank)]
    return [f"Tested on images of one class only, where 100% says nothing: {', '.join(where)}."] if where else []


def averaging(ours: list[Result], protocol: Protocol, expected: list[int]) -> str:
    alone = " Zero-shot rows need one." if any(result.zero_shot for result in ours) and len(expected) > 1 else ""
    return f"{len(expected)} {in_words(expected, '({})')}, averaged first{protocol.derivation}.{alone}"


def mode(result: Result) -> str:
    """strict: the last epoch, nothing chosen on test images, inductive; paper: what is not."""
    if result.final_model is None:
        return "Mode unknown (no config beside the log)"
    reasons = []
    if result.final_model != "last_step" and not result.zero_shot:
        reasons.append(BEST_EPOCH[result.chosen_on_test])
    if result.transductive:
        reasons.append("transductive")
    if result.split not in (None, "test"):
        reasons.append(f"tested on {result.split} images")
    return f"Mode: paper ({'; '.join(reasons)})" if reasons else "Mode: strict (last epoch, inductive)"


def modes(results: list[Result]) -> list[str]:
    found = by(results, mode)
    if len(found) == 1:
        return [f"{next(iter(found))}."]
    return [f"{name}: {'all other runs' if 'strict' in name else methods}." for name, methods in found.items()]


def backbones(results: list[Result]) -> list[str]:
    notes: list[str] = []
    for world in sorted({result.world for result in results}):
        found = by([result for result in results if result.world == world], lambda result: result.backbone or "unknown")
        listed = "; ".join(f"{backbone} ({methods})" for backbone, methods in found.items())
        only = f"Backbone: {next(iter(found))}."
        notes.append(only if len(found) == 1 else f"Backbones differ, so that rows cannot be compared: {listed}.")
    return list(dict.fromkeys(notes))


def deviations(results: list[Result], protocol: str) -> list[str]:
    """Of runs whose settings are not those that their config states for the protocol."""
    found: dict[str, set[str]] = defaultdict(set)
    for result in results:
        if result.settings is not None and protocol in result.unlike:
            found[f"those of {result.settings} in place of {protocol}"].add(result.method)
        for change in result.changed:
            if not (result.zero_shot and change.startswith(OF_TRAINING)):
                found[change].add(result.method)
    listed = "; ".join(f"{what} ({', '.join(sorted(methods))})" for what, methods in found.items())
    notes = [f"Settings that are not those of the protocol: {listed}."] if listed else []
    for keys, methods in by([result for result in results if result.resumed_with], in_keys).items():
        notes.append(f"Begun with other settings, and resumed with these ({keys}): {methods}.")
    trained = [result for result in results if not result.zero_shot and result.final_model is not None]
    unknown = sorted({result.method for result in trained if result.settings is None})
    if unknown:
        notes.append(f"Settings not in the record, so perhaps not those of the protocol: {', '.join(unknown)}.")
    return notes


def in_keys(result: Result) -> str:
    return ", ".join(result.resumed_with)


def about_published(results: list[Result], counted: list[Result]) -> list[str]:
    backbone = published.BACKBONE
    notes = [f"(published): as printed in {published.SOURCE}; {published.SHOTS} shots, {backbone}."]
    if not any(result.dataset == AVERAGE for result in results):
        notes.append("The published rows' averages are computed from their sets that are in this table.")
    real = [result for result in counted if not is_embedded(result.dataset)]
    others = sorted({str(result.backbone) for result in real} - {backbone, "None"})
    if others:
        notes.append(f"The published rows are of {backbone}, and these runs of {', '.join(others)} too.")
    printed = {result.dataset for result in results if result.published}
    lacking = sorted({result.dataset for result in real} - printed, key=rank)
    if lacking:
        notes.append(f"No published figures: {', '.join(lacking)}.")
    for method, dataset, part, figure, computed in published.contradictions(results):
        base = "its base and new give" if part == "H" else "its sets give"
        notes.append(f"{method}, {dataset}: {part} is printed {figure:.2f}, and {base} {computed:.2f}.")
    return notes


# --- what is missing or does not fit ---------------------------------------------------------------------------


class Lack(NamedTuple):
    """A cell's runs that are not there."""

    method: str
    seeds: tuple[int, ...]
    shots: int | None  # None: they are the columns
    block: str
    column: str | int


def missing_runs(lacks: Iterable[Lack], protocol: Protocol) -> list[str]:
    """A sentence for each method and the seeds that it lacks, with all places where it does."""
    found: dict = defaultdict(lambda: defaultdict(list))
    for lack in lacks:
        found[lack.method, lack.seeds, lack.shots][lack.block].append(lack.column)
    problems = []
    for (method, seeds, shots), places in found.items():
        of = in_words(seeds) + (f", {shots} shots" if shots is not None else "")
        where = ", ".join(protocol.place_of(block, columns) for block, columns in places.items())
        problems.append(f"{method} has no run of {of}: {where}.")
    return problems


def other_images(results: list[Result]) -> list[str]:
    """Runs of one set, shots and seed that were trained on different images."""
    found = defaultdict(list)
    for result in results:
        if result.images:
            found[result.dataset, result.shots, result.part, result.seed].append(result)
    seeds = defaultdict(list)
    for (dataset, shots, part, seed), group in found.items():
        hashes = by(group, lambda result: str(result.images)[:8])
        if len(hashes) > 1:
            listed = "; ".join(f"{name}: {methods}" for name, methods in hashes.items())
            place = f"{dataset}, {shots} shots" if part in ("all", "source") else f"{dataset} ({part}), {shots} shots"
            seeds[place].append(f"seed {seed} ({listed})")
    return [
        f"Trained on different images (images_sha256), so not comparable: {place}, {', '.join(which)}."
        for place, which in seeds.items()
    ]
