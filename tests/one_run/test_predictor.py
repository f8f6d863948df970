"""A finished run as a classifier (one_run/predictor.py): it is the run's own, and needs none of its data."""

import shutil
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

import clip
import train
from dassl.errors import InputError
from one_run.predictor import Predictor
from one_run.rebuild import rebuild
from tests.helpers import CLASSES, arguments, results
from tests.trainers.short import METHODS, ShortRuns

FORMS = [*((method, "") for method in ("ZeroshotCLIP", "ZeroshotCLIP2", *METHODS)), ("Spotlighter", "CoOp"), ("Spotlighter", "CoCoOp"), ("DePT", "KgCoOp")]  # fmt: skip


@pytest.fixture(scope="module")
def short(data_root, tmp_path_factory):
    """Runs on a copy of the data that is gone when pictures are classified."""
    root = shutil.copytree(data_root, tmp_path_factory.mktemp("copy") / "data")
    return ShortRuns(root, tmp_path_factory.mktemp("short"))


@pytest.fixture(scope="module")
def run(data_root, tmp_path_factory):
    """Spotlighter over CoOp, on the base classes."""
    folder = tmp_path_factory.mktemp("runs") / "spotlighter"
    assert train.main(arguments(data_root, folder, "Spotlighter", options=["OPTIM.MAX_EPOCH", 1])) == 0
    return folder


def pictures(data_root, names=CLASSES[:3]) -> list[str]:
    """The test pictures of the base classes, in the order of the split."""
    folder = data_root / "caltech-101" / "101_ObjectCategories"
    return [str(folder / name / f"test_{number}.png") for name in names for number in range(4)]


@pytest.mark.parametrize(("method", "host"), FORMS)
def test_its_accuracy_is_the_runs(short, data_root, method, host, monkeypatch, tmp_path):
    """Of every method, without its data set, to the bit of each logit."""
    output = f"{method}{host}"
    assert train.main(short(method, "OPTIM.MAX_EPOCH", 1, host=host, output=output)) == 0
    record, run = results(short.folder / output), short.folder / output
    there = rebuild(run)  # with its data set
    expected = []
    with torch.no_grad():
        for batch in there.test_loader:
            logits = there.model_inference(there.parse_batch_test(batch)[0])
            expected.append(logits.float().softmax(dim=1))
    monkeypatch.chdir(tmp_path)
    hidden = short.root.rename(tmp_path / "elsewhere")
    try:
        predictor = Predictor(run)
        found = predictor.predict(pictures(hidden))
    finally:
        hidden.rename(short.root)
    right = sum(one.classname == CLASSES[number // 4] for number, one in enumerate(found))
    assert 100.0 * right / len(found) == record["accuracy"]
    assert torch.equal(torch.stack([one.probabilities for one in found]), torch.cat(expected))
    assert predictor.classnames == CLASSES[:3]


def test_other_classes(run, data_root):
    """Halves of its own data set, and any names; a class that it knows keeps its bank, whatever its place."""
    asked = pictures(data_root)
    assert Predictor(run, "new").classnames == CLASSES[3:] and Predictor(run, "all").classnames == CLASSES
    same = Predictor(run).predict(asked)
    turned = Predictor(run, CLASSES[2::-1]).predict(asked)
    for one, other in zip(same, turned, strict=True):
        assert torch.allclose(one.probabilities, other.probabilities.flip(0), atol=1e-6)
    assert {one.classname for one in Predictor(run, ["red", "a cow"]).predict(asked)} <= {"red", "a cow"}
    with pytest.raises(InputError, match="'old' are no classes"):
        Predictor(run, "old")


def test_a_context_of_each_class_fits_no_other(data_root, tmp_path):
    options = ["OPTIM.MAX_EPOCH", 1, "TRAINER.COOP.CSC", True]
    assert train.main(arguments(data_root, tmp_path / "run", options=options)) == 0
    assert Predictor(tmp_path / "run").classnames == CLASSES[:3]
    with pytest.raises(clip.InputError, match="has a context for each of its 3 classes"):
        Predictor(tmp_path / "run", ["a", "b", "c"])


def test_what_cannot_be_read_is_among_the_others(run, data_root, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    first, second = pictures(data_root)[:2]
    asked = [first, str(tmp_path / "text.png"), second, str(tmp_path / "none.png")]
    found = list(Predictor(run).each(asked))
    assert [one.path for one in found] == asked
    assert [hasattr(one, "why") for one in found] == [False, True, False, True]
    assert "cannot be read" in str(found[1].why) and "does not exist" in str(found[3].why)
    with pytest.raises(InputError, match="text.png cannot be read"):
        Predictor(run).predict(asked)


def test_it_computes_in_the_runs_precision(data_root, tmp_path):
    """bf16 stays bf16; fp16, which a CPU has not, becomes fp32."""
    options = ["OPTIM.MAX_EPOCH", 1, "TRAINER.COOP.PREC", "bf16"]
    assert train.main(arguments(data_root, tmp_path / "run", options=options)) == 0
    assert Predictor(tmp_path / "run").trainer.precision == "bf16"
    path = tmp_path / "run" / "results.json"
    path.write_text(path.read_text().replace('"precision": "bf16"', '"precision": "fp16"'))
    assert Predictor(tmp_path / "run", use_cuda=False).trainer.precision == "fp32"


def test_the_likeliest_first(run, data_root):
    (one,) = Predictor(run).predict(pictures(data_root)[:1])
    ranked = one.top(3)
    assert [p for _, p in ranked] == sorted((p for _, p in ranked), reverse=True)
    assert sum(p for _, p in ranked) == pytest.approx(1) and ranked[0] == (one.classname, one.probability)
    even = one._replace(probabilities=torch.full((3,), 1 / 3))
    assert [name for name, _ in even.top(2)] == CLASSES[:2]


def test_one_path_and_a_picture_that_would_fill_all_memory(run, data_root, tmp_path):
    predictor, path = Predictor(run), pictures(data_root)[0]
    assert [one.path for asked in (path, Path(path)) for one in predictor.predict(asked)] == [path, path]
    Image.new("RGB", (60_000, 1)).save(tmp_path / "long.png")
    (one,) = predictor.each([tmp_path / "long.png"])
    assert "long.png has more than" in str(one.why) and "more than 1,000 times as long as wide" in str(one.why)


def test_who_stops_does_not_wait_for_what_is_not_read_yet(run, monkeypatch):
    predictor, read = Predictor(run), []
    monkeypatch.setattr("one_run.predictor.cores", lambda: 1)
    predictor.batch_size = 50
    predictor.classify = lambda batch: (image.result() for _, image in batch)
    predictor.read = lambda path: read.append(path) or time.sleep(0.02)
    found = predictor.each(map(str, range(100)))
    next(found)
    found.close()
    assert 0 < len(read) < 100
