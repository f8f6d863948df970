"""One run of one method, for scripts/<folder>/<script>.sh: python -m sweep.one FOLDER SCRIPT ARGUMENTS

A student's teacher is trained before it. The rest of this process is train.py itself, which says where the results
went.
"""

import os
import subprocess
import sys
from collections.abc import Mapping

from dassl.errors import InputError

from .protocols import (
    ROOT,
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
    whole_number,
    with_config,
)
from .work import take_lock

SCRIPTS = {  # and their arguments
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
    if environment.get("CFG"):
        method = Method(method.name, environment["CFG"])
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
        return build("few_shot", method, source_of("xd_test", "", setting), shots, seed, setting)
    dataset = check_name(given[names[0]], configs_in("datasets"), "data set")
    if script == "teacher":
        return build_teacher("base2new_train", with_config(method, dataset), dataset, shots, seed, setting)
    return build(script, method, dataset, shots, seed, setting)


def with_device(environment: Mapping[str, str]) -> dict[str, str]:
    """DEVICE as CUDA knows it. It is no key of the config: a run is the same on any device, and its record says which."""
    device = environment.get("DEVICE", "").removeprefix("cuda:")
    return {**environment, **({"CUDA_VISIBLE_DEVICES": "" if device == "cpu" else device} if device else {})}


def lock_of(run: Run) -> int:
    """An open file with the run's lock, which a new process or program inherits."""
    try:
        lock = take_lock(run.folder)
    except OSError as error:
        raise InputError(f"{run.folder} cannot be made ({error.strerror}): choose another OUTPUT.") from error
    if lock is None:
        raise InputError(f"Another process is working in {run.folder}: wait for it, or choose another OUTPUT.")
    os.set_inheritable(lock, True)
    return lock


def main(argv: list[str]) -> int:
    folder, script, *arguments = argv
    if len(arguments) < len(SCRIPTS[script].split()):
        print(f"usage: {script}.sh {SCRIPTS[script]} [KEY VALUE ...]", file=sys.stderr)
        return 2
    environment = with_device(os.environ)
    try:
        run = run_of(folder, script, arguments, environment)
        if run.trains and run.after is not None:
            lock = lock_of(run.after)
            code = subprocess.call([sys.executable, *run.after.command], env=environment, pass_fds=(lock,))
            os.close(lock)
            if code:
                return code
        lock_of(run)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *run.command], environment)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
