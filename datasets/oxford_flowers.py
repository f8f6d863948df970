"""Oxford Flowers (Nilsback and Zisserman, 2008): species. Its official lists, small to train, are not the field's."""

from itertools import count

from dassl.data.datasets import DATASET_REGISTRY

from .base import Benchmark
from .sources import Archive, File, Mirror, Way
from .splits import Item, divide, read_names


@DATASET_REGISTRY.register()
class OxfordFlowers(Benchmark):
    display_name = "Oxford Flowers"
    classes = 102
    rows = (4093, 1633, 2463)
    dataset_dir = "oxford_flowers"
    image_dir = "jpg"
    split_file = "split_zhou_OxfordFlowers.json"
    template = "a photo of a {}, a type of flower."
    sources = (
        File(
            split_file,
            (Way("drive:1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT"),),
            entries=rows,
            sha256="2f50c42fc1a17ca13c271cb4269b1347bdb43d2be672e34f74a4e4cbfbcca794",
        ),
        File("cat_to_name.json", (Way("drive:1AkcxCXeK_RCGCEC_GvmWxjcjaNhu-at0"),), spare=True, entries=classes),
        File(
            "imagelabels.mat",
            (
                Way(
                    "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/imagelabels.mat",
                    502,
                    "md5:e0620be6f572b9609742df49c70aed4d",
                ),
            ),
            spare=True,
        ),
        Archive(
            "102flowers.tgz",
            (
                Way(
                    "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/102flowers.tgz",
                    344_862_509,
                    "md5:52808999861908f626f3c1f4e79d11fa",
                ),
            ),
            members={image_dir: "jpg"},
            images={image_dir: sum(rows)},
        ),
    )
    mirror = Mirror("oxford_flowers.zip")

    def read_original(self):
        names = read_names(self.annotation_file("cat_to_name.json"))
        numbers = count(1)

        def flower(label) -> Item:
            """The labels (from 1) are those of image_00001.jpg, image_00002.jpg and so on."""
            return Item(f"image_{next(numbers):05d}.jpg", int(label) - 1, names[str(int(label))])

        return divide(self.check_whole(self.read_list("imagelabels.mat", flower, key="labels")))
