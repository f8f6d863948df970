"""Encoders compiled for the training step (../../../trainers/shared/compiled.py), on the CPU: graphs have not been seen on a GPU."""

import contextlib

import pytest
import torch
from torch._dynamo.utils import counters

import train
from dassl.utils import set_random_seed
from tests.helpers import arguments
from tests.trainers.by_hand import built
from tests.trainers.short import ShortRuns
from trainers.shared import compiled as module


def learned(argv: list[str]) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The losses of an epoch, and what it has learned."""
    set_random_seed(1)
    trainer = built(argv)
    trainer.before_train()
    losses, step = [], trainer.forward_backward

    def forward_backward(batch):
        shown = step(batch)
        losses.append(float(shown["loss"]))
        return shown

    trainer.forward_backward = forward_backward
    trainer.run_epoch()
    state = trainer.model.prompt_learner.state_dict().items()
    return losses, {name: value.clone() for name, value in state if torch.is_tensor(value)}


def difference(ours: dict, theirs: dict) -> float:
    return max(((ours[name] - value).abs().max() / value.abs().max()).item() for name, value in theirs.items())


@pytest.fixture(scope="module")
def argv(tmp_path_factory, data_root):
    short = ShortRuns(data_root, tmp_path_factory.mktemp("compiled"))

    def line(method: str, way: str, precision: str = "fp32") -> list[str]:
        keys = {"host": "IVLP"} if method == "Spotlighter" else {}
        return short(method, "DATALOADER.TRAIN_X.BATCH_SIZE", 6, "TRAIN.COMPILE", way, precision=precision, **keys)

    return line


@pytest.mark.parametrize("name", ["MaPLe", "PromptSRC", "CLIPFit", "TextRefiner", "TCP", "MMRL", "MMA", "Spotlighter"])
def test_encoders_are_traced_whole(argv, name, monkeypatch):
    """Each as one graph, once for all steps; the graphs' operations, one by one, give the same numbers."""
    monkeypatch.setattr(module, "compiled", lambda f, way: torch.compile(f, dynamic=False, backend="aot_eager"))
    losses, tensors = learned(argv(name, ""))
    torch._dynamo.reset()
    counters.clear()
    ours, same = learned(argv(name, "compile"))
    assert not counters["graph_break"]
    assert 1 <= counters["stats"]["unique_graphs"] <= 3, counters["stats"]
    assert ours == pytest.approx(losses, rel=1e-5) and difference(same, tensors) < 1e-4


def test_nothing_is_compiled_but_the_step(argv, monkeypatch):
    shapes = []
    monkeypatch.setattr(module, "compiled", lambda f, way: lambda x, *rest: shapes.append(len(x)) or f(x, *rest))
    trainer = built(argv("MaPLe", "compile"))
    trainer.before_train()
    shapes.clear()  # of the trial
    trainer.test()
    assert not shapes
    trainer.run_epoch()
    assert shapes == [6, 3] * 2
    assert not {"encode_image", "encode_prompts"} & set(vars(trainer.model.clip))
    with contextlib.suppress(ZeroDivisionError), trainer.compiled(6):
        1 / 0  # noqa: B018
    assert not {"encode_image", "encode_prompts"} & set(vars(trainer.model.clip))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["MaPLe", "PromptSRC"])
def test_what_is_compiled_computes_the_same(argv, name, precision):
    torch._dynamo.reset()
    losses, tensors = learned(argv(name, "", precision))
    ours, same = learned(argv(name, "compile", precision))
    assert ours == pytest.approx(losses, rel=1e-3) and difference(same, tensors) < 1e-3


@pytest.mark.parametrize(
    "method, way, options, says",
    [
        ("CoOp", "graphs", [], "graphs, which are recordings of a GPU's work, and this run is on the CPU"),
        ("CoOp", "fast", [], "TRAIN.COMPILE is 'fast': it must be one of nothing, compile, graphs"),
        ("ProGrad", "compile", [], "which ProGrad cannot follow, as it takes two gradients of one step"),
        ("CoCoOp", "compile", [], "which CoCoOp cannot follow, as its texts may be encoded in parts"),
        ("CoOp", "compile", ["TRAINER.MEMORY_MB", 0.4], "the text encoder takes its prompts in 3 parts"),
        (
            "Spotlighter",
            "compile",
            ["TRAINER.SPOTLIGHTER.ZOOM", 1],
            "KEEP, ZOOM and JOINT reach into the image encoder",
        ),
    ],
)
def test_what_cannot_be_compiled_is_refused(data_root, tmp_path, capsys, method, way, options, says):
    assert train.main(arguments(data_root, tmp_path, method, options=["TRAIN.COMPILE", way, *options])) == 2
    assert says in capsys.readouterr().err and not list(tmp_path.rglob("*.tar*"))


def test_a_machine_without_a_compiler(data_root, tmp_path, capsys, monkeypatch):
    def fails(function, way):
        raise RuntimeError("no working compiler\nand much more")

    monkeypatch.setattr(module, "compiled", fails)
    monkeypatch.setattr(module, "CompiledEncoders", None)
    assert train.main(arguments(data_root, tmp_path, options=["TRAIN.COMPILE", "compile"])) == 2
    error = capsys.readouterr().err
    assert "cannot compile here (no working compiler): install a C++ compiler" in error and "much more" not in error
