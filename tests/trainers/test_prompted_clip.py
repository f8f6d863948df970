"""A frozen CLIP and its precision (../trainers/prompted_clip.py)."""

import pytest
import torch

import clip
from tests.clip_weights import SMALL, random_state
from trainers.prompted_clip import load_clip, resolve_precision

CPU, GPU = torch.device("cpu"), torch.device("cuda")
BACKBONE = "ViT-Embedded/8"


@pytest.mark.parametrize(
    ("wanted", "device", "found"),
    [("auto", CPU, "fp32"), ("auto", GPU, "fp16"), ("fp32", GPU, "fp32"), ("bf16", CPU, "bf16"), ("amp", GPU, "amp")],
)
def test_precision(wanted, device, found):
    assert resolve_precision(wanted, device) == found


@pytest.mark.parametrize(("wanted", "says"), [("fp16", "fp16 needs a GPU"), ("amp", "amp needs a GPU"), ("fp8", "'fp8': choose one of auto")])  # fmt: skip
def test_precision_that_a_cpu_has_not(wanted, says):
    with pytest.raises(clip.InputError, match=says):
        resolve_precision(wanted, CPU)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("amp", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)])  # fmt: skip
def test_clip_is_frozen_in_its_precision(precision, dtype):
    model = load_clip(BACKBONE, precision, CPU)
    assert model.dtype == dtype and not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_backbone_may_be_a_checkpoint(tmp_path):
    state = random_state(SMALL)
    torch.save(state, tmp_path / "own.pt")
    loaded = load_clip(str(tmp_path / "own.pt"), "fp32", CPU).state_dict()
    assert loaded.keys() == state.keys()
    torch.testing.assert_close(loaded["visual.proj"], state["visual.proj"], atol=1e-3, rtol=1e-3)  # through fp16
