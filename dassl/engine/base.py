"""What every trainer has: registered models, their checkpoints, the order of a run, and one step of learning."""

import contextlib
import functools
import inspect
import os
import time
from collections import OrderedDict
from collections.abc import Callable

import torch

from dassl.checkpoints import BEST, file_of, models_in
from dassl.utils import (
    InputError,
    Readings,
    check_availability,
    count_num_param,
    load_checkpoint,
    save_checkpoint,
    tolist_if_not,
)
from dassl.utils.resume import device_of, latest, load_weights, random_states, restore

from .board import open_writer, writing
from .projected import ProjectedSteps


class TrainerBase(ProjectedSteps):
    """Registered models with their optimisers and schedules; saving, loading, and the order of a training run."""

    identity: dict | None = None  # what its run is, for the run's checkpoints to remember
    on_trained: Callable[[], None] | None = None  # called when all epochs are done and saved, before the test

    def __init__(self):
        self._models: OrderedDict = OrderedDict()
        self._optims: OrderedDict = OrderedDict()
        self._scheds: OrderedDict = OrderedDict()
        self._writer = None
        self.readings = Readings()  # numbers that a GPU may still be at work on

    # --- registered models ----------------------------------------------------------------------------------

    def register_model(self, name: str = "model", model=None, optim=None, sched=None) -> None:
        """Make a model part of saving, loading and mode changes, under a name that is its folder's too."""
        if "_models" not in self.__dict__:
            raise AttributeError("register_model was called before super().__init__()")
        if name in self._models:
            raise KeyError(f"a model named {name} is registered already")
        self._models[name], self._optims[name], self._scheds[name] = model, optim, sched

    def get_model_names(self, names=None) -> list[str]:
        """All registered names, or those given, checked."""
        registered = list(self._models)
        if names is None:
            return registered
        names = tolist_if_not(names)
        for name in names:
            check_availability(name, registered, "registered model")
        return names

    def facts(self) -> dict:
        """What a run's record says of the trainer beside its config: field -> value. A method adds its own.

        `unlabelled`, a function, gives a list of data set items: what it trains on beside the labelled images.
        """
        learned = [p for model in self._models.values() for p in model.parameters() if p.requires_grad]
        return {
            "trainable_parameters": count_num_param(params=learned),
            "extra_trainable_parameters": 0,  # of a plug-in, beside its host's
            "transductive": False,  # whether training sees unlabelled images of the classes that are new at test
        }

    def set_model_mode(self, mode: str = "train", names=None) -> None:
        """ "train", or "eval" (as is any other word)."""
        for name in self.get_model_names(names):
            self._models[name].train(mode == "train")

    def update_lr(self, names=None) -> None:
        """One step of the schedules; call it at the end of an epoch."""
        for name in self.get_model_names(names):
            if self._scheds[name] is not None:
                self._scheds[name].step()

    def get_current_lr(self, names=None) -> float:
        name = self.get_model_names(names)[0]
        return self._optims[name].param_groups[0]["lr"]

    # --- checkpoints ------------------------------------------------------------------------------------------

    def save_model(
        self, epoch: int, directory: str, is_best: bool = False, val_result=None, model_name: str = ""
    ) -> None:
        """Write every registered model, with what a run needs to go on after `epoch` (counted from 0)."""
        self.readings.fetch()  # nothing is saved behind a loss that is no number
        for name in self.get_model_names():
            state = self.checkpoint_of(name, epoch, val_result)
            save_checkpoint(state, os.path.join(directory, name), is_best=is_best, model_name=model_name)

    def checkpoint_of(self, name: str, epoch: int, val_result=None) -> dict:
        optim, sched, scaler = self._optims[name], self._scheds[name], self.grad_scaler()
        return {
            "state_dict": self._models[name].state_dict(),
            "epoch": epoch + 1,
            "optimizer": optim.state_dict() if optim is not None else None,
            "optimizer_class": type(optim).__name__ if optim is not None else None,
            "scheduler": sched.state_dict() if sched is not None else None,
            "scaler": scaler.state_dict() if scaler is not None else None,
            "val_result": val_result,
            "random_states": random_states(device_of(self._models[name])),
            "identity": self.identity,
        }

    def resume_model_if_exist(self, directory: str) -> int:
        """Load the latest checkpoints of a run that broke off; the epoch to go on with is returned, 0 without any."""
        found = latest(directory, self.get_model_names())
        if found is None:
            there = models_in(directory)
            if there and not {*there} & {*self.get_model_names()}:
                raise InputError(
                    f"{directory} has checkpoints of {', '.join(there)}, and this run learns "
                    f"{', '.join(self.get_model_names())}: resume with the same method and config."
                )
            print(f"No checkpoint that all models have is in {directory}: train from scratch")
            return 0
        print(f"Found checkpoint at {directory} (will resume training)")
        for sentence in found.said:
            print(sentence)
        for name, checkpoint in found.checkpoints.items():
            folder = os.path.join(directory, name)
            parts = self._models[name], self._optims[name], self._scheds[name]
            restore(checkpoint, os.path.join(folder, found.file), *parts, self.grad_scaler())
            best = os.path.join(folder, BEST)
            if os.path.isfile(best):
                result = load_checkpoint(best).get("val_result")
                self.best_result = result if isinstance(result, int | float) else self.best_result
        return found.epoch

    def grad_scaler(self) -> torch.amp.GradScaler | None:
        """That of mixed precision, which trainers of this field keep as `scaler`."""
        scaler = getattr(self, "scaler", None)
        return scaler if isinstance(scaler, torch.amp.GradScaler) else None

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load the registered models of an epoch, or the best ones on validation images."""
        if not directory:
            print("Note that load_model() is skipped as no pretrained model is given")
            return
        file = file_of(epoch)
        for name in self.get_model_names():
            path = os.path.join(directory, name, file)
            checkpoint = load_checkpoint(path)
            result = checkpoint.get("val_result")
            shown = f", val_result = {result:.1f}" if isinstance(result, int | float) else ""
            print(f"Load {path} to {name} (epoch={checkpoint.get('epoch')}{shown})")
            state = checkpoint.get("state_dict")
            if not isinstance(state, dict):
                raise InputError(f"The checkpoint {path} has no state_dict: take another checkpoint.")
            load_weights(self._models[name], state, path)

    def load_trained(self, directory: str, epoch: int | None = None) -> None:
        """`load_model`, with the config where its signature asks for it too: a published one has (directory, cfg, epoch)."""
        asked = {"cfg": self.cfg} if "cfg" in inspect.signature(self.load_model).parameters else {}
        self.load_model(directory, epoch=epoch, **asked)

    # --- TensorBoard ------------------------------------------------------------------------------------------

    def init_writer(self, log_dir: str) -> None:
        if self._writer is None:
            print(f"Initialize tensorboard (log_dir={log_dir})")
            self._writer = open_writer(log_dir)

    def close_writer(self) -> None:
        if self._writer is not None:
            with writing():
                self._writer.close()

    def write_scalar(self, tag: str, scalar_value, global_step: int | None = None) -> None:
        """A number for TensorBoard; nothing happens where no writer is open."""
        if self._writer is not None:
            with writing():
                self._writer.add_scalar(tag, scalar_value, global_step)

    # --- the run ------------------------------------------------------------------------------------------------

    def train(self, start_epoch: int, max_epoch: int) -> None:
        self.start_epoch, self.max_epoch = start_epoch, max_epoch
        self.before_train()
        if not self.get_model_names():
            print("No model is registered, so there is nothing to train")
        else:
            self.announce()
            started = time.perf_counter()
            for epoch in range(self.start_epoch, self.max_epoch):
                self.epoch = epoch
                self.before_epoch()
                with self.training_an_epoch():
                    self.run_epoch()
                self.readings.fetch()
                self.after_epoch()
            self.train_seconds = time.perf_counter() - started
            self.note_trained()
        self.after_train()

    def note_trained(self) -> None:
        """All epochs are done and saved; what is to know of it is told once."""
        if self.on_trained is not None:
            told, self.on_trained = self.on_trained, None
            told()

    def before_train(self):
        pass

    def announce(self):
        """Say what is to come, once all is ready for the first epoch."""

    def after_train(self):
        pass

    def before_epoch(self):
        pass

    def after_epoch(self):
        pass

    def training_an_epoch(self):
        """What the steps of an epoch are done under."""
        return contextlib.nullcontext()

    def run_epoch(self):
        raise NotImplementedError

    def test(self):
        raise NotImplementedError

    def parse_batch_train(self, batch):
        raise NotImplementedError

    def parse_batch_test(self, batch):
        raise NotImplementedError

    def forward_backward(self, batch):
        raise NotImplementedError

    def model_inference(self, input):
        raise NotImplementedError

    # --- one step -------------------------------------------------------------------------------------------------

    def detect_anomaly(self, loss: torch.Tensor) -> None:
        """Refuse a loss that is infinite or NaN: on a CPU at once, on a GPU when numbers are read next, and always
        before anything is saved. The batch that is named is the one in which it began.
        """
        place = f"epoch {getattr(self, 'epoch', 0) + 1}, batch {getattr(self, 'batch_idx', 0) + 1}"
        self.readings.add(torch.isfinite(loss).all(), functools.partial(refuse_infinite_loss, place))

    def model_zero_grad(self, names=None) -> None:
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].zero_grad()

    def model_backward(self, loss: torch.Tensor) -> None:
        self.detect_anomaly(loss)
        loss.backward()

    def model_update(self, names=None) -> None:
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].step()

    def model_backward_and_update(self, loss: torch.Tensor, names=None) -> None:
        self.model_zero_grad(names)
        self.model_backward(loss)
        self.model_update(names)


def refuse_infinite_loss(place: str, is_finite: float) -> None:
    if not is_finite:
        raise FloatingPointError(f"The loss is infinite or NaN in {place}: lower OPTIM.LR, or compute in fp32.")
