"""UCF101 (Soomro et al., 2012): 101 actions, each video by its middle frame, by the first official division."""

import re

from dassl.data.datasets import DATASET_REGISTRY

from .base import Benchmark
from .splits import Item


@DATASET_REGISTRY.register()
class UCF101(Benchmark):
    dataset_dir = "ucf101"
    image_dir = "UCF-101-midframes"
    split_file = "split_zhou_UCF101.json"
    images = 13_320
    template = "a photo of a person doing {}."

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
