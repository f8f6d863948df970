"""TorchScript archives, which OpenAI's CLIPs are: the state dict of their module, without running or compiling them.

The module is one more pickle. Which of its tensors belong to the state dict stands in the code of its class, in two
lines such as `__parameters__ = ["weight", "bias", ]`; the code is searched for them and not run.
"""

import re
from collections.abc import Iterator

from torch import Tensor

from .pickles import Record, Values

CODE = "__torch__"  # what the names of an archive's own classes begin with


def state_dict(module: Record, values: Values, code) -> dict[str, Tensor]:
    """The tensors by their names; `code` gives the text of a part of the archive."""
    return {name: values.value(record).detach() for name, record in tensors(module, code)}


def tensors(module: Record, code, prefix: str = "") -> Iterator[tuple[str, Record]]:
    saved = saved_names(*module.kind, code)
    for name, value in module.state.items():
        if not isinstance(value, Record):
            continue
        if value.kind[0].startswith(CODE):
            yield from tensors(value, code, f"{prefix}{name}.")
        elif saved is None or name in saved:
            yield prefix + name, value


def saved_names(module: str, name: str, code) -> list[str] | None:
    """The parameters and buffers of the class `name` that stands in `module`; None: all of its tensors, as in archives
    of the time when a class did not list its buffers yet.
    """
    text = code(f"code/{module.replace('.', '/')}.py")
    head = re.search(rf"^class {re.escape(name)}\(.*\):\n((?:  __.*\n)*)", text, re.MULTILINE)
    lines = dict(re.findall(r"__(parameters|buffers)__ = \[(.*)\]", head[1] if head else ""))
    if "buffers" not in lines:
        return None
    return re.findall(r'"([^"]*)"', ", ".join(lines.values()))
