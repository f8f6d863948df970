"""ImageNet-R (Hendrycks et al., 2021): paintings, toys and other renditions; scored over its own classes."""

from dassl.data.datasets import DATASET_REGISTRY

from .imagenet import CLASSNAMES, ShiftedImageNet
from .sources import Archive, Mirror, Way


@DATASET_REGISTRY.register()
class ImageNetR(ShiftedImageNet):
    display_name = "ImageNet-R"
    classes = 200
    rows = (0, 0, 30_000)
    dataset_dir = "imagenet-rendition"
    image_dir = "imagenet-r"
    sources = (
        CLASSNAMES,
        Archive(
            "imagenet-r.tar",
            (
                Way(
                    "https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar",
                    2_191_079_936,
                    "sha256:18c6bf493b39a0d975d48e587437f562caab9c52ae6327dcfa9dd8eb54aa1b52",
                ),
            ),
            members={image_dir: "imagenet-r"},
            images={image_dir: sum(rows)},
        ),
    )
    mirror = Mirror("imagenet-rendition.zip")
