"""What Spotlighter asks of its host: a trainer whose `self.model` keeps to this protocol."""

from abc import abstractmethod
from functools import partial
from typing import Protocol

from torch import Tensor

from clip import Edit, InputError
from clip.model import CLIP

from ..shared.prompts import zero_shot_text_features


class HostModel(Protocol):
    """A prompted CLIP, such as `PromptedCLIP`: B images, C classes, N patch tokens, d joint width.

    What is abstract, or has no value, every host's model needs. The rest is optional: what stands here is used where
    a model has none of its own (see `part`).
    """

    clip: CLIP
    image_edits: list[Edit]  # which the model puts between the blocks of its image encoder, behind its own

    @abstractmethod
    def image_features(self, images: Tensor, tokens: bool = False):
        """Images (B, 3, H, W) -> (B, d); with `tokens` also the patch tokens (B, N, d); unit rows."""

    @abstractmethod
    def text_features(self, f: Tensor | None = None) -> Tensor:
        """(C, d), unit rows; of a conditional model (B, C, d), from image features f (B, d).

        Rows of another length, as TextRefiner's, weigh their classes: the model's logits are `logit_scale` times image
        features times these as they are, and Spotlighter's follow that.
        """

    @abstractmethod
    def logit_scale(self) -> Tensor:
        """The factor on cosines, a number."""

    # --- optional -----------------------------------------------------------------------------------------

    conditional: bool = False
    """Whether the prompts depend on the image: the bank and the fit then take those of the mean training image, a
    prediction those of its own image."""

    def learner_edits(self) -> list[Edit]:
        """The host's own deep prompts in the image encoder."""
        return []

    def zero_shot_text(self, classnames: list[str], template: str) -> Tensor:
        """(C, d), unit rows: hand-written prompts, in the joint space of `image_features`."""
        return zero_shot_text_features(self.clip, classnames, template)


def part(model: HostModel, name: str):
    """An optional part: the model's own, or else the protocol's."""
    if hasattr(model, name):
        return getattr(model, name)
    default = vars(HostModel)[name]
    return partial(default, model) if callable(default) else default


def required_parts() -> list[str]:
    methods = [name for name, member in vars(HostModel).items() if getattr(member, "__isabstractmethod__", False)]
    return methods + [name for name in HostModel.__annotations__ if not hasattr(HostModel, name)]


def check_host(model, name: str) -> None:
    """Refuse a host, registered as `name`, whose model lacks what every host's needs, or says that it is none."""
    if why := getattr(model, "why_no_host", ""):
        raise InputError(f"TRAINER.SPOTLIGHTER.HOST {name} cannot carry Spotlighter: {why}.")
    if model is None:
        raise InputError(f"TRAINER.SPOTLIGHTER.HOST {name} cannot carry Spotlighter: its trainer has no self.model.")
    missing = [wanted for wanted in required_parts() if not hasattr(model, wanted)]
    if missing:
        raise InputError(
            f"TRAINER.SPOTLIGHTER.HOST {name} cannot carry Spotlighter: its model, {type(model).__module__}'s, has no "
            f"{', '.join(missing)}."
        )
