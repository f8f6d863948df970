"""Checkpoints: cut short, with flipped bits, with other parts, or with other things in them than a run saves."""

import copy
import io
import pickle
import struct
import zipfile
from random import Random

import torch

import inert
from dassl.config import get_cfg_default
from dassl.engine import TrainerBase
from dassl.optim import build_lr_scheduler
from dassl.utils import load_checkpoint, load_pretrained_weights, resume_from_checkpoint
from dassl.utils.resume import random_states
from trainers.shared.clip_trainer import load_learner

from .harness import RIGHT, Kind, Wrong
from .mutate import paths_in, spoilt_bytes

ODD = (
    None, 10**5000, "a\nb\ud800", "", "x", -1, 0, 3.5, float("nan"), float("inf"), True, 10**400, [], {}, (), [[]], {"a": 1}, b"\x00", torch.zeros(2), torch.zeros(0), torch.zeros(2, 3).long(),
    torch.full((3, 2), float("nan")), ["torch"], "cuda", {1: 2}, 2**70, [1, 2, 3], "model", torch.device("cpu"), torch.float16,
)  # fmt: skip


def deep(levels: int) -> bytes:
    """A pickle of lists in lists, which Python's own pickler could not write."""
    return b"\x80\x02" + b"]" * levels + b"a" * (levels - 1) + b"."


class Checkpoints(Kind):
    name, inputs = "checkpoints", 500

    def __init__(self, folder):
        super().__init__(folder)
        torch.manual_seed(0)
        model, optimizer, scheduler = self.parts()
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        scheduler.step()
        self.content = {
            "state_dict": dict(model.state_dict()),
            "epoch": 1,
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "val_result": None,
            "random_states": random_states(),
        }
        (folder / "linear").mkdir()
        (folder / "linear" / "checkpoint").write_text("model.pth.tar-1\n")
        self.path = folder / "linear" / "model.pth.tar-1"
        self.data = {new: self.saved(self.content, new) for new in (True, False)}

    def parts(self):
        """A model, its optimiser and its schedule, as a trainer has them."""
        model = torch.nn.Linear(2, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        return model, optimizer, build_lr_scheduler(optimizer, get_cfg_default().OPTIM)

    def saved(self, content, new: bool) -> bytes:
        file = io.BytesIO()
        torch.save(content, file, _use_new_zipfile_serialization=new)
        return file.getvalue()

    def one(self, chance: Random) -> str:
        what = chance.random()
        if what < 0.35:
            return self.of_other_content(chance)
        new = chance.random() < 0.7
        if new and what < 0.4:
            self.path.write_bytes(self.flipped(chance))
        elif new and what < 0.6:
            self.path.write_bytes(self.other_parts(chance))
        else:
            self.path.write_bytes(spoilt_bytes(chance, self.data[new]))
        return self.read(chance, self.content, summed=new)

    def of_other_content(self, chance: Random) -> str:
        content = copy.deepcopy(self.content)
        for _ in range(chance.choice((1, 1, 2))):
            places = [place for place in paths_in(content) if place[0] != "random_states" or len(place) < 3]
            *way, last = chance.choice(places)
            node = content
            for key in way:
                node = node[key]
            if chance.random() < 0.25:
                del node[last]
            else:
                node[last] = chance.choice(ODD)
        if chance.random() < 0.05:
            content = chance.choice(ODD)
        self.path.write_bytes(self.saved(content, chance.random() < 0.8))
        return self.read(chance, content if isinstance(content, dict) else {})

    def flipped(self, chance: Random) -> bytes:
        """One bit of one number."""
        data = bytearray(self.data[True])
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            numbers = [file.read(info) for info in file.infolist() if "/data/" in info.filename]
        part = chance.choice(numbers)
        data[data.index(part) + chance.randrange(len(part))] ^= 1 << chance.randrange(8)
        return bytes(data)

    def other_parts(self, chance: Random) -> bytes:
        """An archive with parts gone, renamed, packed, said twice, or of declared sizes that they do not have."""
        with zipfile.ZipFile(io.BytesIO(self.data[True])) as file:
            parts = {name: file.read(name) for name in file.namelist()}
        pickled = next(name for name in parts if name.endswith("data.pkl"))
        at, what, packed = chance.choice(list(parts)), chance.random(), zipfile.ZIP_STORED
        if what < 0.15:
            del parts[at]
        elif what < 0.3:
            parts[chance.choice(("x", "../x", "archive/data/99", "x/data.pkl", at + "/", at * 200))] = parts.pop(at)
        elif what < 0.4:
            packed = zipfile.ZIP_DEFLATED
        elif what < 0.5:
            parts[pickled] = deep(chance.choice((50, 900, 20_000, 500_000)))
        elif what < 0.6:
            parts[pickled] = pickle.dumps(chance.choice(ODD[:12]), 2)
        elif what < 0.7:
            parts[pickled] = spoilt_bytes(chance, parts[pickled])
        elif what < 0.75:
            parts[pickled] = b"\x80\x02j" + struct.pack("<I", 2**31 - 1) + b"."
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", packed) as archive:
            for name, part in parts.items():
                archive.writestr(name, part)
        data = bytearray(file.getvalue())
        if what >= 0.75:  # sizes, sums and places in its table of contents
            entries = [place for place in range(len(data)) if data.startswith(b"PK\x01\x02", place)]
            place = chance.choice(entries) + chance.choice((10, 16, 20, 24, 42))
            value = chance.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, chance.getrandbits(32), chance.randrange(1000)))
            data[place : place + 4] = struct.pack("<I", value)
        return bytes(data)

    def read(self, chance: Random, content: dict, summed: bool = True) -> str:
        """By one of those that read checkpoints; `summed`: the file has sums, so that no flipped bit goes unseen."""
        model, optimizer, scheduler = self.parts()
        what = chance.random()
        state = content.get("state_dict")
        if what < 0.2:
            found = inert.weights_of(load_checkpoint(str(self.path)))
        elif what < 0.3:
            trainer = TrainerBase()
            trainer.register_model("linear", model)
            trainer.load_model(str(self.folder), epoch=1)
            found = model.state_dict()
        elif what < 0.4:
            checkpoint = load_checkpoint(str(self.path))
            load_learner(model, inert.weights_of(checkpoint, model.state_dict()), str(self.path), frozenset())
            found = model.state_dict()
        elif what < 0.5:
            found = dict(model.state_dict())
            load_pretrained_weights(model, str(self.path))
            found = {name: value for name, value in model.state_dict().items() if not torch.equal(value, found[name])}
        else:
            resume_from_checkpoint(str(self.path.parent), model, optimizer, scheduler)
            found = copy.deepcopy(model.state_dict())
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
            scheduler.step()
        if summed and isinstance(state, dict):
            for name, value in found.items():
                if torch.is_tensor(state.get(name)) and not torch.equal(value.nan_to_num(7), state[name].nan_to_num(7)):
                    raise Wrong(f"{name} has other numbers than were saved")
        return RIGHT
