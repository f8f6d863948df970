"""What is written of the machine beside every figure."""

import json
import platform

import pytest
import torch

from benchmarks import budgets, few_shot, machine
from benchmarks.ablation import __main__ as ablation
from benchmarks.compare import REFERENCE
from dassl.errors import InputError


def test_versions():
    found = machine.versions(cuda=None)
    assert found == {**found, "python": platform.python_version(), "torch": torch.__version__, "cuda": None}
    assert list(found) == ["python", "torch", "torchvision", "cuda"]


def test_the_processor_has_a_name():
    assert machine.device_name(torch.device("cpu"))


def test_result_files_are_named_by_the_device(monkeypatch):
    assert machine.result_file("fps", torch.device("cpu")) == str(machine.RESULTS / "fps_cpu.json")
    assert machine.result_file("fps", torch.device("cpu"), quick=True) == str(
        machine.RESULTS / "quick" / "fps_cpu.json"
    )
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100 80GB HBM3")
    wanted = machine.RESULTS / "loading_nvidia_h100_80gb_hbm3.json"
    assert machine.result_file("loading", torch.device("cuda")) == str(wanted)


@pytest.mark.parametrize(
    ("benchmark", "options", "lost"),
    [
        (ablation, ["--sets", "species"], "6 sets that this run would lose, such as shapes"),
        (ablation, ["--sets", "species", "--rows", "core"], "sets"),
        (budgets, ["--sets", "species"], "6 sets that this run would lose, such as shapes"),
        (few_shot, ["--sets", "species", "--shots", "1", "2"], "3 shots that this run would lose, such as 4"),
        (few_shot, ["--sets", "species"], "6 sets that this run would lose, such as shapes"),
    ],
)
def test_a_larger_table_is_not_written_over(benchmark, options, lost, tmp_path, monkeypatch, capsys):
    """By any benchmark, before anything is run; the committed tables are the larger ones."""
    (tmp_path / "embedded_species").mkdir()
    name = benchmark.__name__.removesuffix(".__main__").rpartition(".")[2]
    table = tmp_path / f"{name}.json"
    table.write_bytes((machine.RESULTS / table.name).read_bytes())
    before = table.read_bytes()
    out = ["--out", str(table if benchmark is few_shot else tmp_path)]
    runs = "in_processes" if benchmark is few_shot else "do_missing"
    monkeypatch.setattr(benchmark, runs, lambda *_: pytest.fail("something is run"))
    monkeypatch.setattr(benchmark, "ROOT", tmp_path)
    methods = (
        ["--methods", *(row for row in json.loads(before)["rows"] if row != REFERENCE)] if benchmark is few_shot else []
    )
    assert benchmark.main(["--root", str(tmp_path), *out, *options, *methods]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and lost in error and "another" in error and error.count("\n") == 1
    assert table.read_bytes() == before


def test_what_a_table_lists_in_its_cells_counts(tmp_path):
    path = tmp_path / "table.json"
    machine.check_not_smaller(path, "stop", sets=[])  # there is none
    path.write_text(json.dumps({"cells": [{"set": "shapes", "seed": 1, "rows": "all"}]}))
    machine.check_not_smaller(path, "stop", sets=["shapes"], seeds=[1, 2], rows=["all", "core"])
    with pytest.raises(InputError, match="1 rows that this run would lose, such as all: stop"):
        machine.check_not_smaller(path, "stop", sets=["shapes"], seeds=[1], rows=["core"])
