"""What the tables of a protocol are made of, and that no other file asks which protocol it has."""

import ast
from pathlib import Path

import pytest

from one_run.layout import PROTOCOLS as LAYOUT
from reports.protocols import AVERAGE, BASE2NEW, DG, FEWSHOT, PROTOCOLS, XD, rank
from reports.result import Result
from tests.helpers import REPOSITORY


def test_each_protocol_of_the_layout_has_its_table():
    assert list(PROTOCOLS) == list(LAYOUT)


def test_folders_are_those_of_the_scripts():
    assert BASE2NEW.folders == {"base": Path("train_base"), "new": Path("test_new")}
    assert [protocol.folders for protocol in (FEWSHOT, XD, DG)] == [
        {"all": Path()}, {"target": Path()}, {"target": Path()}
    ]  # fmt: skip
    assert [protocol.sources for protocol in PROTOCOLS.values()] == [
        [],
        [],
        ["xd_train", "fewshot"],
        ["xd_train", "fewshot"],
    ]
    assert [protocol.settings for protocol in PROTOCOLS.values()] == ["base2new", "fewshot", "xd", "xd"]


def test_what_stands_together():
    test = Result("CoOp/vit_b16", "embedded_scenes", 16, 1, "target", 50.0, source="embedded_shapes")
    assert BASE2NEW.section_of(test) == ("embedded", 16, "")
    assert FEWSHOT.section_of(test) == ("embedded", None, "")
    assert XD.section_of(test) == ("embedded", 16, "embedded_shapes")
    assert (XD.block_of(test), XD.column_of(test)) == ("embedded_shapes", "embedded_scenes")


@pytest.mark.parametrize(
    ("protocol", "block", "columns", "words"),
    [
        (BASE2NEW, "dtd", ["base", "new"], "dtd (base, new)"),
        (FEWSHOT, "dtd", [0, 16], "dtd (0, 16 shots)"),
        (XD, "imagenet", ["dtd", "eurosat"], "dtd, eurosat (trained on imagenet)"),
        (DG, "", ["", "imagenet_a"], "the source, imagenet_a (trained on an unknown set)"),
    ],
)
def test_places_in_words(protocol, block, columns, words):
    assert protocol.place_of(block, columns) == words


def test_sets_stand_in_the_order_of_the_fields_tables():
    names = [AVERAGE, "imagenet_r", "folder", "dtd", "imagenetv2", "caltech101", "imagenet", "a_set"]
    ordered = ["imagenet", "caltech101", "dtd", "imagenetv2", "imagenet_r", "a_set", "folder", AVERAGE]
    assert sorted(names, key=rank) == ordered


@pytest.mark.parametrize("path", sorted((REPOSITORY / "reports").glob("*.py")), ids=lambda path: path.name)
def test_only_one_file_names_a_protocol(path):
    constants = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
    assert bool(constants & set(PROTOCOLS)) == (path.name == "protocols.py")
