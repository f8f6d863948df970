"""Which images judge a model: validation images may choose its best epoch, and be those that an accuracy is of."""

from dassl.errors import InputError
from dassl.utils import real_paths

BEST, SPLIT = "TEST.FINAL_MODEL best_val", "TEST.SPLIT val"


def by_validation(cfg, trains: bool) -> str:
    """The setting by which validation images judge in a run; "" where none does.

    trains: whether the run learns something. A test of another run's best model chooses nothing.
    """
    if trains and cfg.TEST.NO_TEST:
        return ""
    if trains and cfg.TEST.FINAL_MODEL == "best_val":
        return BEST
    return SPLIT if cfg.TEST.SPLIT == "val" else ""


def no_validation_images(name: str, setting: str = "") -> InputError:
    """Of a data set that has none, and whose test images must not take their place."""
    why = {
        BEST: f", by which {BEST} chooses the model: add some, or leave TEST.FINAL_MODEL last_step",
        SPLIT: f", which {SPLIT} tests on: add some, or leave TEST.SPLIT test",
    }
    other = (
        f", by which {setting} chooses: add some, or leave it as it is by default"
        if setting
        else " to test on: add some"
    )
    return InputError(f"The data set {name} has no validation images{why.get(setting, other)}.")


def validates_on_test_images(dataset) -> bool:
    """Whether a validation image is a test image too, by where its file lies, as all of ImageNet's are."""
    test, val = (real_paths(item.impath for item in items or ()) for items in (dataset.test, dataset.val))
    return not set(test).isdisjoint(val)
