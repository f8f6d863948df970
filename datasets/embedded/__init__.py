"""The embedded world: small drawn data sets that need no download, read like any benchmark. A test bed, no benchmark."""

from dassl.data.datasets import DATASET_REGISTRY

from ..base import Benchmark
from .sets import SETS, camel

for _name in SETS:
    _facts = {
        "dataset_dir": f"embedded_{_name}",
        "image_dir": "images",
        "split_file": f"split_zhou_{camel(_name)}.json",
        "template": "{} texture." if _name == "textures" else "a photo of a {}.",
        "remedy": "python -m datasets.embedded --root {root}",
        "__doc__": f"Set '{_name}' of the embedded world.",
    }
    DATASET_REGISTRY.register()(type(camel(_name), (Benchmark,), _facts))
