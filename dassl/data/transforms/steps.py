"""The steps of a transform, torchvision's and a few of Dassl's, in Dassl's order."""

import random

import torch
from torchvision.transforms import (
    AutoAugment,
    AutoAugmentPolicy,
    CenterCrop,
    ColorJitter,
    Compose,
    GaussianBlur,
    InterpolationMode,
    Normalize,
    RandAugment,
    RandomApply,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    ToTensor,
)
from torchvision.transforms import RandomCrop as TorchvisionRandomCrop
from torchvision.transforms import functional as TF

from dassl.utils import InputError

INTERPOLATION_MODES = {
    "nearest": InterpolationMode.NEAREST,
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
}


class Random2DTranslation:
    """One time in two: enlarge by an eighth and cut a random part of the original size (height, width)."""

    def __init__(self, height: int, width: int, p: float = 0.5, interpolation=InterpolationMode.BILINEAR):
        self.height, self.width, self.p, self.interpolation = height, width, p, interpolation

    def __call__(self, image):
        if random.random() > self.p:
            return TF.resize(image, [self.height, self.width], self.interpolation)
        height, width = round(self.height * 1.125), round(self.width * 1.125)
        top, left = random.randint(0, height - self.height), random.randint(0, width - self.width)
        return TF.crop(TF.resize(image, [height, width], self.interpolation), top, left, self.height, self.width)


class RandomCrop(TorchvisionRandomCrop):
    """torchvision's random crop, which says what to do about a picture that is too small for it."""

    def forward(self, img):
        width, height = img.size
        padding = 2 * self.padding
        if height + padding < self.size[0] or width + padding < self.size[1]:
            raise InputError(
                f"A picture of {width} x {height} pixels is too small for random_crop, which cuts {self.size[1]} x "
                f"{self.size[0]} from it with INPUT.CROP_PADDING {self.padding} around it: choose random_resized_crop."
            )
        return super().forward(img)


class InstanceNormalization:
    """Zero mean and unit deviation over each channel of each image (C, H, W)."""

    def __init__(self, eps: float = 1e-8):
        self.eps = eps

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        mean, deviation = image.mean(dim=(1, 2), keepdim=True), image.std(dim=(1, 2), keepdim=True)
        return (image - mean) / (deviation + self.eps)


class Cutout:
    """Zero `n_holes` squares of `length` pixels (DeVries & Taylor, 2017)."""

    def __init__(self, n_holes: int = 1, length: int = 16):
        self.n_holes, self.length = n_holes, length

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        image = image.clone()
        for _ in range(self.n_holes):
            y, x = (int(torch.randint(side, ())) for side in image.shape[1:])
            image[
                :,
                max(y - self.length // 2, 0) : y + self.length // 2,
                max(x - self.length // 2, 0) : x + self.length // 2,
            ] = 0
        return image


class GaussianNoise:
    """Add noise, one time in two."""

    def __init__(self, mean: float = 0.0, std: float = 0.15, p: float = 0.5):
        self.mean, self.std, self.p = mean, std, p

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return image if random.random() > self.p else image + torch.randn_like(image) * self.std + self.mean


def test_transform(cfg, choices) -> Compose:
    """The short side to the larger side of SIZE, then the centre."""
    steps = [Resize(max(cfg.INPUT.SIZE), _interpolation(cfg)), CenterCrop(cfg.INPUT.SIZE), ToTensor()]
    return Compose(steps + [make(cfg) for name, make in FINAL if name in choices])


def train_transform(cfg, choices) -> Compose:
    """Those of ON_PICTURES and ON_TENSORS that are chosen, in that order, around the step to a tensor."""
    steps = []
    if not {"random_crop", "random_resized_crop"} & set(choices):
        steps.append(Resize(cfg.INPUT.SIZE, _interpolation(cfg)))
    steps += [make(cfg) for name, make in ON_PICTURES if name in choices]
    steps.append(ToTensor())
    return Compose(steps + [make(cfg) for name, make in ON_TENSORS if name in choices])


def plain_transform(cfg) -> Compose:
    """To SIZE, and no augmentation."""
    steps = [Resize(cfg.INPUT.SIZE, _interpolation(cfg)), ToTensor()]
    return Compose([*steps, _normalize(cfg)] if "normalize" in cfg.INPUT.TRANSFORMS else steps)


def _interpolation(cfg):
    return INTERPOLATION_MODES[cfg.INPUT.INTERPOLATION]


def _normalize(cfg):
    return Normalize(mean=cfg.INPUT.PIXEL_MEAN, std=cfg.INPUT.PIXEL_STD)


def _randaugment(cfg):
    return RandAugment(cfg.INPUT.RANDAUGMENT_N, cfg.INPUT.RANDAUGMENT_M)


ON_PICTURES = [
    ("random_translation", lambda cfg: Random2DTranslation(*cfg.INPUT.SIZE)),
    ("random_crop", lambda cfg: RandomCrop(cfg.INPUT.SIZE, padding=cfg.INPUT.CROP_PADDING)),
    ("random_resized_crop", lambda cfg: RandomResizedCrop(cfg.INPUT.SIZE, scale=cfg.INPUT.RRCROP_SCALE, interpolation=_interpolation(cfg))),
    ("random_flip", lambda cfg: RandomHorizontalFlip()),
    ("imagenet_policy", lambda cfg: AutoAugment(AutoAugmentPolicy.IMAGENET)),
    ("cifar10_policy", lambda cfg: AutoAugment(AutoAugmentPolicy.CIFAR10)),
    ("svhn_policy", lambda cfg: AutoAugment(AutoAugmentPolicy.SVHN)),
    ("randaugment", _randaugment),
    ("randaugment_fixmatch", lambda cfg: RandAugment(cfg.INPUT.RANDAUGMENT_N)),
    ("randaugment2", _randaugment),
    ("colorjitter", lambda cfg: ColorJitter(cfg.INPUT.COLORJITTER_B, cfg.INPUT.COLORJITTER_C, cfg.INPUT.COLORJITTER_S, cfg.INPUT.COLORJITTER_H)),
    ("randomgrayscale", lambda cfg: RandomGrayscale(p=cfg.INPUT.RGS_P)),
    ("gaussian_blur", lambda cfg: RandomApply([GaussianBlur(cfg.INPUT.GB_K)], p=cfg.INPUT.GB_P)),
]  # fmt: skip
ON_TENSORS = [
    ("cutout", lambda cfg: Cutout(cfg.INPUT.CUTOUT_N, cfg.INPUT.CUTOUT_LEN)),
    ("normalize", _normalize),
    ("gaussian_noise", lambda cfg: GaussianNoise(cfg.INPUT.GN_MEAN, cfg.INPUT.GN_STD)),
    ("instance_norm", lambda cfg: InstanceNormalization()),
]
FINAL = [("normalize", _normalize), ("instance_norm", lambda cfg: InstanceNormalization())]
