"""Describable Textures (Cimpoi et al., 2014), named by adjectives. Its ten official divisions are not the field's."""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Benchmark
from .sources import Archive, File, Mirror, Way
from .splits import divide, read_folders


@DATASET_REGISTRY.register()
class DescribableTextures(Benchmark):
    display_name = "Describable Textures"
    classes = 47
    rows = (2820, 1128, 1692)
    dataset_dir = "dtd"
    image_dir = "images"
    split_file = "split_zhou_DescribableTextures.json"
    template = "{} texture."
    sources = (
        File(
            split_file,
            (Way("drive:1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x"),),
            entries=rows,
            sha256="f26ebeccd2b58e68d70f07a0dc39fe49bf7b69024bac34396b954dfd87969c38",
        ),
        Archive(
            "dtd-r1.0.1.tar.gz",
            (
                Way(
                    "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
                    625_239_812,
                    "md5:fff73e5086ae6bdbea199a49dfb8a4c1",
                ),
            ),
            members={image_dir: "dtd/images"},
            images={image_dir: sum(rows)},
        ),
    )
    mirror = Mirror("dtd.zip", digest="sha256:5ba4d3000e60f5541ba15a082033ca0696eee68125e9c28edff3dbe22f04313b")

    def read_original(self):
        return divide(self.check_whole(read_folders(self.image_dir)))
