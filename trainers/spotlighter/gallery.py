"""A few pictures of what a trained Spotlighter looks at, for a page: test images, evenly over the classes."""

import io
import os
from collections.abc import Iterator

from PIL import Image

from dassl.data.transforms import build_transform
from dassl.utils import read_image

from .look import look
from .picture import draw, percent, printable

KIND, QUALITY, WIDTH = "image/webp", 80, 1400  # pixels


def gallery(trainer, number: int) -> Iterator[tuple[str, bytes]]:
    """(what it shows, the picture as WebP) of `number` test images, or of all if there are fewer."""
    prepare = build_transform(trainer.cfg, is_train=False)
    only_cut = build_transform(trainer.cfg, is_train=False, choices=())
    names = [trainer.lab2cname[label] for label in range(trainer.num_classes)]
    for item in spread_over_classes(trainer.dm.dataset.test, number):
        image = read_image(item.impath)
        seen = look(trainer, prepare(image)[None])
        best = int(seen.probabilities[0].argmax())
        verdict = "right" if best == item.label else "wrong"
        file = printable(os.path.basename(item.impath))
        text = (
            f"{file}: {names[item.label]}, taken for {names[best]} ({percent(seen.probabilities[0, best])}, {verdict})"
        )
        yield text, as_webp(draw(only_cut(image), seen, names, f"{names[item.label]}: {file}"))


def spread_over_classes(items: list, number: int) -> list:
    """The first image of each of `number` classes that lie evenly among all, then the second, until there are enough."""
    by_class: dict[int, list] = {}
    for item in items:
        by_class.setdefault(item.label, []).append(item)
    labels = sorted(by_class)
    count = min(number, len(labels))
    chosen = [labels[place * len(labels) // count] for place in range(count)]
    deepest = max((len(own) for own in by_class.values()), default=0)
    order = chosen + [label for label in labels if label not in chosen]
    ranked = [by_class[label][depth] for depth in range(deepest) for label in order if depth < len(by_class[label])]
    return ranked[:number]


def as_webp(figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    picture = Image.open(file).convert("RGB")
    picture.thumbnail((WIDTH, WIDTH))
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=QUALITY)
    return out.getvalue()
