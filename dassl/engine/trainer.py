"""Trainers: what a method inherits. `TrainerX` learns from labelled images; a method overrides
`build_model` and `forward_backward`, and whatever else it needs.
"""

import contextlib
import datetime
import functools
import os
import time
from pathlib import Path

import torch
import torch.nn as nn
from tqdm import tqdm

from dassl.checkpoints import BEST, file_of
from dassl.data import DataManager
from dassl.data.features import FeatureStore
from dassl.data.judges import by_validation, no_validation_images
from dassl.evaluation import build_evaluator
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import (
    AverageMeter,
    InputError,
    MetricMeter,
    check_availability,
    count_num_param,
    device_of_run,
    load_pretrained_weights,
    mkdir_if_missing,
    replace_file,
    save_checkpoint,
)
from dassl.utils.memory import is_out_of_memory

from .attention import attention
from .base import TrainerBase
from .forecast import Forecast
from .net import SimpleNet
from .stopwatch import Stopwatch
from .tensors import REMEDY, check_finite, on_cpu

SAVE_SECONDS = 60.0  # between checkpoints to go on from: a run that is killed loses this, and the epoch it is in
READ_EVERY = 100  # batches of a test, after which what a GPU has found is looked at


def __getattr__(name: str):
    if name == "SummaryWriter":  # TensorBoard takes seconds to import, and is not always needed
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class SimpleTrainer(TrainerBase):
    """A run over a data set: loaders, a model, an evaluator; tests after training."""

    why_not_compiled = "it compiles nothing"  # why its steps cannot follow TRAIN.COMPILE; empty: they can

    def __init__(self, cfg):
        super().__init__()
        self.check_cfg(cfg)
        if cfg.DATALOADER.VIEWS and not self.takes_views:
            raise InputError(f"{cfg.TRAINER.NAME} has no use for DATALOADER.VIEWS: set it to 0.")
        self.device = device_of_run(cfg.USE_CUDA)
        self.forecast = Forecast(self.device, self.readings)
        self.start_epoch = self.epoch = 0
        self.max_epoch = cfg.OPTIM.MAX_EPOCH
        self.time_saved = time.monotonic()
        self.passing: int | None = None  # the epoch of a checkpoint that goes when the next is there
        self.unsaved: dict[str, dict] = {}  # model -> its checkpoint of the last whole epoch, until that is written
        self.output_dir = cfg.OUTPUT_DIR
        self.cfg = cfg
        self.features = FeatureStore(cfg.FEATURES.DIR, cfg.DATASET.NAME, cfg.DATASET.ROOT, self.device)
        self.build_data_loader()
        self.build_model()
        self.evaluator = build_evaluator(cfg, lab2cname=self.lab2cname)
        self.best_result = -float("inf")

    takes_views = False  # whether it does what DATALOADER.VIEWS says

    def check_cfg(self, cfg):
        """Refuse a config that the method cannot use; called before anything is built."""

    def build_data_loader(self):
        """`dm`, and the loaders taken from it."""
        dm = DataManager(self.cfg)
        self.train_loader_x, self.train_loader_u = dm.train_loader_x, dm.train_loader_u
        self.val_loader, self.test_loader = dm.val_loader, dm.test_loader
        self.num_classes, self.num_source_domains, self.lab2cname = dm.num_classes, dm.num_source_domains, dm.lab2cname
        self.dm = dm

    def build_model(self):
        """A plain classifier; a method builds its own."""
        cfg = self.cfg
        self.model = SimpleNet(cfg, cfg.MODEL, self.num_classes)
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model, cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        print(f"# params: {count_num_param(self.model):,}")
        self.optim = build_optimizer(self.model, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("model", self.model, self.optim, self.sched)

    def train(self):
        if self.cfg.TRAIN.COMPILE and self.why_not_compiled:
            raise InputError(
                f"TRAIN.COMPILE is {self.cfg.TRAIN.COMPILE}, which {self.cfg.TRAINER.NAME} cannot follow, as "
                f"{self.why_not_compiled}: leave it empty."
            )
        try:
            super().train(self.start_epoch, self.max_epoch)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) or is_out_of_memory(error):
                self.save_unsaved()
            raise

    def training_an_epoch(self):
        return attention(self.cfg.TRAIN.ATTENTION)

    def before_train(self):
        """Go on with RESUME's run, if there is one; a trainer never resumes by itself (train.py may set RESUME)."""
        self.check_judges()
        if self.cfg.RESUME:
            if not os.path.isdir(self.cfg.RESUME):
                raise InputError(
                    f"The folder to resume from, {self.cfg.RESUME}, does not exist: correct --resume, or leave it out."
                )
            self.start_epoch = self.resume_model_if_exist(self.cfg.RESUME)
            if self.start_epoch > self.max_epoch:
                raise InputError(
                    f"The checkpoint in {self.cfg.RESUME} is of epoch {self.start_epoch}, beyond OPTIM.MAX_EPOCH "
                    f"{self.max_epoch}: raise OPTIM.MAX_EPOCH, or leave out --resume."
                )
            if self.start_epoch and os.path.realpath(self.cfg.RESUME) != os.path.realpath(self.output_dir):
                self.take_over(self.cfg.RESUME)
            if self.start_epoch and not self.is_kept(self.start_epoch) and self.start_epoch < self.max_epoch:
                self.passing = self.start_epoch
        writer_dir = os.path.join(self.output_dir, "tensorboard")
        mkdir_if_missing(writer_dir)
        self.init_writer(writer_dir)
        self.time_start = self.time_saved = time.monotonic()

    def announce(self):
        epochs, steps = self.max_epoch - self.start_epoch, self.steps_of_an_epoch()
        done = f" (after {self.start_epoch:,})" if self.start_epoch else ""
        print(
            f"{self.num_classes:,} classes, {len(self.train_loader_x.dataset):,} training images, "
            + (f"{epochs:,} epochs{done} of {steps:,} steps" if steps else "nothing to train in steps")
        )

    def take_over(self, run: str) -> None:
        """What it goes on from, and the best model so far, are here too, so that this run stands on its own."""
        self.save_model(self.start_epoch - 1, self.output_dir)
        for name in self.get_model_names():
            best = os.path.join(name, BEST)
            if os.path.isfile(os.path.join(run, best)):
                content = Path(run, best).read_bytes()
                replace_file(os.path.join(self.output_dir, best), lambda file, content=content: file.write(content))

    def check_judges(self) -> None:
        """Refuse to train where validation images are to judge and there are none."""
        setting = by_validation(self.cfg, trains=bool(self.get_model_names()))
        if setting and self.val_loader is None:
            raise no_validation_images(self.cfg.DATASET.NAME, setting)

    def after_train(self):
        if self.get_model_names():
            self.note_trained()  # where a method has a `train` of its own
        print("Finish training")
        if not self.cfg.TEST.NO_TEST:
            if self.cfg.TEST.FINAL_MODEL == "best_val" and self.get_model_names():
                print("Deploy the model with the best val performance")
                self.load_trained(self.output_dir)
            else:
                print("Deploy the last-epoch model")
            self.test()
        print(f"Elapsed: {datetime.timedelta(seconds=round(time.monotonic() - self.time_start))}")
        self.close_writer()

    def after_epoch(self):
        """Validation and the best model first, then the periodic or last checkpoint, or one to go on from."""
        self.check_folder()
        self.check_learned()
        last = self.epoch + 1 == self.max_epoch
        if not self.cfg.TEST.NO_TEST and self.cfg.TEST.FINAL_MODEL == "best_val":
            result = self.test(split="val")
            if result > self.best_result:
                self.best_result = result
                self.save_model(self.epoch, self.output_dir, val_result=result, model_name=BEST)
        checkpoints = {name: self.checkpoint_of(name, self.epoch) for name in self.get_model_names()}
        self.unsaved = on_cpu(checkpoints, self.device)
        if last or self.is_kept(self.epoch + 1) or time.monotonic() - self.time_saved >= SAVE_SECONDS:
            self.save_model(self.epoch, self.output_dir)
            self.time_saved, self.unsaved = time.monotonic(), {}
            self.remove_passing()
            self.passing = None if last or self.is_kept(self.epoch + 1) else self.epoch + 1

    def check_folder(self) -> None:
        """A folder that was there is not made a second time, with a part of what belongs in it."""
        if self._writer is not None and not os.path.isdir(self.output_dir):
            raise InputError(
                f"The output folder {self.output_dir} was removed while the run was at work: start the same command again."
            )

    def save_unsaved(self) -> None:
        """What an interrupted run goes on from: its last whole epoch, as it may be in the midst of another."""
        for name, checkpoint in self.unsaved.items():
            save_checkpoint(checkpoint, os.path.join(self.output_dir, name))
        if self.unsaved:
            self.remove_passing()

    def is_kept(self, epoch: int) -> bool:
        """Whether CHECKPOINT_FREQ asks for the checkpoint of an epoch (counted from 1)."""
        frequency = self.cfg.TRAIN.CHECKPOINT_FREQ
        return frequency > 0 and epoch % frequency == 0

    def remove_passing(self) -> None:
        """Remove the checkpoint that was there for resuming alone, now that there is a later one."""
        for name in self.get_model_names() if self.passing is not None else []:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self.output_dir, name, file_of(self.passing)))

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Classify a split, test or val; the first of the evaluator's results is returned."""
        self.set_model_mode("eval")
        self.evaluator.reset()
        split = "val" if (split or self.cfg.TEST.SPLIT) == "val" else "test"
        loader = self.val_loader if split == "val" else self.test_loader
        if loader is None and split == "val":
            raise no_validation_images(self.cfg.DATASET.NAME)
        if loader is None:
            raise InputError(
                f"The data set {self.cfg.DATASET.NAME} has no test images: set TEST.NO_TEST True, or TEST.SPLIT val."
            )
        print(f"Evaluate on the *{split}* set")
        stopwatch, count = Stopwatch(self.device), 0
        for number, batch in enumerate(tqdm(loader, disable=None), 1):
            with stopwatch:  # decoding is not the method's time
                images, labels = self.parse_batch_test(batch)
                output = self.model_inference(images)
                self.check_output(output, batch)
                self.evaluator.process(output, labels)
            count += len(labels)
            if number % READ_EVERY == 0:
                self.readings.fetch()
        self.readings.fetch()
        self.test_images_per_second = count / max(stopwatch.total(), 1e-9)
        results = self.evaluator.evaluate()
        for name, value in results.items():
            self.write_scalar(f"{split}/{name}", value, self.epoch)
        return next(iter(results.values()))

    def model_inference(self, input):
        return self.model(input)

    def check_output(self, output, batch) -> None:
        """Refuse logits (B, C) that name no class: NaN, or infinite. A class at -inf is masked, which is no fault.

        Of a GPU's, that is known when numbers are read next, and before there is a result.
        """
        if not torch.is_tensor(output) or output.dim() != 2:
            return
        names_none = ~output.amax(dim=1).isfinite()  # (B,)
        first = torch.where(names_none.any(), names_none.int().argmax(), -1)
        paths = batch.get("impath") if isinstance(batch, dict) else None
        self.readings.add(first, functools.partial(self.refuse_output, paths))

    def refuse_output(self, paths: list[str] | None, number: float) -> None:
        """Refuse the logits of a picture, by its number in the batch of these paths; -1 is none."""
        if number < 0:
            return
        self.check_model()
        where = f" of {paths[int(number)]}" if paths else ""
        raise FloatingPointError(f"The logits{where} are infinite or NaN, so they name no class: {REMEDY}.")

    def check_model(self) -> None:
        """What is learned, and what stands around it, is finite; else the first tensor that is not is named."""
        self.check_learned()
        if isinstance(getattr(self, "model", None), nn.Module):
            check_finite({"the model": self.model}, self.readings)

    def check_learned(self) -> None:
        check_finite(self._models, self.readings)

    def parse_batch_test(self, batch):
        return self.on_device(batch["img"], batch["label"])

    def on_device(self, *tensors):
        """Tensors, on the device; a GPU takes them from a loader's memory when its turn comes, and is not waited for."""
        return tuple(tensor.to(self.device, non_blocking=True) for tensor in tensors)

    # --- an epoch ---------------------------------------------------------------------------------------------------

    def steps_of_an_epoch(self) -> int:
        return len(self.train_loader_x)

    def _run_batches(self, batches, count: int) -> None:
        """`forward_backward` on each batch, and the progress line."""
        self.set_model_mode("train")
        losses, batch_time, data_time = MetricMeter(readings=self.readings), AverageMeter(), AverageMeter()
        self.num_batches, frequency = count, self.cfg.TRAIN.PRINT_FREQ
        end = time.monotonic()
        for self.batch_idx, batch in enumerate(batches):
            data_time.update(time.monotonic() - end)
            losses.update(self._step(batch))
            number = self.batch_idx + 1
            left = count - number + (self.max_epoch - self.epoch - 1) * count
            self.forecast.after_step(left)
            if number % frequency == 0 or number == count:
                self.readings.fetch()  # a GPU's work on all batches up to here is in this one's time
            batch_time.update(time.monotonic() - end)
            if number % frequency == 0 or count < frequency:
                before = (
                    f"epoch [{self.epoch + 1}/{self.max_epoch}] "
                    f"batch [{number}/{count}] "
                    f"time {batch_time.val:.3f} ({batch_time.avg:.3f}) "
                    f"data {data_time.val:.3f} ({data_time.avg:.3f})"
                )
                eta, lr = datetime.timedelta(seconds=int(batch_time.avg * left)), self.get_current_lr()
                step = self.epoch * count + self.batch_idx
                self.readings.then(functools.partial(self._show, before, losses, lr, eta, step))
            end = time.monotonic()

    def _show(self, before: str, losses: MetricMeter, lr: float, eta: datetime.timedelta, step: int) -> None:
        """The progress line, and the same for TensorBoard."""
        print(f"{before} {losses} lr {lr:.4e} eta {eta}")
        for name, meter in losses.meters.items():
            self.write_scalar(f"train/{name}", meter.avg, step)
        self.write_scalar("train/lr", lr, step)

    def _step(self, batch) -> dict:
        return self.forward_backward(batch)


