"""A config -> a trained, or tested, run: seed and log, record, then the trainer's own train or test."""

import contextlib
import os
import threading
from pathlib import Path

import torch
from yacs.config import CfgNode

from dassl.checkpoints import BEST, POINTER, epochs, file_of, last_epoch, models_in
from dassl.data.datasets import DATASET_REGISTRY
from dassl.data.whole import check_pictures, pictures_needed
from dassl.engine import build_trainer
from dassl.utils import InputError, collect_env_info, device_of_run, set_random_seed, setup_logger
from dassl.utils.files import remove_leftovers
from dassl.utils.resume import latest
from trainers.shared.ours import files_of_users

from .config import explain_undeclared_keys
from .differences import (
    differences,
    first_identity,
    in_short,
    of_method,
    other_runs,
    refuse_other_file,
    refuse_other_training,
    refuse_to_go_on,
    trained_on,
)
from .folder import FILE, BrokenRecord, alone_in, is_same_folder, sound_record, whole_record
from .identity import identity_before, methods_of, sha256_of_file
from .judges import check_judges
from .record import RunRecord, as_json, in_words
from .room import naming_what_takes_less


def do(cfg: CfgNode, model_dir: str = "", epoch: int | None = None, test: bool = False, train: bool = True) -> None:
    """Carry out a run. A finished one is skipped, and one that broke off goes on from its last checkpoint.

    test: test what the run in `model_dir` has learned (its `epoch`; None: its last), and train nothing.
    train: False builds everything and stops there.
    """
    check_precision(cfg)
    check_data(cfg)
    if test and model_dir and is_same_folder(model_dir, cfg.OUTPUT_DIR):
        raise InputError(
            f"--output-dir {cfg.OUTPUT_DIR} is the training run itself: choose another folder for its test."
        )
    record = RunRecord(cfg, weights_to_test(cfg, model_dir, epoch) if test else None)
    if is_skipped(record, cfg):
        return
    with alone_in(cfg.OUTPUT_DIR):
        if not is_skipped(record, cfg):  # who had the lock may have finished it
            with deterministic(cfg.DETERMINISTIC and device_of_run(cfg.USE_CUDA).type != "cpu"):
                work(record, cfg, model_dir, epoch, test, train)


@contextlib.contextmanager
def deterministic(wanted: bool):
    """If wanted, the same input gives the same bits on a GPU, and an operation that cannot is a RuntimeError.

    Warnings in place of errors would not do: PyTorch then leaves attention's gradient as it is, summed in any order.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which cuBLAS reads at the process's first product
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def say_if_broken(folder: str) -> None:
    try:
        sound_record(folder)
    except BrokenRecord as error:
        print(f"{error} It is done anew.")


def is_skipped(record: RunRecord, cfg: CfgNode) -> bool:
    former = record.already_finished(lambda: identity_before(cfg, trains=record.content["weights"] is None))
    if former is not None:
        accuracy = former.get("accuracy")
        said = "none" if accuracy is None else f"{accuracy:.2f}"
        unknown = "" if former.get("identity") else ", as far as its older record says"
        print(f"Skipped: {cfg.OUTPUT_DIR} holds this finished run{unknown} (accuracy {said}).")
    return former is not None


def work(record: RunRecord, cfg: CfgNode, model_dir: str, epoch: int | None, test: bool, train: bool) -> None:
    """As `do` says, in a folder where nobody else is at work."""
    say_if_broken(cfg.OUTPUT_DIR)
    goes_on = not (test or cfg.RESUME) and record.broke_off()
    if goes_on:
        cfg.defrost()
        cfg.RESUME = cfg.OUTPUT_DIR
        cfg.freeze()

    folder = model_dir if test else cfg.RESUME
    trained = whole_record(folder) if folder else None  # before it is written anew
    resumed = latest(folder, models_in(folder)) if folder and not test else None
    if cfg.RESUME and not goes_on and resumed is None and os.path.isdir(folder):
        raise InputError(f"{folder} holds no checkpoint to go on from: correct --resume, or leave it out.")
    if cfg.RESUME:
        refuse_other_file(record.content["methods"], trained, folder)
    if resumed is None:
        changed, learned_from = [], trained_on(folder, trained, epoch) if folder else None
    else:
        changed, learned_from = (
            record.goes_on_from(folder, trained, resumed.epoch),
            first_identity(*resumed.checkpoints.values(), trained),
        )

    with saying_what_is_left(record, cfg), record, naming_what_takes_less(record, cfg), exits_come_through():
        setup_logger(cfg.OUTPUT_DIR)
        if goes_on:
            print(f"{cfg.OUTPUT_DIR} holds this run, which broke off: it goes on from its last checkpoint.")
        if changed:
            print(f"Resumed with another config than the run in {folder} had: {'; '.join(changed)}.")
        set_seed(cfg)
        print(f"** Config **\n{cfg}\n** System **\n{collect_env_info()}\n")
        with record.building(), explain_undeclared_keys(cfg):
            trainer = build_trainer(cfg)
            chosen_on_test = check_judges(trainer, trains=not test)
        clear(cfg.OUTPUT_DIR, trainer, resumed.epoch if goes_on and resumed else 0)
        record.describe(trainer, the_trained_ones(record, trained) if test else chosen_on_test)
        trainer.identity = record.content["identity"]
        (refuse_other_training if test else refuse_to_go_on)(trainer.identity, learned_from, folder)
        for other in other_runs(cfg):  # such as a teacher's
            refuse_other_training(trainer.identity, trained_on(other, whole_record(other)), other, own=False)
        if trainer.num_classes == 1:
            print("There is one class only, so that every prediction is right: an accuracy of 100% says nothing.")
        if test:
            with explain_undeclared_keys(cfg), counting_what_was_evaluated(record, trainer, record.content["weights"]):
                reached = test_trained(trainer, model_dir, record.content["weights"])
        elif train:
            if trainer.get_model_names():
                check_pictures(pictures_needed(cfg, trainer.dm.dataset))
            if not (cfg.RESUME and is_same_folder(cfg.RESUME, cfg.OUTPUT_DIR)):
                set_aside(record, cfg.OUTPUT_DIR)
            trainer.on_trained = lambda: note_trained(record, trainer)
            with explain_undeclared_keys(cfg), counting_what_was_evaluated(record, trainer):
                trainer.train()
            reached = cfg.OPTIM.MAX_EPOCH if trainer.get_model_names() else 0
        else:
            record.stop("--no-train: everything was built, nothing was trained")
            return
        record.finish(trainer, reached)
        print(f"Results: {os.path.join(cfg.OUTPUT_DIR, FILE)}")


class HardExit(SystemExit):
    """`os._exit`, asked for by a trainer."""

    def __str__(self) -> str:
        return f"os._exit({self.code})"


@contextlib.contextmanager
def exits_come_through():
    """A trainer's `os._exit` ends the process as its `sys.exit` does: once the record says so. Not that of a child."""
    process, leave = os.getpid(), os._exit

    def ask(code: int):
        if os.getpid() == process and threading.current_thread() is threading.main_thread():
            raise HardExit(code)
        leave(code)

    os._exit = ask
    try:
        yield
    finally:
        os._exit = leave


