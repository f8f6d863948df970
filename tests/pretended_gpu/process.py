"""The pretended GPU from a test's side: a process that is started once, and asked to call functions."""

import json
import subprocess
import sys
import tempfile

import pytest

from tests.helpers import REPOSITORY

SHOWN = 4000  # characters of what a dead process left


class PretendedGPU:
    """Call it with "package.module:function" and arguments that JSON knows; the function's value is returned.

    A function that raises fails the test with its traceback. Where PyTorch lacks what the device is made of, the
    test is skipped.
    """

    command = [sys.executable, "-m", "tests.pretended_gpu.child"]

    def __init__(self):
        self.child: subprocess.Popen | None = None
        self.errors = tempfile.TemporaryFile(mode="w+")

    def __call__(self, function: str, **arguments):
        self.start()
        answer = self.ask({"call": function, "arguments": arguments})
        if answer["error"] is not None:
            pytest.fail(f"{answer['said']}\n{answer['error']}", pytrace=False)
        return answer["value"]

    def start(self) -> None:
        if self.child is None:
            self.child = subprocess.Popen(
                self.command,
                cwd=REPOSITORY,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                text=True,
            )
            self.missing = self.answer()["missing"]
        if self.missing is not None:
            pytest.skip(self.missing)

    def ask(self, question: dict) -> dict:
        print(json.dumps(question), file=self.child.stdin, flush=True)
        return self.answer()

    def answer(self) -> dict:
        line = self.child.stdout.readline()
        if not line:
            self.stop()
            self.errors.seek(0)
            pytest.fail(f"The process with the pretended GPU died:\n{self.errors.read()[-SHOWN:]}", pytrace=False)
        return json.loads(line)

    def stop(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child.communicate()
            self.child = None
