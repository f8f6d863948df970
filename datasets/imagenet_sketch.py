"""ImageNet-Sketch (Wang et al., 2019): drawings of ImageNet's classes."""

from dassl.data.datasets import DATASET_REGISTRY

from .imagenet import CLASSNAMES, ShiftedImageNet
from .sources import Archive, Mirror, Way


@DATASET_REGISTRY.register()
class ImageNetSketch(ShiftedImageNet):
    display_name = "ImageNet-Sketch"
    classes = 1000
    rows = (0, 0, 50_889)
    dataset_dir = "imagenet-sketch"
    image_dir = "images"
    sources = (
        CLASSNAMES,
        Archive(
            "ImageNet-Sketch.zip",
            (
                Way("https://huggingface.co/datasets/songweig/imagenet_sketch/resolve/main/data/ImageNet-Sketch.zip"),
                Way("drive:1Mj0i5HBthqH1p_yeXzsg22gZduvgoNeA"),
            ),
            members={image_dir: "sketch"},
            images={image_dir: sum(rows)},
            gigabytes=7.8,
        ),
    )
    mirror = Mirror(
        "imagenet-sketch.zip", digest="sha256:8f93bc6064cf9d984a64b46925b7f53ab573224ca1c38a404d767b3565e3863f"
    )
