"""The embedded world: small drawn data sets that need no download, read like any benchmark. A test bed, no benchmark."""

from dassl.data.datasets import DATASET_REGISTRY

from ..base import Benchmark
from .sets import SETS, camel, folder_of, split_file_of


def reader_of(set_name: str) -> type[Benchmark]:
    """Its facts are stated in sets.py."""
    facts = {
        "display_name": f"embedded {set_name.replace('_', ' ')}",
        "classes": len(SETS[set_name].names),
        "dataset_dir": folder_of(set_name),
        "image_dir": "images",
        "split_file": split_file_of(set_name),
        "template": SETS[set_name].template,
        "remedy": f"python -m datasets.embedded --root {{root}} --sets {set_name}",
        "__module__": __name__,
        "__doc__": f"Set '{set_name}' of the embedded world.",
    }
    return type(camel(set_name), (Benchmark,), facts)


READERS = {folder_of(name): DATASET_REGISTRY.register(reader_of(name)) for name in SETS}
