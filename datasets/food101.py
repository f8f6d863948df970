"""Food-101 (Bossard et al., 2014): dishes. Its official lists, in `meta/`, are not the field's."""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Benchmark
from .sources import Archive, File, Mirror, Way
from .splits import divide, read_folders


@DATASET_REGISTRY.register()
class Food101(Benchmark):
    display_name = "Food-101"
    classes = 101
    rows = (50_500, 20_200, 30_300)
    dataset_dir = "food-101"
    image_dir = "images"
    split_file = "split_zhou_Food101.json"
    template = "a photo of {}, a type of food."
    sources = (
        File(
            split_file,
            (Way("drive:1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl"),),
            entries=rows,
            sha256="7c3d456c4f348255e1a363e0ea5118318936488f3ec20d83758e0ee67cb9037c",
        ),
        Archive(
            "food-101.tar.gz",
            tuple(
                Way(url, 4_996_278_331, "md5:85eeb15f3717b99a5da872d97d918f87")
                for url in (
                    "https://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",
                    "https://huggingface.co/datasets/ethz/food101/resolve/main/food-101.tar.gz",
                )
            ),
            members={image_dir: "food-101/images"},
            images={image_dir: sum(rows)},
        ),
    )
    mirror = Mirror("food101.zip")

    def read_original(self):
        return divide(self.check_whole(read_folders(self.image_dir)))
