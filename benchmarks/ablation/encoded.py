"""Images encoded once, in place of a loader that decodes and encodes them anew for every row."""

import json
from pathlib import Path

import torch

from dassl.utils import read_image
from trainers.spotlighter.bank import Shots
from trainers.spotlighter.zoom import ZOOM_WIDTHS, grid_places, window_centres

BATCH = 32  # of the encoder: what fits the cache of a core is faster


class Oracle:
    """A score for dropping that knows where the object is, a control: how much of a patch its box covers."""

    cover: torch.Tensor  # (B, G * G), set before each batch

    def __call__(self, drop, x, patches, i):
        return self.cover + 1e-3 * torch.rand(self.cover.shape)


class EncodedImages:
    """The images of some items, and where the object is: images (n, 3, H, W), y (n,), boxes (n, 3) or None.

    `features` keeps regions (n, Z, d) that were looked at again, by control, map and width.
    """

    def __init__(self, trainer, items, root: Path):
        self.images = torch.stack([trainer.dm.tfm_test(read_image(item.impath)) for item in items])
        self.y = torch.tensor([item.label for item in items])
        boxes = root / "boxes.json"
        places = json.loads(boxes.read_text()) if boxes.is_file() else {}
        names = [Path(item.impath).relative_to(root / "images").as_posix() for item in items]
        self.boxes = torch.tensor([places[name] for name in names]) if names[0] in places else None
        self.features: dict = {}

    def cover(self, side: int) -> torch.Tensor:
        """(n, G * G): how much of each patch lies within the object's box, a square of 1.7 radii."""
        size = self.images.shape[-1]
        edge, step, reach = torch.arange(side) * size / side, size / side, 0.85 * self.boxes[:, 2:]
        overlap = [
            (torch.minimum(edge + step, c + reach) - torch.maximum(edge, c - reach)).clamp_min(0)
            for c in (self.boxes[:, :1], self.boxes[:, 1:2])
        ]  # x and y, (n, G) each
        return (overlap[1][:, :, None] * overlap[0][:, None]).flatten(1)

    @torch.no_grad()
    def encode(self, trainer) -> None:
        """Class tokens f (n, d), patch tokens v (n, N, d) and attention maps (n, 2, G * G) under the trainer's edits."""
        drop = trainer.head.drop
        parts = []
        for rows in torch.arange(len(self.y)).split(BATCH):
            if drop is not None and isinstance(drop.by, Oracle):
                drop.by.cover = self.cover(round(len(drop.coverage) ** 0.5))[rows]
            first = trainer.spotlit.first_look(self.images[rows])
            parts.append((first.f, first.v, first.maps))
        self.f, self.v, self.maps = map(torch.cat, zip(*parts, strict=True))

    @torch.no_grad()
    def windows(self, trainer, activation: torch.Tensor, width: float, count: int) -> torch.Tensor:
        """Class tokens (n, Z, d) of the regions where an activation (n, G * G) is strongest."""
        parts = zip(self.images.split(BATCH), activation.split(BATCH), strict=True)
        look_again = trainer.spotlit.look_again
        return torch.cat([look_again(images, window_centres(a, count), width) for images, a in parts])

    def activation(self, how: str, zoom_map: int = 0) -> torch.Tensor:
        """(n, G * G): where to look again, by the method or by one of the controls."""
        n, patches = self.maps.shape[0], self.maps.shape[2]
        places = grid_places(round(patches**0.5))
        if how == "own":
            return self.maps[:, zoom_map]
        if how == "random":
            return torch.rand(n, patches, generator=torch.Generator().manual_seed(n))
        target = torch.full((n, 2), 0.5) if how == "centre" else self.boxes[:, :2] / self.images.shape[-1]
        return -100 * (places - target[:, None]).norm(dim=-1)


@torch.no_grad()
def shots_of(trainer, table: EncodedImages, how: str = "own", count: int = 3) -> Shots:
    """The shots as the trainer would encode them, with the regions of the method or of a control."""
    maps = range(2) if how == "own" else range(1)
    again = [[table.windows(trainer, table.activation(how, m), w, count) for w in ZOOM_WIDTHS] for m in maps]
    return Shots(table.f, table.v, table.y, torch.stack([torch.stack(widths, dim=1) for widths in again], dim=1))


def train_host(trainer, table: EncodedImages) -> None:
    """A run's epochs, over the images of a table; the host takes its features, which are encoded already."""
    data = [{"img": table.images[i], "label": int(y), "index": i} for i, y in enumerate(table.y)]
    size = trainer.cfg.DATALOADER.TRAIN_X.BATCH_SIZE
    trainer.train_loader_x = torch.utils.data.DataLoader(data, size, shuffle=True, drop_last=len(data) >= size)
    trainer.max_epoch = trainer.cfg.OPTIM.MAX_EPOCH
    trainer.remembered["image"] = table.f[None]  # one view of each
    for epoch in range(trainer.max_epoch):
        trainer.epoch = epoch
        trainer.run_epoch()
    trainer.set_model_mode("eval")
