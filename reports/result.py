"""One result of a run: what tables are made from."""

from dataclasses import dataclass

from dassl.errors import InputError
from one_run.layout import is_embedded, is_of_classes, is_untrained


class ResultError(InputError):
    """A result that is missing, broken or contradictory; the message names it and the remedy."""


class NoRuns(ResultError):
    """A folder that holds none."""


@dataclass(frozen=True)
class Result:
    method: str  # trainer/config
    dataset: str  # as its config file is called; of a test on another set, the tested one
    shots: int
    seed: int  # -1 of a published figure
    part: str  # base, new or all classes; source or target; H where it is printed
    value: float | None  # in percent; None if there is none, and `problem` says why
    problem: str = ""
    path: str = ""
    source: str = ""  # of a test on another set: what the model was trained on
    backbone: str | None = None
    final_model: str | None = None  # last_step or best_val; None: unknown
    chosen_on_test: bool | None = None  # whether the best epoch is so on test images; None: unknown
    split: str | None = None
    images: str | None = None  # hash of the training images; None for a test, and where nothing was trained
    transductive: bool = False
    teacher: str = ""  # the method that it distils
    settings: str | None = None  # the protocol whose settings it has; None: not recorded
    unlike: tuple[str, ...] = ()  # the protocols for which they would be others
    changed: tuple[str, ...] = ()  # settings that are not as its config states them, in words
    resumed_with: tuple[str, ...] = ()  # config keys that it had otherwise before it was resumed
    published: bool = False
    one_class: bool = False  # all images that were tested are of one class

    @property
    def zero_shot(self) -> bool:
        """Nothing is trained, so neither shots nor seed matter."""
        return is_untrained(self.method.partition("/")[0])

    @property
    def of_classes(self) -> bool:
        """What is learned belongs to its classes, so that there is nothing to say about others."""
        return is_of_classes(self.method.partition("/")[0])

    @property
    def world(self) -> str:
        return world(self.dataset)


def world(dataset: str) -> str:
    """ "" or "embedded": figures of the two are never averaged, drawn or compared together."""
    return "embedded" if is_embedded(dataset) else ""
