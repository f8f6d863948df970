"""A training step waits for a GPU nowhere, and a test once (waiting.py): every method, on the pretended GPU."""

import pytest

from tests.trainers.short import METHODS, NO_STEPS, ShortRuns

STEPS, FREQUENCY = 6, 3
READ = "readings.py"  # where all numbers are read together
SPOT = "TRAINER.SPOTLIGHTER."


@pytest.fixture(scope="module")
def argv(tmp_path_factory, data_root):
    short = ShortRuns(data_root, tmp_path_factory.mktemp("waiting"))
    options = ["DATALOADER.TRAIN_X.BATCH_SIZE", 2, "DATALOADER.TEST.BATCH_SIZE", 4, "TRAIN.PRINT_FREQ", FREQUENCY]
    return lambda method, *more, precision="fp16", **keys: short(method, *options, *more, precision=precision, **keys)


def where(seen: dict) -> dict[str, int]:
    """place, without its line -> how often the host waits there"""
    counts: dict[str, int] = {}
    for place, count in seen["waits"].items():
        place = place.rpartition("/")[2].partition(":")[0]
        counts[place] = counts.get(place, 0) + count
    return counts


@pytest.mark.parametrize(
    "method", [*(method for method in METHODS if method not in ("LinearProbe", *NO_STEPS)), "Spotlighter"]
)  # solved on the CPU
def test_training_waits_for_its_lines_alone(pretended_gpu, argv, method):
    """Spotlighter over MaPLe, whose steps run its edits too."""
    edits = [SPOT + "KEEP", 0.6, SPOT + "ZOOM", 1]
    line = argv(method, *edits, host="MaPLe") if method == "Spotlighter" else argv(method)
    seen = pretended_gpu("tests.trainers.waiting:waits_of_training", line=line)
    assert seen["steps"] >= STEPS and where(seen) == {READ: seen["steps"] // FREQUENCY}, seen


def test_spotlighter_that_learns_in_step_waits_in_its_own_code_alone(pretended_gpu, argv):
    """Its halves and clusters have shapes that depend on what the batch holds."""
    seen = pretended_gpu(
        "tests.trainers.waiting:waits_of_training", line=argv("Spotlighter", SPOT + "JOINT", True, host="CoOp")
    )
    places = {place for place in seen["waits"] if READ not in place}
    assert places and all(" in trainers/spotlighter/" in place for place in places)


def test_a_scaler_asks_in_each_step(pretended_gpu, argv):
    """Of PyTorch, whether a gradient has overflown; nobody else does."""
    seen = pretended_gpu("tests.trainers.waiting:waits_of_training", line=argv("MaPLe", precision="amp"))
    assert where(seen) == {READ: STEPS // FREQUENCY, "clip_trainer.py": STEPS}, seen


@pytest.mark.parametrize("method", ["CoOp", "MaPLe", "CoCoOp", "ZeroshotCLIP"])
def test_a_test_waits_once_for_each_thing(pretended_gpu, argv, method):
    """Whether logits are finite, the time, what is true and what was predicted, which is read together."""
    seen = pretended_gpu("tests.trainers.waiting:waits_of_a_test", line=argv(method))
    once = {place: count for place, count in where(seen).items() if place not in ("prompts.py", "clip_trainer.py")}
    assert seen["steps"] == 3 and once == {READ: 1, "stopwatch.py": 1, "evaluator.py": 2}, seen


def test_an_epoch_ends_with_one_look_and_one_copy(pretended_gpu, argv):
    seen = pretended_gpu("tests.trainers.waiting:waits_of_an_epochs_end", line=argv("MaPLe"))
    assert {place: count for place, count in where(seen).items() if place in (READ, "tensors.py")} == {READ: 1, "tensors.py": 1}, seen  # fmt: skip
    assert sum(seen["waits"].values()) < 8, seen
