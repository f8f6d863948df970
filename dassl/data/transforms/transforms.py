"""`build_transform`: torchvision's transforms in Dassl's order, chosen by name in INPUT.TRANSFORMS.

torchvision takes nearly as long to import as PyTorch: the steps wait in their own module until a transform is built.
"""

from typing import TYPE_CHECKING

from dassl.utils import InputError, check_availability, late_imports

if TYPE_CHECKING:
    from .steps import INTERPOLATION_MODES as INTERPOLATION_MODES
    from .steps import Cutout as Cutout
    from .steps import GaussianNoise as GaussianNoise
    from .steps import InstanceNormalization as InstanceNormalization
    from .steps import Random2DTranslation as Random2DTranslation

__getattr__, __dir__, _ = late_imports(__name__)

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
    choices = cfg.INPUT.TRANSFORMS if choices is None else choices
    for choice in choices:
        check_availability(choice, AVAI_CHOICES, "transform")
    from . import steps

    if cfg.INPUT.INTERPOLATION not in steps.INTERPOLATION_MODES:
        raise InputError(
            f"INPUT.INTERPOLATION is {cfg.INPUT.INTERPOLATION!r}: choose one of {', '.join(steps.INTERPOLATION_MODES)}."
        )
    return steps.train_transform(cfg, choices) if is_train else steps.test_transform(cfg, choices)


def plain_transform(cfg):
    """The transform of training images without augmentation: to INPUT.SIZE, whatever their shape."""
    from . import steps

    return steps.plain_transform(cfg)
