"""The shell scripts (../scripts): links to one file, CoOp's folders, settings from the environment, clear refusals."""

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import trainers as trainers  # importing registers the methods
from dassl.engine import TRAINER_REGISTRY
from datasets.embedded import sets
from sweep import one
from sweep.protocols import find_method
from tests.helpers import REPOSITORY, results
from tests.own_pictures import folders

SIX = {"base2new_train", "base2new_test", "few_shot", "xd_train", "xd_test", "dg_test"}
SHORT = ("OPTIM.MAX_EPOCH", "1")


def script(name, *arguments, **environment):
    env = {**os.environ, "PYTHON": sys.executable, "CFG": "embedded", "SHOTS": "4", "DEVICE": "cpu", **environment}
    line = ["bash", str(REPOSITORY / "scripts" / name), *arguments]
    return subprocess.run(line, env=env, capture_output=True, text=True, cwd="/")


def done_well(name, *arguments, **environment):
    done = script(name, *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def shapes(tmp_path_factory, data_root):
    """A data root with the small benchmark, and few pictures of embedded_shapes and its dark variant."""
    root = tmp_path_factory.mktemp("shapes")
    (root / "caltech-101").symlink_to(data_root / "caltech-101")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("shapes", "shapes_dark"):
            few = dataclasses.replace(sets.SETS[name], images={"train": 2, "val": 1, "test": 1})
            patch.setitem(sets.SETS, name, few)
            sets.write_set(name, str(root))
    return root


# --- one file ----------------------------------------------------------------------------------------------------


def test_every_method_has_the_same_links():
    paths = [path for path in (REPOSITORY / "scripts").iterdir() if path.is_dir() and path.name != "__pycache__"]
    for folder in paths:
        links = {path.stem: os.readlink(path) for path in folder.iterdir()}
        assert links.keys() - {"teacher"} == SIX, folder
        assert set(links.values()) == {"../run.sh"}
        assert links.keys() <= one.SCRIPTS.keys()
    ours = {name for name in TRAINER_REGISTRY.registered_names() if TRAINER_REGISTRY.get(name).__module__.startswith("trainers.")}  # fmt: skip
    assert {find_method(folder.name).name for folder in paths} == ours


@pytest.fixture
def there(tmp_path):
    """A folder with a space in it, with run.sh and its links, and a Python that says what it is asked for."""
    root = tmp_path / "a folder" / "spotlighter"
    (root / "scripts" / "coop").mkdir(parents=True)
    shutil.copy(REPOSITORY / "scripts" / "run.sh", root / "scripts")
    (root / "scripts" / "coop" / "few_shot.sh").symlink_to("../run.sh")
    python = tmp_path / "my python"
    python.write_text('#!/bin/sh\necho "$PYTHONPATH: $@"\n')
    python.chmod(0o755)
    return root


@pytest.mark.parametrize(
    "folder, script",
    [
        ("a folder/spotlighter", "scripts/coop/few_shot.sh"),
        ("a folder/spotlighter/scripts/coop", "few_shot.sh"),
        ("a folder/spotlighter/scripts/coop", "./few_shot.sh"),
        (".", "a folder/spotlighter/scripts/coop/few_shot.sh"),
        (".", "of mine.sh"),
        (".", "linked/few_shot.sh"),
        ("a folder", "to mine.sh"),
    ],
)
def test_from_wherever_and_through_whatever_link_it_is_called(there, tmp_path, folder, script):
    (tmp_path / "of mine.sh").symlink_to(there / "scripts" / "coop" / "few_shot.sh")
    (tmp_path / "a folder" / "to mine.sh").symlink_to("../of mine.sh")
    (tmp_path / "linked").symlink_to(there / "scripts" / "coop")
    (tmp_path / "scripts" / "coop").mkdir(parents=True)  # where CDPATH leads
    environment = {**os.environ, "PYTHON": str(tmp_path / "my python"), "CDPATH": f"{tmp_path}:.", "PYTHONPATH": ""}
    done = subprocess.run(
        ["bash", script, "dtd", "a b"], cwd=tmp_path / folder, env=environment, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == (f"{there}: -m sweep.one coop few_shot dtd a b\n", "")


def test_the_file_itself_is_no_method():
    done = script("run.sh", "caltech101", "1")
    assert done.returncode == 2 and done.stderr.startswith("usage:")


# --- runs --------------------------------------------------------------------------------------------------------


def test_base_to_new(data_root, tmp_path):
    """Train, test, and again: skipped. Called from another folder, as the paths say."""
    where = dict(DATA=str(data_root), OUTPUT=str(tmp_path))
    run = "caltech101/shots_4/CoOp/embedded/seed2"
    done_well("coop/base2new_train.sh", "caltech101", "2", *SHORT, **where)
    trained = results(tmp_path / "base2new" / "train_base" / run)
    assert (trained["subsample"], trained["shots"], trained["seed"], trained["epoch"]) == ("base", 4, 2, 1)
    assert trained["device"].startswith("cpu")
    said = done_well("coop/base2new_test.sh", "caltech101", "2", *SHORT, **where)
    tested = tmp_path / "base2new" / "test_new" / run
    assert results(tested)["subsample"] == "new"
    assert said.splitlines()[-1] == f"Results: {tested}/results.json"
    assert "Skipped" in done_well("coop/base2new_test.sh", "caltech101", "2", *SHORT, **where)


def test_one_source_for_other_sets_and_shifted_ones(shapes, tmp_path):
    """The classes, their number and the pictures' style differ from what was trained on."""
    where = dict(DATA=str(shapes), OUTPUT=str(tmp_path), SHOTS="2", SOURCE="embedded_shapes", CFG="")
    run = "shots_2/Spotlighter/embedded/seed1"
    done_well("spotlighter/xd_train.sh", "1", *SHORT, **where)
    source = tmp_path / "fewshot" / "embedded_shapes" / run
    assert results(source)["subsample"] == "all" and results(source)["epoch"] == 1
    done_well("spotlighter/xd_test.sh", "caltech101", "1", *SHORT, **where)
    where["SOURCE"] = ""  # embedded_shapes, as the target is embedded
    done_well("spotlighter/dg_test.sh", "embedded_shapes_dark", "1", *SHORT, **where)
    for folder, name in (("xd/caltech101", "Caltech101"), ("dg/embedded_shapes_dark", "EmbeddedShapesDark")):
        record = results(tmp_path / folder / run)
        assert (record["dataset"], record["subsample"], record["state"]) == (name, "all", "finished")
        assert record["weights"]["model_dir"] == str(source)
    assert "Skipped" in done_well("spotlighter/few_shot.sh", "embedded_shapes", "2", "1", *SHORT, **where)


@pytest.mark.slow
def test_the_teacher_of_few_shots(data_root, tmp_path):
    """It is trained on all classes, as its student is, and by its own config."""
    where = dict(DATA=str(data_root), OUTPUT=str(tmp_path), CFG="embedded_inductive")
    short = (*SHORT, "DATALOADER.TRAIN_X.BATCH_SIZE", "4")
    done_well("promptkd/few_shot.sh", "caltech101", "1", "3", *short, **where)
    runs = tmp_path / "fewshot/caltech101/shots_1"
    teacher = runs / "PromptSRC/embedded/seed3"
    assert results(teacher)["subsample"] == "all" and results(teacher)["epoch"] > 1
    student = results(runs / "PromptKD/embedded_inductive/seed3")
    assert student["config"]["TRAINER"]["PROMPTKD"]["TEACHER_DIR"] == str(teacher)


def test_a_test_before_its_training(data_root, tmp_path):
    done = script("spotlighter/base2new_test.sh", "caltech101", "1", DATA=str(data_root), OUTPUT=str(tmp_path))
    assert done.returncode == 2 and "train first" in done.stderr and "Traceback" not in done.stderr


# --- arguments ---------------------------------------------------------------------------------------------------


def asked(name, *arguments, **environment):
    return one.run_of(*name.split("/"), list(arguments), environment)


def test_settings_and_their_defaults():
    run = asked("coop/base2new_train", "dtd", "3")
    assert run.folder == REPOSITORY / "output/base2new/train_base/dtd/shots_16/CoOp/vit_b16/seed3"
    assert run.command[run.command.index("--root") + 1] == str(REPOSITORY / "data")
    run = asked("coop/few_shot", "embedded_small", "8", "1", "OPTIM.LR", "0.1", OUTPUT="/o", SHOTS="4", DATA="d")
    assert str(run.folder) == "/o/fewshot/embedded_small/shots_8/CoOp/embedded/seed1"
    assert run.command[-6:] == ("OPTIM.LR", "0.1", "DATASET.NUM_SHOTS", "8", "DATASET.SUBSAMPLE_CLASSES", "all")
    assert run.command[run.command.index("--root") + 1] == os.path.abspath("d")
    assert str(asked("vpt/dg_test", "imagenet_r", "1", OUTPUT="/o", CFG="vit_b16_shallow").folder) == (
        "/o/dg/imagenet_r/shots_16/VPT/vit_b16_shallow/seed1"
    )


@pytest.mark.parametrize("dataset, config", [("dtd", "vit_b16_zeroshot"), ("folder", "vit_b16_zeroshot"), ("embedded_small", "embedded_zeroshot")])  # fmt: skip
def test_a_folder_stands_for_spotlighter_over_zero_shot_clip(dataset, config):
    run = asked("spotlighter_zeroshot/few_shot", dataset, "8", "1", OUTPUT="/o")
    assert str(run.folder) == f"/o/fewshot/{dataset}/shots_8/Spotlighter/{config}/seed1" and run.after is None
    for folder in ("spotlighter", "spotlighter_zeroshot"):
        assert run == asked(f"{folder}/few_shot", dataset, "8", "1", OUTPUT="/o", CFG=config)


@pytest.mark.parametrize("name", ["spotlighter_zeroshot", "spotlighter_promptkd"])
def test_a_config_of_another_host_than_the_folders(name):
    """It would train that one without a word."""
    done = script(f"{name}/few_shot.sh", "dtd", "8", "1", CFG="embedded")
    assert (
        done.returncode == 2
        and done.stderr.count("\n") == 1
        and f"CFG=embedded is not what scripts/{name}/" in done.stderr
    )


def test_teachers_of_the_users_choice():
    run = asked("spotlighter_promptkd/xd_train", "1", OUTPUT="/o")
    assert str(run.after.folder) == "/o/fewshot/imagenet/shots_16/PromptSRC/vit_l14/seed1"
    assert f"TRAINER.PROMPTKD.TEACHER_DIR {run.after.folder}" in " ".join(run.command)
    run = asked("spotlighter_promptkd/xd_train", "1", OUTPUT="/o", TEACHER_DIR="/theirs")
    assert run.after is None and "TRAINER.PROMPTKD.TEACHER_DIR /theirs" in " ".join(run.command)
    run = asked("promptkd/base2new_test", "dtd", "1", OUTPUT="/o", TEACHER_CFG="vit_b16")
    assert "/PromptSRC/vit_b16/seed1" in " ".join(run.command)
    run = asked("promptkd/teacher", "dtd", "1", "OPTIM.LR", "0.1", OUTPUT="/o", TEACHER_DIR="/theirs", CFG="vit_b16")
    assert str(run.folder) == "/o/base2new/train_base/dtd/shots_16/PromptSRC/vit_l14/seed1" and "0.1" in run.command


def test_device():
    assert one.with_device({"DEVICE": "cpu"})["CUDA_VISIBLE_DEVICES"] == ""
    assert one.with_device({"DEVICE": "cuda:3", "CUDA_VISIBLE_DEVICES": "0"})["CUDA_VISIBLE_DEVICES"] == "3"
    assert "CUDA_VISIBLE_DEVICES" not in one.with_device({})


def test_a_device_that_is_not_there(tmp_path, capsys, monkeypatch):
    """In place of the CPU without a word."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for name, value in {"DEVICE": "7", "OUTPUT": str(tmp_path), "CUDA_VISIBLE_DEVICES": "", "CFG": ""}.items():
        monkeypatch.setenv(name, value)
    assert one.main(["zsclip", "few_shot", "dtd", "1", "1"]) == 2
    assert capsys.readouterr().err == (
        "error: DEVICE is 7, and there is no such GPU here: give the number of one, or DEVICE=cpu.\n"
    )
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7" and not list(tmp_path.iterdir())
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    one.check_device(one.with_device({"DEVICE": "0"}))


@pytest.mark.parametrize("name", ["spotlighter/base2new_test", "coop/few_shot", "zsclip/xd_train", "vpt/dg_test"])
def test_usage(name):
    arguments = one.SCRIPTS[name.split("/")[1]].split()
    done = script(f"{name}.sh", *arguments[1:])
    assert done.returncode == 2 and done.stderr.startswith(f"usage: bash scripts/{name}.sh {arguments[0]}")
    assert not done.stdout


@pytest.mark.parametrize(
    "arguments", [[], ["coop"], ["coop", "base2new", "dtd", "1"], ["coop", "xd_train", "1", "SEED"]]
)
def test_wrong_arguments(arguments, capsys):
    """No script, none that there is, a key without its value: the usage in place of a traceback."""
    assert one.main(arguments) == 2
    assert capsys.readouterr().err.startswith("usage: bash scripts/")


@pytest.mark.parametrize("further", [["--seed", "2"], ["OPTIM.LR", "--no-test"], ["-h2", "x"], ["--resume"]])
def test_options_are_refused(further, capsys):
    """Among them those of train.py, which would take them in place of what the script says."""
    assert one.main(["coop", "few_shot", "dtd", "1", "1", *further]) == 2
    option = next(argument for argument in further if argument.startswith("-"))
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: The scripts take no options such as {option}: give a config key and its value, ")


def test_a_negative_value_is_no_option():
    assert one.is_complete(["coop", "few_shot", "dtd", "1", "1", "TRAINER.TASKRES.RESIDUAL_SCALE", "-0.5"])
    assert one.is_complete(["coop", "few_shot", "dtd", "1", "1", "TRAINER.TASKRES.RESIDUAL_SCALE", "-.5"])


def test_help(capsys):
    """All that a script reads stands there: its arguments, and every variable that is looked up."""
    done = script("coop/few_shot.sh", "--help")
    assert done.returncode == 0 and not done.stderr
    assert done.stdout.startswith("usage: bash scripts/coop/few_shot.sh DATASET SHOTS SEED [KEY VALUE ...]\n")
    for name, arguments in one.SCRIPTS.items():
        assert f"  {name}.sh {arguments}  " in done.stdout
    read = set(re.findall(r'environment(?:\.get\(|\[)"(\w+)"', Path(one.__file__).read_text()))
    assert {"DATA", "CFG", "TEACHER_DIR"} <= read
    for variable in read | {"CLIP_CACHE", "PYTHON"}:
        assert re.search(rf"^  {variable}  +\S", done.stdout, re.MULTILINE), variable
    assert one.main(["--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: bash scripts/METHOD/SCRIPT.sh ARGUMENTS [KEY VALUE ...]\n")


def test_help_needs_no_torch():
    code = "import sys; from sweep import one; one.main(['-h']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "name, arguments, environment, words",
    [
        ("coop/base2new_train", ["caltech", "1"], {}, "'caltech' is unknown; the nearest: caltech101"),
        ("coop/base2new_train", ["dtd", "1"], {"CFG": "vit_b17"}, "config of CoOp 'vit_b17' is unknown; the nearest: vit_b16"),
        ("promptkd/few_shot", ["dtd", "1", "1"], {"TEACHER_CFG": "vit_l15"}, "the nearest: vit_l14"),
        ("coop/base2new_train", ["dtd", "x"], {}, "SEED is 'x': give a whole number from 0"),
        ("coop/few_shot", ["dtd", "0", "1"], {}, "SHOTS is '0': give a whole number from 1"),
        ("coop/xd_train", ["1"], {"SHOTS": "all"}, "SHOTS is 'all'"),
        ("coop/few_shot", ["imagenet_a", "16", "1"], {}, "imagenet_a has test images only"),
        ("coop/xd_train", ["1"], {"SOURCE": "imagenett"}, "source 'imagenett' is unknown; the nearest: imagenet"),
        ("coop/dg_test", ["imagenet_b", "1"], {}, "the nearest: imagenet_"),
        ("coop/dg_test", ["dtd", "1"], {}, "shifted data set 'dtd' is unknown; known are: "),
        ("coop/few_shot", ["dtd", "1", "1"], {"OUTPUT": __file__}, "choose another output folder"),
    ],
)  # fmt: skip
def test_refusals(name, arguments, environment, words, tmp_path, capsys, monkeypatch):
    for key in ("CFG", "SHOTS", "SOURCE", "TEACHER_CFG"):
        monkeypatch.setenv(key, environment.get(key, ""))
    monkeypatch.setenv("OUTPUT", environment.get("OUTPUT", str(tmp_path)))
    assert one.main([*name.split("/"), *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said and said.startswith("error: ") and said.count("\n") == 1


def test_two_processes_of_one_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OUTPUT", str(tmp_path))
    lock = one.lock_of(asked("zsclip/few_shot", "dtd", "1", "1", OUTPUT=str(tmp_path)))
    assert os.get_inheritable(lock)  # train.py takes this process's place, and keeps the lock
    assert one.main(["zsclip", "few_shot", "dtd", "1", "1"]) == 2
    assert f"seed1 is at work already (process {os.getpid()} on" in capsys.readouterr().err
    os.close(lock)


# --- the quickstart ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "dataset", "writes"),
    [
        ({}, "embedded_species", True),
        ({"DATASET": "embedded_small"}, "embedded_small", True),
        ({"DATASET": "caltech101"}, "caltech101", False),
    ],
)
def test_the_quickstart_writes_the_set_it_needs(tmp_path, environment, dataset, writes):
    """With a Python that notes what it is asked for."""
    python, asked_for = tmp_path / "python", tmp_path / "asked"
    python.write_text(f'#!/bin/sh\necho "$@" >> {asked_for}\n')
    python.chmod(0o755)
    inherited = {name: value for name, value in os.environ.items() if name not in ("DATASET", "SEED")}
    where = dict(PYTHON=str(python), DATA=str(tmp_path / "data"), OUTPUT=str(tmp_path / "output"))
    subprocess.run(
        ["bash", REPOSITORY / "scripts/quickstart.sh"], env={**inherited, **where, **environment}, check=True
    )
    *runs, table = asked_for.read_text().splitlines()
    written = [f"-m datasets.embedded --root {tmp_path}/data --sets {dataset}"] if writes else []
    assert runs[: len(written)] == written and len(runs) == len(written) + 8 and table.startswith("parse_test_res.py")
    assert all(line.startswith("-m sweep.one ") and f" {dataset} 1" in line for line in runs[len(written) :])


@pytest.mark.parametrize(
    ("active", "says"), [({}, ".venv"), ({"VIRTUAL_ENV": "/mine"}, "active"), ({"PYTHON": "{}/mine"}, "mine")]
)
def test_which_python(tmp_path, active, says):
    """The one that is asked for, else the active environment's, else that of the .venv that `make` sets up."""
    (tmp_path / "scripts" / "coop").mkdir(parents=True)
    shutil.copy(REPOSITORY / "scripts" / "run.sh", tmp_path / "scripts")
    (tmp_path / "scripts" / "coop" / "few_shot.sh").symlink_to("../run.sh")
    for name, path in (("active", "bin/python"), (".venv", ".venv/bin/python"), ("mine", "mine")):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(f"#!/bin/sh\necho {name}\n")
        (tmp_path / path).chmod(0o755)
    environment = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", **{k: v.format(tmp_path) for k, v in active.items()}}
    done = subprocess.run(
        ["bash", "scripts/coop/few_shot.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout == f"{says}\n", done.stderr


# --- one's own pictures ---------------------------------------------------------------------------------------------


def test_own_pictures_in_one_go(tmp_path):
    """The accuracy, the page and the line to type, which does what it says; a second time nothing is trained."""
    data, output = folders(tmp_path / "my pictures"), tmp_path / "the output"
    where = {"DATA": str(data), "OUTPUT": str(output)}
    for again in (False, True):
        said = done_well("coop/few_shot.sh", "folder", "4", "1", "OPTIM.MAX_EPOCH", "1", **where)
        assert ("epoch [1/1]" in said) != again
        accuracy, page, predict = said.splitlines()[-3:]
        record = results(output / "fewshot/folder/shots_4/CoOp/embedded/seed1")
        count = sum(each["total"] for each in record["classwise"].values())
        assert accuracy == f"Accuracy: {record['accuracy']:.1f}% of {count} test pictures"
        assert page == f"Page: {output / 'report.html'}" and "</html>" in (output / "report.html").read_text()
    words = shlex.split(predict.removeprefix("Predict: "))
    assert words[0] == "python" and words[-1] == "PICTURES"
    picture = data / "n01" / "0.png"
    done = subprocess.run([sys.executable, *words[1:-1], str(picture)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith(f"{picture}: "), done.stderr


def test_a_page_that_cannot_be_written_is_no_fault_of_the_run(tmp_path):
    data, output = folders(tmp_path / "pictures"), tmp_path / "output"
    (output / "report.html").mkdir(parents=True)
    said = done_well("zsclip/few_shot.sh", "folder", "4", "1", DATA=str(data), OUTPUT=str(output))
    accuracy, page, predict = said.splitlines()[-3:]
    assert (
        accuracy.startswith("Accuracy: ")
        and page.startswith("There is no page: error: ")
        and predict.startswith("Predict: ")
    )


def test_a_run_that_fails_ends_as_train_py_does(tmp_path):
    done = script(
        "coop/few_shot.sh", "folder", "4", "1", DATA=str(tmp_path / "nowhere"), OUTPUT=str(tmp_path / "output")
    )
    assert done.returncode == 2 and "nowhere does not exist" in done.stderr and "Predict:" not in done.stdout