class TrainerX(SimpleTrainer):
    """Learns from labelled images."""

    def run_epoch(self):
        self._run_batches(self.train_loader_x, self.steps_of_an_epoch())

    def parse_batch_train(self, batch):
        return self.on_device(batch["img"], batch["label"], batch["domain"])


class TrainerXU(SimpleTrainer):
    """Learns from labelled and unlabelled images; `forward_backward(batch_x, batch_u)`."""

    def steps_of_an_epoch(self):
        lengths = {"train_x": len(self.train_loader_x), "train_u": len(self.train_loader_u)}
        lengths["smaller_one"] = min(lengths.values())
        check_availability(self.cfg.TRAIN.COUNT_ITER, list(lengths), "TRAIN.COUNT_ITER")
        return lengths[self.cfg.TRAIN.COUNT_ITER]

    def run_epoch(self):
        count = self.steps_of_an_epoch()
        labelled, unlabelled = cycle(self.train_loader_x), cycle(self.train_loader_u)
        self._run_batches(((next(labelled), next(unlabelled)) for _ in range(count)), count)

    def _step(self, batch) -> dict:
        return self.forward_backward(*batch)

    def parse_batch_train(self, batch_x, batch_u):
        return self.on_device(batch_x["img"], batch_x["label"], batch_u["img"])


def cycle(loader):
    """Batches without end; every round is shuffled anew."""
    while True:
        yield from loader
