"""Sweeps (../sweep): what is planned, in which order it is done, what is said; with stand-ins for train.py."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dassl.errors import InputError
from one_run.folder import state_of
from one_run.interrupts import SIGNALS, Interrupt
from one_run.layout import GROUPS
from sweep import on_local, on_ray, on_slurm, progress, protocols, start, work
from sweep.__main__ import main
from sweep.on_local import run_locally, slots_of
from sweep.progress import Progress
from sweep.protocols import Method, Run, Setting, find_datasets, find_method, plan
from sweep.start import Starter
from sweep.work import Outcome
from tests.helpers import REPOSITORY
from tests.sweep.stand_ins import Fake, at_work, fake, is_gone, journal, wait_until

SETTING = Setting(Path("/d"), Path("/o"))


def planned(protocol, methods, names, shots=(16,), seeds=(1,), setting=SETTING):
    return plan(protocol, [find_method(text) for text in methods], names, list(shots), list(seeds), setting)


def folders(runs):
    return [str(run.folder) for run in runs]


def do(runs, slots=2):
    done = Progress(runs, set())
    run_locally(done, [{"OMP_NUM_THREADS": "1"}] * slots, poll=0.02)
    return done


# --- what is planned ---------------------------------------------------------------------------------------------


def test_base_to_new():
    runs = planned("base2new", ["CoOp", "VPT:vit_b16_shallow"], ["dtd"], seeds=(2, 1))
    assert folders(runs) == [
        f"/o/base2new/{phase}/dtd/shots_16/{method}/seed{seed}"
        for seed in (2, 1)
        for method in ("CoOp/vit_b16", "VPT/vit_b16_shallow")
        for phase in ("train_base", "test_new")
    ]
    train, test = runs[:2]
    assert test.after == train and train.trains and not test.trains
    assert train.command[-4:] == ("DATASET.NUM_SHOTS", "16", "DATASET.SUBSAMPLE_CLASSES", "base")
    assert "--eval-only" not in train.command
    assert test.command[test.command.index("--model-dir") + 1] == str(train.folder) and "--eval-only" in test.command


def test_few_shot_curves():
    runs = planned("fewshot", ["CoOp"], ["dtd", "embedded_small"], shots=(1, 2))
    assert folders(runs) == [
        f"/o/fewshot/{name}/seed1"
        for name in (
            "dtd/shots_1/CoOp/vit_b16", "dtd/shots_2/CoOp/vit_b16",
            "embedded_small/shots_1/CoOp/embedded", "embedded_small/shots_2/CoOp/embedded",
        )
    ]  # fmt: skip
    assert all(run.command[-1] == "all" and run.after is None for run in runs)


@pytest.mark.parametrize("protocol, count", [("base2new", 2), ("fewshot", 1), ("xd", 2)])
def test_what_trains_nothing_is_done_once_a_data_set(protocol, count):
    """Neither shots nor seed matter to it; they do where it is tested on the few validation images that are drawn."""
    runs = planned(protocol, ["zsclip", "ZeroshotCLIP2", "CoOp"], ["dtd"], shots=(4, 1), seeds=(2, 1, 3))
    for name in ("ZeroshotCLIP", "ZeroshotCLIP2"):
        its = [run for run in runs if run.request.method == name]
        assert len(its) == count and all("shots_1" in str(run.folder) and run.request.seed == 1 for run in its)
    assert len([run for run in runs if run.request.method == "CoOp"]) == 6 * count
    setting = Setting(Path("/d"), Path("/o"), options=("TEST.SPLIT", "val"))
    assert len(planned(protocol, ["zsclip"], ["dtd"], shots=(4, 1), seeds=(2, 1, 3), setting=setting)) == 6 * count


@pytest.mark.parametrize("protocol", ["base2new", "fewshot", "xd"])
def test_what_trains_nothing_is_not_done_again_for_other_seeds_or_shots(protocol, tmp_path):
    """Whatever a sweep before it was asked for; a run that broke off is none."""
    setting = Setting(Path("/d"), tmp_path)

    def zero_shot(shots, seeds):
        runs = planned(protocol, ["zsclip", "CoOp"], ["dtd"], shots, seeds, setting)
        return [run for run in runs if run.request.method == "ZeroshotCLIP"]

    first = zero_shot((16, 4), (3, 2))
    assert first == zero_shot((4, 16), (2, 3))
    for run in first:
        run.folder.mkdir(parents=True)
        (run.folder / "results.json").write_text('{"state": "failed"}')
    assert all("shots_1/" in str(run.folder) for run in zero_shot((1,), (1,)))
    for run in first:
        (run.folder / "results.json").write_text('{"state": "finished"}')
    assert zero_shot((1,), (1,)) == zero_shot((8, 16), (5,)) == first
    assert all("shots_4/" in str(run.folder) and run.request.seed == 2 for run in first)


def test_one_training_for_all_targets():
    """The source itself needs no test of its own: its training is one. Where a method has the same settings for few shots,
    that is its few-shot run."""
    runs = planned("xd", ["CoOp"], ["imagenet", "dtd", "embedded_species"])
    run = "shots_16/CoOp/{}/seed1"
    source, shapes = (
        "/o/xd_train/imagenet/" + run.format("vit_b16"),
        "/o/fewshot/embedded_shapes/" + run.format("embedded"),
    )
    targets = "/o/xd/dtd/" + run.format("vit_b16"), "/o/xd/embedded_species/" + run.format("embedded")
    assert folders(runs) == [source, targets[0], shapes, targets[1]]
    shifted = planned("dg", ["CoOp"], list(GROUPS["shifts"]))
    assert folders(shifted) == [source, *(f"/o/dg/{name}/{run.format('vit_b16')}" for name in GROUPS["shifts"])]
    assert all(other.after == shifted[0] for other in shifted[1:])
    elsewhere = planned("xd", ["CoOp"], ["dtd"], setting=Setting(Path("/d"), Path("/o"), source="caltech101"))
    assert elsewhere[0].folder == Path("/o/xd_train/caltech101/shots_16/CoOp/vit_b16/seed1")


def test_settings_are_asked_for_by_protocol():
    asked = {
        protocol: [(run.label.split()[0], run.request.protocol) for run in planned(protocol, ["MaPLe"], datasets)]
        for protocol, datasets in {"base2new": ["dtd"], "fewshot": ["dtd"], "xd": ["dtd"], "dg": ["imagenet_r"]}.items()
    }
    assert asked == {
        "base2new": [("base2new_train", "base2new"), ("base2new_test", "base2new")],
        "fewshot": [("few_shot", "fewshot")],
        "xd": [("xd_train", "xd"), ("xd_test", "xd")],
        "dg": [("xd_train", "xd"), ("dg_test", "xd")],
    }
    (run,) = planned("fewshot", ["MaPLe"], ["dtd"])
    assert run.command[run.command.index("--protocol") + 1] == "fewshot"


def test_one_training_serves_protocols_of_the_same_settings():
    """CoCoOp's authors change nothing, MaPLe's do; CoOp's few shots of ImageNet are 50 epochs too, of other contexts."""
    trainings = [planned("xd", [method], ["dtd"])[0] for method in ("CoCoOp", "MaPLe", "CoOp", "CoOp:vit_b16_c16")]
    assert [run.folder.relative_to("/o").parts[0] for run in trainings] == [
        "fewshot",
        "xd_train",
        "xd_train",
        "fewshot",
    ]
    (few_shot,) = planned("fewshot", ["CoCoOp"], ["imagenet"])
    assert trainings[0] == few_shot


