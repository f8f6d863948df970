"""Optimisers and schedules (../dassl/optim)."""

import pytest
import torch
import torch.nn as nn

from dassl.config import get_cfg_default, merge_options
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.optim.radam import RAdam
from dassl.utils import InputError

COSINE = ["NAME", "sgd", "LR", 0.002, "LR_SCHEDULER", "cosine", "MAX_EPOCH", 6]
CONSTANT = [*COSINE, "WARMUP_EPOCH", 1, "WARMUP_TYPE", "constant"]
LINEAR = [*COSINE, "WARMUP_EPOCH", 3, "WARMUP_TYPE", "linear"]


def optim_cfg(settings):
    cfg = get_cfg_default()
    merge_options(cfg, [f"OPTIM.{x}" if i % 2 == 0 else x for i, x in enumerate(settings)])
    return cfg.OPTIM


def rates(settings, epochs=6):
    optimizer = build_optimizer(nn.Linear(1, 1), optim_cfg(settings))
    scheduler, seen = build_lr_scheduler(optimizer, optim_cfg(settings)), []
    for _ in range(epochs):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (COSINE, [0.002, 0.001866, 0.0015, 0.001, 0.0005, 0.000134]),
        (CONSTANT, [1e-5, 0.002, 0.001866, 0.0015, 0.001, 0.0005]),
        (LINEAR, [1e-5, 0.000667, 0.001333, 0.002, 0.001866, 0.0015]),
        ([*CONSTANT, "WARMUP_RECOUNT", False], [1e-5, 0.001866, 0.0015, 0.001, 0.0005, 0.000134]),
        (["LR", 1.0, "LR_SCHEDULER", "single_step", "STEPSIZE", (2,)], [1, 1, 0.1, 0.1, 0.01, 0.01]),
        (["LR", 1.0, "LR_SCHEDULER", "single_step"], [1.0] * 6),
        (["LR", 1.0, "LR_SCHEDULER", "multi_step", "STEPSIZE", (1, 4)], [1, 0.1, 0.1, 0.1, 0.01, 0.01]),
    ],
)
def test_schedules(settings, expected):
    assert rates(settings) == pytest.approx(expected, abs=5e-7)


@pytest.mark.parametrize("settings", [COSINE, CONSTANT, LINEAR])
@pytest.mark.parametrize("stop", [1, 2, 4])
def test_a_resumed_schedule_goes_on(settings, stop, tmp_path):
    """Through a file that holds plain values only, in the middle of the warm-up or after it."""
    whole = rates(settings)
    cfg = optim_cfg(settings)
    optimizer = build_optimizer(nn.Linear(1, 1), cfg)
    scheduler = build_lr_scheduler(optimizer, cfg)
    for _ in range(stop):
        optimizer.step()
        scheduler.step()
    torch.save([optimizer.state_dict(), scheduler.state_dict()], tmp_path / "s.pt")
    optimizer = build_optimizer(nn.Linear(1, 1), cfg)
    scheduler = build_lr_scheduler(optimizer, cfg)
    for part, state in zip((optimizer, scheduler), torch.load(tmp_path / "s.pt", weights_only=True), strict=True):
        part.load_state_dict(state)
    seen = []
    for _ in range(6 - stop):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert seen == whole[stop:]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adam", "Adam"),
        ("amsgrad", "Adam"),
        ("sgd", "SGD"),
        ("rmsprop", "RMSprop"),
        ("radam", "RAdam"),
        ("adamw", "AdamW"),
    ],
)
def test_optimisers(name, kind):
    cfg = optim_cfg(["NAME", name, "LR", 0.1])
    optimizer = build_optimizer(nn.Linear(1, 1), cfg)
    assert type(optimizer).__name__ == kind
    assert optimizer.defaults["lr"] == 0.1 and optimizer.defaults["weight_decay"] == 5e-4
    assert optimizer.defaults.get("amsgrad", False) == (name == "amsgrad")
    assert RAdam is torch.optim.RAdam


def test_what_may_be_optimised():
    cfg = optim_cfg(["NAME", "sgd", "LR", 0.1])
    parameter = nn.Parameter(torch.zeros(3))
    assert build_optimizer([parameter], cfg).param_groups[0]["params"] == [parameter]
    assert build_optimizer([{"params": [parameter], "lr": 0.5}], cfg).param_groups[0]["lr"] == 0.5
    assert build_optimizer(None, cfg, param_groups=[parameter]).param_groups[0]["params"] == [parameter]


def test_staged_rates_go_by_exact_names():
    model = nn.Sequential()
    model.add_module("head", nn.Linear(1, 1))
    model.add_module("head2", nn.Linear(1, 2))
    groups = build_optimizer(
        model, optim_cfg(["NAME", "sgd", "LR", 1.0, "STAGED_LR", True, "NEW_LAYERS", ("head",)])
    ).param_groups
    assert [group["lr"] for group in groups] == [0.1, 1.0]
    assert {id(p) for p in groups[1]["params"]} == {id(p) for p in model.head.parameters()}
    with pytest.raises(InputError, match="'tail'"):
        build_optimizer(model, optim_cfg(["STAGED_LR", True, "NEW_LAYERS", ("tail",)]))


@pytest.mark.parametrize(
    "setting", [["NAME", "sgdd"], ["LR_SCHEDULER", "cos"], ["WARMUP_EPOCH", 1, "WARMUP_TYPE", "lin"]]
)
def test_unknown_names(setting):
    with pytest.raises(InputError, match="choose one of"):
        rates(setting)
