"""What the package promises: one file and one config a data set, and that it is imported in no time."""

import subprocess
import sys

import pytest
import yaml

import datasets  # noqa: F401  registers
from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import Benchmark
from datasets.embedded import READERS as EMBEDDED_READERS
from datasets.prepare import READERS
from one_run.layout import BENCHMARKS, EMBEDDED, SHIFTED_IMAGENETS, SHIFTED_SHAPES
from tests.helpers import REPOSITORY

CONFIGS = sorted((REPOSITORY / "configs/datasets").glob("*.yaml"))


def ours() -> dict[str, type[Benchmark]]:
    registered = {name: DATASET_REGISTRY.get(name) for name in DATASET_REGISTRY.registered_names()}
    return {name: reader for name, reader in registered.items() if reader.__module__.startswith("datasets.")}


def config_of(reader: type[Benchmark]) -> str:
    """Called as the file that states it, or as a drawn set's folder."""
    module = reader.__module__.removeprefix("datasets.")
    return reader.dataset_dir if module == "embedded" else module


def test_each_set_has_one_config_which_says_its_name_alone():
    named = {path.stem: yaml.safe_load(path.read_text()) for path in CONFIGS}
    assert named == {config_of(reader): {"DATASET": {"NAME": name}} for name, reader in ours().items()}
    assert len(named) == len(ours())


@pytest.mark.parametrize("name", [name for name in ours() if name != "ImageFolder"])
def test_every_fact_is_stated(name):
    reader = ours()[name]
    assert reader.display_name and reader.classes > 1 and reader.template.count("{}") == 1 and reader.dataset_dir
    assert name.startswith("Embedded") or reader.rows[2]


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [
        ("datasets", {"torch", "torchvision", "scipy", "sklearn", "gdown", "clip", "datasets.prepare"}),
        ("datasets.prepare", {"torch", "torchvision", "scipy", "gdown", "clip"}),
        ("datasets.verify", {"torch", "torchvision", "scipy", "gdown", "clip"}),
    ],
)
def test_an_import_is_quick(module, unneeded):
    """What takes seconds is imported where it is used."""
    code = f"import sys, {module}; print(*sorted({unneeded} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_the_fields_order_names_all_sets():
    """Further sets may follow those of the field; a drawn one is in a group."""
    order = (*BENCHMARKS, *SHIFTED_IMAGENETS)
    assert tuple(READERS)[: len(order)] == order
    assert set(EMBEDDED_READERS) == {*EMBEDDED, *SHIFTED_SHAPES}


def test_the_documentation_shows_these_facts():
    shown = (REPOSITORY / "docs/data.md").read_text().splitlines()
    for name, reader in READERS.items():
        images = " / ".join(f"{count:,}" if count else "-" for count in reader.rows)
        assert f"| `{name}` | {reader.display_name} | {reader.classes:,} | {images} | {reader.template} |" in shown
