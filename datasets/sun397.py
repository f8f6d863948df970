"""SUN397 (Xiao et al., 2010): scenes, by the first of its ten official divisions."""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Benchmark
from .sources import Archive, File, Mirror, Way
from .splits import Item


@DATASET_REGISTRY.register()
class SUN397(Benchmark):
    display_name = "SUN397"
    classes = 397
    rows = (15_880, 3970, 19_850)
    dataset_dir = "sun397"
    image_dir = "SUN397"
    split_file = "split_zhou_SUN397.json"
    sources = (  # Princeton's server has answered 404 since 2025; then the mirror is asked
        File(
            split_file,
            (Way("drive:1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq"),),
            entries=rows,
            sha256="9847f9ef611008073ac42adee6614bbb83f877cfbcfbd3115fc8284e0c8c1c47",
        ),
        Archive(
            "Partitions.zip",
            (
                Way(
                    "https://vision.princeton.edu/projects/2010/SUN/download/Partitions.zip",
                    18_293_705,
                    "sha256:e3311ea5f812d4cc6faef194688343d1111f6cd6f70f2c62f393c2b8d6ba1ec9",
                ),
            ),
            spare=True,
            members={name: name for name in ("ClassName.txt", "Training_01.txt", "Testing_01.txt")},
        ),
        Archive(
            "SUN397.tar.gz",
            (
                Way(
                    "https://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz",
                    39_077_296_924,
                    "md5:8ca2778205c41d23104230ba66911c7a",
                ),
            ),
            members={image_dir: "SUN397"},
            images={image_dir: sum(rows)},
        ),
    )
    mirror = Mirror("sun397.zip")
    by_hand = (
        "Where neither Princeton's server nor the mirror answers: fetch SUN397.tar.gz (39 GB) elsewhere, for example "
        "https://opendatalab.com/OpenDataLab/SUN397/tree/main/raw with an account there, put it into {folder} and run "
        "this again (it is checked); or unpack another copy so that {folder}/SUN397/a/abbey/sun_aaalbzqrimafwbiv.jpg "
        "exists."
    )

    def read_original(self):
        labels = {folder: label for label, folder in enumerate(self.read_rows("ClassName.txt", str))}

        def scene(line: str) -> Item:
            """`/a/apartment_building/outdoor/sun_ab.jpg` is an "outdoor apartment_building"."""
            folder = line.rpartition("/")[0]
            _, _letter, *words = folder.split("/")
            return Item(line.removeprefix("/"), labels[folder], " ".join(reversed(words)))

        return self.held_out(
            trainval=self.read_list("Training_01.txt", scene), test=self.read_list("Testing_01.txt", scene)
        )
