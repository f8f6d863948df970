"""What each class gains from a method, beside the host that it stands on, or else beside zero-shot CLIP."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from statistics import fmean

from one_run.layout import is_untrained

from .read import dig
from .runs import Run

SHOWN = 10  # classes at either end


@dataclass(frozen=True)
class ClassGain:
    name: str
    host: float  # accuracy in percent, the mean over the seeds that both have
    method: float

    @property
    def gain(self) -> float:
        return self.method - self.host


@dataclass(frozen=True)
class Comparison:
    """Of one set and phase."""

    runs: list[Run]  # of the method
    host: str  # trainer/config
    seeds: list[int]
    classes: list[ClassGain]  # the largest gain first

    @property
    def run(self) -> Run:
        return self.runs[0]

    @property
    def title(self) -> str:
        run = self.run
        return f"{run.method} over {self.host}: {run.dataset}, {run.phase_in_words}, {run.place.shots} shots"

    @property
    def best(self) -> list[ClassGain]:
        return self.classes[:SHOWN] if len(self.classes) > 2 * SHOWN else self.classes

    @property
    def worst(self) -> list[ClassGain]:
        """The smallest gain first; none where the best are all."""
        return self.classes[: -SHOWN - 1 : -1] if len(self.classes) > 2 * SHOWN else []

    @property
    def mean(self) -> float:
        return fmean(each.gain for each in self.classes)

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many classes are better, the same and worse."""
        gains = [each.gain for each in self.classes]
        better, worse = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
        return better, len(gains) - better - worse, worse


def comparisons(runs: Iterable[Run]) -> list[Comparison]:
    """All that can be made of the finished runs, those of methods that stand on a host first."""
    there: dict[tuple, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if run.state == "finished" and accuracies(run):
            there[run.phase, run.dataset][run.method].append(run)
    made = []
    for methods in there.values():
        for own in methods.values():
            for shots in sorted({run.place.shots for run in own}):
                mine = [run for run in own if run.place.shots == shots]
                host = host_of(mine[0], methods)
                made += [compared] if host and (compared := compare(mine, host, methods[host])) else []
    return sorted(made, key=lambda each: not named_host(each.run))


def named_host(run: Run) -> str:
    """The method that its record says it stands on; "" for none."""
    nodes = dig(run.record, "config", "TRAINER")
    named = [dig(node, "HOST") for node in nodes.values()] if isinstance(nodes, dict) else []
    return next((name for name in named if isinstance(name, str)), "")


def host_of(run: Run, methods: dict[str, list[Run]]) -> str | None:
    """The host in its record, or else zero-shot CLIP; of its configs the one whose name is most alike. None: not there."""
    if is_untrained(run.place.method):
        return None
    host = named_host(run)
    fit = [name for name in methods if (trainer_of(name) == host if host else is_untrained(trainer_of(name)))]
    return min(fit, key=lambda name: (-alike(config_of(name), run.place.config), name), default=None)


def trainer_of(method: str) -> str:
    return method.partition("/")[0]


def config_of(method: str) -> str:
    return method.partition("/")[2]


def alike(one: str, other: str) -> int:
    """How many letters they begin with in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def compare(mine: list[Run], host: str, theirs: list[Run]) -> Comparison | None:
    """Over the seeds of both at these shots; zero-shot CLIP has one result for all."""
    alone = is_untrained(trainer_of(host))
    shots = mine[0].place.shots
    others = {run.place.seed: run for run in theirs if alone or run.place.shots == shots}
    pairs = {run.place.seed: (run, theirs[0] if alone else others.get(run.place.seed)) for run in mine}
    both = {
        seed: (accuracies(run), accuracies(other)) for seed, (run, other) in sorted(pairs.items()) if other is not None
    }
    shared = [name for name in next(iter(both.values()))[0] if all(name in each for pair in both.values() for each in pair)] if both else []  # fmt: skip
    if not shared:
        return None
    gains = [
        ClassGain(name, fmean(pair[1][name] for pair in both.values()), fmean(pair[0][name] for pair in both.values()))
        for name in shared
    ]
    return Comparison(mine, host, list(both), sorted(gains, key=lambda each: -each.gain))


def accuracies(run: Run) -> dict[str, float]:
    """Class -> accuracy in percent."""
    classwise = run.record.get("classwise")
    if not isinstance(classwise, dict):
        return {}
    found = {name: dig(entry, "accuracy") for name, entry in classwise.items()}
    return {name: float(value) for name, value in found.items() if type(value) in (int, float) and 0 <= value <= 100}
