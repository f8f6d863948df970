"""Classify pictures:    python use_me.py cat.jpg dog.jpg    (pip install onnxruntime numpy pillow; --int8: the smaller model)"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

HERE = Path(__file__).parent
LABELS = json.loads((HERE / "labels.json").read_text(encoding="utf-8"))
PREPROCESS = json.loads((HERE / "preprocess.json").read_text(encoding="utf-8"))


def prepare(path: str) -> np.ndarray:
    """A picture as the model takes it: (3, H, W)."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I"):  # grey of 16 bits, which Pillow would cut off at 255
        image = Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
    image = image.convert("RGB")
    size, (height, width) = PREPROCESS["short_side"], PREPROCESS["crop"]
    short, way = min(image.size), Image.Resampling[PREPROCESS["interpolation"].upper()]
    image = image.resize(tuple(size * side // short for side in image.size), way)
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    pixels = np.asarray(image.crop((left, top, left + width, top + height)), dtype=np.float32) / 255  # (H, W, 3)
    return ((pixels - np.float32(PREPROCESS["mean"])) / np.float32(PREPROCESS["std"])).transpose(2, 0, 1)


if __name__ == "__main__":
    names = [name for name in sys.argv[1:] if not name.startswith("--")] or sys.exit(__doc__)
    model = HERE / ("model_int8.onnx" if "--int8" in sys.argv else "model.onnx")
    session = onnxruntime.InferenceSession(model) if model.is_file() else sys.exit(f"error: There is no {model}.")
    for name in names:  # the model takes batches too
        try:
            (probabilities,) = session.run(None, {"images": prepare(name)[None]})[0]  # (C,)
            print(f"{name}: {LABELS[probabilities.argmax()]} {probabilities.max():.1%}")
        except (OSError, ValueError) as error:  # it is no picture, or a broken one
            print(f"error: {name} cannot be read ({error}).", file=sys.stderr)
