"""UCF101 (Soomro et al., 2012): actions, each video by its middle frame, by the first official division."""

import re

from dassl.data.datasets import DATASET_REGISTRY

from .base import Benchmark
from .sources import Archive, File, Mirror, Way
from .splits import Item


@DATASET_REGISTRY.register()
class UCF101(Benchmark):
    display_name = "UCF101"
    classes = 101
    rows = (7639, 1898, 3783)
    dataset_dir = "ucf101"
    image_dir = "UCF-101-midframes"
    split_file = "split_zhou_UCF101.json"
    template = "a photo of a person doing {}."
    sources = (
        File(
            split_file,
            (Way("drive:1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y"),),
            entries=rows,
            sha256="d78cb834f7c5792ceaff2c5ee2d7c76a9e4086e48a3a6b01232989d29cbefdd8",
        ),
        Archive(
            "UCF101TrainTestSplits-RecognitionTask.zip",
            (
                Way(
                    "https://www.crcv.ucf.edu/data/UCF101/UCF101TrainTestSplits-RecognitionTask.zip",
                    113_943,
                    "sha256:5c0d1a53b8ed364a2ac830a73f405e51bece7d98ce1254fd19ed4a36b224bd27",
                ),
            ),
            spare=True,
            members={"ucfTrainTestlist": "ucfTrainTestlist"},
        ),
        Archive(
            "UCF-101-midframes.zip",
            (Way("drive:10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O"),),
            members={image_dir: "UCF-101-midframes"},
            images={image_dir: sum(rows)},
            gigabytes=0.5,
        ),
    )
    mirror = Mirror("ucf101.zip")

    def read_original(self):
        labels = dict(self.read_rows("ucfTrainTestlist/classInd.txt", action_and_label))

        def frame(line: str) -> Item:
            """`YoYo/v_YoYo_g01_c01.avi 101`, the label in the training list only, lies at Yo_Yo/v_YoYo_g01_c01.jpg."""
            action, video = line.split()[0].split("/")
            name = "_".join(re.findall("[A-Z][^A-Z]*", action))
            return Item(f"{name}/{video.replace('.avi', '.jpg')}", labels[action], name)

        return self.held_out(
            trainval=self.read_list("ucfTrainTestlist/trainlist01.txt", frame),
            test=self.read_list("ucfTrainTestlist/testlist01.txt", frame),
        )


def action_and_label(line: str) -> tuple[str, int]:
    """`101 YoYo`"""
    label, action = line.split()
    return action, int(label) - 1