def note_trained(record: RunRecord, trainer) -> None:
    record.trained(trainer.cfg.OPTIM.MAX_EPOCH)
    if hasattr(trainer.evaluator, "results"):
        trainer.evaluator.results = {}  # of validation images, while it trained


@contextlib.contextmanager
def counting_what_was_evaluated(record: RunRecord, trainer, weights: dict | None = None):
    """A test that ends the process, with nothing amiss, once it has its results: they are the run's."""
    try:
        yield
    except SystemExit as ended:
        is_trained = "trained" in record.content or not trainer.get_model_names()
        if not ended.code and (weights or is_trained) and getattr(trainer.evaluator, "results", None):
            record.finish(trainer, (weights["epoch"] or 0) if weights else record.content["epoch"] or 0)
        raise


@contextlib.contextmanager
def saying_what_is_left(record: RunRecord, cfg: CfgNode):
    """An interrupt says what the same command will do then; whether there is a checkpoint is looked at, not supposed."""
    try:
        yield
    except SystemExit as ended:
        result = "with its result" if record.content["state"] == "finished" else "so there is no result"
        print(
            f"Note: the trainer {cfg.TRAINER.NAME} has ended the process itself ({in_words(ended)}), {result}: "
            f"{os.path.join(cfg.OUTPUT_DIR, FILE)} says what is there."
        )
        raise
    except KeyboardInterrupt as interrupt:
        if not record.broke_off():
            again = f"once more from {cfg.RESUME}" if cfg.RESUME else "from the beginning"
            raise KeyboardInterrupt(f"nothing is saved yet, and the same command starts {again}") from interrupt
        own = not cfg.RESUME or is_same_folder(cfg.RESUME, cfg.OUTPUT_DIR)
        command = "the same command" if own else "the same command without --resume"
        raise KeyboardInterrupt(f"{command} goes on from the last checkpoint") from interrupt


def clear(folder: str, trainer, epoch: int) -> None:
    """Remove what killed processes have left: files that they were writing, perhaps for a first checkpoint, and
    checkpoints to go on from that have one after them, that of `epoch` (0: none).
    """
    places = [os.path.join(folder, name) for name in trainer.get_model_names()]
    for place in filter(os.path.isdir, [folder, *places]):
        remove_leftovers(place)
    for place in filter(os.path.isdir, places if epoch else []):
        for former in epochs(os.listdir(place)):
            if former < epoch and not trainer.is_kept(former):
                os.unlink(os.path.join(place, file_of(former)))


