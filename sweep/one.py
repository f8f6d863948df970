"""One run of one method. All scripts of scripts/ are this, and differ in nothing but their names.

Scripts, which are the same for every METHOD (its folder in scripts/: coop, spotlighter, zsclip, ...):
  base2new_train.sh DATASET SEED    train on the base classes, test on them         -> OUTPUT/base2new/train_base
  base2new_test.sh DATASET SEED     test that run's model on the new classes        -> OUTPUT/base2new/test_new
  few_shot.sh DATASET SHOTS SEED    train on all classes, test on them              -> OUTPUT/fewshot
  xd_train.sh SEED                  train on SOURCE, for the next two               -> OUTPUT/xd_train/SOURCE
                                    (OUTPUT/fewshot/SOURCE where few_shot.sh has the same settings)
  xd_test.sh TARGET SEED            test that run's model on another data set       -> OUTPUT/xd/TARGET
  dg_test.sh TARGET SEED            test it on a shifted variant of SOURCE          -> OUTPUT/dg/TARGET
  teacher.sh DATASET SEED           promptkd only: train its teacher alone          -> OUTPUT/base2new/train_base

Arguments:
  DATASET, TARGET  a name in configs/datasets/: a benchmark (caltech101, ...), a drawn set (embedded_...) or folder, which
                   is your own pictures. dg_test.sh takes imagenetv2, imagenet_sketch, imagenet_a, imagenet_r and
                   embedded_shapes_dark, _lowres, _negative, _sketch
  SHOTS            training images a class; a class that has fewer gives all it has
  SEED             a whole number. The field reports the mean of 1, 2 and 3
  KEY VALUE        any key of the config, such as OPTIM.MAX_EPOCH 20

Environment variables, none of them needed (and their defaults):
  DATA         the data root: the folder of the data sets, or of your class folders        (data)
  OUTPUT       the folder of all runs                                                      (output)
  SHOTS        training images a class, where it is no argument                            (16)
  CFG          the config of the method: configs/trainers/<Method>/CFG.yaml
               (embedded for drawn sets; else vit_b16, for folder too: CLIP's ViT-B/16, downloaded at the first run)
  DEVICE       cpu, or the number of a GPU                                                 (the first GPU, else cpu)
  SOURCE       what xd_train.sh trains on         (imagenet; embedded_shapes if TARGET is a drawn set)
  CLIP_CACHE   where CLIP's weights are kept                                               (~/.cache/clip)
  FEATURES_CACHE  where features of frozen encoders are kept for all runs; "": nowhere     (~/.cache/spotlighter/features)
  PYTHON       the interpreter                           (the active environment's; without one, .venv's)
  For PromptKD, alone or as a host, whose training scripts train its teacher first, on the same images:
  TEACHER_CFG  configs/trainers/PromptSRC/TEACHER_CFG.yaml                   (vit_l14; embedded if CFG is one of those)
  TEACHER_DIR  the folder of a teacher's run that is there already, such as the authors'; then none is trained

few_shot.sh folder ... ends with the accuracy, a page of all runs (OUTPUT/report.html), and the line that classifies other pictures.
A finished run is skipped; one that broke off goes on from its last checkpoint. The run's folder holds log.txt,
results.json and the checkpoints. Exit code: 0 done, 1 a fault, 2 what you can mend; stopped: 130 (Ctrl-C), 143 (SIGTERM), 129 (SIGHUP).
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from dassl.errors import InputError
from one_run.command import carry_out
from one_run.folder import holder, take_lock, to_give
from one_run.layout import ROOT

from .afterwards import is_shown, show
from .protocols import (
    Method,
    Run,
    Setting,
    absolute,
    build,
    build_teacher,
    check_name,
    configs_in,
    find_method,
    source_of,
    teaching_of,
    whole_number,
    with_config,
)

SCRIPTS = {  # and their arguments; the head of this file says what they do
    "base2new_train": "DATASET SEED",
    "base2new_test": "DATASET SEED",
    "few_shot": "DATASET SHOTS SEED",
    "xd_train": "SEED",
    "xd_test": "TARGET SEED",
    "dg_test": "TARGET SEED",
    "teacher": "DATASET SEED",
}


def run_of(folder: str, script: str, arguments: list[str], environment: Mapping[str, str]) -> Run:
    """The run that a script was asked for."""
    names = SCRIPTS[script].split()
    given = {"SHOTS": environment.get("SHOTS") or "16", **dict(zip(names, arguments, strict=False))}
    options = tuple(arguments[len(names) :])
    method = find_method(folder)
    if config := environment.get("CFG"):
        if method.suffix not in config:
            raise InputError(
                f"CFG={config} is not what scripts/{folder}/ stands for, whose configs end in {method.suffix}: leave CFG out, or "
                f"take scripts/{method.name.lower()}/."
            )
        method = Method(method.name, config)
    teacher = environment.get("TEACHER_DIR", "")
    setting = Setting(
        data=absolute(environment.get("DATA") or ROOT / "data"),
        output=absolute(environment.get("OUTPUT") or ROOT / "output"),
        options=options,
        teacher_options=options if script == "teacher" else (),
        teacher_config=environment.get("TEACHER_CFG", ""),
        teacher_folder=str(absolute(teacher)) if teacher else "",
        source=environment.get("SOURCE", ""),
    )
    shots, seed = whole_number(given["SHOTS"], "SHOTS", 1), whole_number(given["SEED"], "SEED", 0)
    if script == "xd_train":
        return build("xd_train", method, source_of("xd_test", "", setting), shots, seed, setting)
    dataset = check_name(given[names[0]], configs_in("datasets"), "data set")
    if script == "teacher":
        method = with_config(method, dataset)
        taught = teaching_of(method, [])
        if taught is None:
            raise InputError(f"{method.name} has no teacher: only methods with a teacher.yaml have this script.")
        return build_teacher(taught, "base2new_train", method, dataset, shots, seed, setting)
    return build(script, method, dataset, shots, seed, setting)


def with_device(environment: Mapping[str, str]) -> dict[str, str]:
    """DEVICE as CUDA knows it. It is no key of the config: a run is the same on any device, and its record says which."""
    device = environment.get("DEVICE", "").removeprefix("cuda:")
    return {**environment, **({"CUDA_VISIBLE_DEVICES": "" if device == "cpu" else device} if device else {})}


def check_device(environment: Mapping[str, str]) -> None:
    """Refuse a GPU that is not there: PyTorch would take the CPU without a word. `environment` is `with_device`'s."""
    device = environment.get("DEVICE", "")
    if device in ("", "cpu"):
        return
    os.environ.update(environment)  # before PyTorch looks
    import torch

    if not torch.cuda.is_available():
        raise InputError(f"DEVICE is {device}, and there is no such GPU here: give the number of one, or DEVICE=cpu.")


