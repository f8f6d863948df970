"""Exit codes, and which errors are the user's to mend (one_run/command.py); every command goes through it."""

import ast
import io
import subprocess
import sys

import pytest

import clip
from clip.errors import UnknownName
from dassl.errors import InputError
from one_run.command import Stopped, carry_out, sentence
from one_run.folder import BrokenRecord
from reports.result import ResultError
from tests.helpers import REPOSITORY


def fails(error):
    def action():
        raise error

    return action


@pytest.mark.parametrize(
    "kind", [InputError, BrokenRecord, clip.InputError, UnknownName, ResultError, FloatingPointError]
)
def test_what_the_user_can_mend_is_one_sentence(capsys, kind):
    assert carry_out(fails(kind("The thing is wrong: mend it."))) == 2
    assert capsys.readouterr() == ("", "error: The thing is wrong: mend it.\n")


@pytest.mark.parametrize("error", [ValueError("x"), AttributeError("x"), KeyError("x"), OSError("x"), SystemExit(3)])
def test_any_other_error_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        carry_out(fails(error))


def test_codes(capsys):
    assert carry_out(lambda: None) == 0 and carry_out(lambda: 1) == 1
    assert carry_out(fails(KeyboardInterrupt())) == 130
    assert carry_out(fails(KeyboardInterrupt()), "what was done is whole") == 130
    assert capsys.readouterr().err == "error: interrupted.\nerror: interrupted; what was done is whole.\n"
    assert carry_out(fails(Stopped("Stopped, one is left."))) == 130
    assert capsys.readouterr() == ("Stopped, one is left.\n", "")


def test_a_console_that_lacks_letters(monkeypatch):
    """A class name is shown as well as it can be; it stops no run."""
    console = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", console)
    assert carry_out(lambda: print("caf\u00e9 \u732b")) == 0
    assert console.buffer.getvalue().decode("ascii").strip() == "caf\\xe9 \\u732b"


def test_a_workers_error_is_its_last_line():
    text = "Caught InputError in DataLoader worker process 0.\nTraceback:\n  ...\n{}.errors.InputError: The image is cut short."
    for layer in ("dassl", "clip"):
        assert sentence(InputError(text.format(layer))) == "The image is cut short."


def test_what_a_sentence_quotes_stays_in_it():
    """On one line, by the numbers of what no terminal shows, and without the middle of what is long."""
    assert str(InputError("the key 'a\nb\ud800\u202e' is unknown")) == r"the key 'a\nb\ud800\u202e' is unknown"
    shown = sentence(InputError(f"The value {'x' * 10**6} is none: correct it."))
    assert shown.startswith("The value xxx") and shown.endswith("xxx is none: correct it.") and len(shown) < 1600


COMMANDS = sorted(
    path
    for path in REPOSITORY.rglob("*.py")
    if not set(path.relative_to(REPOSITORY).parts) & {"tests", ".venv", "data", "output"}
    and '__name__ == "__main__"' in path.read_text()
)


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_command_has_a_list_of_errors_of_its_own(path):
    """An exit code for an InputError, or its sentence on stderr, is written in one place."""
    names = {"InputError", "ResultError", "KeyboardInterrupt"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler) and node.type is not None:
            caught = {part.id for part in ast.walk(node.type) if isinstance(part, ast.Name)}
            ends = any(
                isinstance(inner, ast.Return) and isinstance(inner.value, ast.Constant) for inner in ast.walk(node)
            )
            assert not (caught & names and ends), f"{path}:{node.lineno}"


@pytest.mark.parametrize("module", ["layout", "folder", "request", "command", "arguments"])
def test_what_a_planner_needs_imports_no_pytorch(module):
    code = f"import sys, one_run.{module}; sys.exit(bool({{'torch', 'numpy', 'PIL'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0
