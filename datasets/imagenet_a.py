"""ImageNet-A (Hendrycks et al., 2021): photographs that mislead a ResNet-50, of 200 classes; scored over those 200."""

from dassl.data.datasets import DATASET_REGISTRY

from .imagenet import ShiftedImageNet


@DATASET_REGISTRY.register()
class ImageNetA(ShiftedImageNet):
    dataset_dir = "imagenet-adversarial"
    image_dir = "imagenet-a"
    images = 7500
