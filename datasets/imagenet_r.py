"""ImageNet-R (Hendrycks et al., 2021): paintings, toys and other renditions of 200 classes; scored over those 200."""

from dassl.data.datasets import DATASET_REGISTRY

from .imagenet import ShiftedImageNet


@DATASET_REGISTRY.register()
class ImageNetR(ShiftedImageNet):
    dataset_dir = "imagenet-rendition"
    image_dir = "imagenet-r"
    images = 30_000
