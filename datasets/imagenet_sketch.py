"""ImageNet-Sketch (Wang et al., 2019): drawings of ImageNet's 1000 classes."""

from dassl.data.datasets import DATASET_REGISTRY

from .imagenet import ShiftedImageNet


@DATASET_REGISTRY.register()
class ImageNetSketch(ShiftedImageNet):
    dataset_dir = "imagenet-sketch"
    image_dir = "images"
    images = 50_889
