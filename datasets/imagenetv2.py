"""ImageNetV2 (Recht et al., 2019), matched frequency: ten new images of each class."""

from dassl.data.datasets import DATASET_REGISTRY

from .imagenet import ShiftedImageNet
from .splits import read_folders


@DATASET_REGISTRY.register()
class ImageNetV2(ShiftedImageNet):
    dataset_dir = "imagenetv2"
    image_dir = "imagenetv2-matched-frequency-format-val"
    images = 10_000

    def read_test(self):
        """Folders are named by labels, so that 10 sorts before 2."""
        names = {str(label): name for label, name in enumerate(self.names().values())}
        items = [item._replace(label=int(item.path.split("/")[0])) for item in read_folders(self.image_dir, names)]
        return sorted(items, key=lambda item: item.label)