@pytest.mark.parametrize(
    "protocol, where", [("base2new", "base2new/train_base"), ("fewshot", "fewshot"), ("xd", "fewshot")]
)
def test_teachers_come_first_and_once(protocol, where):
    """Trained on what their students are, also where the student stands under Spotlighter; tests name them too."""
    setting = Setting(Path("/d"), Path("/o"), source="dtd")
    runs = planned(protocol, ["PromptKD", "spotlighter_promptkd"], ["embedded_small" if protocol == "xd" else "dtd"], setting=setting)  # fmt: skip
    teacher = Path(f"/o/{where}/dtd/shots_16/PromptSRC/vit_l14/seed1")
    assert runs[0].folder == teacher
    assert [run.folder.parent.parent.name for run in runs[1:]].count("PromptSRC") == 0
    students = [run for run in runs[1:] if run.trains]
    assert len(students) == 2 and all(run.after == runs[0] for run in students)
    assert all(f"TRAINER.PROMPTKD.TEACHER_DIR {teacher}" in " ".join(run.command) for run in runs[1:])
    assert all(run.after in students for run in runs if not run.trains)


@pytest.mark.parametrize("protocol", ["base2new", "xd"])
@pytest.mark.parametrize("method, options", [("CoOp", ("TRAINER.COOP.CSC", "True")), ("Spotlighter", ("TRAINER.COOP.CSC", "true"))])  # fmt: skip
def test_what_is_learned_for_each_class_is_not_tested_on_others(protocol, method, options):
    """It is refused before anything is trained, also of a host; where the classes are those of training it is not."""
    setting = Setting(Path("/d"), Path("/o"), options=options)
    with pytest.raises(InputError, match="CoOp with TRAINER.COOP.CSC learns something for each class.*few_shot.sh"):
        planned(protocol, ["KgCoOp", method], ["dtd"], setting=setting)
    assert len(planned("fewshot", [method], ["dtd"], setting=setting)) == 1
    assert len(planned("dg", [method], ["imagenet_a"], setting=setting)) == 2
    assert len(planned(protocol, [method], ["dtd"])) == 2
    with pytest.raises(InputError, match="^TaskRes learns something.*take it out of --methods, or choose --protocol"):
        planned(protocol, ["taskres"], ["dtd"])


