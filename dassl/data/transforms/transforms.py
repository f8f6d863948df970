"""`build_transform`: torchvision's transforms in Dassl's order, chosen by name in INPUT.TRANSFORMS.

torchvision takes nearly as long to import as PyTorch: the steps wait in their own module until a transform is built.
"""

import math
from typing import TYPE_CHECKING

from dassl.utils import InputError, check_availability, late_imports

if TYPE_CHECKING:
    from .steps import INTERPOLATION_MODES as INTERPOLATION_MODES
    from .steps import Cutout as Cutout
    from .steps import GaussianNoise as GaussianNoise
    from .steps import InstanceNormalization as InstanceNormalization
    from .steps import Random2DTranslation as Random2DTranslation

__getattr__, __dir__, __all__ = late_imports(__name__)
__all__ += ["AVAI_CHOICES", "build_transform"]

AVAI_CHOICES = [
    "random_flip", "random_resized_crop", "normalize", "instance_norm", "random_crop", "random_translation", "center_crop",
    "cutout", "imagenet_policy", "cifar10_policy", "svhn_policy", "randaugment", "randaugment_fixmatch", "randaugment2",
    "gaussian_noise", "colorjitter", "randomgrayscale", "gaussian_blur",
]  # fmt: skip


def build_transform(cfg, is_train: bool = True, choices=None):
    """The transform of training images, or of test images."""
    if cfg.INPUT.NO_TRANSFORM:
        print("Note: no transform is applied!")
        return None
    check_input(cfg)
    choices = cfg.INPUT.TRANSFORMS if choices is None else choices
    for choice in choices:
        check_availability(choice, AVAI_CHOICES, "transform")
    from . import steps

    if cfg.INPUT.INTERPOLATION not in steps.INTERPOLATION_MODES:
        raise InputError(
            f"INPUT.INTERPOLATION is {cfg.INPUT.INTERPOLATION!r}: choose one of {', '.join(steps.INTERPOLATION_MODES)}."
        )
    try:
        return steps.train_transform(cfg, choices) if is_train else steps.test_transform(cfg, choices)
    except (ValueError, TypeError) as error:  # a step's own complaint, of RRCROP_SCALE, COLORJITTER_B, GB_K, ...
        raise InputError(
            f"The transform {', '.join(choices)} cannot be made ({error}): correct its values under INPUT."
        ) from error


def check_input(cfg) -> None:
    """Refuse sizes, means and deviations that no picture (3, H, W) can be given."""
    size, mean, deviation = cfg.INPUT.SIZE, cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise InputError(f"INPUT.SIZE is {size}: it takes height and width in pixels, such as (224, 224).")
    for key, values in (("PIXEL_MEAN", mean), ("PIXEL_STD", deviation)):
        if len(values) != 3 or not all(isinstance(value, (int, float)) and math.isfinite(value) for value in values):
            raise InputError(f"INPUT.{key} is {values}: it takes three numbers, for red, green and blue.")
    scale = cfg.INPUT.RRCROP_SCALE
    if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
        raise InputError(f"INPUT.RRCROP_SCALE is {scale}: it takes two shares of the area, such as (0.08, 1.0).")
    if min(deviation) <= 0:
        raise InputError(f"INPUT.PIXEL_STD is {deviation}: pixels are divided by it, so it takes numbers above 0.")


def plain_transform(cfg):
    """The transform of training images without augmentation: to INPUT.SIZE, whatever their shape."""
    check_input(cfg)
    from . import steps

    return steps.plain_transform(cfg)
