"""Stanford Cars (Krause et al., 2013): models of cars, the year said first."""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Benchmark
from .sources import Archive, File, Mirror, Way
from .splits import Item


@DATASET_REGISTRY.register()
class StanfordCars(Benchmark):
    display_name = "Stanford Cars"
    classes = 196
    rows = (6509, 1635, 8041)
    dataset_dir = "stanford_cars"
    image_dir = ""  # its lists start at cars_train/ and cars_test/
    split_file = "split_zhou_StanfordCars.json"
    sources = (  # the site has been dead since 2023; asking it costs a second, then the mirror is asked
        File(
            split_file,
            (Way("drive:1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT"),),
            entries=rows,
            sha256="40acee7aa65c8e4727a32d90e884b7c3f8960b523422317e163f7af65432959d",
        ),
        File(
            "cars_test_annos_withlabels.mat",
            (
                Way(
                    "https://ai.stanford.edu/~jkrause/car196/cars_test_annos_withlabels.mat",
                    185_758,
                    "sha256:790f75be8ea34eeded134cc559332baf23e30e91367e9ddca97d26ed9b895f05",
                ),
            ),
            spare=True,
        ),
        Archive(
            "car_devkit.tgz",
            tuple(
                Way(url, 330_960, "sha256:b97deb463af7d58b6bfaa18b2a4de9829f0f79e8ce663dfa9261bf7810e9accd")
                for url in (
                    "https://ai.stanford.edu/~jkrause/cars/car_devkit.tgz",
                    "https://github.com/pytorch/vision/files/11644847/car_devkit.tgz",
                )
            ),
            spare=True,
            members={"devkit": "devkit"},
        ),
        Archive(
            "cars_train.tgz",
            (
                Way(
                    "https://ai.stanford.edu/~jkrause/car196/cars_train.tgz",
                    979_269_282,
                    "sha256:512b227b30e2f0a8aab9e09485786ab4479582073a144998da74d64b801fd288",
                ),
            ),
            members={"cars_train": "cars_train"},
            images={"cars_train": rows[0] + rows[1]},
        ),
        Archive(
            "cars_test.tgz",
            (
                Way(
                    "https://ai.stanford.edu/~jkrause/car196/cars_test.tgz",
                    977_350_468,
                    "sha256:bffea656d6f425cba3c91c6d83336e4c5f86c6cffd8975b0f375d3a10da8e243",
                ),
            ),
            members={"cars_test": "cars_test"},
            images={"cars_test": rows[2]},
        ),
    )
    mirror = Mirror("stanford_cars.zip")
    by_hand = (
        "Stanford Cars has no official server any more. Where the mirror does not help: put cars_train.tgz and cars_test.tgz (from somebody who "
        "has them; they are checked) into {folder} and run this again; or fetch "
        "https://www.kaggle.com/datasets/jessicali9530/stanford-cars-dataset with a Kaggle account and unpack it so that "
        "{folder}/cars_train/00001.jpg (8144 images) and {folder}/cars_test/00001.jpg (8041) exist, without a second "
        "folder of the same name between (python -m datasets.verify stanford_cars says whether the names fit the split)."
    )

    def read_original(self):
        names = dict(enumerate(self.read_rows("devkit/cars_meta.mat", year_first, key="class_names"), start=1))

        def car(row, folder: str) -> Item:
            label = int(row["class"][0, 0])  # from 1
            return Item(f"{folder}/{row['fname'][0]}", label - 1, names[label])

        return self.held_out(
            trainval=self.read_list(
                "devkit/cars_train_annos.mat", lambda row: car(row, "cars_train"), key="annotations"
            ),
            test=self.read_list("cars_test_annos_withlabels.mat", lambda row: car(row, "cars_test"), key="annotations"),
        )


def year_first(cell) -> str:
    """BMW M3 Coupe 2012 -> 2012 BMW M3 Coupe"""
    model, _, year = str(cell[0]).rpartition(" ")
    return f"{year} {model}"
