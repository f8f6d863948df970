"""A prompted CLIP with Spotlighter over it, whole: the head, the edits in the image encoder, and the two looks.

B images      N patch tokens left of a grid of G x G      C classes      d joint width      Z regions looked at again
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from .bank import Shots
from .classes import Classes, lengths
from .drop import AttentionMaps, DropTokens
from .head import SpotlighterHead
from .host import HostModel, part
from .tokens import Tokens
from .trained import unit
from .zoom import ZOOM_WIDTHS, cut, window_centres


def outside_autocast(x: Tensor) -> torch.autocast:
    """A context in which products are fp32 where mixed precision would make them fp16: the host's encoders have it, and
    what this project computes of their features has not, as it is little work and tells near things apart.
    """
    return torch.autocast(x.device.type, enabled=False)


class FirstLook(NamedTuple):
    """What the image encoder makes of whole images."""

    f: Tensor | None  # (B, d) class tokens, unit rows; None of a glance
    v: Tensor | None  # (B, N, d) the patch tokens left, unit rows; None where a plan does without
    alive: Tensor | None  # (B, N) their places on the grid; None where all are kept
    maps: Tensor | None  # (B, 2, G * G) of `AttentionMaps`; None without ZOOM; (B, 1, G * G) of a plan


class SpotlitCLIP:
    """Predicts the classes `classnames` through a head over `model`, between whose blocks it puts its edits.

    `own` are Spotlighter's config keys; the head is empty until its bank is filled (`bank.remember`).
    """

    def __init__(
        self,
        model: HostModel,
        own,
        classnames: list[str],
        template: str,
        seed: int = 0,
        head_kind: type[SpotlighterHead] = SpotlighterHead,
    ):
        self.model, self.classnames = model, classnames
        self.zero_shot = part(model, "zero_shot_text")(classnames, template)  # (C, d)
        with torch.random.fork_rng(devices=[]):  # the mapping modules' first values are not the host's random numbers
            torch.default_generator.manual_seed(max(seed, 0))  # torch.manual_seed is a GPU's too
            self.head = head_kind(
                logit_scale=model.logit_scale().item(),
                kept=own.R,
                prototypes=own.K,
                levels=own.LEVELS,
                full=0 if own.HEAD == "lite" else self.zero_shot.shape[1],
            )
        visual = model.clip.visual
        self.after = after = tuple(sorted(block - 1 for block in own.DROP_AFTER))  # the config counts blocks from 1
        if own.KEEP < 1:
            self.head.drop = DropTokens(visual=visual, keep=own.KEEP, after=after, score=own.SCORE, grid=own.GRID)
        patches = visual.positional_embedding.shape[0] - 1  # G * G
        self.maps = AttentionMaps(first=after[0] + 1, patches=patches, drop=self.head.drop)
        model.image_edits += [edit for edit in (self.maps if own.ZOOM else None, self.head.drop) if edit is not None]
        self.head.to(self.zero_shot.device)

    @property
    def conditional(self) -> bool:
        return part(self.model, "conditional")

    # --- looks --------------------------------------------------------------------------------------------

    def first_look(self, images: Tensor) -> FirstLook:
        """Images (B, 3, H, W) as a whole."""
        f, v = self.model.image_features(images, tokens=True)
        return FirstLook(f, v, alive=None if self.head.drop is None else self.head.drop.alive, maps=self.maps.maps)

    def look_again(self, images: Tensor, centres: Tensor, width: float) -> Tensor:
        """Class tokens (B, Z, d) of regions of images (B, 3, H, W), by their centres (B, Z, 2) and width."""
        with outside_autocast(images):
            windows = cut(images, centres, width)  # (B Z, 3, H, W)
        with self.maps.resting():  # nobody reads where a region would be looked at again
            return self.model.image_features(windows).view(*centres.shape[:2], -1)

    def regions(self, images: Tensor, maps: Tensor, count: int) -> Tensor:
        """All that a zoom may choose from: (B, maps, widths, count, d)."""
        looks = []
        for activation in maps.unbind(dim=1):
            with outside_autocast(activation):
                centres = window_centres(activation, count)  # (B, count, 2)
            looks.append(torch.stack([self.look_again(images, centres, width) for width in ZOOM_WIDTHS], dim=1))
        return torch.stack(looks, dim=1)

    @torch.no_grad()
    def encode(self, batches: Iterable[tuple[Tensor, Tensor]], count: int, zoom: int = 0) -> Shots:
        """The shots of batches of images (B, 3, H, W) and labels (B,), `count` images in all, with `zoom` regions of each."""
        parts, tokens, again, filled = [], None, None, 0
        for images, labels in batches:
            first = self.first_look(images)
            parts.append((first.f, labels))
            now = slice(filled, filled := filled + len(labels))
            tokens = Tokens.room_for(count, like=first.v) if tokens is None else tokens
            tokens.table[now] = first.v
            if zoom:
                found = self.regions(images, first.maps, zoom)
                if again is None:  # in half precision where tokens are
                    half = tokens.table.dtype == torch.float16
                    again = found.new_empty(count, *found.shape[1:], dtype=torch.float16 if half else found.dtype)
                again[now] = found
        f, y = map(torch.cat, zip(*parts, strict=True))
        return Shots(f, tokens, y, again)

    # --- prediction ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def typical_text(self, image_mean: Tensor) -> Tensor:
        """(C, d) the model's texts; if they depend on the image, those of the mean training image (d,)."""
        if not self.conditional:
            return self.model.text_features()
        return self.model.text_features(unit(image_mean)[None])[0]

    def describe(self) -> Classes:
        """The classes, which do not depend on an image."""
        t = self.typical_text(self.head.bank.image_mean)  # (C, d)
        with outside_autocast(t):
            return self.head.describe(t.float(), self.zero_shot, self.classnames)

    def predict(self, images: Tensor, classes: Classes) -> Tensor:
        """Images (B, 3, H, W) -> logits (B, C), given `describe()`."""
        return self.answer(images, self.first_look(images), classes)

    def answer(self, images: Tensor, first: FirstLook, classes: Classes) -> Tensor:
        """The same, with the first look taken: logits (B, C)."""
        again = None if self.head.zoom is None else self.look_again(images, self.centres(first), self.head.zoom.width)
        return self.head_on(first, classes, again)

    def head_on(self, first: FirstLook, classes: Classes, again: Tensor | None) -> Tensor:
        """Logits (B, C) of a first look and of regions (B, Z, d)."""
        t = self.model.text_features(first.f) if self.conditional else None  # (B, C, d)
        with outside_autocast(self.zero_shot):
            if t is not None:
                own = self.head.centred_text(self.head.anchored(t, self.zero_shot), self.head.bank.text_mean)
                classes = classes._replace(own=own * lengths(t)[..., None])
            return self.head(first.f, first.v, classes, again)

    def centres(self, first: FirstLook) -> Tensor:
        """(B, Z, 2), where the head's zoom looks again."""
        with outside_autocast(first.maps):
            return window_centres(first.maps[:, self.head.zoom.map], self.head.zoom.count)
