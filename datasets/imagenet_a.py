"""ImageNet-A (Hendrycks et al., 2021): photographs that mislead a ResNet-50; scored over its own classes."""

from dassl.data.datasets import DATASET_REGISTRY

from .imagenet import CLASSNAMES, ShiftedImageNet
from .sources import Archive, Mirror, Way


@DATASET_REGISTRY.register()
class ImageNetA(ShiftedImageNet):
    display_name = "ImageNet-A"
    classes = 200
    rows = (0, 0, 7500)
    dataset_dir = "imagenet-adversarial"
    image_dir = "imagenet-a"
    sources = (
        CLASSNAMES,
        Archive(
            "imagenet-a.tar",
            (
                Way(
                    "https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar",
                    687_552_512,
                    "sha256:3bb3632277e6ba6392ea64c02ddbf4dd2266c9caffd6bc09c9656d28f012589e",
                ),
            ),
            members={image_dir: "imagenet-a"},
            images={image_dir: sum(rows)},
        ),
    )
    mirror = Mirror("imagenet-adversarial.zip")
