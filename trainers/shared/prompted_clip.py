"""A frozen CLIP in its precision, with the learned prompts of a method: what evaluation and plug-ins see of it.

A method whose features are no plain prompted CLIP's has a `PromptedCLIP` of its own.

    B images      N patch tokens      C classes      L tokens of the longest prompt      D width      d joint width
"""

from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

import clip
from clip import InputError

from .config_keys import OwnKeyError
from .features import Encoded
from .prompts import Learner, hand_written_text, readable, zero_shot_text_features

PRECISIONS = ("auto", "fp32", "fp16", "bf16", "amp")


def resolve_precision(wanted: str, device: torch.device) -> str:
    """ "auto" is fp16 on a GPU and fp32 on a CPU; what a device cannot do is refused."""
    if wanted not in PRECISIONS:
        raise OwnKeyError(f"PREC is {wanted!r}: choose one of {', '.join(PRECISIONS)}.")
    if wanted == "auto":
        return "fp32" if device.type == "cpu" else "fp16"
    if wanted in ("fp16", "amp") and device.type == "cpu":
        raise OwnKeyError(f"PREC {wanted} needs a GPU and this run is on the CPU: set it to auto, fp32 or bf16.")
    return wanted


def load_clip(
    backbone: str,
    precision: str,
    device: torch.device,
    design_details: dict | None = None,
    activation: str = "",
    size: int = 0,
) -> clip.model.CLIP:
    """A frozen CLIP in evaluation mode: `backbone`, `activation` and `size` are those of `clip.load_weights`.

    `design_details` are the deep prompts that `clip.build_model` is to draw. In fp16 and bf16 the weights that multiply
    are half precision (`clip.model.convert_weights`); the others, and what a method learns, stay fp32.
    """
    state = clip.load_weights(backbone, activation=activation, size=size)
    computes = clip.facts.activation_of(state)
    print(f"Loading CLIP (backbone: {backbone}, activation: {computes}, precision: {precision}, device: {device})")
    published = clip.facts.is_openais(state) or precision == "fp16"  # OpenAI's are fp16, whatever their file is
    model = clip.build_model(state, design_details, torch.float16 if published else torch.float32)
    if precision in ("fp32", "amp"):
        model.float()
    elif precision == "bf16":
        clip.model.convert_weights(model, torch.bfloat16)
    return model.to(device).requires_grad_(False).eval()


def check_image_size(clip_model: clip.model.CLIP, cfg) -> None:
    size, resolution = tuple(cfg.INPUT.SIZE), clip_model.visual.input_resolution
    if size != (resolution, resolution):
        raise InputError(
            f"INPUT.SIZE is {size} and backbone {cfg.MODEL.BACKBONE.NAME} takes ({resolution}, {resolution}): "
            f"set INPUT.SIZE to ({resolution}, {resolution}), or, of a ViT, MODEL.BACKBONE.RESIZE_POSITIONS to True."
        )


def warn_of_pixels(cfg) -> None:
    """Say so where a backbone was trained on pixels that were normalised otherwise."""
    place, own = clip.place_of(cfg.MODEL.BACKBONE.NAME), (list(cfg.INPUT.PIXEL_MEAN), list(cfg.INPUT.PIXEL_STD))
    if place is None or place.pixels is None:
        return
    if not torch.allclose(torch.tensor(own), torch.tensor(place.pixels), atol=1e-3):
        mean, deviation = place.pixels
        print(
            f"Warning: {place.name} was trained on pixels with INPUT.PIXEL_MEAN {mean} and INPUT.PIXEL_STD {deviation}, and "
            f"here they are {own[0]} and {own[1]}."
        )


def known_of(
    prompts: Tensor, end: Tensor, lengths: tuple[int, ...] | None, shared: int, groups: int = 1
) -> tuple[tuple[int, ...] | int, int]:
    """The lengths of prompts (C, L, D) that end at `end` (C,), or that of the longest, and the places they share in each
    group; as they were said to be, unless somebody has changed the prompts. A GPU is not waited for to find out.
    """
    if prompts.device.type == "cpu":
        each = prompts[:, :shared].unflatten(0, (groups, -1))  # (G, C / G, P, D)
        if not torch.equal(each, each[:, :1].expand_as(each)):
            shared = 0
        if lengths is not None and (end + 1).tolist() != list(lengths * groups):
            lengths = None
    return prompts.shape[1] if lengths is None else lengths, shared


