"""What is done of a sweep, in a line for each event; at the end what is not, and why."""

import sys
import time
from statistics import fmean

from one_run.folder import holder

from .protocols import Run
from .work import Outcome


class Progress:
    """`outcomes` holds the runs that have ended, those of before this sweep too."""

    def __init__(self, runs: list[Run], finished: set[Run]):
        self.runs = runs
        self.begun = time.monotonic()
        self.at_work: set[Run] = set()
        self.elsewhere: set[Run] = set()  # another process has had them at work
        self.outcomes: dict[Run, Outcome] = {run: Outcome("finished") for run in finished}
        self.before = finished

    def waiting(self) -> list[Run]:
        return [run for run in self.runs if run not in self.outcomes and run not in self.at_work]

    def state(self, run: Run | None) -> str | None:
        """How a run ended; None while it waits or works, and for no run."""
        return self.outcomes[run].state if run in self.outcomes else None

    def started(self, run: Run) -> None:
        self.at_work.add(run)
        self.say("started", run)

    def is_elsewhere(self, run: Run) -> None:
        if run not in self.elsewhere:
            self.elsewhere.add(run)
            self.say("waiting", run, f"for {holder(run.folder)}")

    def ended(self, run: Run, outcome: Outcome) -> None:
        self.at_work.discard(run)
        self.outcomes[run] = outcome
        self.say(outcome.state, run, f"{outcome.seconds:.0f} s" if outcome.seconds else "")

    def say(self, what: str, run: Run, more: str = "") -> None:
        counts = [f"{self.count('finished')} of {len(self.runs)} finished"]
        counts += [f"{len(self.at_work)} running"] if self.at_work else []
        counts += [f"{self.count(state)} {state}" for state in ("failed", "skipped") if self.count(state)]
        left = self.seconds_left()
        counts += [f"about {duration(left)} left"] if left else []
        print("  ".join(filter(None, (f"{what:<8}", run.label, more, f"[{', '.join(counts)}]"))), flush=True)

    def count(self, state: str) -> int:
        return sum(outcome.state == state for outcome in self.outcomes.values())

    def seconds_left(self) -> float | None:
        """From the work that this sweep's finished runs were; trainings and tests differ in it."""
        times = {run: o.seconds for run, o in self.outcomes.items() if o.state == "finished" and run not in self.before}
        if not times:
            return None
        kinds = {kind: [s for run, s in times.items() if run.trains is kind] for kind in (True, False)}
        mean = {kind: fmean(seconds or times.values()) for kind, seconds in kinds.items()}
        rest = sum(mean[run.trains] for run in self.runs if run not in self.outcomes)
        return (time.monotonic() - self.begun) * rest / max(sum(times.values()), 1e-9)

    def conclude(self) -> int:
        """List what is not finished; the exit code."""
        problems = [(run, self.outcomes.get(run, Outcome("skipped"))) for run in self.runs]
        problems = [(run, outcome) for run, outcome in problems if outcome.state != "finished"]
        print(f"{self.count('finished')} of {len(self.runs)} runs are finished.", flush=True)
        for run, outcome in problems:
            lines = "".join(f"\n    {line}" for line in outcome.said.splitlines())
            print(f"{outcome.state}: {run.label}\n    {run.folder}{lines}", file=sys.stderr)
        return 1 if problems else 0


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
