"""CSV lists of one's own pictures, and the pictures: rows as they stand there, a picture of its size, or a sentence."""

import csv
import io
from random import Random

import numpy as np
from PIL import Image

from dassl.utils import read_image
from datasets.listing import csv_rows, read_csv

from .harness import RIGHT, Kind, Wrong
from .mutate import perhaps_spoilt, spoilt_bytes

HEADER = ("path", "class", "split")
ROWS = [
    (f"{name}/{number}.jpg", name, part)
    for name in ("cat", "dög")
    for number, part in enumerate(("train", "train", "val", "test"))
]
ODD = (
    "", " ", '"', '""', "a,b", '"a\nb"', "\x00", "\u202e", "Train", "tset", "../x", "/etc/passwd", "do\u0308g", "x" * 200_000, "=1+1", "\ufeff", "cat/9.jpg",
    "cat\\0.jpg", ".", "cat", "\ud800",
)  # fmt: skip


class Lists(Kind):
    name, inputs = "lists", 800

    def __init__(self, folder):
        super().__init__(folder)
        for path, _, _ in ROWS:
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).touch()
        pixels = np.random.default_rng(0).integers(0, 255, (9, 12, 3), dtype=np.uint8)
        self.pictures = []
        for form, mode, options in (
            ("PNG", "RGB", {}), ("PNG", "P", {}), ("PNG", "I;16", {}), ("JPEG", "RGB", {}), ("JPEG", "CMYK", {}), ("GIF", "P", {}),
            ("TIFF", "RGB", {"compression": "tiff_lzw"}), ("TIFF", "L", {}), ("BMP", "RGB", {}), ("WEBP", "RGB", {}), ("PPM", "RGB", {}),
        ):  # fmt: skip
            file = io.BytesIO()
            picture = Image.fromarray(pixels)
            picture = (
                Image.fromarray(pixels[..., 0].astype(np.uint16) * 257) if mode == "I;16" else picture.convert(mode)
            )
            picture.save(file, form, **options)
            self.pictures.append(file.getvalue())

    def one(self, chance: Random) -> str:
        return self.picture(chance) if chance.random() < 0.5 else self.list(chance)

    def picture(self, chance: Random) -> str:
        data = chance.choice(self.pictures)
        (self.folder / "picture").write_bytes(spoilt_bytes(chance, data) if chance.random() < 0.95 else data)
        picture = read_image(str(self.folder / "picture"))
        if picture.mode != "RGB" or np.asarray(picture).dtype != np.uint8:
            raise Wrong(f"a picture of mode {picture.mode}")
        return RIGHT

    def list(self, chance: Random) -> str:
        rows = [list(row) for row in (HEADER, *ROWS)]
        for _ in range(chance.choice((0, 1, 1, 2))):
            row = rows[chance.randrange(len(rows))]
            what = chance.random()
            if what < 0.7 and row:
                row[chance.randrange(len(row))] = chance.choice(ODD)
            elif what < 0.8:
                row.append(chance.choice(ODD))
            else:
                del row[-1:]
        path = self.folder / "list.csv"
        end = chance.choice(("\n", "\r\n", "\r"))
        path.write_bytes(perhaps_spoilt(chance, end.join(map(",".join, rows)) + end))
        if chance.random() < 0.2:
            csv_rows(str(path), ("folder", "name"))
            return RIGHT
        own = read_csv(str(self.folder), str(path))
        with open(path, encoding="utf-8-sig", newline="") as file:
            stated = {(row[0].strip(), row[1].strip()) for row in csv.reader(file) if row} if own.divided else set()
        for items in own.split.values():
            for item in items:
                if not (self.folder / item.path).exists():
                    raise Wrong(f"{item.path} is not there")
                if stated and not any(name == item.classname for _, name in stated) and item.classname.isascii():
                    raise Wrong(f"{item.classname} is no class of the list")
        return RIGHT