class PromptedCLIP(nn.Module):
    """A frozen CLIP with a learner: the part of a method that plug-ins may rely on.

    `image_features` and `text_features` give fp32 unit rows; `forward` their scaled cosines.
    """

    conditional = False  # whether text features depend on the image

    def __init__(self, clip_model: clip.model.CLIP, prompt_learner: Learner | None = None):
        super().__init__()
        self.clip = clip_model
        self.prompt_learner = prompt_learner
        self.image_edits: list[clip.Edit] = []  # a plug-in's, between the image encoder's blocks, after the learner's

    def image_features(self, images: Tensor, tokens: bool = False):
        """(B, 3, H, W) -> (B, d); with `tokens` also the patch tokens, (B, N, d)."""
        return self.encoders_features(images, tokens)

    def encoders_features(self, images: Tensor, tokens: bool = False):
        """The same, before a method that works behind the image encoder."""
        encoded = images if isinstance(images, Encoded) else self.encode(images, tokens)
        f = F.normalize(encoded.f.float(), dim=-1)  # (B, d)
        return (f, F.normalize(encoded.v.float(), dim=-1)) if tokens else f

    def raw_image_features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, d), fp32: as long as the image encoder gives them."""
        return (images if isinstance(images, Encoded) else self.encode(images)).f.float()

    def encode(self, images: Tensor, tokens: bool = False) -> Encoded:
        """What the image encoder gives for images (B, 3, H, W), before `image_features` makes it unit rows."""
        edits = [*self.learner_edits(), *self.image_edits]
        if not tokens:
            return Encoded(self.clip.encode_image(images, edits))
        return Encoded(*self.clip.encode_image(images, edits, tokens=True))

    @property
    def has_plain_images(self) -> bool:
        """Whether nothing that is learned, and no plug-in, changes what the image encoder gives."""
        frozen = self.prompt_learner is None or self.prompt_learner.frozen_images
        plain = all(getattr(type(self), name) is getattr(PromptedCLIP, name) for name in ("image_features", "encode"))
        learns = any(parameter.requires_grad for parameter in self.clip.visual.parameters())
        return frozen and plain and not learns and not self.learner_edits() and not self.image_edits

    def learner_edits(self) -> list[clip.Edit]:
        """The learner's deep prompts in the image encoder."""
        return [] if self.prompt_learner is None else self.prompt_learner.image_edits()

    def text_features(self, f: Tensor | None = None) -> Tensor:
        """(C, d): from the learned prompts. A conditional model needs image features f (B, d), and gives (B, C, d)."""
        return F.normalize(self.raw_text_features(), dim=-1)

    def raw_text_features(self) -> Tensor:
        """(C, d), fp32: from the learned prompts, as long as the text encoder gives them."""
        prompts, end = self.prompt_learner()  # (C, L, D), (C,)
        learner = self.prompt_learner
        lengths, shared = known_of(prompts, end, getattr(learner, "lengths", None), getattr(learner, "shared", 0))
        return self.clip.encode_prompts(prompts, end, learner.text_edits(), lengths, shared).float()

    def zero_shot_text(self, classnames: list[str], template: str) -> Tensor:
        """(C, d): hand-written prompts in the joint space of `image_features`."""
        return zero_shot_text_features(self.clip, classnames, template)

    def logit_scale(self) -> Tensor:
        return self.clip.logit_scale.exp().float()

    def logits(self, f: Tensor, text: Tensor) -> Tensor:
        """Scaled cosines (B, C) of image features (B, d) and text features (C, d), or (B, C, d) if conditional."""
        return self.logit_scale() * f @ text.t()

    def forward(self, images: Tensor, text: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) -> logits (B, C); `text` saves computing the text features again."""
        f = self.image_features(images)  # (B, d)
        return self.logits(f, self.text_features(f) if text is None else text)


class HandWrittenCLIP(PromptedCLIP):
    """Its texts are hand-written prompts, which never change: a learner works on images, or behind both encoders."""

    def __init__(
        self,
        clip_model: clip.model.CLIP,
        classnames: Sequence[str],
        templates: Sequence[str],
        prompt_learner: Learner | None = None,
    ):
        super().__init__(clip_model, prompt_learner)
        for template in templates:
            print(f"Prompts: {template.format(readable(classnames[0]))} ... ({len(classnames)} classes)")
        self.register_buffer("text", hand_written_text(clip_model, classnames, templates), persistent=False)

    def text_features(self, f=None) -> Tensor:
        return self.text  # (C, d)
