"""Files, seeds, registry, meters, log and checkpoints (../dassl/utils)."""

import io
import json
import os
import random
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import torch.nn as nn
from yacs.config import CfgNode

from clip.checkpoint import replace_file as clip_replace_file
from dassl.optim import build_lr_scheduler
from dassl.utils import (
    AverageMeter,
    InputError,
    Logger,
    MetricMeter,
    Registry,
    count_num_param,
    files,
    load_checkpoint,
    load_pretrained_weights,
    mkdir_if_missing,
    open_all_layers,
    open_specified_layers,
    read_image,
    resume_from_checkpoint,
    save_checkpoint,
    set_random_seed,
    setup_logger,
    write_json,
)
from tests.helpers import REPOSITORY
from tests.inert.written import save_as_upstream, upstream_schedule


def test_seed():
    draws = []
    for _ in range(2):
        set_random_seed(3)
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert draws[0] == draws[1]
    random.seed(3)
    assert draws[0][0] == random.random()


class TestRegistry:
    def test_decorator_and_function(self):
        registry = Registry("ANIMAL")

        @registry.register()
        class Cat:
            pass

        registry.register(dict)
        assert registry.get("Cat") is Cat and registry.registered_names() == ["Cat", "dict"] and "Cat" in registry

    def test_unknown_name(self):
        registry = Registry("ANIMAL")
        registry.register(dict)
        with pytest.raises(InputError, match="ANIMAL 'dicd' is unknown; the nearest name is 'dict'"):
            registry.get("dicd")
        with pytest.raises(InputError, match="'DICT' is unknown; the nearest name is 'dict'"):
            registry.get("DICT")
        with pytest.raises(InputError, match="^The ANIMAL is empty: choose one of dict.$"):
            registry.get("")

    def test_a_second_one_of_the_same_name(self):
        registry = Registry("ANIMAL")
        one, two = type("Cat", (), {"__module__": "zoo"}), type("Cat", (), {"__module__": "farm"})
        registry.register(one)
        with pytest.raises(InputError, match=r"farm.py registers a ANIMAL named Cat, as zoo.py does"):
            registry.register(two)
        registry.register(two, force=True)
        assert registry.get("Cat") is two


def test_meters():
    meter = AverageMeter()
    meter.update(torch.tensor(1.0))
    meter.update(4.0, n=2)
    assert (meter.val, meter.avg, meter.count) == (4.0, 3.0, 3)
    metrics = MetricMeter()
    metrics.update({"loss": 1.0, "acc": torch.tensor(50.0)})
    metrics.update({"loss": 2.0, "acc": 100.0})
    assert str(metrics) == "loss 2.0000 (1.5000) acc 100.0000 (75.0000)"
    metrics.update(None)
    with pytest.raises(TypeError, match="float"):
        metrics.update(1.0)


def test_log_keeps_what_is_there(tmp_path):
    """In a process of its own, since standard output is replaced."""
    code = (
        f"from dassl.utils import setup_logger; import sys; setup_logger({str(tmp_path)!r}); print('hello'); "
        "assert not sys.stdout.isatty(); sys.stdout.encoding; sys.stdout.flush()"
    )
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
        assert done.stdout == "hello\n"
    logs = sorted(path.name for path in tmp_path.iterdir())
    assert len(logs) == 2 and logs[0] == "log.txt" and logs[1].startswith("log.txt-")
    assert all((tmp_path / name).read_text() == "hello\n" for name in logs)


def test_images(tmp_path):
    from PIL import Image

    Image.new("L", (4, 6), 7).save(tmp_path / "grey.png")
    assert read_image(str(tmp_path / "grey.png")).mode == "RGB"
    turned = Image.new("RGB", (4, 6))
    exif = turned.getexif()
    exif[0x0112] = 6  # orientation: a quarter turn
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(str(tmp_path / "turned.jpg")).size == (6, 4)
    (tmp_path / "broken.png").write_bytes((tmp_path / "grey.png").read_bytes()[:40])
    with pytest.raises(InputError, match=r"broken\.png cannot be read"):
        read_image(str(tmp_path / "broken.png"))
    with pytest.raises(InputError, match="does not exist"):
        read_image(str(tmp_path / "nowhere.png"))


# --- checkpoints ---------------------------------------------------------------------------------------------------


