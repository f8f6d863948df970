"""Whole runs of Spotlighter through train.py: tokens dropped, regions looked at again, hosts, and what is refused."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

import train
from dassl.engine import TRAINER_REGISTRY, TrainerX, build_trainer
from dassl.evaluation import Classification
from one_run import work
from tests.helpers import REPOSITORY, results
from tests.trainers.spotlighter.runs import EPOCHS, ZERO_SHOT, PlainHost, PlugInHost, learned, line, one_sentence
from tests.trainers.spotlighter.world import SECOND_LOOK
from trainers.shared import clip_trainer
from trainers.spotlighter import fit, over_host
from trainers.spotlighter.head import SpotlighterHead
from trainers.spotlighter.trained import Scalars
from trainers.spotlighter.zoom import window_centres

LOOKS = {"KEEP": 0.6, "ZOOM": 3, "DROP_AFTER": "(1, 2)"}


def scalars_of(output) -> dict:
    state = learned(output, "spotlighter")
    return {name.removeprefix("scalars."): value for name, value in state.items() if name.startswith("scalars.")}


@pytest.fixture(scope="module")
def runs(data_root, tmp_path_factory):
    """CoOp alone; Spotlighter without tokens dropped; and with both forms of selection, whose test logits are kept.

    Which second look is the best does not matter here, only that there is one: it is set.
    """
    root = tmp_path_factory.mktemp("runs")
    torch.set_num_threads(1)
    assert train.main(line(data_root, root / "alone", "CoOp")) == 0
    assert train.main(line(data_root, root / "whole", KEEP=1.0)) == 0
    logits, process = [], Classification.process
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(over_host, "choose_zoom", lambda *args: SECOND_LOOK)
        patch.setattr(Classification, "process", lambda self, mo, gt: logits.append(mo) or process(self, mo, gt))
        assert train.main(line(data_root, root / "looks", **LOOKS)) == 0
    torch.save(torch.cat(logits), root / "looks.pt")
    return root


# --- how many numbers are trained ------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["CoOp", "ZeroshotCLIP"])
def test_lite_trains_21_scalars(data_root, tmp_path, host, capsys):
    assert train.main(line(data_root, tmp_path, HOST=host)) == 0
    log = capsys.readouterr().out
    beside = "beside the host's prompts" if host == "CoOp" else "and nothing else"
    assert f"Spotlighter over {host}: 21 trainable scalars {beside}" in log
    record = results(tmp_path)
    assert record["extra_trainable_parameters"] == 21
    assert record["trainable_parameters"] == 21 + (4 * 128 if host == "CoOp" else 0)
    mine, start = scalars_of(tmp_path), Scalars().state_dict()
    assert sum(value.numel() for value in mine.values()) == 21 and mine.keys() == start.keys()
    assert all((mine[name] != start[name]).all() for name in start)  # they were fitted
    assert "tau_b" not in log


def test_too_few_classes_keep_tau_b(data_root, tmp_path, capsys, monkeypatch):
    for module in (over_host, fit):
        monkeypatch.setattr(module, "FEWEST_CLASSES", 4)
    assert train.main(line(data_root, tmp_path)) == 0
    assert capsys.readouterr().out.count("keeps its initial tau_b: of 3 classes none") == 1
    assert torch.equal(scalars_of(tmp_path)["tau_b"], Scalars().tau_b)


def test_full_trains_the_mapping_modules(data_root, tmp_path, capsys):
    assert train.main(line(data_root, tmp_path / "full", HEAD="full")) == 0
    log = capsys.readouterr().out
    assert train.main(line(data_root, tmp_path / "unfitted", HEAD="full", FIT=False)) == 0
    extra = results(tmp_path / "full")["extra_trainable_parameters"]
    assert f"{extra:,} trainable numbers" in log
    fitted, start = learned(tmp_path / "full", "spotlighter"), learned(tmp_path / "unfitted", "spotlighter")
    names = [name for name in fitted if name.startswith("mapping.")]
    assert extra == 21 + sum(fitted[name].numel() for name in names) and extra > 100_000
    assert results(tmp_path / "full")["trainable_parameters"] == extra + 4 * 128
    assert all((fitted[name] - start[name]).abs().max() > 0 for name in names)
    assert any((fitted[name] - start[name]).abs().max() > 1e-3 for name in names)


def test_full_does_not_depend_on_how_often_it_is_saved(data_root, tmp_path):
    states = []
    for frequency in (0, 1):
        output = tmp_path / str(frequency)
        assert train.main(line(data_root, output, HEAD="full", options=["TRAIN.CHECKPOINT_FREQ", frequency])) == 0
        states.append(learned(output, "spotlighter"))
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0] if key != "_extra_state")


# --- the host trains as it does alone --------------------------------------------------------------------------------


def context(output):
    return learned(output, "prompt_learner")["ctx"]


@pytest.mark.parametrize("keys", [{"ZOOM": 3}, {"ZOOM": 1, "DROP_AFTER": "(3,)", "FIT": False}])
def test_the_context_is_that_of_the_host_alone(runs, data_root, tmp_path, keys):
    assert torch.equal(context(runs / "whole"), context(runs / "alone"))
    options = ["TRAIN.CHECKPOINT_FREQ", 1]  # so that the head is fitted between its epochs, too
    assert train.main(line(data_root, tmp_path, KEEP=1.0, options=options, **keys)) == 0
    assert torch.equal(context(tmp_path), context(runs / "alone"))


def test_the_context_is_that_of_the_host_alone_under_the_full_head(runs, data_root, tmp_path):
    assert train.main(line(data_root, tmp_path, HEAD="full", FIT=False)) == 0
    assert torch.equal(context(tmp_path), context(runs / "alone"))


def test_joint_training_reaches_the_context(runs, data_root, tmp_path, capsys):
    assert train.main(line(data_root, tmp_path, JOINT=True)) == 0
    assert (context(tmp_path) - context(runs / "alone")).abs().max() > 1e-6  # after two short epochs
    start = Scalars().state_dict()
    moved = {name for name, value in scalars_of(tmp_path).items() if (value - start[name]).abs().max() > 1e-4}
    assert {"delta", "alpha", "g", "b", "omega", "tau_b"} <= moved  # in step with the host
    assert "loss_head" in capsys.readouterr().out


# --- tokens dropped, regions looked at again -------------------------------------------------------------------------


def test_dropping_reaches_the_head(runs):
    """64 tokens, then 38, then 23; the head and the buffers of the drop are saved together."""
    state = learned(runs / "looks", "spotlighter")
    assert state["drop.probe"].shape == state["drop.mean"].shape == (2, state["drop.probe"].shape[1])
    assert state["drop.prototypes"].shape == (2, 3, state["drop.probe"].shape[1])
    assert state["drop.probe"].abs().max() > 0 and state["again_map"].shape == (128, 128)
    assert not [name for name in learned(runs / "whole", "spotlighter") if name.startswith("drop.")]
    assert results(runs / "looks")["state"] == "finished"
    assert results(runs / "looks")["extra_trainable_parameters"] == 21


OTHER_PROCESS = """
import sys
import torch
import train
from dassl.evaluation import Classification

torch.set_num_threads(1)
logits, process = [], Classification.process
Classification.process = lambda self, mo, gt: logits.append(mo) or process(self, mo, gt)
code = train.main(sys.argv[2:])
torch.save(torch.cat(logits), sys.argv[1])
sys.exit(code)
"""


def test_another_process_gives_the_same_logits(runs, data_root, tmp_path):
    """To the bit, and so the same accuracy."""
    test = line(data_root, tmp_path / "test", model_dir=runs / "looks", eval_only=True, **LOOKS)
    command = [sys.executable, "-c", OTHER_PROCESS, str(tmp_path / "logits.pt"), *test]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    logits = torch.load(tmp_path / "logits.pt"), torch.load(runs / "looks.pt")
    assert logits[0].shape == (12, 3) and torch.isfinite(logits[0]).all()
    assert torch.equal(*logits)
    for field in ("accuracy", "classwise", "macro_f1"):
        assert results(tmp_path / "test")[field] == results(runs / "looks")[field]


def trainer_of(data_root, runs, output, subsample, **keys):
    """A trainer with the checkpoint of the run `looks`."""
    cfg = train.build_config(train.parse_arguments(line(data_root, output, subsample=subsample, **{**LOOKS, **keys})))
    trainer = build_trainer(cfg)
    trainer.load_model(str(runs / "looks"), epoch=EPOCHS)
    trainer.set_model_mode("eval")
    return trainer


@torch.no_grad()
def test_inductive(runs, data_root, tmp_path):
    """Of the new classes, what else is in the batch, and how much, moves no image's logits."""
    trainer = trainer_of(data_root, runs, tmp_path, "new")
    images = next(iter(trainer.test_loader))["img"]  # (8, 3, 64, 64)
    logits = trainer.model_inference(images)
    assert logits.shape == (8, 2) and logits.std() > 0.1
    assert trainer.head.zoom == SECOND_LOOK and trainer.head.drop.alive.shape == (8 * 3, 23)  # of the windows
    for other in (torch.randn(images.shape), images.flip(0), torch.zeros(images.shape)):
        for b in (0, 5):
            batch = other.clone()
            batch[b] = images[b]
            torch.testing.assert_close(trainer.model_inference(batch)[b], logits[b], atol=1e-4, rtol=0)
    for b in range(8):
        torch.testing.assert_close(trainer.model_inference(images[b : b + 1])[0], logits[b], atol=1e-4, rtol=0)


@torch.no_grad()
def test_logits_by_hand(runs, data_root, tmp_path):
    """The first look, and a second one at the three regions that the first's attention points to, half each."""
    trainer = trainer_of(data_root, runs, tmp_path, "base")
    images = next(iter(trainer.test_loader))["img"]
    classes, head, model = trainer.encode_classes(), trainer.head, trainer.model
    f, v = model.image_features(images, tokens=True)
    assert v.shape == (12, 23, 128)
    first, maps = head.logits(f, v, classes, head.bank), trainer.spotlit.maps.maps
    assert (~maps[:, 0].isnan()).sum() == 12 * 38 and (~maps[:, 1].isnan()).sum() == 12 * 23
    again = []
    for image, activation in zip(images, maps[:, 1], strict=True):
        for centre in window_centres(activation[None], 3)[0]:
            left, top = (64 * (centre.clamp(0.25, 0.75) - 0.25)).tolist()
            rows, columns = (
                ((torch.arange(64) + 0.5) / 2 + start - 0.5).clamp(0, 63)[:, None] - torch.arange(64)
                for start in (top, left)
            )  # (64, 64) distances to pixels
            spread = [(1 - distance.abs()).clamp_min(0) for distance in (rows, columns)]
            again.append(torch.einsum("ir,crs,js->cij", spread[0], image, spread[1]))
    again = model.image_features(torch.stack(again)).view(12, 3, -1)
    away = again - head.again_mean
    q = head.scalars
    u = again - q.g * head.again_mean + q.alpha * q.omega[0] * away @ head.again_map
    cosines = F.normalize(u, dim=-1) @ classes.text.t()
    second = (head.logit_scale * q.delta.exp() * cosines).exp().mean(dim=1).log()
    torch.testing.assert_close(trainer.model_inference(images), (first + second) / 2, atol=2e-3, rtol=0)
    assert (first - second).abs().max() > 0.1


def test_resuming(runs, data_root, tmp_path, monkeypatch):
    """Broken off after its first epoch, a run goes on to the same tensors; the survey is not made again."""
    monkeypatch.setattr(over_host, "choose_zoom", lambda *args: SECOND_LOOK)

    def stop(self):
        if self.epoch == EPOCHS - 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainerX, "before_epoch", stop)
        assert train.main(line(data_root, tmp_path, options=["TRAIN.CHECKPOINT_FREQ", 1], **LOOKS)) == 130
    with monkeypatch.context() as patch:
        patch.setattr(over_host, "survey", None)
        again = line(data_root, tmp_path, resume=tmp_path, options=["TRAIN.CHECKPOINT_FREQ", 1], **LOOKS)
        assert train.main(again) == 0
    for name in ("prompt_learner", "spotlighter"):
        whole, resumed = learned(runs / "looks", name), learned(tmp_path, name)
        assert whole.keys() == resumed.keys()
        for key, value in whole.items():
            assert torch.equal(value, resumed[key]) if torch.is_tensor(value) else value == resumed[key]
    assert results(tmp_path)["accuracy"] == results(runs / "looks")["accuracy"]


def test_one_shot_neither_fits_nor_zooms(data_root, tmp_path, capsys):
    options = ["DATASET.NUM_SHOTS", 1, "DATALOADER.TRAIN_X.BATCH_SIZE", 2]
    assert train.main(line(data_root, tmp_path, options=options, **LOOKS)) == 0
    log = capsys.readouterr().out
    assert "keeps its initial scalars: with one shot" in log and "does not zoom: with one shot" in log
    assert all(torch.equal(value, Scalars().state_dict()[name]) for name, value in scalars_of(tmp_path).items())
    state = learned(tmp_path, "spotlighter")
    assert state["_extra_state"]["zoom"] is None and state["again_map"].numel() == 0
    assert all(torch.isfinite(value).all() for value in state.values() if torch.is_tensor(value))


# --- a host of another kind ------------------------------------------------------------------------------------------


def test_a_host_of_another_kind(data_root, tmp_path, monkeypatch):
    monkeypatch.setitem(TRAINER_REGISTRY._obj_map, "PlugInHost", PlugInHost)
    for name, keys in {"alone": {"trainer": "PlugInHost", "config_file": ZERO_SHOT}, "over": LOOKS}.items():
        host = {"HOST": "PlugInHost"} if name == "over" else {}
        assert train.main(line(data_root, tmp_path / name, **host, **keys)) == 0
    assert learned(tmp_path / "alone", "shift")["0"].abs().max() > 0
    record = results(tmp_path / "over")
    assert record["extra_trainable_parameters"] == 21 and record["trainable_parameters"] == 21 + 128
    assert learned(tmp_path / "over", "spotlighter")["drop.probe"].abs().max() > 0
    test = line(data_root, tmp_path / "new", HOST="PlugInHost", subsample="new", model_dir=tmp_path / "over",
                eval_only=True, **LOOKS)  # fmt: skip
    assert train.main(test) == 0
    assert len(results(tmp_path / "new")["classwise"]) == 2


# --- what cannot be ----------------------------------------------------------------------------------------------------


def test_joint_training_in_mixed_precision(data_root, tmp_path, capsys, monkeypatch):
    assert train.main(line(data_root, tmp_path / "cpu", JOINT=True, options=["TRAINER.COOP.PREC", "amp"])) == 2
    assert "TRAINER.COOP.PREC is amp" in one_sentence(capsys)
    monkeypatch.setattr(work, "check_precision", lambda cfg: None)  # as on a GPU, where amp alone is no fault
    monkeypatch.setattr(clip_trainer, "resolve_precision", lambda wanted, device: wanted)
    assert train.main(line(data_root, tmp_path / "gpu", JOINT=True, options=["TRAINER.COOP.PREC", "amp"])) == 2
    sentence = one_sentence(capsys)
    assert "TRAINER.SPOTLIGHTER.JOINT" in sentence and "amp" in sentence


def test_joint_training_on_batches_of_all_shots(data_root, tmp_path, capsys):
    """The bank would be empty."""
    options = ["DATALOADER.TRAIN_X.BATCH_SIZE", 12]
    assert train.main(line(data_root, tmp_path, JOINT=True, options=options)) == 2
    assert "TRAINER.SPOTLIGHTER.JOINT" in one_sentence(capsys)


def test_one_token_left(data_root, tmp_path):
    assert train.main(line(data_root, tmp_path, KEEP=0.01, R=1, ZOOM=3)) == 0
    state = learned(tmp_path, "spotlighter")
    assert all(torch.isfinite(value).all() for value in state.values() if torch.is_tensor(value))


@pytest.mark.parametrize("key, other", [("ZOOM", 0), ("KEEP", 1.0), ("HEAD", "full")])
def test_a_run_with_a_second_look_tested_without(runs, data_root, tmp_path, capsys, key, other):
    """Nor with another setting, though its checkpoint then has tensors too many or too few."""
    test = line(data_root, tmp_path, model_dir=runs / "looks", eval_only=True, **{**LOOKS, key: other})
    assert train.main(test) == 2
    assert f"TRAINER.SPOTLIGHTER.{key} is {other!r}, and the model in" in one_sentence(capsys)


def test_chance_is_the_same_in_a_test(data_root, tmp_path):
    """With `random` scores too, a trained run is tested as it was."""
    keys = {"KEEP": 0.6, "SCORE": "random", "FIT": False, "GRID": 0.0}
    logits, process = [], Classification.process
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classification, "process", lambda self, mo, gt: logits.append(mo) or process(self, mo, gt))
        assert train.main(line(data_root, tmp_path / "run", **keys)) == 0
        test = line(data_root, tmp_path / "test", model_dir=tmp_path / "run", eval_only=True, **keys)
        assert train.main(test) == 0
    assert torch.equal(*logits)


def test_a_host_on_the_bare_engine(data_root, tmp_path, monkeypatch):
    """Its model is tested through the head, too."""
    monkeypatch.setitem(TRAINER_REGISTRY._obj_map, "PlugInHost", PlainHost)
    calls, forward = [], SpotlighterHead.forward
    monkeypatch.setattr(SpotlighterHead, "forward", lambda self, *args: calls.append(1) or forward(self, *args))
    assert train.main(line(data_root, tmp_path, HOST="PlugInHost")) == 0
    assert calls


@pytest.mark.parametrize(
    "change, says",
    [
        ({"state": "running"}, "has not finished"),
        ({"method": "KgCoOp"}, "method KgCoOp, and this one has CoOp"),
        ({"seed": 2}, "seed 2, and this one has 1"),
        ({"classes": ["red", "blue"]}, "of other classes"),
        (None, "holds no checkpoint"),
    ],
)
def test_a_finished_run_that_is_no_host_here(runs, data_root, tmp_path, capsys, change, says):
    """Nor are prompts of other images taken, which might have seen the new classes."""
    shutil.copytree(runs / "alone", tmp_path / "host")
    if change is None:
        shutil.rmtree(tmp_path / "host" / "prompt_learner")
    else:
        record = results(tmp_path / "host")
        part = record if change.keys() & {"state", "method"} else record["identity"]
        part.update(change)
        (tmp_path / "host" / "results.json").write_text(json.dumps(record))
    assert train.main(line(data_root, tmp_path / "run", HOST_DIR=tmp_path / "host")) == 2
    sentence = one_sentence(capsys)
    assert "TRAINER.SPOTLIGHTER.HOST_DIR" in sentence and says in sentence


def test_a_host_with_other_keys_is_not_taken(runs, data_root, tmp_path, capsys):
    """What a run has learned does not hold its method's keys, of which some leave all shapes alone."""
    shutil.copytree(runs / "alone", tmp_path / "host")
    record = results(tmp_path / "host")
    there = record["config"]["TRAINER"]["COOP"]
    there["CLASS_TOKEN_POSITION"] = "front" if there["CLASS_TOKEN_POSITION"] != "front" else "end"
    (tmp_path / "host" / "results.json").write_text(json.dumps(record))
    assert train.main(line(data_root, tmp_path / "run", HOST_DIR=tmp_path / "host")) == 2
    assert f"TRAINER.COOP.CLASS_TOKEN_POSITION {there['CLASS_TOKEN_POSITION']!r}" in one_sentence(capsys)


def test_zero_shot_clip_has_no_run_to_take(data_root, tmp_path, capsys):
    assert train.main(line(data_root, tmp_path / "run", HOST="ZeroshotCLIP", HOST_DIR=tmp_path)) == 2
    assert "trains nothing" in one_sentence(capsys)
