"""ImageNetV2 (Recht et al., 2019), matched frequency: ten new images of each class."""

from dassl.data.datasets import DATASET_REGISTRY

from .imagenet import CLASSNAMES, ShiftedImageNet
from .sources import Archive, Mirror, Way
from .splits import read_folders


@DATASET_REGISTRY.register()
class ImageNetV2(ShiftedImageNet):
    display_name = "ImageNetV2"
    classes = 1000
    rows = (0, 0, 10_000)
    dataset_dir = "imagenetv2"
    image_dir = "imagenetv2-matched-frequency-format-val"
    sources = (
        CLASSNAMES,
        Archive(
            "imagenetv2-matched-frequency.tar.gz",
            (
                Way(  # its authors' place; the bucket on S3 that CoOp names refuses since 2023
                    "https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/imagenetv2-matched-frequency.tar.gz",
                    1_264_079_360,
                    "sha256:f0c37fdf925916b19ea1323cd9a2208cdb6959ba2c32eef2a7fc393835c9ca7c",
                ),
            ),
            members={image_dir: "imagenetv2-matched-frequency-format-val"},
            images={image_dir: sum(rows)},
        ),
    )
    mirror = Mirror("imagenetv2.zip")

    def read_test(self):
        """Folders are named by labels, so that 10 sorts before 2."""
        names = {str(label): name for label, name in enumerate(self.names().values())}
        items = [item._replace(label=int(item.path.split("/")[0])) for item in read_folders(self.image_dir, names)]
        return sorted(items, key=lambda item: item.label)
