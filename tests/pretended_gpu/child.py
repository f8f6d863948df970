"""The process with the GPU: takes functions' names from stdin, calls each under `pretend`, and says what came of it.

A line in: {"call": "package.module:function", "arguments": {...}}; the function gets `gpu` beside them.
A line out: {"value": ..., "error": the traceback or null, "said": the last of what was printed}.
"""

import contextlib
import importlib
import io
import json
import os
import sys
import traceback

SAID = 3000  # characters


def call(name: str, arguments: dict) -> dict:
    """Its value, or its error, with what it printed."""
    from .pretend import pretend

    module, _, function = name.partition(":")
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            called = getattr(importlib.import_module(module), function)
            with pretend() as gpu:
                value = called(gpu=gpu, **arguments)
        return {"value": value, "error": None, "said": said.getvalue()[-SAID:]}
    except BaseException:
        return {"value": None, "error": traceback.format_exc(), "said": said.getvalue()[-SAID:]}


def why_not() -> str | None:
    """Why there can be no pretended GPU, if so: what it is made of is experimental."""
    try:
        from . import pretend as pretend
    except (ImportError, AttributeError) as error:
        return f"this PyTorch has no backends written in Python any more, or other ones ({error!r})"
    return None


def main() -> None:
    import torch

    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is printed elsewhere does not mix with the answers
    print(json.dumps({"missing": why_not()}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(call(asked["call"], asked["arguments"])), file=answers, flush=True)


if __name__ == "__main__":
    main()
