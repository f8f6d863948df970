"""A prompted CLIP that looks at images as a plan says (`plan.py`).

B images      G x G patches, N of them left      L tokens      d joint width      Z regions looked at again
"""

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from clip import Edit, InputError
from clip.positions import interpolated
from clip.vit import VisionTransformer

from .classes import Classes
from .cost import Cost
from .drop import DropTokens, log_attention, standardise
from .host import part
from .model import FirstLook, SpotlitCLIP, outside_autocast
from .plan import one_look
from .zoom import cut, peaks


class EarlyMap(Edit):
    """What the class token attends to in block `at`: `map` (B, G * G), standardised, of the last batch, of all patches.

    It is computed before that block, and listed before what drops patches there; a glance `ends` the encoder then. Where none is
    dropped, `whole`, it comes with the block's own attention.
    """

    def __init__(self, visual: VisionTransformer, at: int, ends: bool = False, whole: bool = False):
        self.block, self.at, self.ends, self.whole = visual.transformer.resblocks[at], at, ends, whole
        self.patches = slice(1, visual.positional_embedding.shape[0])
        self.map: Tensor | None = None

    def needs_class_attention(self, i: int) -> bool:
        return i == self.at and self.whole

    def reads_all(self, i: int) -> bool:
        return i + 1 == self.at and not self.whole

    def ends_before(self, i: int) -> bool:
        return i >= self.at and self.ends

    def after_block(self, x: Tensor, i: int, class_attention: Tensor | None) -> Tensor:
        if i == (self.at if self.whole else self.at - 1):
            row = class_attention if self.whole else self.block.class_attention(x)
            self.map = standardise(log_attention(row[:, self.patches]))  # (B, G * G)
        return x


class InFewerPixels(Edit):
    """Images of side x side patches, with positions between those that the encoder has learned."""

    def __init__(self, visual: VisionTransformer, side: int):
        self.size = side * visual.conv1.stride[0]
        with torch.no_grad():
            self.table = interpolated(visual.positional_embedding, side)  # (1 + side², D)

    def positions(self, table: Tensor) -> Tensor:
        return self.table


class BudgetedCLIP(SpotlitCLIP):
    """Looks as `head.plan` says; while there is none, once at all patches."""

    def __init__(self, model, own, classnames: list[str], template: str, seed: int = 0, **options):
        super().__init__(model, own, classnames, template, seed, **options)
        visual = model.clip.visual
        self.drop = DropTokens(visual=visual, keep=1.0, after=self.after[:1], score=own.SCORE, grid=own.GRID)
        self.head.drop = self.drop.to(self.zero_shot.device)
        at = self.after[0] + 1
        self.map, self.whole_map, self.glance = (
            EarlyMap(visual, at),
            EarlyMap(visual, at, whole=True),
            EarlyMap(visual, at, ends=True),
        )
        prompts = [p for edit in part(model, "learner_edits")() for p in getattr(edit, "prompts", ())]
        self.cost = Cost(visual, len(classnames), own.K, [len(prompt) for prompt in prompts])

    def check_budget(self, budget: float) -> None:
        """Refuse one that pays for no look at the images of a training run; a test of such a run may have more classes, which cost more."""
        least = one_look(self.cost, budget, self.drop.after).cost
        if least > budget < 1:
            raise InputError(
                f"TRAINER.SPOTLIGHTER.BUDGET {budget:g} pays for no look at an image: set it to {math.ceil(100 * least) / 100:g} "
                "or more (zero-shot CLIP is 1), or to 0, which is no budget."
            )

    @property
    def looks_at_pictures(self) -> bool:
        """Whether a prediction needs the images themselves, and not their features alone."""
        return self.head.plan is not None and not self.head.plan.tokens

    @contextlib.contextmanager
    def through(self, *edits: Edit) -> Iterator[None]:
        """While this lasts these stand between the image encoder's blocks, behind those that are there."""
        own = self.model.image_edits
        own.extend(edits)
        try:
            yield
        finally:
            del own[len(own) - len(edits) :]

    def first_look(self, images: Tensor) -> FirstLook:
        plan = self.head.plan
        if plan is None or plan.tokens:
            f, v = self.model.image_features(images, tokens=True)
            return FirstLook(f, v, alive=None, maps=None)
        return self.look_first(images, plan.keep, mapped=plan.zoom is not None)

    def look_first(self, images: Tensor, keep: float, mapped: bool = True) -> FirstLook:
        """At a share of the patches of images (B, 3, H, W), for the class token and, if wanted, the map; at 0, a glance, for the map."""
        if keep == 0:
            with self.through(self.glance):
                self.model.image_features(images)
            return FirstLook(None, None, alive=None, maps=self.glance.map[:, None])
        self.drop.keep, early = keep, self.map if keep < 1 else self.whole_map
        with self.through(*[early] * mapped, self.drop):
            f = self.model.image_features(images)
        maps = early.map[:, None] if mapped else None
        return FirstLook(f, None, alive=self.drop.alive if keep < 1 else None, maps=maps)

    def centres(self, first: FirstLook) -> Tensor:
        return peaks(first.maps[:, 0], self.head.zoom.count)

    def regions_of(self, images: Tensor, first: FirstLook, count: int, width: float, side: int) -> Tensor:
        """Class tokens (B, count, d) of regions of images (B, 3, H, W), in side x side patches."""
        fewer = InFewerPixels(self.model.clip.visual, side)
        with outside_autocast(images):
            centres = peaks(first.maps[:, 0], count)  # (B, count, 2)
            windows = cut(images, centres, width, fewer.size)  # (B count, 3, size, size)
        with self.through(fewer):
            return self.model.image_features(windows).view(*centres.shape[:2], -1)

    def answer(self, images: Tensor, first: FirstLook, classes: Classes) -> Tensor:
        plan = self.head.plan
        if plan is None or plan.zoom is None:
            return super().answer(images, first, classes)
        again = self.regions_of(images, first, plan.zoom.count, plan.zoom.width, plan.side)
        return self.head_on(first, classes, again)
