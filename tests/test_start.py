"""What a start loads, and what it leaves for later. How long that takes, `python -m benchmarks.start` says."""

from benchmarks.start import RUN
from tests.helpers import arguments, loaded_after

NEEDS_PYTORCH = ("torch", "numpy", "PIL", "yaml", "yacs", "dassl.utils", "clip", "trainers", "datasets")
NOT_FOR_IMPORTS = ("torchvision", "torch._dynamo", "torch.utils.tensorboard")
NOT_FOR_A_RUN = ("sklearn", "scipy", "matplotlib", "pandas", "open_clip", "timm", "gdown", "ray", "datasets.prepare")


def test_help_loads_no_pytorch():
    code = "import train\ntry: train.main(['--help'])\nexcept SystemExit: pass"
    assert not loaded_after(code, NEEDS_PYTORCH)


def test_imports_of_a_run():
    assert loaded_after(RUN, ("torch", *NOT_FOR_IMPORTS, *NOT_FOR_A_RUN)) == {"torch"}


def test_a_run(data_root, tmp_path):
    """torchvision comes with the transforms, and torch._dynamo with PyTorch's first optimiser."""
    line = arguments(data_root, tmp_path, options=["OPTIM.MAX_EPOCH", 1])
    loaded = loaded_after(f"import train; assert train.main({line!r}) == 0", (*NOT_FOR_IMPORTS, *NOT_FOR_A_RUN))
    assert loaded == set(NOT_FOR_IMPORTS)
