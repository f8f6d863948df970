"""What is counted of runs that were killed."""

from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path

from .compare import differences, leftovers

SAME, DIFFERED, STUCK = "ended the same", "differed", "could not go on"


@dataclass
class Tally:
    """Each field counts by name."""

    kills: Counter = field(default_factory=Counter)  # of what kind
    ended: Counter = field(default_factory=Counter)  # runs: SAME, DIFFERED, STUCK
    differed: Counter = field(default_factory=Counter)  # in what
    sentences: Counter = field(default_factory=Counter)  # of runs that could not go on
    leftovers: Counter = field(default_factory=Counter)  # in their folders
    faults: Counter = field(default_factory=Counter)  # what else is not to be, such as a traceback

    def __iadd__(self, other: "Tally") -> "Tally":
        for each in fields(self):
            getattr(self, each.name).update(getattr(other, each.name))
        return self

    def judge(self, folder: Path, reference: Path) -> None:
        """A finished run beside the one that nothing interrupted."""
        different = differences(folder, reference)
        self.ended[DIFFERED if different else SAME] += 1
        self.differed.update(different)
        self.leftovers.update(leftovers(folder, reference))

    def is_stuck(self, sentence: str) -> None:
        self.ended[STUCK] += 1
        self.sentences[sentence] += 1

    @property
    def killed(self) -> int:
        return sum(self.kills.values())

    @property
    def is_clean(self) -> bool:
        return not (self.differed or self.sentences or self.leftovers or self.faults)

    def as_json(self) -> dict:
        return {each.name: dict(sorted(getattr(self, each.name).items())) for each in fields(self)}

    def __str__(self) -> str:
        """What there is of it, in a line."""
        parts = [f"{self.killed} kills"]
        for each in fields(self)[1:]:
            parts += [f"{number} {name}" for name, number in getattr(self, each.name).items()]
        return ", ".join(parts)
