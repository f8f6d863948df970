"""A frozen CLIP and its precision (../../../trainers/shared/prompted_clip.py)."""

import re

import pytest
import torch

import clip
from tests.clip_weights import SMALL, random_state
from tests.foreign import of_open_clip
from trainers.shared.prompted_clip import PromptedCLIP, load_clip, resolve_precision
from trainers.shared.prompts import zero_shot_text_features

CPU, GPU = torch.device("cpu"), torch.device("cuda")
BACKBONE = "ViT-Embedded/8"
RESNET = SMALL | dict(vision_layers=(1, 1, 1, 1), vision_width=64, vision_patch_size=None, image_resolution=64)


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


@pytest.mark.parametrize("precision", ["fp32", "amp", "bf16", "fp16"])
def test_what_does_not_multiply_is_fp32(tmp_path, precision):
    """The logit scale, norms, embeddings and positions are the checkpoint's in any precision."""
    for kind, sizes in {"vit": SMALL, "resnet": RESNET}.items():
        state = random_state(sizes) | {"logit_scale": torch.tensor(3.7268)}  # 41.546, which no half precision holds
        torch.save(state, tmp_path / kind)
        model = load_clip(str(tmp_path / kind), precision, CPU)
        assert PromptedCLIP(model).logit_scale().item() == pytest.approx(state["logit_scale"].exp().item(), rel=1e-7)
        exact = [name for name in state if re.search(r"ln_|bn|downsample.1|embedding|logit_scale", name)]
        assert len(exact) > 10
        for name in exact:
            assert torch.equal(model.state_dict()[name], state[name])
            assert model.state_dict()[name].dtype == state[name].dtype


@torch.no_grad()
def test_bf16_logits_are_fp32s_but_for_rounding(tmp_path):
    """Each within 3% of the largest, and on the whole within 0.3%: a rounded logit scale would shift all by 0.8%."""
    for kind, sizes in {"vit": SMALL, "resnet": RESNET}.items():
        torch.save(random_state(sizes) | {"logit_scale": torch.tensor(100.0).log()}, tmp_path / kind)
        images = torch.randn(32, 3, *[sizes["image_resolution"]] * 2, generator=torch.Generator().manual_seed(0))
        full, half = (
            model.logits(model.image_features(images), zero_shot_text_features(model.clip, ["cat", "dog", "ice cream"]))
            for model in (
                PromptedCLIP(load_clip(str(tmp_path / kind), precision, CPU)) for precision in ("fp32", "bf16")
            )
        )  # (32, 3)
        assert half.dtype == torch.float32
        assert (half - full).abs().max() < 0.03 * full.abs().max()
        assert ((half * full).sum() / full.square().sum()).item() == pytest.approx(1, abs=0.003)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_other_libraries_weights_are_rounded_once(tmp_path, precision):
    """OpenAI's go through fp16, as they are published."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    theirs = of_open_clip(tmp_path / "there").visual.proj
    assert torch.equal(load_clip(str(tmp_path / "there"), precision, CPU).visual.proj, theirs.to(dtype))
    torch.save(random_state(SMALL), tmp_path / "openai.pt")
    published = random_state(SMALL)["visual.proj"].half()
    assert torch.equal(load_clip(str(tmp_path / "openai.pt"), precision, CPU).visual.proj, published.to(dtype))


def test_a_backbone_may_be_a_checkpoint(tmp_path):
    state = random_state(SMALL)
    torch.save(state, tmp_path / "own.pt")
    loaded = load_clip(str(tmp_path / "own.pt"), "fp32", CPU).state_dict()
    assert loaded.keys() == state.keys()
    torch.testing.assert_close(loaded["visual.proj"], state["visual.proj"], atol=1e-3, rtol=1e-3)  # through fp16