def lock_of(run: Run) -> int:
    """An open file with the run's lock, which a new process or program inherits."""
    lock = take_lock(run.folder)
    if lock is None:
        who = holder(run.folder)
        raise InputError(f"{run.folder} is at work already ({who}): wait for it, or choose another OUTPUT.")
    os.set_inheritable(lock, True)
    return lock


def usage(argv: list[str]) -> str:
    folder, script = argv[:2] if len(argv) > 1 else ("", "")
    if script not in SCRIPTS:
        return f"usage: bash scripts/METHOD/SCRIPT.sh ARGUMENTS [KEY VALUE ...]\n\n{__doc__}"
    return f"usage: bash scripts/{folder}/{script}.sh {SCRIPTS[script]} [KEY VALUE ...]\n\n{__doc__}"


def is_complete(argv: list[str]) -> bool:
    """Whether there is a script with its arguments, a value to each key, and nothing else."""
    if len(argv) < 2 or argv[1] not in SCRIPTS:
        return False
    further = len(argv) - 2 - len(SCRIPTS[argv[1]].split())
    return further >= 0 and further % 2 == 0 and not flags_in(argv)


def flags_in(argv: list[str]) -> list[str]:
    """What begins as an option of train.py would, which takes what stands behind a script's arguments as its own."""
    return [
        argument
        for argument in argv[2:]
        if argument.startswith("--") or (argument[:1] == "-" and argument[1:2].isalpha())
    ]


def what_is_missing(argv: list[str]) -> str:
    """In one sentence, below the usage, where it is read first."""
    if len(argv) < 2 or argv[1] not in SCRIPTS:
        return f"There is no such script: choose one of {', '.join(SCRIPTS)}."
    if flags := flags_in(argv):
        return (
            f"The scripts take no options such as {flags[0]}: give a config key and its value, such as OPTIM.MAX_EPOCH 20, or "
            "one of the environment variables above."
        )
    missing = SCRIPTS[argv[1]].split()[len(argv) - 2 :]
    if missing:
        return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing."
    return f"The config key {argv[-1]} has no value: further arguments are KEY VALUE pairs."


def main(argv: list[str]) -> int:
    if {"-h", "--help"} & {*argv}:
        return carry_out(lambda: print(usage(argv)))
    if not is_complete(argv):
        print(f"{usage(argv)}\nerror: {what_is_missing(argv)}", file=sys.stderr)
        return 2
    return carry_out(lambda: start(*argv))


def start(folder: str, script: str, *arguments: str) -> int:
    """Train the teacher, if there is one to train; then this process becomes train.py, unless there is more to show."""
    environment = with_device(os.environ)
    run = run_of(folder, script, list(arguments), environment)
    check_device(environment)
    if run.trains and run.after is not None:
        lock = lock_of(run.after)
        code = ended([sys.executable, *run.after.command], env=environment | to_give(lock), pass_fds=(lock,))
        os.close(lock)
        if code:
            return code
    lock = lock_of(run)
    sys.stdout.flush()
    if is_shown(script, arguments[0]):
        code = ended([sys.executable, *run.command], env=environment | to_give(lock), pass_fds=(lock,))
        os.close(lock)
        if not code:
            show(run, Path(absolute(environment.get("OUTPUT") or ROOT / "output")))
        return code
    os.execve(sys.executable, [sys.executable, *run.command], environment | to_give(lock))


def ended(command: list[str], **how) -> int:
    """The exit code of another process, which is interrupted where this one is, and says itself what that leaves."""
    process = subprocess.Popen(command, **how)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        if process.wait() <= 0:
            raise
        return process.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
