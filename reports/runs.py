"""Every run of a folder, whether a table counts it or not: its state, what it took, and what its config differs in."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from one_run.folder import flatten
from one_run.layout import OF_TRAINING, PHASES, Place, is_untrained

from .protocols import PROTOCOLS, rank
from .read import dig, folders_by_table, record_of, seeds_under, value_recorded
from .result import ResultError

PHASE_IN_WORDS = {
    "base2new_train": "base to new: base",
    "base2new_test": "base to new: new",
    "few_shot": "few-shot",
    "xd_train": "trained for other sets",
    "xd_test": "cross-dataset",
    "dg_test": "domain generalisation",
}
OF_PLACE = ("SEED", "OUTPUT_DIR", "RESUME", "VERBOSE", "DATASET.")  # config keys that say which run it is, and where
ENDS_OF_PLACE = ("DIR", "ROOT", "NUM_WORKERS", "PRINT_FREQ")


STATES = ("finished", "failed", "stopped", "running")


@dataclass(frozen=True)
class Run:
    path: Path
    inside: str  # its path in the folder that was asked for
    phase: str  # of PHASES
    place: Place
    record: dict  # {} of a run that has none
    problem: str = ""  # why its record cannot be read
    differs: list[str] = field(default_factory=list)  # in words

    @property
    def method(self) -> str:
        return f"{self.place.method}/{self.place.config}"

    @property
    def dataset(self) -> str:
        return self.place.dataset

    @property
    def title(self) -> str:
        place = self.place
        return f"{self.method}, {place.dataset}, {self.phase_in_words}, {place.shots} shots, seed {place.seed}"

    @property
    def phase_in_words(self) -> str:
        return PHASE_IN_WORDS.get(self.phase, self.phase)

    @property
    def state(self) -> str:
        """finished, failed, stopped or running, as its record says; unreadable, or log only (of other code)."""
        if self.problem:
            return "unreadable"
        state = self.record.get("state")
        return state if state in STATES else ("unreadable" if self.record else "log only")

    @property
    def is_trained(self) -> bool:
        """Finished, and no test of another run's model."""
        return self.state == "finished" and not self.record.get("weights")

    @property
    def why(self) -> str:
        """Why it has no result."""
        if self.state == "running":
            return "Its record says that it is running: it goes on, or was killed."
        return self.problem or str(self.record.get("why") or "")

    @property
    def seconds(self) -> float | None:
        return self.number("seconds")

    @property
    def memory(self) -> float | None:
        """In MiB, of the process."""
        return self.number("peak_memory_mib")

    @property
    def gpu_memory(self) -> float | None:
        return self.number("peak_gpu_memory_mib")

    def number(self, key: str) -> float | None:
        value = self.record.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
            return None
        return float(value)

    def value(self, keyword: str) -> float | None:
        """In percent, as a table counts it."""
        try:
            return value_recorded(self.path, self.record, keyword) if self.record else None
        except ResultError:
            return None


def all_runs(directory: Path) -> list[Run]:
    """Those first that did not finish, then by phase and set; those too whose models are only tested, as of xd_train."""
    folders = {
        folder / inside: PROTOCOLS[name].phases[part]
        for name, folder in folders_by_table(directory).items()
        for part, inside in PROTOCOLS[name].folders.items()
    }
    of_tables = {phase for protocol in PROTOCOLS.values() for phase in protocol.phases.values()}
    folders |= {directory / facts.folder: phase for phase, facts in PHASES.items() if phase not in of_tables}
    found = [(path, phase, place) for folder, phase in folders.items() for path, place in seeds_under(folder)]
    runs = [run_at(path, directory, phase, place) for path, phase, place in found]
    order = list(PHASES)
    runs.sort(
        key=lambda run: (run.state == "finished", order.index(run.phase), rank(run.dataset), run.method, run.place)
    )
    return with_differences(runs)


def run_at(path: Path, above: Path, phase: str, place: Place) -> Run:
    try:
        record, problem = record_of(path) or {}, ""
    except ResultError as error:
        record, problem = {}, str(error)
    return Run(path, path.relative_to(above).as_posix(), phase, place, record, problem)


# --- what a run's config differs in --------------------------------------------------------------------------------


def with_differences(runs: Iterable[Run]) -> list[Run]:
    """From what the method's config states, as the record has it, and from most runs of the same method and config."""
    runs = list(runs)
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.method].append(run)
    usual = {method: values_of(group) for method, group in groups.items()}
    return [replace(run, differs=[*from_config(run), *from_others(run, usual[run.method])]) for run in runs]


def from_config(run: Run) -> list[str]:
    """Options that were given in place of what its config states."""
    untrained = is_untrained(run.place.method)
    changed = words(dig(run.record, "settings", "changed"))
    said = [change for change in changed if not (untrained and change.startswith(OF_TRAINING))]
    resumed = words(dig(run.record, "resumed", "changed"))
    return said + ([f"resumed from a run with another {', '.join(resumed)}"] if resumed else [])


def values_of(group: list[Run]) -> dict[str, Counter]:
    """Config key -> its values, as JSON -> how many runs have it."""
    values: dict[str, Counter] = defaultdict(Counter)
    for run in group:
        for key, value in config_of(run).items():
            values[key][value] += 1
    by_rows = " ".join(row for run in group for row in words(dig(run.record, "settings", "rows")))
    return {key: counts for key, counts in values.items() if len(counts) > 1 and f"{key} " not in by_rows}


def from_others(run: Run, usual: dict[str, Counter]) -> list[str]:
    config, said = config_of(run), []
    known = {change.partition(" ")[0] for change in words(dig(run.record, "settings", "changed"))}
    for key, counts in usual.items():
        mine = config.get(key)
        (most, times), *_ = [pair for pair in counts.most_common() if pair[0] != mine]
        if mine is not None and key not in known and counts[mine] <= times:
            said.append(f"{key} {mine}, and {most} in {'most' if counts[mine] < times else 'as many'} others")
    return said


def config_of(run: Run) -> dict[str, str]:
    """Key -> value as JSON, without what says which run it is."""
    config = run.record.get("config")
    flat = flatten(config) if isinstance(config, dict) else {}
    return {
        key: json.dumps(value)
        for key, value in flat.items()
        if not key.startswith(OF_PLACE) and not key.endswith(ENDS_OF_PLACE)
    }


def words(value) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []
