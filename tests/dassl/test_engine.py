"""Trainers (../dassl/engine): order of a run, checkpoints, resuming, log lines; and Dassl's import surface."""

import importlib
import re

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

import datasets  # noqa: F401  registers
from dassl.config import get_cfg_default, merge_options
from dassl.engine import TRAINER_REGISTRY, TrainerX, TrainerXU, build_trainer
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import InputError, set_random_seed
from tests.helpers import CLASSES

EVENTS = []


@TRAINER_REGISTRY.register()
class Linear(TrainerX):
    """A linear classifier on pixels, with dropout so that random states matter."""

    def check_cfg(self, cfg):
        EVENTS.append("check_cfg")

    def build_data_loader(self):
        EVENTS.append("data")
        super().build_data_loader()

    def build_model(self):
        EVENTS.append("model")
        assert not hasattr(self, "evaluator")
        self.model = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(3 * 8 * 8, self.num_classes))
        self.optim = build_optimizer(self.model, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("linear", self.model, self.optim, self.sched)

    def forward_backward(self, batch):
        images, labels, _ = self.parse_batch_train(batch)
        loss = F.cross_entropy(self.model(images), labels)
        self.model_backward_and_update(loss)
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss.item()}

    def test(self, split=None):
        EVENTS.append(f"test {split}")
        return super().test(split)

    def save_model(self, *args, **kwargs):
        EVENTS.append(f"save {kwargs.get('model_name', '')}".strip())
        super().save_model(*args, **kwargs)


@TRAINER_REGISTRY.register()
class Nothing(TrainerX):
    """Registers no model, as zero-shot methods do."""

    def build_model(self):
        self.model = lambda images: images.mean(dim=(2, 3)).repeat(1, 2)[:, : self.num_classes]


def config(data_root, output, *options, trainer="Linear"):
    cfg = get_cfg_default()
    merge_options(cfg, [
        "TRAINER.NAME", trainer, "DATASET.NAME", "Caltech101", "DATASET.ROOT", str(data_root), "OUTPUT_DIR", str(output),
        "INPUT.SIZE", (8, 8), "DATALOADER.NUM_WORKERS", 0, "DATALOADER.TRAIN_X.BATCH_SIZE", 8, "DATALOADER.TRAIN_X.SAMPLER", "RandomSampler",
        "OPTIM.NAME", "sgd", "OPTIM.LR", 0.01, "OPTIM.LR_SCHEDULER", "cosine", "OPTIM.MAX_EPOCH", 4, "OPTIM.WARMUP_EPOCH", 2, "TRAIN.PRINT_FREQ", 2,
        *options,
    ])  # fmt: skip
    return cfg


def run(cfg, seed=1):
    set_random_seed(seed)
    trainer = build_trainer(cfg)
    trainer.train()
    return trainer


def test_order_of_a_run(data_root, tmp_path):
    EVENTS.clear()
    trainer = run(config(data_root, tmp_path))
    assert trainer.best_result == -float("inf")
    assert EVENTS == ["check_cfg", "data", "model", "save", "test None"]


def test_validation_comes_before_saving(data_root, tmp_path):
    EVENTS.clear()
    run(config(data_root, tmp_path, "TEST.FINAL_MODEL", "best_val", "OPTIM.MAX_EPOCH", 1))
    assert EVENTS[3:] == ["test val", "save model-best.pth.tar", "save", "test None"]
    best = torch.load(tmp_path / "linear" / "model-best.pth.tar", weights_only=True)
    assert 0 <= best["val_result"] <= 100


@pytest.mark.parametrize("options", [("TEST.FINAL_MODEL", "best_val"), ("TEST.SPLIT", "val")])
def test_the_test_images_are_no_validation_images(data_root, tmp_path, options):
    """Refused before training begins, or, of a trainer with a beginning of its own, at the first test."""
    trainer = build_trainer(config(data_root, tmp_path, *options))
    trainer.val_loader = None
    EVENTS.clear()
    with pytest.raises(InputError, match=f"Caltech101 has no validation images, .*{options[0]} {options[1]}"):
        trainer.train()
    assert not EVENTS and not list(tmp_path.iterdir())
    trainer.before_train = lambda: setattr(trainer, "time_start", 0)
    with pytest.raises(InputError, match="Caltech101 has no validation images"):
        trainer.train()
    assert trainer.test(split="test") >= 0


def test_without_a_test_nothing_judges(data_root, tmp_path):
    trainer = build_trainer(config(data_root, tmp_path, "TEST.FINAL_MODEL", "best_val", "TEST.NO_TEST", True))
    trainer.val_loader = None
    trainer.train()
    assert (tmp_path / "linear" / "model.pth.tar-4").is_file()


def test_checkpoints(data_root, tmp_path):
    run(config(data_root, tmp_path, "TRAIN.CHECKPOINT_FREQ", 3))
    folder = tmp_path / "linear"
    assert sorted(p.name for p in folder.iterdir()) == ["checkpoint", "model.pth.tar-3", "model.pth.tar-4"]
    assert (folder / "checkpoint").read_text().strip() == "model.pth.tar-4"
    checkpoint = torch.load(folder / "model.pth.tar-4", weights_only=True)
    assert set(checkpoint) == {
        "state_dict", "epoch", "optimizer", "optimizer_class", "scheduler", "scaler", "val_result", "random_states", "identity",
    }  # fmt: skip
    assert checkpoint["optimizer_class"] == "SGD" and checkpoint["scaler"] is None
    assert checkpoint["epoch"] == 4 and checkpoint["val_result"] is None


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_resumed_run_ends_with_the_same_tensors(data_root, tmp_path, stop):
    """To the bit: momentum, schedule (in and after the warm-up), shuffling and dropout go on as they were."""
    whole = run(config(data_root, tmp_path / "whole"))

    class Broken(Exception):
        pass

    def stop_here(self):
        if self.epoch == stop:
            raise Broken

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Linear, "before_epoch", stop_here)
        with pytest.raises(Broken):
            run(config(data_root, tmp_path / "part", "TRAIN.CHECKPOINT_FREQ", 1))
    resumed = run(config(data_root, tmp_path / "part", "RESUME", str(tmp_path / "part")), seed=99)
    assert resumed.start_epoch == stop
    for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)


def seen_rates(monkeypatch) -> list[float]:
    """Fills with the learning rate of each epoch that is trained from now on."""
    seen = []
    monkeypatch.setattr(Linear, "before_epoch", lambda self: seen.append(self.get_current_lr()))
    return seen


@pytest.mark.parametrize(
    "changed",
    [
        ["OPTIM.MAX_EPOCH", 6],
        ["OPTIM.LR", 0.05],
        ["OPTIM.LR_SCHEDULER", "multi_step", "OPTIM.STEPSIZE", (3,)],
        ["OPTIM.WARMUP_EPOCH", 3],
    ],
)
def test_a_resumed_run_has_the_rates_of_its_own_config(data_root, tmp_path, monkeypatch, changed):
    """Whatever the run had that it goes on from: those of a run of this config from the beginning."""
    run(config(data_root, tmp_path, "OPTIM.MAX_EPOCH", 2))
    seen = seen_rates(monkeypatch)
    fresh = run(config(data_root, tmp_path / "fresh", *changed))
    expected = seen[2:]
    seen.clear()
    resumed = run(config(data_root, tmp_path / "more", *changed, "RESUME", str(tmp_path)))
    assert seen == expected and resumed.sched.state_dict() == fresh.sched.state_dict()


def test_a_checkpoint_beyond_the_last_epoch(data_root, tmp_path):
    run(config(data_root, tmp_path))
    with pytest.raises(InputError, match=r"is of epoch 4, beyond OPTIM\.MAX_EPOCH 3"):
        run(config(data_root, tmp_path / "more", "OPTIM.MAX_EPOCH", 3, "RESUME", str(tmp_path)))


@TRAINER_REGISTRY.register()
class Scaled(Linear):
    """In mixed precision, as far as its gradients go: the scale grows every fifth step."""

    def build_model(self):
        super().build_model()
        self.scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=5)

    def model_backward_and_update(self, loss, names=None):
        self.optim.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optim)
        self.scaler.update()


def test_a_gradient_scaler_goes_on(data_root, tmp_path):
    whole = run(config(data_root, tmp_path, "TRAIN.CHECKPOINT_FREQ", 1, trainer="Scaled"))
    (tmp_path / "linear" / "checkpoint").write_text("model.pth.tar-3\n")  # three steps an epoch
    resumed = run(config(data_root, tmp_path / "more", "RESUME", str(tmp_path), trainer="Scaled"))
    assert resumed.scaler.state_dict() == whole.scaler.state_dict()
    assert resumed.scaler.get_scale() == 16 and resumed.scaler.state_dict()["_growth_tracker"] == 2
    assert torch.equal(resumed.model[2].weight, whole.model[2].weight)
    unscaled = run(config(data_root, tmp_path / "other", "RESUME", str(tmp_path)))
    assert getattr(unscaled, "scaler", None) is None


def test_a_run_never_resumes_by_itself(data_root, tmp_path):
    run(config(data_root, tmp_path, "OPTIM.MAX_EPOCH", 1))
    assert run(config(data_root, tmp_path)).start_epoch == 0
    with pytest.raises(InputError, match="nowhere, does not exist"):
        run(config(data_root, tmp_path, "RESUME", str(tmp_path / "nowhere")))


def test_loading(data_root, tmp_path, capsys):
    trainer = run(config(data_root, tmp_path))
    accuracy = trainer.evaluator.results["accuracy"]
    fresh = build_trainer(config(data_root, tmp_path))
    fresh.load_model(str(tmp_path), epoch=4)
    assert fresh.test() == accuracy
    assert "(epoch=4)" in capsys.readouterr().out  # no validation result to format
    with pytest.raises(InputError, match=r"model\.pth\.tar-9 does not exist"):
        fresh.load_model(str(tmp_path), epoch=9)
    fresh.load_model("")
    assert "skipped" in capsys.readouterr().out


def test_a_load_model_that_takes_the_config(data_root, tmp_path, monkeypatch):
    """As published files have it: the best model is loaded through it, and a named epoch's."""
    asked = []
    monkeypatch.setattr(Linear, "load_model", lambda self, directory, cfg, epoch=None: asked.append((cfg, epoch)))
    trainer = run(config(data_root, tmp_path, "TEST.FINAL_MODEL", "best_val", "OPTIM.MAX_EPOCH", 1))
    trainer.load_trained(str(tmp_path), epoch=1)
    assert [(cfg is trainer.cfg, epoch) for cfg, epoch in asked] == [(True, None), (True, 1)]


def test_log_lines(data_root, tmp_path, capsys):
    run(config(data_root, tmp_path, "OPTIM.MAX_EPOCH", 2))
    out = capsys.readouterr().out
    progress = (
        r"^epoch \[1/2\] batch \[2/3\] time \d+\.\d{3} \(\d+\.\d{3}\) data \d+\.\d{3} \(\d+\.\d{3}\) "
        r"loss \d+\.\d{4} \(\d+\.\d{4}\) lr 1\.0000e-05 eta \d+:\d\d:\d\d$"
    )
    assert re.search(progress, out, re.M)
    assert len(re.findall(r"^epoch ", out, re.M)) == 2  # every second batch of three, in two epochs
    for line in (
        r"Finish training",
        r"Evaluate on the \*test\* set",
        r"=> result",
        r"\* total: 20",
        r"Elapsed: \d+:\d\d:\d\d",
    ):
        assert re.search(rf"^{line}$", out, re.M), line
    run(config(data_root, tmp_path, "OPTIM.MAX_EPOCH", 1, "TRAIN.PRINT_FREQ", 10))
    assert len(re.findall(r"^epoch ", capsys.readouterr().out, re.M)) == 3  # fewer batches than PRINT_FREQ: all of them


def test_tensorboard(data_root, tmp_path):
    run(config(data_root, tmp_path, "OPTIM.MAX_EPOCH", 1))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert {"train/loss", "train/lr", "test/accuracy"} <= set(events.Tags()["scalars"])


def test_training_without_a_model_goes_on_to_the_test(data_root, tmp_path, capsys):
    trainer = run(config(data_root, tmp_path, trainer="Nothing"))
    out = capsys.readouterr().out
    assert "nothing to train" in out and "Finish training" in out and trainer.evaluator.results


def test_a_loss_that_is_no_number(data_root, tmp_path):
    with pytest.raises(FloatingPointError, match=r"epoch \d, batch \d"):
        run(config(data_root, tmp_path, "OPTIM.LR", 1e30, "OPTIM.WARMUP_EPOCH", -1))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers(data_root, tmp_path, value):
    """No accuracy comes of them: the first image is named, or the first tensor, where a tensor is at fault."""
    trainer = build_trainer(config(data_root, tmp_path))
    linear, infer = trainer.model[2], trainer.model_inference
    trainer.model_inference = lambda images: infer(images).index_fill(0, torch.tensor([2]), value)
    with pytest.raises(FloatingPointError, match=r"logits of \S+red/test_2\.png are infinite or NaN"):
        trainer.test()
    trainer.model_inference = infer
    with torch.no_grad():
        linear.bias[0] = value
    with pytest.raises(FloatingPointError, match=r"2\.bias of linear is infinite or NaN"):
        trainer.test()
    trainer.epoch = 3
    with pytest.raises(FloatingPointError, match=r"2\.bias of linear"):
        trainer.after_epoch()  # before such a model is saved
    assert not list(tmp_path.rglob("*.tar*"))


def test_a_masked_class_is_no_fault(data_root, tmp_path):
    trainer = build_trainer(config(data_root, tmp_path))
    infer, one = trainer.model_inference, torch.tensor([1])
    trainer.model_inference = lambda images: infer(images).index_fill(1, one, -torch.inf)
    assert trainer.test() >= 0


def test_modes_and_names(data_root, tmp_path):
    trainer = build_trainer(config(data_root, tmp_path))
    assert trainer.get_model_names() == ["linear"]
    trainer.set_model_mode("eval")
    assert not trainer.model.training
    with pytest.raises(InputError, match="nearest name is 'linear'"):
        trainer.set_model_mode("train", "liner")
    with pytest.raises(KeyError):
        trainer.register_model("linear", nn.Linear(1, 1))
    assert trainer.dm.dataset.classnames == CLASSES and trainer.lab2cname[0] == "red"


def test_labelled_and_unlabelled(data_root, tmp_path, monkeypatch):
    """Batches of both; COUNT_ITER says whose length is an epoch."""
    from dassl.data.datasets import DatasetBase

    seen = []

    class Pairs(TrainerXU):
        build_model = Linear.build_model

        def forward_backward(self, batch_x, batch_u):
            images, _, unlabelled = self.parse_batch_train(batch_x, batch_u)
            seen.append((len(images), len(unlabelled)))
            return {}

    TRAINER_REGISTRY.register(Pairs, force=True)
    monkeypatch.setattr(DatasetBase, "train_u", property(lambda self: self.test[:16]))
    for count, expected in (("train_x", 3), ("train_u", 2), ("smaller_one", 2)):
        seen.clear()
        run(config(data_root, tmp_path, "TRAIN.COUNT_ITER", count, "OPTIM.MAX_EPOCH", 1, trainer="Pairs"))
        assert seen == [(8, 8)] * expected


SURFACE = {
    "dassl.engine": "TRAINER_REGISTRY TrainerX build_trainer TrainerXU TrainerBase SimpleTrainer SimpleNet",
    "dassl.engine.trainer": "MetricMeter AverageMeter SummaryWriter TrainerX",
    "dassl.metrics": "compute_accuracy",
    "dassl.optim": "build_optimizer build_lr_scheduler",
    "dassl.optim.radam": "RAdam",
    "dassl.data": "DataManager DatasetWrapper",
    "dassl.data.data_manager": "build_data_loader build_transform DataManager DatasetWrapper",
    "dassl.data.datasets": "DATASET_REGISTRY Datum DatasetBase build_dataset",
    "dassl.data.datasets.build": "DATASET_REGISTRY build_dataset",
    "dassl.data.datasets.base_dataset": "Datum DatasetBase",
    "dassl.data.samplers": "build_sampler",
    "dassl.data.transforms": "build_transform INTERPOLATION_MODES",
    "dassl.data.transforms.transforms": "build_transform",
    "dassl.evaluation": "build_evaluator EVALUATOR_REGISTRY",
    "dassl.config": "get_cfg_default clean_cfg",
    "dassl.modeling": "build_backbone build_head",
    "dassl.utils": "setup_logger set_random_seed collect_env_info mkdir_if_missing listdir_nohidden read_json write_json check_isfile "
    "read_image Registry check_availability tolist_if_not count_num_param save_checkpoint resume_from_checkpoint MetricMeter "
    "AverageMeter load_checkpoint load_pretrained_weights open_specified_layers open_all_layers",
    "dassl.utils.tools": "mkdir_if_missing read_json",
    "dassl.utils.torchtools": "load_checkpoint",
    "dassl.utils.logger": "Logger setup_logger",
    "dassl.utils.meters": "AverageMeter MetricMeter",
    "dassl.utils.registry": "Registry",
    "clip": "available_models load tokenize",
    "clip.clip": "_MODELS _download build_model tokenize",
    "clip.simple_tokenizer": "SimpleTokenizer",
    "clip.model": "build_model convert_weights CLIP VisionTransformer ModifiedResNet",
}


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in SURFACE.items() for name in names.split()]
)
def test_import_surface(module, name):
    assert getattr(importlib.import_module(module), name) is not None
