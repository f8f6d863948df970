"""What is written of the machine beside every figure."""

import platform

import torch

from benchmarks import machine


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
