"""A run as a graph (deploy/classifier.py): of every method whose texts do not depend on the image, for any batch."""

import pytest
import torch

import train
from deploy.classifier import Classifier, check_exportable, graph_of
from one_run.rebuild import rebuild_to_predict
from tests.trainers.short import METHODS, ShortRuns
from tests.trainers.spotlighter.world import SECOND_LOOK
from trainers.spotlighter import choice, over_host
from trainers.spotlighter.plan import Plan
from trainers.spotlighter.zoom import Zoom

SIDE = 32
OTHERS = [method for method in METHODS if method != "CoCoOp"]


@pytest.fixture(scope="module")
def short(data_root, tmp_path_factory):
    return ShortRuns(data_root, tmp_path_factory.mktemp("short"))


def trained(short, method, *options, host=""):
    output = "-".join(map(str, (method, host, *options))).replace(".", "_")
    assert (
        train.main(short(method, "OPTIM.MAX_EPOCH", 1, "TEST.NO_TEST", True, *options, host=host, output=output)) == 0
    )
    return rebuild_to_predict(short.folder / output)


def check_graph(trainer):
    """For one image, and for more than it was traced with, it gives what the trainer predicts."""
    check_exportable(trainer)
    program = graph_of(Classifier(trainer), SIDE)
    kept = {name.removeprefix("visual.") for name in program.state_dict}
    assert kept == set(trainer.model.clip.visual.state_dict())  # no text encoder
    graph = program.module()
    for count in (1, 5):
        images = torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(count))
        with torch.no_grad():
            expected = trainer.model_inference(images).softmax(dim=1)
            assert torch.allclose(graph(images), expected, atol=1e-5), count
    return graph


@pytest.mark.parametrize("method", ["ZeroshotCLIP", *OTHERS])
def test_every_method(short, method):
    check_graph(trained(short, method))


def test_dept(short):
    """Its head is part of the graph."""
    check_graph(trained(short, "DePT", host="MaPLe"))


KEYS = {"HEAD full": ("HEAD", "full"), "HEAD paper": ("HEAD", "paper", "JOINT", True), "KEEP": ("KEEP", 0.5), "KEEP twice": ("KEEP", 0.6, "DROP_AFTER", (1, 2)), "all tokens": ()}  # fmt: skip


@pytest.mark.parametrize(("form", "zoom", "host"), [*((form, 0, "CoOp") for form in KEYS), ("KEEP", 3, "CoOp"), ("KEEP", 3, "MaPLe")])  # fmt: skip
def test_spotlighter(short, monkeypatch, form, zoom, host):
    """Its drops, and its second look, whose crops are part of the graph."""
    monkeypatch.setattr(over_host, "choose_zoom", lambda *_: SECOND_LOOK)
    keys = [*KEYS[form], *(["ZOOM", zoom] if zoom else [])]
    options = [
        part
        for name, value in zip(keys[::2], keys[1::2], strict=True)
        for part in (f"TRAINER.SPOTLIGHTER.{name}", value)
    ]
    trainer = trained(short, "Spotlighter", *options, host=host)
    assert (trainer.head.zoom is not None) == bool(zoom)
    check_graph(trainer)


PLANS = {
    "a glance": Plan(0.0, False, Zoom(0, 0.5, 2, 1.0), 3, 0.9),
    "some tokens and regions": Plan(0.6, False, Zoom(0, 0.625, 2, 0.5), 2, 0.9),
    "some tokens": Plan(0.5, False, None, 0, 0.6),
}


@pytest.mark.parametrize(("plan", "host"), [*((plan, "CoOp") for plan in PLANS), ("a glance", "MaPLe")])
def test_spotlighter_within_a_budget(short, monkeypatch, plan, host):
    monkeypatch.setattr(choice, "choose_plan", lambda *_: PLANS[plan])
    budget = {"a glance": 2.0, "some tokens and regions": 3.0, "some tokens": 0.9}[plan]  # that pays for it
    trainer = trained(short, "Spotlighter", "TRAINER.SPOTLIGHTER.BUDGET", budget, host=host)
    assert trainer.head.plan == PLANS[plan]
    check_graph(trainer)


def test_what_is_no_graph(short):
    conditional = trained(short, "CoCoOp")
    with pytest.raises(Exception, match="CoCoOp cannot be exported, as its texts depend on the image"):
        check_exportable(conditional)
    random = trained(
        short, "Spotlighter", "TRAINER.SPOTLIGHTER.KEEP", 0.5, "TRAINER.SPOTLIGHTER.SCORE", "random", host="CoOp"
    )
    with pytest.raises(Exception, match="SCORE random cannot be exported"):
        check_exportable(random)
