"""The pretended GPU itself: it refuses what CUDA refuses, waits where the host waits, and computes as the CPU does."""

import sys

import pytest

from tests.pretended_gpu import faults
from tests.pretended_gpu.process import PretendedGPU

HERE = "tests.pretended_gpu.faults:"


@pytest.mark.parametrize("name", faults.FAULTS)
def test_what_cuda_refuses(pretended_gpu, name):
    pretended_gpu(HERE + "fault", name=name)


@pytest.mark.parametrize("name", faults.WAITS)
def test_where_the_host_waits(pretended_gpu, name):
    pretended_gpu(HERE + "waits", name=name)


@pytest.mark.parametrize("function", [
    "allowed", "not_deterministic", "learns_as_on_the_cpu", "its_own_random_numbers", "saved_as_from_a_gpu",
    "waits_are_counted_where_they_are", "copies_arrive_when_they_are_waited_for",
    "the_lists_are_whole", "autocast_types", "scaled_steps",
])  # fmt: skip
def test_it(pretended_gpu, function):
    pretended_gpu(HERE + function)


@pytest.fixture
def another():
    gpu = PretendedGPU()
    yield gpu
    gpu.stop()


def test_errors_are_shown(another):
    """With what was printed; a process that dies says its last words, and the next call has a new one."""
    with pytest.raises(pytest.fail.Exception, match=r"printed before[\s\S]*ValueError: this went wrong"):
        another(HERE + "raises")
    with pytest.raises(pytest.fail.Exception, match="its last words"):
        another(HERE + "dies")
    assert another(HERE + "doubled", number=4) == 8


def test_it_is_skipped_where_pytorch_lacks_it(another, monkeypatch):
    """The device is made of an experimental part of PyTorch."""
    code = (
        "from torch.utils import backend_registration as parts; del parts._setup_privateuseone_for_python_backend; "
        "from tests.pretended_gpu import child; child.main()"
    )
    monkeypatch.setattr(PretendedGPU, "command", [sys.executable, "-c", code])
    with pytest.raises(pytest.skip.Exception, match="no backends written in Python"):
        another(HERE + "doubled", number=4)
