"""A finished run -> its trainer (one_run/rebuild.py): what is no run of training is refused in a sentence."""

import pytest

from dassl.errors import InputError
from one_run.rebuild import classes_asked_for, precision_of, rebuild


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "does not exist"),
        ("", "holds no results.json with a method and its config"),
        ("[1]", "holds no results.json with a method and its config"),
        ('{"method": "CoOp"}', "holds no results.json with a method and its config"),
        ('{"method": "CoOp", "config": {}, "weights": 5}', "holds no results.json with a method and its config"),
        ('{"method": "CoOp", "config": {}, "weights": {"model_dir": "/a"}}', "is a test of the model in /a"),
        ('{"method": "CoOp", "config": {"MODEL": {"BACKBONE": {"NAME": "RN50"}}}}', "its state is None"),
    ],
)
def test_what_cannot_be_built_again(tmp_path, text, says):
    run = tmp_path / "run"
    if text is not None:
        run.mkdir()
        (run / "results.json").write_text(text)
    with pytest.raises(InputError, match=says):
        rebuild(run)


def test_a_record_without_the_methods_keys_or_new_classes(tmp_path):
    assert precision_of({"config": {}, "precision": "fp32"}, use_cuda=False) == {}
    one = {"classes": ["a"], "all_classes": ["a"]}
    assert classes_asked_for("base", one, tmp_path) == ["a"]
    with pytest.raises(InputError, match="does not say which classes there are"):
        classes_asked_for("new", one, tmp_path)
