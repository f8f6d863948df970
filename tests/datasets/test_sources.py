"""What the benchmarks state of their sources agrees with what their readers read."""

import ast
import re
import sys
from pathlib import Path
from urllib.parse import urlparse

import pytest

from datasets.prepare import READERS
from datasets.prepare.download import web_address
from datasets.sources import Archive, File
from tests.helpers import REPOSITORY

CONFIGS = REPOSITORY / "configs/datasets"
BENCHMARKS = {path.stem for path in CONFIGS.glob("*.yaml") if not path.stem.startswith(("embedded", "folder"))}


def test_every_benchmark_has_a_source():
    assert set(READERS) == BENCHMARKS and len(READERS) == 15
    for name, reader in READERS.items():
        assert f'"{reader.__name__}"' in (CONFIGS / f"{name}.yaml").read_text()
        assert all(source.ways for source in reader.sources) or reader.by_hand


def code_beside_sources(module: str) -> str:
    """A module's text without the statements that name sources."""
    path = Path(sys.modules[module].__file__)
    lines = path.read_text().splitlines()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("sources", "CLASSNAMES"):
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    return "\n".join(lines)


@pytest.mark.parametrize("reader", READERS.values(), ids=list(READERS))
def test_facts_agree_with_the_reader(reader):
    files = [source for source in reader.sources if isinstance(source, File)]
    archives = [source for source in reader.sources if isinstance(source, Archive)]
    targets = {file.name for file in files} | {member for archive in archives for member in archive.members}
    if reader.split_file:
        assert reader.sources[0].name == reader.split_file and reader.sources[0].entries == reader.rows
    assert any(target.startswith(reader.image_dir) for target in targets)
    images = {target: count for archive in archives for target, count in archive.images.items()}
    whole = reader.number_of_images()
    assert all(target.startswith(reader.image_dir) for target in images) and sum(images.values()) == whole
    assert whole == sum(reader.rows) - (50_000 if reader.__name__ == "ImageNet" else 0)  # each image is in one list
    needed = code_beside_sources(reader.__module__)
    if reader.__mro__[1].__name__.endswith("ImageNet"):
        needed += code_beside_sources("datasets.imagenet")
    for target in targets - set(images):
        stem = target.replace("_train", "_{part}").replace("_val", "_{part}").replace("_test.", "_{part}.")
        assert target in needed or stem in needed, f"{reader.__name__} does not read {target}"


@pytest.mark.parametrize("reader", READERS.values(), ids=list(READERS))
def test_facts_are_well_formed(reader):
    first = reader.sources[0]
    for source in reader.sources:
        assert not source.spare or (isinstance(first, File) and first.name.startswith("split_zhou"))
        for way in source.ways:
            assert re.fullmatch("(|md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})", way.digest)
            assert urlparse(web_address(way)).scheme == "https" and urlparse(web_address(way)).path
            if isinstance(source, Archive):
                assert way.size or source.gigabytes or source.spare, f"nobody knows how large {source.name} is"
        if isinstance(source, Archive):
            assert set(source.images) <= set(source.members)
        elif not source.entries:
            assert all(way.digest for way in source.ways), f"nothing is known of {source.name}"