def state_of(model, epoch=2, **more):
    return {
        "state_dict": model.state_dict(),
        "epoch": epoch,
        "optimizer": None,
        "scheduler": None,
        "val_result": None,
        **more,
    }


def test_layout(tmp_path):
    model = nn.DataParallel(nn.Linear(2, 2))
    save_checkpoint(state_of(model), str(tmp_path), is_best=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint", "model-best.pth.tar", "model.pth.tar-2"]
    assert (tmp_path / "checkpoint").read_text() == "model.pth.tar-2\n"
    checkpoint = load_checkpoint(str(tmp_path / "model.pth.tar-2"))
    assert list(checkpoint["state_dict"]) == ["weight", "bias"]  # module. is stripped
    assert checkpoint["epoch"] == 2
    fresh = nn.Linear(2, 2)
    assert resume_from_checkpoint(str(tmp_path), fresh) == 2
    assert torch.equal(fresh.weight, model.module.weight)


def test_a_failed_write_loses_nothing(tmp_path, monkeypatch):
    save_checkpoint(state_of(nn.Linear(2, 2)), str(tmp_path))
    before = (tmp_path / "model.pth.tar-2").read_bytes()

    def half(state, file):
        file.write(b"half a checkpoint")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(InputError, match=r"model\.pth\.tar-2 could not be written \(No space left on device\)"):
        save_checkpoint(state_of(nn.Linear(2, 2)), str(tmp_path))
    assert (tmp_path / "model.pth.tar-2").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint", "model.pth.tar-2"]


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(*args, **keywords):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("dassl.utils.files.new_file", refuse)
    with pytest.raises(InputError, match="Nothing can be written into .*Permission denied"):
        write_json({}, str(tmp_path / "a.json"))
    monkeypatch.setattr(os, "makedirs", refuse)
    with pytest.raises(InputError, match=r"The folder .*b cannot be made \(Permission denied\)"):
        mkdir_if_missing(str(tmp_path / "b"))


@pytest.mark.parametrize("mask, mode", [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_the_rights_that_the_umask_leaves(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        write_json({}, str(tmp_path / "a.json"))
        clip_replace_file(tmp_path / "b", lambda file: file.write(b"b"))
    finally:
        os.umask(before)
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("a.json", "b")} == {mode}


def test_bytes_are_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    """And the name too, before anybody relies on it."""
    done = []
    monkeypatch.setattr(os, "fsync", lambda handle: done.append(f"sync {os.readlink(f'/proc/self/fd/{handle}')}"))
    monkeypatch.setattr(os, "replace", lambda old, new: done.append(f"replace {old}") or os.rename(old, new))
    write_json({}, str(tmp_path / "a.json"))
    temporary = done[1].removeprefix("replace ")
    assert done == [f"sync {temporary}", f"replace {temporary}", f"sync {tmp_path}"]


@pytest.mark.parametrize("call", range(1, 40, 3))
def test_an_interrupt_while_a_checkpoint_is_written_is_an_interrupt(tmp_path, monkeypatch, call):
    """Wherever it comes; the former file stays, or the new one is there, and nothing else."""
    path, calls = tmp_path / "model.pth.tar-2", []
    save_checkpoint(state_of(nn.Linear(2, 2)), str(tmp_path))

    class Interrupted(io.BufferedWriter):
        def write(self, content):
            calls.append(content)
            if len(calls) == call:
                raise KeyboardInterrupt
            return super().write(content)

    make = files.new_file
    monkeypatch.setattr(files, "new_file", lambda *of: ((made := make(*of))[0], Interrupted(made[1].detach())))
    try:
        save_checkpoint(state_of(nn.Linear(3, 3)), str(tmp_path))
    except KeyboardInterrupt:
        assert len(calls) >= call  # the writer goes on to its end
    else:
        assert len(calls) < call
    assert load_checkpoint(str(path))["epoch"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint", "model.pth.tar-2"]


def test_what_a_killed_process_left_goes(tmp_path):
    """In a run's folder at once, by who has its lock; elsewhere when it is old, as another may be writing there."""
    for name in (".a.json.0123.part", ".b.json.0123.part", "c.part"):
        (tmp_path / name).touch()
    write_json({}, str(tmp_path / "a.json"))
    assert (tmp_path / ".a.json.0123.part").exists()
    os.utime(tmp_path / ".a.json.0123.part", (1, 1))
    os.utime(tmp_path / ".b.json.0123.part", (1, 1))
    write_json({}, str(tmp_path / "a.json"))
    assert sorted(p.name for p in tmp_path.iterdir()) == [".b.json.0123.part", "a.json", "c.part"]
    files.remove_leftovers(str(tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "c.part"]


def test_a_full_disk(tmp_path):
    """A limit on the size of files, in a process of its own: the former checkpoint still loads."""
    save_checkpoint(state_of(nn.Linear(2, 2)), str(tmp_path))
    code = (
        "import resource, torch.nn as nn; from dassl.utils import save_checkpoint, InputError\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))\n"
        "model = nn.Linear(100, 100)\n"
        f"save_checkpoint({{'state_dict': model.state_dict(), 'epoch': 2}}, {str(tmp_path)!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode != 0 and "could not be written" in done.stderr
    assert load_checkpoint(str(tmp_path / "model.pth.tar-2"))["state_dict"]["weight"].shape == (2, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint", "model.pth.tar-2"]


def test_bad_checkpoints(tmp_path):
    save_checkpoint(state_of(nn.Linear(2, 2)), str(tmp_path))
    path = tmp_path / "model.pth.tar-2"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=r"model\.pth\.tar-2 .*cut short"):
        load_checkpoint(str(path))
    with pytest.raises(InputError, match="does not exist"):
        load_checkpoint(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="No path"):
        load_checkpoint("")
    path.write_bytes(b"<html>sign in</html>")
    with pytest.raises(
        InputError, match=r"model\.pth\.tar-2 is a web page and no checkpoint: download the file itself"
    ):
        load_checkpoint(str(path))
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(InputError, match=r"holds a torch\.nn\.modules\.linear\.Linear and no state dict"):
        load_checkpoint(str(path))


# those of upstream Dassl, whose warm-up pickles an object


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_after_upstreams_warm_up(tmp_path, zipped):
    model = nn.Linear(2, 2)
    state = state_of(model, epoch=5, scheduler=upstream_schedule(model.parameters()), val_result=np.float64(50))
    save_as_upstream(state, tmp_path / "model.pth.tar-5", zipped)
    checkpoint = load_checkpoint(str(tmp_path / "model.pth.tar-5"))
    assert torch.equal(checkpoint["state_dict"]["weight"], model.weight)
    assert (checkpoint["epoch"], checkpoint["val_result"], checkpoint["scheduler"]["warmup_epoch"]) == (5, 50.0, 1)
    assert str(checkpoint["scheduler"]["successor"]) == "<upstream_lr_scheduler.CosineAnnealingLR, not loaded>"


def test_starting_from_it(tmp_path, capsys):
    """INIT_WEIGHTS, with the prefixes of wrapped models."""
    source, model = nn.Linear(2, 2), nn.Linear(2, 2)
    state = {f"module._orig_mod.{name}": value for name, value in source.state_dict().items()}
    schedule = upstream_schedule(source.parameters())
    save_as_upstream({"state_dict": {**state, "module._extra_state": 3}, "scheduler": schedule}, tmp_path / "w.pt")
    load_pretrained_weights(model, str(tmp_path / "w.pt"))
    assert torch.equal(model.weight, source.weight) and torch.equal(model.bias, source.bias)
    assert "Left out" not in capsys.readouterr().out


SCHEDULE = dict(
    LR_SCHEDULER="cosine", GAMMA=0.1, MAX_EPOCH=8, WARMUP_EPOCH=1, WARMUP_TYPE="constant", WARMUP_CONS_LR=1e-5,
    WARMUP_MIN_LR=1e-5, WARMUP_RECOUNT=True, STEPSIZE=(-1,),
)  # fmt: skip


def parts():
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.002, momentum=0.9)
    return model, optimizer, build_lr_scheduler(optimizer, CfgNode(SCHEDULE))


def rates(optimizer, scheduler, epochs: int) -> list[float]:
    seen = []
    for _ in range(epochs):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def write_upstreams_last(folder, **more):
    model, optimizer, _ = parts()
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = state_of(model, 5, optimizer=optimizer.state_dict(), scheduler=upstream_schedule(model.parameters()))
    save_as_upstream({**state, **more}, folder / "model.pth.tar-5")
    (folder / "checkpoint").write_text("model.pth.tar-5\n")
    return optimizer


def test_going_on_from_it(tmp_path, capsys):
    """The optimiser's state is its own, and the rates are those of a run of this config that has come as far."""
    theirs = write_upstreams_last(tmp_path)
    model, optimizer, scheduler = parts()
    assert resume_from_checkpoint(str(tmp_path), model, optimizer, scheduler) == 5
    assert "CosineAnnealingLR, which is not loaded: the rates go on by this run's config" in capsys.readouterr().out
    momentum = [state["momentum_buffer"] for state in optimizer.state.values()]
    assert all(map(torch.equal, momentum, [state["momentum_buffer"] for state in theirs.state.values()]))
    assert rates(optimizer, scheduler, 3) == rates(*parts()[1:], 8)[5:]


def test_an_optimiser_of_other_code_is_refused(tmp_path):
    write_upstreams_last(tmp_path, optimizer={"state": {}, "param_groups": [torch.optim.SGD]})
    with pytest.raises(InputError, match=r"The optimiser in .* holds torch\.optim\.sgd\.SGD.*MODEL\.INIT_WEIGHTS"):
        resume_from_checkpoint(str(tmp_path), *parts())


def test_a_file_without_an_epoch_is_not_gone_on_from(tmp_path):
    write_upstreams_last(tmp_path, epoch="last")
    with pytest.raises(InputError, match="no state_dict and epoch to go on from"):
        resume_from_checkpoint(str(tmp_path), *parts())


def test_a_checkpoint_of_another_model(tmp_path):
    save_checkpoint(state_of(nn.Linear(2, 2)), str(tmp_path))
    with pytest.raises(InputError, match="does not fit the run"):
        resume_from_checkpoint(str(tmp_path), nn.Linear(3, 2))


def test_pretrained_weights(tmp_path, capsys):
    source, model = nn.Linear(2, 3), nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    state = {"0.weight": source.weight, "0.bias": source.bias, "1.weight": torch.zeros(9, 9)}
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "w.pt")
    load_pretrained_weights(model, str(tmp_path / "w.pt"))
    assert torch.equal(model[0].weight, source.weight)
    assert "1.weight" in capsys.readouterr().out
    with pytest.raises(InputError, match="Nothing in"):
        load_pretrained_weights(nn.Linear(7, 7), str(tmp_path / "w.pt"))


def test_json_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "sub" / "a.json"
    write_json({"a": 1}, str(path))
    with pytest.raises(TypeError):
        write_json({"a": object()}, str(path))
    assert json.loads(path.read_text()) == {"a": 1}
    assert len(list(path.parent.iterdir())) == 1


def test_open_layers():
    model = nn.Sequential()
    model.add_module("a", nn.Linear(1, 1))
    model.add_module("ab", nn.Linear(1, 1))
    open_specified_layers(model, "a")
    assert [p.requires_grad for p in model.parameters()] == [True, True, False, False]
    assert model.a.training and not model.ab.training
    open_all_layers(model)
    assert all(p.requires_grad for p in model.parameters()) and count_num_param(model) == 4
    with pytest.raises(InputError, match="'b' is no child"):
        open_specified_layers(model, ["b"])


def test_a_log_that_cannot_be_written_is_one_sentence(monkeypatch, capsys):
    """And what is printed after it does not fail again, nor does its end."""
    monkeypatch.setattr(sys, "stdout", logger := Logger("/dev/full"))
    with pytest.raises(InputError, match=r"^/dev/full cannot be written \(No space left on device\): make room"):
        print("much " * 10_000, flush=True)
    print("more", flush=True)
    logger.close()
    assert capsys.readouterr().out.endswith("more\n")


def test_no_log_takes_the_place_of_a_former_one(tmp_path, monkeypatch):
    """Though the clock says what it said then."""
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(time, "strftime", lambda _: "-then")
    for number in range(4):
        setup_logger(str(tmp_path))
        print(number, flush=True)
    sys.stdout.close()
    names = ["log.txt", "log.txt-then", "log.txt-then-2", "log.txt-then-3"]
    assert [(tmp_path / name).read_text() for name in names] == ["0\n", "1\n", "2\n", "3\n"]
