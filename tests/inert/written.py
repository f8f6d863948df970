"""Files in the two formats of `torch.save` around any pickle, and pickles that run something where they can."""

import io
import pickle
import struct
import sys
import zipfile

import torch

from inert.files import MAGIC, PROTOCOL


def archive(path, data: bytes, storages: dict[str, bytes] | None = None, more: dict[str, bytes] | None = None):
    """A zip archive with this pickle."""
    parts = {"data.pkl": data, "byteorder": b"little", "version": b"3\n"}
    parts |= {f"data/{name}": numbers for name, numbers in (storages or {}).items()} | (more or {})
    with zipfile.ZipFile(path, "w") as file:
        for name, part in parts.items():
            file.writestr(f"archive/{name}", part)
    return path


def row(path, data: bytes, storages: dict[str, tuple[int, bytes]] | None = None):
    """The older format: each storage has a length and numbers."""
    storages = storages or {}
    pieces = [pickle.dumps(part, 2) for part in (MAGIC, PROTOCOL, {"little_endian": True})] + [data]
    pieces += [pickle.dumps(list(storages), 2)]
    pieces += [struct.pack("<q", count) + numbers for count, numbers in storages.values()]
    path.write_bytes(b"".join(pieces))
    return path


FORMATS = {"archive": archive, "row": row}


def upstream_classes() -> dict:
    """Classes of a module that is there while a file is written, and not when it is read.

    They stand as upstream Dassl's warm-up and its successor do: each keeps its optimiser.
    """
    code = """
class Optimizer:
    pass
class CosineAnnealingLR:
    def __init__(self, **state): self.__dict__.update(state)
class ConstantWarmupScheduler(CosineAnnealingLR):
    def state_dict(self): return {key: value for key, value in self.__dict__.items() if key != "optimizer"}
"""
    module = type(sys)("upstream_lr_scheduler")
    sys.modules[module.__name__] = module
    exec(code, module.__dict__)
    return module.__dict__


def upstream_schedule(parameters, epoch: int = 5) -> dict:
    """What the state dict of upstream's ConstantWarmupScheduler is after some epochs, its `successor` an object."""
    classes = upstream_classes()
    optimizer = classes["Optimizer"]()
    optimizer.param_groups = [{"params": list(parameters), "lr": 0.002, "initial_lr": 0.002}]
    successor = classes["CosineAnnealingLR"](
        T_max=200.0, eta_min=0, optimizer=optimizer, base_lrs=[0.002], last_epoch=epoch, _step_count=epoch, _last_lr=[0.0019]
    )  # fmt: skip
    warmup = classes["ConstantWarmupScheduler"](
        successor=successor, warmup_epoch=1, cons_lr=1e-5, optimizer=optimizer, base_lrs=[0.002], last_epoch=1,
        verbose=False, _step_count=2, _get_lr_called_within_step=False, _last_lr=[0.0019],
    )  # fmt: skip
    return warmup.state_dict()


def save_as_upstream(checkpoint: dict, path, zipped: bool = True) -> None:
    """`torch.save`, after which the module of the pickled classes cannot be imported any more."""
    torch.save(checkpoint, path, _use_new_zipfile_serialization=zipped)
    del sys.modules["upstream_lr_scheduler"]


# --- pickles that run something ----------------------------------------------------------------------------------


class Runs:
    """Pickled, it is a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def dumps(thing) -> bytes:
    return pickle.dumps(thing, 2)


def payloads(trace: str) -> dict[str, bytes]:
    """Pickles by name; each makes the file `trace` where its code is run."""
    import functools
    import logging
    import os

    touch, write = f"touch {trace}", f"open({trace!r}, 'w')"
    evil = dumps(Runs(os.system, touch))
    inner = evil[2:-1]  # without protocol and stop
    state = dumps({"ctx": 1})[2:-1]
    system, arguments = b"cposix\nsystem\n", text(touch) + b"\x85"
    return {
        "a call of os.system": evil,
        "a call of eval": dumps(Runs(eval, write)),
        "a call of exec": dumps(Runs(exec, write)),
        "in a list": dumps([1, [2, [Runs(os.system, touch)]]]),
        "in a state dict": dumps({"state_dict": {"ctx": Runs(os.system, touch)}, "epoch": 1}),
        "as a key": dumps({Runs(os.system, touch): 1}),
        "in a set": b"\x80\x04\x8f(" + inner + b"\x90.",
        "as a persistent id": b"\x80\x02" + inner + b"Q.",
        "in a storage's place": b"\x80\x02(" + text("storage") + inner + text("0") + text("cpu") + b"K\x01tQ.",
        "a state for a partial": dumps(Runs(functools.partial, print))[:-1]
        + b"(" + system + arguments + b"}Ntb" + b")R.",  # built, then called
        "opcode INST": b"(S'" + touch.encode() + b"'\niposix\nsystem\n.",
        "opcode OBJ": b"(" + system + text(touch) + b"o.",
        "opcode STACK_GLOBAL": b"\x80\x04" + text("posix") + text("system") + b"\x93" + arguments + b"R.",
        "copyreg": b"ccopyreg\n_reconstructor\n(clogging\nFileHandler\nclogging\nFileHandler\n" + text(trace) + b"tR.",
        "a pickle in a pickle": dumps(Runs(pickle.loads, evil)),
        "getattr of a module": b"cbuiltins\neval\n(" + text(f"__import__('os').system({touch!r})") + b"tR.",
        "a class of the standard library": dumps(Runs(logging.FileHandler, trace)),
        "torch's rebuilding with a function": b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n("
        + system + b"ctorch\nTensor\n" + arguments + state + b"tR.",
        "torch.load": b"\x80\x02ctorch.serialization\nload\n(" + evil_file(trace) + b"tR.",
    }  # fmt: skip


def evil_file(trace: str) -> bytes:
    """Arguments for torch.load: a file that holds a call, and the module that is to read it, which is pickle."""
    import os

    file = io.BytesIO()
    torch.save(Runs(os.system, f"touch {trace}"), file)
    stream = dumps(Runs(io.BytesIO, file.getvalue()))[2:-1]
    return stream + b"Nctorch.serialization\npickle\n"
