"""What one run leaves behind for people and programs: `results.json` beside `log.txt`.

The record says `running` while a run goes on, then `finished`, `failed` or, where a signal ended it, `stopped`. It is
replaced as a whole, so a kill at any moment leaves the former or the new one. Only `finished` counts: a run that broke
off goes on.
"""

import contextlib
import functools
import os
import platform
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from importlib import metadata

import torch

from dassl.checkpoints import models_in
from dassl.utils import InputError, write_json
from dassl.utils.memory import peak_memory

from .command import users_errors
from .differences import differences, in_short, of_config, other_files
from .folder import FILE, is_same_folder, whole_record
from .identity import identity_of, methods_of, sha256_of_checkpoints, sha256_of_images
from .interrupts import signal_of


def as_json(value):
    """A config node or tuple as JSON knows it."""
    if isinstance(value, dict):
        return {key: as_json(inner) for key, inner in value.items()}
    return [as_json(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def settings_of(cfg) -> dict | None:
    """Whose settings a run has (`one_run.config.describe_settings`); None of a config that was not built there."""
    return {key.lower(): as_json(value) for key, value in cfg.SETTINGS.items()} if "SETTINGS" in cfg else None


class RunRecord:
    """Writes the record of one run; use it as a context manager around the work.

    `weights` says what an evaluation loaded, {"model_dir", "epoch", "sha256"}; None for a training run.
    """

    def __init__(self, cfg, weights: dict | None = None):
        # Not above, as what runs are forked from (preload.py) imports no method.
        from trainers.shared.ours import files_of_users

        self.directory = cfg.OUTPUT_DIR
        self.former: dict | None = None  # the record that stood in the folder,
        self.saved: dict[str, int] = {}  # and when its models were saved
        self.started = time.monotonic()
        self.content = {
            "state": "running",
            "method": cfg.TRAINER.NAME,
            "methods": files_of_users(methods_of(cfg)),  # name -> a user's file, by which it is trained, and its hash
            "dataset": cfg.DATASET.NAME,
            "backbone": cfg.MODEL.BACKBONE.NAME,
            "seed": cfg.SEED,
            "shots": cfg.DATASET.NUM_SHOTS,
            "subsample": cfg.DATASET.SUBSAMPLE_CLASSES,
            "split": cfg.TEST.SPLIT,
            "epoch": None,
            "accuracy": None,
            "macro_f1": None,
            "classwise": None,
            "plan": None,  # {"words", "cost"} of a Spotlighter with a budget: how it is spent
            "confused": None,  # what was answered in place of each class: see `in_short_form`
            "trainable_parameters": None,
            "extra_trainable_parameters": None,
            "seconds": None,
            "train_seconds": None,  # of the epochs
            "test_images_per_second": None,  # of the last test, decoding left out
            "peak_memory_mib": None,  # of the process, and on the GPU; in a process of many runs, of the runs so far
            "peak_gpu_memory_mib": None,
            "text_parts": None,  # in which the text encoder took the prompts of a training step; the last bits depend on it
            "text_memory_mb": None,  # for its activations: TRAINER.MEMORY_MB, or what it took for 0
            "device": None,
            "precision": None,  # of CLIP, where the method has it: what PREC auto came to
            "images_sha256": None,
            "chosen_on_test": None,  # whether the best epoch was chosen on test images; None: not known
            "identity": None,  # what it is, beside its config: one_run/identity.py
            "transductive": False,  # whether training saw unlabelled images of classes that are new at test
            "unlabelled_images": None,  # how many it saw, of whatever class
            "unlabelled_sha256": None,
            "calibration": None,  # once it is asked for: the temperature of its probabilities, one_run/calibration.py
            "weights": weights,
            "checkpoints": None,  # of a training: path in its folder -> SHA-256
            "resumed": None,  # {"folder", "epoch", "changed": config keys, None: not known}, of a run that went on
            "commit": commit(),
            "versions": versions(),
            "settings": settings_of(cfg),
            "config": {key: as_json(value) for key, value in cfg.items() if key != "SETTINGS"},
        }

    def already_finished(self, identify: Callable[[], dict] | None = None) -> dict | None:
        """The record of this very run if it finished before; another finished run in its folder is an error.

        identify: gives the identity that the run would have, once the configs are the same; None: configs alone count.
        """
        former = whole_record(self.directory)
        if former is None or former.get("state") != "finished":
            return None
        ours = self.content
        different = differences(ours, former, data_is_compared=identify is not None)
        if identify is not None and not different:
            different = differences(ours | {"identity": identify()}, former)
        different += resumed_otherwise(ours, former)
        if different:
            raise InputError(
                f"{self.directory} holds a finished run that is not this one: {in_short(different)}: choose another "
                "--output-dir (a script's OUTPUT, a sweep's --output), or remove that folder."
            )
        return former

    def broke_off(self) -> bool:
        """Whether the folder holds a training of this very config that did not come to its end, with a checkpoint."""
        former = whole_record(self.directory)
        if former is None or former.get("state") == "finished" or former.get("weights") or self.content["weights"]:
            return False
        compared = bool(former.get("identity"))  # before it goes on
        if of_config(self.content, former, data_is_compared=compared):
            return False
        return bool(models_in(self.directory)) and not other_files(self.content["methods"], former.get("methods"))

    def goes_on_from(self, folder: str, former: dict | None, epoch: int) -> list[str]:
        """Keep what the run in `folder`, whose record is `former`, had otherwise in its config; it is returned in words."""
        former = former or {}
        known = "config" in former
        changed = list(of_config(self.content, former, data_is_compared=True)) if known else None
        self.content["resumed"] = {"folder": folder, "epoch": epoch, "changed": changed}
        if former.get("resumed") and is_same_folder(folder, self.directory):
            self.content["resumed"] = former["resumed"]  # it broke off after it had been resumed from another folder
        return differences(self.content, former, data_is_compared=True) if known else []

    def __enter__(self):
        self.former, self.saved = whole_record(self.directory), times_saved(self.directory)
        self.write()
        return self

    def write(self) -> None:
        self.content["seconds"] = time.monotonic() - self.started
        self.content["peak_memory_mib"], self.content["peak_gpu_memory_mib"] = peak_memory()
        write_json(self.content, os.path.join(self.directory, FILE))

    def describe(self, trainer, chosen_on_test: bool | None) -> None:
        """What is known once the trainer is built: of its device, its images, and what it says of itself."""
        device, root = trainer.device, trainer.cfg.DATASET.ROOT
        facts = trainer.facts()
        unlabelled, items = facts.pop("unlabelled", None), []
        if unlabelled is not None and self.content["weights"] is None:  # a training run
            items = unlabelled()
            facts.update(unlabelled_images=len(items), unlabelled_sha256=sha256_of_images(items, root))
        self.content.update(
            device=f"cpu ({platform.machine()})" if device.type == "cpu" else torch.cuda.get_device_name(device),
            images_sha256=sha256_of_images(trainer.dm.dataset.train_x, root),
            chosen_on_test=chosen_on_test,
            identity=identity_of(trainer.cfg, trainer.dm.dataset, unlabelled=items),
            **facts,
        )
        self.write()

    def trained(self, epoch: int) -> None:
        """All epochs are done and saved: noted before the test, which a trainer may not come back from."""
        self.content.update(
            trained=True, epoch=epoch, why=f"all {epoch} epochs are trained and saved, and its test has not ended"
        )
        self.content["checkpoints"] = sha256_of_checkpoints(self.directory)
        self.write()

    def finish(self, trainer, epoch: int) -> None:
        """The results of the evaluation that came last, unrounded, in percent."""
        evaluator = trainer.evaluator
        results = getattr(evaluator, "results", None) or {}
        for key in ("why", "trained"):
            self.content.pop(key, None)
        if not getattr(trainer, "start_epoch", 0):  # a folder whose checkpoints are of different epochs
            self.content["resumed"] = None
        self.content.update(
            state="finished",
            epoch=epoch,
            accuracy=results.get("accuracy"),
            macro_f1=results.get("macro_f1"),
            plan=getattr(trainer, "plan", None),
            train_seconds=getattr(trainer, "train_seconds", None),
            test_images_per_second=getattr(trainer, "test_images_per_second", None),
            classwise=by_name(getattr(evaluator, "classwise", None) or {}),
            confused=in_short_form(evaluator),
            checkpoints=None if self.content["weights"] else sha256_of_checkpoints(self.directory),
        )
        self.write()

    def stop(self, why: str, state: str = "failed") -> None:
        """The run ends without a result; if it has saved nothing either, a run that broke off here stays as it was."""
        self.content.update(state=state, why=why)
        if self.former is not None and self.saved and self.saved == times_saved(self.directory):
            write_json(self.former, os.path.join(self.directory, FILE))
        else:
            self.write()

    @contextlib.contextmanager
    def building(self):
        """A run that is refused before it begins, for what the user is to mend, is none that a table counts."""
        try:
            yield
        except users_errors():
            self.content["refused"] = True
            raise

    def __exit__(self, kind, error, trace):
        """A folder that is gone is not made again, and a full disk, which the error says already, leaves `running`."""
        if error is None or self.content["state"] == "finished" or not os.path.isdir(self.directory):
            return
        with contextlib.suppress(InputError):
            if isinstance(error, KeyboardInterrupt):
                self.stop(f"interrupted by {signal_of(error).name}", state="stopped")
            elif isinstance(error, SystemExit):
                before = self.content.get("why")
                self.stop(
                    "; ".join(filter(None, [f"the trainer ended the process itself ({in_words(error)})", before]))
                )
            else:
                self.stop(f"{kind.__name__}: {error}")


def in_words(ended: SystemExit) -> str:
    """How a process is ended: sys.exit(0), os._exit(0)"""
    if type(ended) is not SystemExit:
        return str(ended)
    return f"sys.exit({'' if ended.code is None else repr(ended.code)})"


def times_saved(run: str) -> dict[str, int]:
    """Model -> when one of its checkpoints was put into its folder or taken out, in ns."""
    return {name: os.stat(os.path.join(run, name)).st_mtime_ns for name in models_in(run)}


def resumed_otherwise(record: dict, former: dict) -> list[str]:
    """In words, that a former run had a part of its training from one of another config, which this one has not."""
    resumed = former.get("resumed")
    if not isinstance(resumed, dict):
        return []
    changed, folder = resumed.get("changed"), str(resumed.get("folder"))
    if changed == [] or is_same_folder(record["config"]["RESUME"], folder):
        return []
    had = f"with another {', '.join(map(str, changed))}" if isinstance(changed, list) else "of which no config is known"
    return [f"it was resumed from {folder}, {had}"]


def names_of(classwise: dict[int, dict]) -> dict[int, str]:
    """Label -> the name of its class; where classes share one (ImageNet has two such), with the label."""
    times = Counter(entry["name"] for entry in classwise.values())
    return {
        label: entry["name"] if times[entry["name"]] == 1 else f"{entry['name']} [{label}]"
        for label, entry in classwise.items()
    }


def by_name(classwise: dict[int, dict]) -> dict[str, dict]:
    """The results of each class under its name."""
    return {
        name: {key: classwise[label][key] for key in ("total", "correct", "accuracy")}
        for label, name in names_of(classwise).items()
    }


def in_short_form(evaluator) -> dict[str, str] | None:
    """Class -> what was answered in its place, as "label:images label:images"; labels count `identity`'s classes from 0.

    Only classes of which some images were answered wrong. None: the evaluator does not say.
    """
    confused = getattr(evaluator, "confused", None)
    if confused is None:
        return None
    names = names_of(evaluator.classwise)
    return {
        names[label]: " ".join(f"{answer}:{count}" for answer, count in answers.items())
        for label, answers in confused.items()
    }


@functools.cache  # a process keeps the code that it began with; a sweep asks for every run that it plans
def commit() -> str | None:
    """The commit of this code, with + if something in it has been changed since; None outside a git checkout."""
    git = ["git", "-C", os.path.dirname(os.path.abspath(__file__))]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], capture_output=True, timeout=10).returncode
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+" if changed else "")


def versions() -> dict[str, str]:
    """Python and the libraries that can change a number."""
    found = {"python": platform.python_version()}
    for package in ("torch", "torchvision", "numpy", "pillow", "open_clip_torch"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
