"""Caltech101 (Fei-Fei et al., 2004), without the background and the easy faces."""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Benchmark
from .sources import Archive, File, Mirror, Way
from .splits import divide, read_folders

IGNORED = ("BACKGROUND_Google", "Faces_easy")
RENAMED = {"airplanes": "airplane", "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike"}


@DATASET_REGISTRY.register()
class Caltech101(Benchmark):
    display_name = "Caltech101"
    classes = 100
    rows = (4128, 1649, 2465)
    dataset_dir = "caltech-101"
    image_dir = "101_ObjectCategories"
    split_file = "split_zhou_Caltech101.json"
    sources = (
        File(
            split_file,
            (Way("drive:1hyarUivQE36mY6jSomru6Fjd-JzwcCzN"),),
            entries=rows,
            sha256="52ce83205ff8ff8a1a18119aad6376120ae35c36e783a984bc560cbf10e73fa5",
        ),
        Archive(
            "101_ObjectCategories.tar.gz",
            (
                Way(
                    "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
                    137_414_764,
                    "md5:3138e1922a9193bfa496528edbbc45d0",
                    inside="caltech-101/101_ObjectCategories.tar.gz",
                ),
                Way(
                    "drive:137RyRjvTBkBiIfeYBNZBtViDHQ6_Ewsp",
                    131_740_031,
                    "sha256:af6ece2f339791ca20f855943d8b55dd60892c0a25105fcd631ee3d6430f9926",
                ),
            ),
            members={image_dir: "101_ObjectCategories"},
            images={image_dir: sum(rows)},
        ),
    )
    mirror = Mirror("caltech-101.zip", digest="sha256:ef7dced0802c60cf962273331dafb6b247059f22569edc87c3190d39f29c6f1c")

    def read_original(self):
        folders = read_folders(self.image_dir, lambda name: RENAMED.get(name, name), IGNORED)
        return divide(self.check_whole(folders))