def set_aside(record: RunRecord, folder: str) -> None:
    """Say that another run had broken off in the folder, and remove its checkpoints: they would be taken for this one's."""
    places = [os.path.join(folder, name) for name in models_in(folder)]
    if record.former is None or not places:
        return
    said = in_short(differences(record.content, record.former, data_is_compared=True))
    print(
        f"{folder} held another run, which broke off ({said or 'its record does not say how'}): this one begins anew."
    )
    for place in places:
        for file in (*map(file_of, epochs(os.listdir(place))), BEST, POINTER):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(place, file))


def the_trained_ones(record: RunRecord, trained: dict | None) -> bool | None:
    """Whether the model that is tested was chosen on test images, as its training's record says; None: it does not."""
    weights = record.content["weights"]
    return (trained or {}).get("chosen_on_test") if weights and weights["epoch"] is None else False


def set_seed(cfg: CfgNode) -> None:
    if cfg.SEED >= 0:
        print(f"Setting fixed seed: {cfg.SEED}")
        set_random_seed(cfg.SEED)
        torch.backends.cudnn.deterministic = True


def test_trained(trainer, model_dir: str, weights: dict | None) -> int:
    """Load and test; the epoch that was loaded is returned, 0 where there is none."""
    if trainer.get_model_names() and not model_dir:
        raise InputError(f"--eval-only needs --model-dir: {trainer.cfg.TRAINER.NAME} has learned parameters to load.")
    epoch = weights["epoch"] if weights else None
    trainer.load_trained(model_dir, epoch=epoch)
    trainer.test()
    return epoch or 0


def weights_to_test(cfg: CfgNode, model_dir: str, epoch: int | None = None) -> dict | None:
    """Which checkpoint a test loads: folder, epoch (None: best on validation images) and its hash."""
    if not model_dir:
        return None
    directory = Path(model_dir)
    if not directory.is_dir():
        raise InputError(
            f"--model-dir {directory} does not exist: train first (base2new_train.sh, few_shot.sh or xd_train.sh of the same data "
            "set, SHOTS, CFG and seed), or correct the path."
        )
    former = sound_record(directory)  # the authors' folders hold none
    if former is not None:
        if is_trained(former) and epoch is None:
            print(f"Note: the run in {directory} has no result ({former.get('why')}); its last checkpoint is tested.")
        elif former.get("state") != "finished" and epoch is None:
            raise InputError(
                f"The training run in {directory} has not finished (its state is {former.get('state')!r}): run it again, "
                "or name one of its checkpoints with --load-epoch."
            )
        for field, here in (("method", cfg.TRAINER.NAME), ("backbone", cfg.MODEL.BACKBONE.NAME)):
            if former.get(field) != here:
                raise InputError(
                    f"{directory} was trained with {field} {former.get(field)}, and this test asks for {here}: "
                    f"choose the matching --model-dir or {field}."
                )
        refuse_other_file(files_of_users(methods_of(cfg)), former, str(directory))
        here = {"method": cfg.TRAINER.NAME, "dataset": cfg.DATASET.NAME, "config": as_json(cfg)}
        if said := of_method(here, former):
            print(
                f"Note: {directory} was trained with other settings of its method, and is tested with these: {in_short(said)}."
            )
    if epoch is None and cfg.TEST.FINAL_MODEL == "last_step":
        epoch = last_epoch(model_dir)
    found = {path: sha256_of_file(path) for path in sorted(directory.glob(f"*/{file_of(epoch)}"))}
    check_sums(found, directory, (former or {}).get("checkpoints"))
    return {"model_dir": str(directory), "epoch": epoch, "sha256": list(found.values())}


def is_trained(record: dict) -> bool:
    """Whether a run has no result though all its epochs are trained and saved: something ended it in its test."""
    return record.get("state") != "finished" and record.get("trained") is True


def check_sums(found: dict[Path, str], directory: Path, finished_with) -> None:
    """Refuse checkpoints that are not those which the run in `directory` finished with, as its record says."""
    stated = finished_with if isinstance(finished_with, dict) else {}
    for path, sha256 in found.items():
        if stated.get(path.relative_to(directory).as_posix(), sha256) != sha256:
            raise InputError(
                f"{path} is not the file that its run finished with, by its SHA-256: restore it, or train again in another "
                "folder."
            )


def check_data(cfg: CfgNode) -> None:
    """A data set may refuse a config before anything is written; whether there is one of that name is looked at later."""
    name = cfg.DATASET.NAME
    check = (
        getattr(DATASET_REGISTRY.get(name), "check_cfg", None) if name in DATASET_REGISTRY.registered_names() else None
    )
    if check is not None:
        check(cfg)


def check_precision(cfg: CfgNode) -> None:
    """fp16 on a CPU is refused for trainer files of other code bases too, which do not look themselves."""
    if torch.cuda.is_available() and cfg.USE_CUDA:
        return
    for node, keys in cfg.TRAINER.items():
        if isinstance(keys, dict) and keys.get("PREC") in ("fp16", "amp"):
            raise InputError(
                f"TRAINER.{node}.PREC is {keys['PREC']}, which needs a GPU, and this run is on the CPU: "
                f"add TRAINER.{node}.PREC fp32."
            )
