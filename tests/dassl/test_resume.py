"""What a checkpoint gives an optimiser and a schedule, and what the config of the run that goes on (../dassl/utils)."""

import pytest
import torch
import torch.nn as nn

from dassl.config import get_cfg_default, merge_options
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import InputError, resume_from_checkpoint, save_checkpoint
from dassl.utils.resume import random_states


def optimised(name="sgd", named=True, **settings):
    """A model, its optimiser after one step, and what a checkpoint says of the two."""
    cfg = get_cfg_default()
    merge_options(cfg, [part for key, value in {"NAME": name, **settings}.items() for part in (f"OPTIM.{key}", value)])
    cfg = cfg.OPTIM
    model = nn.Linear(2, 2)
    optimizer = build_optimizer(model, cfg)
    schedule = build_lr_scheduler(optimizer, cfg)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    kind = {"optimizer_class": type(optimizer).__name__} if named else {}
    state = {"state_dict": model.state_dict(), "epoch": 1, "optimizer": optimizer.state_dict(), **kind}
    return model, optimizer, schedule, state


@pytest.mark.parametrize(
    "settings",
    [
        {"LR": 0.5},
        {"MOMENTUM": 0.5},
        {"WEIGHT_DECAY": 0.1},
        {"SGD_DAMPNING": 1},
        {"SGD_NESTEROV": True, "SGD_DAMPNING": 0},
    ],
)
def test_settings_are_this_runs_and_momentum_is_the_checkpoints(tmp_path, settings):
    _, theirs, _, state = optimised()
    save_checkpoint(state, str(tmp_path))
    model, optimizer, schedule, _ = optimised(**settings)
    expected = {key: value for key, value in optimizer.param_groups[0].items() if key != "params"}
    resume_from_checkpoint(str(tmp_path), model, optimizer, schedule)
    assert {key: value for key, value in optimizer.param_groups[0].items() if key != "params"} == expected
    for ours, other in zip(optimizer.state.values(), theirs.state.values(), strict=True):
        assert torch.equal(ours["momentum_buffer"], other["momentum_buffer"])
    optimizer.step()


def test_a_schedule_of_other_code_has_its_own_rates(tmp_path):
    """And so has the optimiser that it sets: both are the checkpoint's."""
    model, optimizer, _, state = optimised()
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    schedule.step()
    save_checkpoint({**state, "optimizer": optimizer.state_dict(), "scheduler": schedule.state_dict()}, str(tmp_path))
    rate = optimizer.param_groups[0]["lr"]
    model, optimizer, _, _ = optimised(LR=0.5)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    resume_from_checkpoint(str(tmp_path), model, optimizer, schedule)
    assert optimizer.param_groups[0]["lr"] == rate and schedule.step_size == 1


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("sgd", "adam", True),
        ("adam", "adamw", True),
        ("adam", "radam", True),
        ("sgd", "adam", False),
        ("adam", "sgd", False),
        ("adam", "rmsprop", False),
        ("adam", "radam", False),
        ("adam", "amsgrad", False),
        ("amsgrad", "adam", True),
    ],
)
def test_another_kind_of_optimiser_is_refused(tmp_path, before, after, named):
    """By the name of its class, or of an older checkpoint by what it can be set to."""
    save_checkpoint(optimised(before, named)[-1], str(tmp_path))
    with pytest.raises(InputError, match=r"another optimiser than this run's.* OPTIM\.NAME that it had"):
        resume_from_checkpoint(str(tmp_path), *optimised(after)[:3])
    resume_from_checkpoint(str(tmp_path), *optimised(before)[:3])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content.update(epoch=True),
        lambda content: content.update(epoch=-1),
        lambda content: content.update(epoch=content["epoch"] + 1),
        lambda content: content["optimizer"].update(state=[]),
        lambda content: content["optimizer"]["param_groups"][0].update(params=[0, 0]),
        lambda content: content["optimizer"]["state"][0].update(momentum_buffer=torch.zeros(9, 9)),
        lambda content: content["optimizer"]["state"][0].update(momentum_buffer=0),
        lambda content: content["scheduler"].update(last_epoch="1"),
        lambda content: content.update(scheduler=torch.zeros(2)),
        lambda content: content.update(random_states={"python": [1, 2]}),
        lambda content: content.update(random_states=random_states() | {"cuda": [torch.zeros(2)]}),
        lambda content: content["state_dict"].update(weight="x"),
    ],
)
def test_spoilt_content_is_refused(tmp_path, spoil):
    *parts, content = optimised()
    content["scheduler"] = parts[-1].state_dict()
    save_checkpoint(content, str(tmp_path))
    resume_from_checkpoint(str(tmp_path), *parts)
    spoil(content)
    torch.save(content, next(tmp_path.glob("model*")))
    with pytest.raises(InputError, match=r"MODEL\.INIT_WEIGHTS|as it was saved|same method"):
        resume_from_checkpoint(str(tmp_path), *parts)


def test_momentum_that_rmsprop_cannot_begin_with(tmp_path):
    save_checkpoint(optimised("rmsprop", MOMENTUM=0)[-1], str(tmp_path))
    with pytest.raises(InputError, match=r"without momentum: resume with OPTIM\.MOMENTUM 0"):
        resume_from_checkpoint(str(tmp_path), *optimised("rmsprop", MOMENTUM=0.9)[:3])


def test_other_groups_of_parameters_are_refused(tmp_path):
    save_checkpoint(optimised()[-1], str(tmp_path))
    model, _, _, _ = optimised()
    optimizer = torch.optim.SGD([{"params": [p]} for p in model.parameters()], lr=0.1)
    for schedule in (build_lr_scheduler(optimizer, get_cfg_default().OPTIM), None):
        with pytest.raises(InputError, match=r"other groups of parameters.*OPTIM\.STAGED_LR"):
            resume_from_checkpoint(str(tmp_path), model, optimizer, schedule)
