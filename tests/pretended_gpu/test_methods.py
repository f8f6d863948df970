"""Every method on a GPU that is pretended: it trains, breaks off, goes on, tests, and its checkpoint is tested on the CPU."""

import pytest

import train
from dassl.engine import TRAINER_REGISTRY
from tests.helpers import results
from tests.pretended_gpu.cases import FORMS, HOSTS, METHODS, QUICK, cases, line, save_clips


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> dict[str, str]:
    return save_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def teacher(data_root, tmp_path_factory, clips):
    """PromptKD's, trained on the CPU."""
    folder = tmp_path_factory.mktemp("teacher")
    options = ["OPTIM.MAX_EPOCH", 1, "TEST.NO_TEST", True]
    assert train.main(line(FORMS["PromptSRC"], "fp32", data_root, folder, clips, options=options)) == 0
    return folder


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        pytest.param(name, precision, marks=[] if quick else pytest.mark.slow, id=f"{name}-{precision}")
        for name, precision, quick in cases()
    ],
)
def test_a_run(request, pretended_gpu, data_root, tmp_path, clips, name, precision):
    form = FORMS[name]
    teacher = request.getfixturevalue("teacher") if "PromptKD" in (form.trainer, form.host) else ""
    run, again = tmp_path / "run", tmp_path / "cpu"
    there = line(form, precision, data_root, run, clips, teacher)
    pretended_gpu("tests.pretended_gpu.cases:train_and_go_on", line=there, breaks_off=form.trains)
    found = results(run)
    assert (found["device"], found["state"], found["precision"]) == ("pretended GPU", "finished", precision)

    loads = {"model_dir": run, "eval_only": True} if form.trains or form.host else {}
    assert train.main(line(form, "fp32", data_root, again, clips, teacher, **loads)) == 0
    assert results(again)["device"].startswith("cpu")
    if precision == "fp32":
        assert results(again)["classwise"] == found["classwise"]


ENGINE = "tests.pretended_gpu.engine:"


@pytest.mark.parametrize("written", ["now", "by a former version", "on a CPU"])
def test_random_numbers_go_on(pretended_gpu, tmp_path, written):
    pretended_gpu(ENGINE + "random_numbers_go_on", written=written, folder=str(tmp_path))


@pytest.mark.parametrize("function", ["other_gpus_are_not_asked", "auto_is_fp16"])
def test_engine(pretended_gpu, function):
    pretended_gpu(ENGINE + function)


@pytest.mark.parametrize("wanted", [True, False])
def test_determinism_where_it_is_asked_for(pretended_gpu, data_root, tmp_path, clips, wanted):
    options = ["DETERMINISTIC", wanted, "TEST.NO_TEST", True]
    argv = line(FORMS["CoOp"], "fp32", data_root, tmp_path, clips, options=options)
    pretended_gpu(ENGINE + "what_is_not_deterministic_is_refused", line=argv, refused=wanted)


def test_the_record_says_what_auto_is(pretended_gpu, data_root, tmp_path, clips):
    argv = line(FORMS["ZeroshotCLIP"], "auto", data_root, tmp_path, clips)
    pretended_gpu("tests.pretended_gpu.cases:train_and_go_on", line=argv, breaks_off=False)
    assert results(tmp_path)["precision"] == "fp16"


def test_no_method_is_left_out():
    registered = {
        name
        for name in TRAINER_REGISTRY.registered_names()
        if TRAINER_REGISTRY.get(name).__module__.startswith("trainers.")
    }
    assert registered == {*METHODS, "Spotlighter", "DePT"}
    assert {*METHODS, *(f"over {name}" for name in HOSTS)} <= QUICK.keys()
    assert {precision for said in QUICK.values() for precision in said.split()} == {"fp32", "fp16", "bf16", "amp"}
