"""Stanford Cars (Krause et al., 2013): 196 models, the year said first."""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Benchmark
from .splits import Item


@DATASET_REGISTRY.register()
class StanfordCars(Benchmark):
    dataset_dir = "stanford_cars"
    image_dir = ""  # its lists start at cars_train/ and cars_test/
    split_file = "split_zhou_StanfordCars.json"
    images = 16_185

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
