"""Caches that a run wrote before: decoded test images, and CLIP's own weights. What is spoilt is made anew, or refused."""

import shutil
import struct
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, Compose

from clip.checkpoint import load_state_dict, save_npz
from dassl.data.cache import OnDisk
from dassl.utils import read_image

from .harness import RIGHT, Kind, Wrong
from .mutate import spoilt_bytes

SHAPE = (3, 8, 8, 3)
HEADERS = (
    "{'descr': '|u1', 'fortran_order': True, 'shape': (3, 8, 8, 3), }", "{'descr': '|u1', 'fortran_order': False, 'shape': (8, 3, 8, 3), }",
    "{'descr': '<u2', 'fortran_order': False, 'shape': (3, 8, 8, 3), }", "{'descr': '|O', 'fortran_order': False, 'shape': (3, 8, 8, 3), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999, 8), }", "{'descr': '|u1', 'fortran_order': False, 'shape': (-3, -8, 8, 3), }",
    "{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (3, 8, 8, 3), }", "{'descr': '|u1'}", "{" * 300, "(" * 5000, "[" * 90, "9**9**9", "",
    "{'descr': '|u1', 'fortran_order': 0, 'shape': (3, 8, 8, 3), }", "{'descr': '|b1', 'fortran_order': False, 'shape': (3, 8, 8, 3), }",
    "{'descr': '|i1', 'fortran_order': False, 'shape': (3, 8, 8, 3), }", "{'descr': '|u1', 'fortran_order': False, 'shape': (3, 8, 8, True), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': 3, }", "{'descr': '" + "x" * 9000 + "', 'fortran_order': False, 'shape': (), }", "\x00\x00", "{[]: 1}",
    "'a' 'b'", "1", "__import__('os')",
)  # fmt: skip


class Caches(Kind):
    name, inputs = "caches", 500

    def __init__(self, folder):
        super().__init__(folder)
        rng = np.random.default_rng(0)
        self.paths = []
        for number in range(SHAPE[0]):
            self.paths.append(str(folder / f"{number}.png"))
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(self.paths[-1])
        self.pixels = {path: np.asarray(read_image(path)) for path in self.paths}
        whole = self.cache()
        whole.open()
        self.path, self.data = Path(whole.path), Path(whole.path).read_bytes()
        self.head = len(self.data) - int(np.prod(SHAPE)) - 4 * SHAPE[0]  # what stands before the pixels
        self.state = {"a": torch.randn(4, 3).half(), "b": torch.randn(7).half()}
        self.weights = {}
        for name in ("w.pt", "w.npz", "w.safetensors"):
            self.write_weights(folder / name)
            self.weights[name] = (folder / name).read_bytes()

    def cache(self) -> OnDisk:
        return OnDisk(
            str(self.folder / "cache"),
            "pictures",
            self.paths,
            str(self.folder),
            Compose([CenterCrop((8, 8))]),
            (8, 8),
            1,
        )

    def write_weights(self, path: Path) -> None:
        if path.suffix == ".npz":
            save_npz(self.state, path)
        elif path.suffix == ".pt":
            torch.save(self.state, path)
        else:
            from safetensors.torch import save_file

            save_file(self.state, path)

    def one(self, chance: Random) -> str:
        return self.of_weights(chance) if chance.random() < 0.4 else self.of_pictures(chance)

    def of_pictures(self, chance: Random) -> str:
        what, body = chance.random(), self.data[self.head :]
        if what < 0.35:
            head = chance.choice(HEADERS).encode()
            head += b" " * (-(len(head) + 11) % 64) + b"\n"
            data = b"\x93NUMPY\x01\x00" + struct.pack("<H", chance.choice((len(head), len(head), 65535))) + head + body
        elif what < 0.6:
            data = spoilt_bytes(chance, self.data[: self.head]) + body
        elif what < 0.85:
            data = spoilt_bytes(chance, self.data)
        else:
            data = self.data[: chance.randrange(len(self.data))] + b"\0" * chance.choice((0, 0, 100))
        self.path.write_bytes(data)
        shutil.rmtree(str(self.path) + ".lock", ignore_errors=True)
        cache = self.cache()
        cache.open()
        for path, pixels in self.pixels.items():
            found = cache.get(path)
            if found is not None and not (found.shape == pixels.shape and (found == pixels).all()):
                raise Wrong("other pixels than the image has")
        return RIGHT

    def of_weights(self, chance: Random) -> str:
        name = chance.choice(list(self.weights))
        path = self.folder / name
        path.write_bytes(spoilt_bytes(chance, self.weights[name]))
        state = load_state_dict(path)
        for key in state.keys() & self.state.keys():
            value = state[key]
            if (
                value.shape == self.state[key].shape
                and value.dtype == torch.float16
                and not torch.equal(value, self.state[key])
            ):
                if name.endswith(".safetensors"):
                    continue  # its format has no sum to check
                raise Wrong(f"other numbers under {key} in {name}")
        return RIGHT