def test_who_needs_a_teacher():
    needs = protocols.teaching_of
    assert needs(Method("PromptKD", "vit_b16"), []) and needs(Method("Spotlighter", "embedded_promptkd"), [])
    assert not needs(Method("Spotlighter", "embedded"), []) and not needs(Method("CoOp", "embedded"), [])
    assert needs(Method("Spotlighter", "embedded"), ["TRAINER.SPOTLIGHTER.HOST", "PromptKD"])
    assert not needs(Method("PromptKD", "vit_b16"), ["TRAINER.PROMPTKD.TEACHER_DIR", "/theirs"])


def test_the_planner_names_no_taught_method():
    code = (REPOSITORY / "sweep" / "protocols.py").read_text()
    assert not {"PromptKD", "PROMPTKD", "PromptSRC"} & set(re.findall(r"\w+", code))


def test_names():
    assert find_datasets(["embedded", "dtd", "all11", "dtd"])[:8] == [*GROUPS["embedded"], "dtd"]
    assert len(find_datasets(["all11"])) == 11
    for name in {name for group in GROUPS.values() for name in group}:
        assert (REPOSITORY / f"configs/datasets/{name}.yaml").is_file()
    assert find_method("coop") == Method("CoOp") and find_method("zsclip2").name == "ZeroshotCLIP2"


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--methods", "CoOpp"], "method 'CoOpp' is unknown; the nearest: CoOp"),
        (["--methods", "CoOp:vit_b17"], "config of CoOp 'vit_b17' is unknown; the nearest: vit_b16"),
        (["--methods"], "--methods is empty"),
        (["--datasets", "all12"], "data set 'all12' is unknown; the nearest: all11"),
        (["--protocol", "base2nev"], "protocol 'base2nev' is unknown; the nearest: base2new"),
        (["--seeds"], "--seeds is empty"),
        (["--seeds", "one"], "--seeds is 'one'"),
        (["--shots", "4", "0"], "--shots is '0': give a whole number from 1"),
        (["--output", __file__], "is a file"),
        (["--output", f"{__file__}/deeper"], "is a file"),
        (["--set", "OPTIM.MAX_EPOCHS", "3"], "OPTIM.MAX_EPOCHS is unknown; the nearest is OPTIM.MAX_EPOCH"),
        (["--set", "OPTIM.MAX_EPOCH"], "KEY VALUE"),
        (["--on", "slurn"], "place 'slurn' is unknown; the nearest: slurm"),
        (["--protocol", "fewshot", "--datasets", "shifts"], "has test images only"),
        (["--protocol", "dg"], "shifted data set 'dtd' is unknown"),
        (["--teacher", "vit_l15", "--methods", "PromptKD"], "the nearest: vit_l14"),
        (["--devices", "63"], "'63' is not here"),
        (["--per-device", "0"], "--per-device is '0'"),
    ],
)
def test_refusals(arguments, words, tmp_path, capsys):
    given = {"--methods": ["CoOp"], "--datasets": ["dtd"], "--output": [str(tmp_path / "runs")]}
    line = [part for name, values in given.items() if name not in arguments for part in (name, *values)]
    assert main([*line, *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said and said.startswith("error: ") and said.count("\n") == 1
    assert not (tmp_path / "runs").exists()


# --- the queue ---------------------------------------------------------------------------------------------------


def test_order(tmp_path):
    """A test begins after its training has finished, and meanwhile a free slot takes the next that can begin."""
    teacher = fake(tmp_path, "teacher", what="with:other")
    student = fake(tmp_path, "student", after=teacher)
    runs = [teacher, student, fake(tmp_path, "test", after=student), fake(tmp_path, "other")]
    assert do(runs).conclude() == 0
    events = journal(tmp_path)
    order = [events.index((word, name)) for name in ("teacher", "student", "test") for word in ("begun", "finished")]
    assert order == sorted(order)
    assert len(events) == 8


def test_as_many_at_a_time_as_slots(tmp_path):
    first = [fake(tmp_path, "a", what="with:b"), fake(tmp_path, "b", what="with:a")]
    assert do([*first, *(fake(tmp_path, f"run{i}", 0.05) for i in range(4))]).conclude() == 0
    at_work = 0
    for word, _ in journal(tmp_path):
        at_work += 1 if word == "begun" else -1
        assert at_work <= 2


def test_a_failure_does_not_stop_the_others(tmp_path, capsys):
    broken = fake(tmp_path, "broken", what="fail")
    needing = fake(tmp_path, "needing", after=broken)
    runs = [broken, needing, fake(tmp_path, "last", after=needing), fake(tmp_path, "forgetful", what="forget")]
    runs += [fake(tmp_path, "killed", what="kill"), fake(tmp_path, "well")]
    done = do(runs, slots=1)
    states = {run.label: outcome.state for run, outcome in done.outcomes.items()}
    assert states == dict(broken="failed", needing="skipped", last="skipped", forgetful="failed", killed="failed", well="finished")  # fmt: skip
    assert done.outcomes[runs[4]].killed and not done.outcomes[broken].killed
    assert done.conclude() == 1
    out, err = capsys.readouterr()
    assert "1 of 6 runs are finished." in out
    assert "failed: broken" in err and "    error: it cannot be done." in err
    assert "skipped: needing" in err and "It needs broken, which is not finished." in err
    assert "killed by SIGKILL" in err and "its record says running" in err


def test_what_an_environment_cannot_start(tmp_path):
    """A file in the way of one run's folder is that run's failure."""
    (tmp_path / "blocked").write_text("")
    done = do([fake(tmp_path, "blocked"), fake(tmp_path, "well")])
    assert [outcome.state for outcome in done.outcomes.values()] == ["failed", "finished"]


def test_one_process_a_run(tmp_path, capsys):
    """The lock lasts as long as the training, though nobody else holds it; who wants the run too waits, and does the rest."""
    run = fake(tmp_path, "run")
    test = fake(tmp_path, "test", after=run)
    with Starter() as starter:
        begun = at_work(fake(tmp_path, "run", 60), starter)
        assert work.take_lock(run.folder) is None
        threading.Timer(1.0, begun.process.kill).start()
        done = do([run, test, fake(tmp_path, "other")])
    assert done.conclude() == 0 and {outcome.state for outcome in done.outcomes.values()} == {"finished"}
    assert capsys.readouterr().out.count(f"waiting   run  for process {os.getpid()} on ") == 1
    names = [name for word, name in journal(tmp_path) if word == "begun"]
    assert names == ["run", "other", "run", "test"]


SECOND_SWEEP = """
import sys
from pathlib import Path
from sweep import start
from sweep.on_local import run_locally
from sweep.progress import Progress
start.PRELOADED = ""
from tests.sweep.test_sweep import chains
progress = Progress(chains(Path(sys.argv[1])), set())
run_locally(progress, [{}, {}], poll=0.02)
sys.exit(progress.conclude())
"""


def chains(folder):
    trainings = [fake(folder, name, 0.3) for name in ("first", "second", "third")]
    return [*trainings, *(fake(folder, f"test_{run.label}", 0.1, after=run) for run in trainings)]


def test_two_sweeps_of_one_folder(tmp_path):
    """Both finish everything, and nothing is done twice."""
    (tmp_path / "journal").touch()
    other = subprocess.Popen(
        [sys.executable, "-c", SECOND_SWEEP, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.DEVNULL
    )
    wait_until(lambda: journal(tmp_path))
    done = do(chains(tmp_path))
    assert done.conclude() == 0 and other.wait() == 0
    finished = [name for word, name in journal(tmp_path) if word == "finished"]
    assert sorted(finished) == sorted(run.label for run in chains(tmp_path))


def test_those_that_are_finished_are_not_begun(tmp_path, capsys):
    former = fake(tmp_path, "former")
    do([former])
    runs = [former, fake(tmp_path, "test", after=former)]
    done = Progress(runs, {former})
    run_locally(done, [{}], poll=0.02)
    assert journal(tmp_path) == [(word, name) for name in ("former", "test") for word in ("begun", "finished")]


DRIVER = """
import sys
from pathlib import Path
from sweep import start
from sweep.on_local import run_locally
from sweep.progress import Progress
start.PRELOADED = ""
from tests.sweep.stand_ins import fake
runs = [fake(Path(sys.argv[1]), name, seconds) for name, seconds in (("first", 0), ("second", 600))]
run_locally(Progress(runs, set()), [{}], poll=0.02)
"""  # without conftest's PyTorch


DEAF_DRIVER = """
import sys
from pathlib import Path
from one_run import interrupts
from one_run.command import carry_out
from sweep import on_local, start
from sweep.progress import Progress
from tests.sweep.stand_ins import fake
on_local.GRACE, interrupts.ECHO, start.PRELOADED = 600, 0, ""
progress = Progress([fake(Path(sys.argv[1]), "deaf", 600, "deaf")], set())
sys.exit(carry_out(lambda: on_local.run_locally(progress, [{}], poll=0.02), "one is left"))
"""


def test_a_second_signal_kills_what_does_not_end(tmp_path):
    line = [sys.executable, "-c", DEAF_DRIVER, str(tmp_path)]
    driver = subprocess.Popen(line, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: state_of(tmp_path / "deaf") == "running")
    driver.send_signal(signal.SIGHUP)
    pid = int((tmp_path / "journal").read_text().split()[-1])
    with pytest.raises(subprocess.TimeoutExpired):
        driver.wait(0.5)
    assert not is_gone(pid)
    driver.send_signal(signal.SIGHUP)
    assert driver.communicate()[1] == "error: interrupted by SIGHUP; one is left.\n" and driver.returncode == 129
    assert is_gone(pid)


@pytest.mark.parametrize("name", ["planned", "is_finished", "gpus_here"])
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_a_sweep_starts(tmp_path, monkeypatch, capsys, name, number):
    """While it plans, looks at what is finished, imports PyTorch: one line, and nothing is begun."""
    monkeypatch.setattr("sweep.__main__.is_finished", lambda *_: False)
    monkeypatch.setattr(f"sweep.__main__.{name}", lambda *_: signal.raise_signal(number))
    line = ["--methods", "CoOp", "--datasets", "caltech101", "--data", str(tmp_path), "--output", str(tmp_path / "o")]
    assert main(line) == 128 + number
    said = capsys.readouterr()
    assert "Stopped, 0 of 6 runs are finished; start again to go on." in said.out or "nothing was begun" in said.err
    assert not (tmp_path / "o").exists()


def test_a_training_that_was_told_to_end_may_be_tried_elsewhere(tmp_path):
    """Its machine is going down, as where it was killed; a failure of its own is not tried again."""
    with Starter() as starter:
        killed = {
            what: work.complete(fake(tmp_path, what, what=what), {}, starter).killed
            for what in ("ended", "kill", "fail")
        }
    assert killed == {"ended": True, "kill": True, "fail": False}


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_what_announces_the_end_of_a_job_is_not_for_its_training(tmp_path, number):
    with Starter() as starter:
        begun = at_work(fake(tmp_path, "run", what="go"), starter)
        wait_until(lambda: state_of(tmp_path / "run") == "running")
        begun.process.send_signal(number)
        (tmp_path / "go").touch()
        begun.process.wait()
    assert begun.outcome().state == "finished"


@pytest.mark.parametrize("number", SIGNALS)
def test_only_ctrl_c_cancels_the_jobs_of_a_cluster(number):
    """A terminal that closes does not."""

    class Job:
        cancelled = False

        def done(self):
            raise Interrupt(number)

        def cancel(self, check):
            self.cancelled = True

    job = Job()
    with pytest.raises(KeyboardInterrupt):
        on_slurm.follow(Progress([], set()), {job: []})
    assert job.cancelled == (number == signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_training_outlives_its_sweep(tmp_path, number):
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("only Linux tells a process of its parent's death")
    line = [sys.executable, "-c", DRIVER, str(tmp_path)]
    driver = subprocess.Popen(line, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: state_of(tmp_path / "second") == "running")
    driver.send_signal(number)
    driver.wait()
    pid = int((tmp_path / "journal").read_text().split()[-1])
    wait_until(lambda: is_gone(pid))
    assert journal(tmp_path) == [("begun", "first"), ("finished", "first"), ("begun", "second")]


def test_a_sweep_that_dies_before_its_training_has_begun():
    """Linux tells of a death that is still to come; one before that is looked for."""
    if sys.platform != "linux":
        pytest.skip("only Linux tells a process of its parent's death")
    ours, dead = os.getpid(), subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    line = [sys.executable, "-c", "print('begun')"]
    for parent, ends in ((ours, (0, b"begun\n")), (dead.pid, (128 + signal.SIGTERM, b""))):
        done = subprocess.run(line, stdout=subprocess.PIPE, preexec_fn=lambda parent=parent: start.begin(parent))
        assert (done.returncode, done.stdout) == ends


def test_slots(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(on_local, "cores", lambda: 16)

    def shown(*arguments):
        return [(slot["CUDA_VISIBLE_DEVICES"], slot["OMP_NUM_THREADS"]) for slot in slots_of(*arguments)]

    assert shown([], 1, None, 0) == [("", "16")]
    assert shown([], 1, None, 2) == [("0", "8"), ("1", "8")]
    assert shown(["0", "2"], 2, None, 3) == [("0", "4"), ("2", "4"), ("0", "4"), ("2", "4")]
    assert shown(["cpu"], 32, None, 3)[0] == ("", "1")
    assert shown(["cpu"], 2, 3, 0) == [("", "3"), ("", "3")]
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert shown(["cpu"], 2, None, 0) == [("", "5"), ("", "5")]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert shown(["1"], 1, 1, 2) == [("7", "1")]
    with pytest.raises(InputError, match="'cuda' is not here"):
        slots_of(["cuda"], 1, None, 2)


def test_time_left(monkeypatch):
    """Two of four trainings of 30 s and a test of 10 s took 40 s in all: 70 s of work, and as much is left in 40 s."""
    runs = [Run(f"{i}", Fake(Path(f"/{i}")), trains=i < 4) for i in range(6)]
    before = Run("before", Fake(Path("/before")))
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    done = Progress([before, *runs], {before})
    assert done.seconds_left() is None
    for run, seconds in ((runs[0], 30.0), (runs[1], 30.0), (runs[4], 10.0)):
        done.outcomes[run] = Outcome("finished", seconds)
    monkeypatch.setattr(time, "monotonic", lambda: 140.0)
    assert done.seconds_left() == pytest.approx(40.0)
    assert [progress.duration(seconds) for seconds in (89, 600, 9000)] == ["89 s", "10 min", "2.5 h"]


# --- past one machine: what needs no cluster ---------------------------------------------------------------------


def test_a_count_that_no_node_has():
    nodes = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 64.0}]
    on_ray.check_resources(nodes, 2, 8)
    on_ray.check_resources(nodes, 0, 64)
    for gpus, threads in ((3, 1), (1, 16)):
        with pytest.raises(InputError, match="2 GPUs and 8 cores, 0 GPUs and 64 cores"):
            on_ray.check_resources(nodes, gpus, threads)


def test_chains(tmp_path):
    teacher = fake(tmp_path, "teacher")
    students = [fake(tmp_path, f"student{i}", after=teacher) for i in (0, 1)]
    tests = [fake(tmp_path, f"test{i}", after=student) for i, student in enumerate(students)]
    other = fake(tmp_path, "other")
    runs = [teacher, students[0], tests[0], other, students[1], tests[1]]
    assert on_slurm.chains_of(runs) == [[teacher, students[0], tests[0], students[1], tests[1]], [other]]
    assert on_slurm.chains_of(tests) == [[tests[0]], [tests[1]]]  # what they need is finished


def test_options_of_sbatch():
    assert on_slurm.sbatch_options(["partition=gpu", "--constraint=a=b"]) == {"partition": "gpu", "constraint": "a=b"}
    with pytest.raises(InputError, match="NAME=VALUE"):
        on_slurm.sbatch_options(["partition"])


def test_signals_are_put_back(tmp_path):
    former = [signal.getsignal(number) for number in SIGNALS]
    do([fake(tmp_path, "run")])
    assert [signal.getsignal(number) for number in SIGNALS] == former
