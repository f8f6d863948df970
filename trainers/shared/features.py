"""Features of frozen images in the place of images: encoded once, for all methods, seeds and protocols.

Where nothing that is learned reaches into the image encoder, its features are CLIP's own, and the same for every run. A
batch then holds `Encoded` features where it would hold images, and `PromptedCLIP` takes either.

    B images      N patch tokens      d joint width
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import SequentialSampler

import clip


def random_numbers_kept(device: torch.device):
    """A context after which the generators of the CPU and of a run's device are as before; no other GPU is asked."""
    return torch.random.fork_rng(devices=[] if device.type == "cpu" else [device])


def of_features(part):
    """Mark a loss, or what it has its features from, that takes all it needs of a batch's images from `once_per_image`: where
    that is remembered, no image is read. One without the mark gets the images.
    """
    part.of_features = True
    return part


@dataclass(frozen=True)
class Encoded:
    """What the image encoder gave, in its precision and length: in place of images (B, 3, H, W)."""

    f: Tensor  # (B, d)
    v: Tensor | None = None  # (B, N, d)

    @property
    def device(self) -> torch.device:
        return self.f.device

    def to(self, device, non_blocking: bool = False) -> "Encoded":
        return Encoded(*(None if x is None else x.to(device, non_blocking=non_blocking) for x in (self.f, self.v)))

    def __getitem__(self, rows) -> "Encoded":
        return Encoded(self.f[rows], None if self.v is None else self.v[rows])

    def __len__(self) -> int:
        return len(self.f)


class EncodedBatches:
    """The batches of a loader that takes its images in order, with `Encoded` ones in their place.

    `encode` gives those of all images, in order; it is asked when the first batch is.
    """

    def __init__(self, loader, encode: Callable[[], Encoded]):
        self.loader, self.encode, self.dataset = loader, encode, loader.dataset

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[dict]:
        encoded, items = self.encode(), self.dataset.data_source
        torch.empty((), dtype=torch.int64).random_()  # the number that the loader takes from the run's, for its workers
        for start in range(0, len(items), self.loader.batch_size):
            rows = slice(start, min(start + self.loader.batch_size, len(items)))
            batch = items[rows]
            yield {
                "img": encoded[rows],
                "label": torch.tensor([item.label for item in batch]),
                "domain": torch.tensor([item.domain for item in batch]),
                "impath": [item.impath for item in batch],
                "index": torch.arange(rows.start, rows.stop),
            }


class ReadsFeatures:
    """A trainer that takes features of frozen images from the engine's store, where it has one (Dassl's has none)."""

    tokens_wanted = False  # whether a prediction looks at patch tokens too

    def encoded(self, loader, tokens: bool = False, model=None):
        """A loader's batches with images `Encoded` by a model, the run's own if none is named; the loader itself where that
        is no frozen CLIP's, or there is no store.
        """
        store, model = getattr(self, "features", None), self.model if model is None else model
        if loader is None or store is None or not store.folder or not getattr(model, "has_plain_images", False):
            return loader
        if not isinstance(loader.sampler, SequentialSampler) or loader.drop_last:
            return loader
        visual, count = model.clip.visual, len(loader.dataset.data_source)
        if tokens and (
            len(visual.positional_embedding) * visual.output_dim * model.clip.dtype.itemsize * count
            > self.cfg.FEATURES.TOKENS_MB * 2**20
        ):
            return loader
        kind = "tokens" if tokens else "features"

        def encode() -> Encoded:
            return Encoded(
                **store.of_images(kind, loader, self.image_facts(model), lambda: self.encode_all(model, loader, tokens))
            )

        return EncodedBatches(loader, encode)

    def image_facts(self, model) -> dict | None:
        """What a model's frozen image encoder is known by; None where its code cannot be told."""
        code, visual = (clip.model, clip.vit, clip.resnet, clip.edits), model.clip.visual
        return self.features.made_by(visual.state_dict(), *code, precision=self.precision, **model.clip.facts)

    @torch.no_grad()
    def encode_all(self, model, loader, tokens: bool) -> dict[str, Tensor]:
        """f (N, d), and with `tokens` v (N, N', d), of all images of a loader, on the CPU."""
        parts = []
        with random_numbers_kept(self.device), self.autocast():  # a loader takes one, which is the run's
            for batch in loader:
                images, _ = self.parse_batch_test(batch)
                parts.append(model.encode(images, tokens).to("cpu"))
        f = torch.cat([part.f for part in parts])
        return {"f": f, "v": torch.cat([part.v for part in parts])} if tokens else {"f": f}
