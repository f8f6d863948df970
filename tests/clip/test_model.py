"""The model (../clip/model.py) against open_clip's."""

import pytest
import torch

import clip
from tests.clip.diary import Diary
from tests.clip_weights import FULL, SMALL, open_clip_model, random_state

# After torch.manual_seed(0): the first value of five parameters, and the next random number.
VIT_DRAWN = [-0.00054, -0.05532, 0.03051, 0.00199, -0.0851, 0.7286]
RESNET_DRAWN = [-0.00144, -0.03246, 0.03249, -0.00221, 0.06604, 0.51723]
NAMES = [
    "Attention",
    "AttentionPool2d",
    "Bottleneck",
    "CLIP",
    "Edit",
    "Edits",
    "LayerNorm",
    "ModifiedResNet",
    "QuickGELU",
    "ResidualAttentionBlock",
    "TextPrompts",
    "Transformer",
    "VisionTransformer",
    "VisualPrompts",
    "architecture",
    "batch_of",
    "build_model",
    "check_images",
    "convert_weights",
    "draw_prompt",
    "take_prompts",
]
TEXTS = ["a cat.", "a photo of a german shorthaired pointer, a type of pet.", "é" * 20, ""]


def ours(state):
    return clip.build_model(state).float()


@pytest.mark.parametrize("name", NAMES)
def test_its_parts_are_names_of_the_one_module(name):
    """As in OpenAI's code, whichever file a part stands in."""
    assert getattr(clip.model, name)


@pytest.mark.parametrize("name", FULL)
def test_full_size_features_are_those_of_open_clip(name):
    """Random weights in fp32 (through fp16, as build_model casts): image and text features to 1e-5."""
    state = random_state(FULL[name])
    model = ours(state)
    reference = open_clip_model(model.state_dict())
    torch.manual_seed(1)
    images, tokens = torch.randn(2, 3, 224, 224), clip.tokenize(TEXTS)
    with torch.no_grad():
        for mine, theirs in (
            (model.encode_image(images), reference.encode_image(images)),
            (model.encode_text(tokens), reference.encode_text(tokens)),
        ):
            torch.testing.assert_close(
                mine / mine.norm(dim=1, keepdim=True), theirs / theirs.norm(dim=1, keepdim=True), atol=1e-5, rtol=0
            )
        torch.testing.assert_close(model(images, tokens)[0], model(images, tokens)[1].t())


def test_sizes_come_from_the_shapes(small):
    assert (small.visual.input_resolution, small.visual.output_dim, small.context_length, small.vocab_size) == (
        32,
        32,
        77,
        49408,
    )
    assert len(small.visual.transformer.resblocks) == len(small.transformer.resblocks) == 2


def test_build_model_leaves_its_argument_alone():
    state = random_state(SMALL) | {
        "input_resolution": torch.tensor(32),
        "context_length": torch.tensor(77),
        "vocab_size": torch.tensor(49408),
    }
    before = {name: value.clone() for name, value in state.items()}
    model = clip.build_model(state, {"trainer": "MaPLe", "vision_depth": 0})
    assert state.keys() == before.keys() and all(torch.equal(state[name], before[name]) for name in state)
    assert not model.training


def test_half_precision_where_it_multiplies():
    model = clip.build_model(random_state(SMALL))
    assert model.dtype == torch.float16
    halves = {name.split(".")[-1] for name, p in model.named_parameters() if p.dtype == torch.float16}
    assert halves == {"weight", "bias", "in_proj_weight", "in_proj_bias", "proj", "text_projection"}
    block = model.transformer.resblocks[0]
    assert block.ln_1.weight.dtype == model.token_embedding.weight.dtype == model.logit_scale.dtype == torch.float32
    assert block.attn.in_proj_weight.dtype == block.mlp.c_fc.bias.dtype == torch.float16


@pytest.mark.parametrize(
    "visual, drawn",
    [
        ({}, VIT_DRAWN),
        ({"vision_layers": (1, 2, 1, 1), "vision_width": 8, "vision_patch_size": None}, RESNET_DRAWN),
    ],
)
def test_a_seed_gives_the_published_first_values(visual, drawn):
    """First values, and what the generator gives next, are part of the format: runs with one seed are compared."""
    torch.manual_seed(0)
    model = clip.model.CLIP(**SMALL | visual)
    last = model.visual.proj if not visual else model.visual.attnpool.c_proj.weight
    mlp = model.transformer.resblocks[1].mlp.c_proj.weight
    tensors = (model.visual.conv1.weight, last, mlp, model.positional_embedding, model.text_projection, torch.rand(1))
    assert [tensor.flatten()[0].item() for tensor in tensors] == pytest.approx(drawn, abs=2e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_near_fp32(small, dtype):
    images, tokens = torch.randn(2, 3, 32, 32), clip.tokenize(TEXTS)
    diary = Diary(attention_at=(0, 1))
    with torch.no_grad():
        expected = [small.encode_image(images, edits=(diary,)), diary.rows[1], small.encode_text(tokens)]
        with torch.autocast("cpu", dtype=dtype):
            half = [small.encode_image(images, edits=(diary,)), diary.rows[1], small.encode_text(tokens)]
    assert half[0].dtype == half[2].dtype == dtype
    for mine, full in zip(half, expected, strict=True):
        assert torch.cosine_similarity(mine.float(), full).min() > 0.99


def test_layer_norm_keeps_the_dtype_of_its_input():
    device = "cuda" if torch.cuda.is_available() else "cpu"  # where autocast makes a layer norm's output fp32
    x = torch.randn(2, 8, device=device)
    for weights in (torch.float32, torch.float16, torch.bfloat16):
        norm = clip.model.LayerNorm(8).to(device, weights)
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            assert norm(x.to(dtype)).dtype == dtype
            with torch.autocast(device, dtype=torch.bfloat16):
                assert norm(x.to(dtype)).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_fp32(small, dtype):
    model = clip.build_model(small.state_dict())
    clip.model.convert_weights(model, dtype)
    images, tokens = torch.randn(2, 3, 32, 32), clip.tokenize(TEXTS)
    with torch.no_grad():
        for half, full in (
            (model.encode_image(images), small.encode_image(images)),
            (model.encode_text(tokens), small.encode_text(tokens)),
        ):
            assert half.dtype == dtype
            assert torch.cosine_similarity(half.float(), full).min() > 0.99


def test_the_text_encoder_stops_at_the_longest_prompt(small):
    """Equal to all 77 places, in values and in the gradient of the prompts."""
    tokens = clip.tokenize(TEXTS)
    end = tokens.argmax(dim=-1)
    results = []
    for run in (lambda p: small.encode_prompts(p, end), lambda p: by_hand(small, p, end)):
        prompts = small.token_embedding(tokens).detach().requires_grad_()
        features = run(prompts)
        features.square().sum().backward()
        results.append((features.detach(), prompts.grad))
    for mine, whole in zip(*results, strict=True):
        assert (mine - whole).abs().max() < 1e-5 * whole.abs().max()
    assert results[0][1][:, int(end.max()) + 1 :].abs().max() == 0


@torch.no_grad()
def test_a_length_that_is_known_is_not_looked_up(small):
    tokens = clip.tokenize(TEXTS)
    end, prompts = tokens.argmax(dim=-1), small.token_embedding(tokens)
    length = int(end.max()) + 1
    torch.testing.assert_close(small.encode_prompts(prompts, end, (), length), small.encode_prompts(prompts, end))
    with pytest.raises(clip.InputError, match=f"takes {length + 1} places and there is room for {length}"):
        small.encode_prompts(prompts[:, :length], end, (), length + 1)


def by_hand(model, prompts, end):
    """All 77 places, called as other code bases call the parts: length first."""
    x = (prompts + model.positional_embedding).permute(1, 0, 2)
    x = model.transformer(x).permute(1, 0, 2)
    x = model.ln_final(x)
    return x[torch.arange(len(x)), end] @ model.text_projection


def test_the_parts_called_as_other_code_bases_do_give_encode_text(small):
    tokens = clip.tokenize(TEXTS)
    with torch.no_grad():
        whole = by_hand(small, small.token_embedding(tokens).type(small.dtype), tokens.argmax(dim=-1))
        torch.testing.assert_close(small.encode_text(tokens), whole, atol=1e-5, rtol=1e-5)


def test_wrong_image_size_is_named(small):
    with pytest.raises(clip.InputError, match=r"shape \(1, 3, 40, 40\).*resized to 32 x 32"):
        small.encode_image(torch.zeros(1, 3, 40, 40))
    with pytest.raises(clip.InputError, match=r"shape \(3, 32, 32\).*give a batch"):
        small.encode_image(torch.zeros(3, 32, 32))


@pytest.mark.parametrize("end, room", [(79, 77), (9, 8)])
def test_a_prompt_that_is_too_long_is_named(small, end, room):
    """Longer than the positions, or said to end beyond what was given."""
    prompts = torch.zeros(2, min(end + 1, 80) if room == 77 else room, 128)
    with pytest.raises(clip.InputError, match=f"takes {end + 1} places and there is room for {room}"):
        small.encode_prompts(prompts, torch.tensor([3, end]))


@pytest.mark.parametrize("state", [{}, {"visual.conv1.weight": torch.zeros(1)}])
def test_what_is_no_clip_is_refused(state):
    with pytest.raises(clip.InputError, match="not a CLIP's"):
        clip.build_model(state)


@pytest.mark.parametrize("name", ["ln_final.bias", "ln_final.weight", "visual.positional_embedding"])
def test_a_clip_with_a_hole_is_refused(small, name):
    state = {key: value for key, value in small.state_dict().items() if key != name}
    with pytest.raises(clip.InputError, match=rf"not a whole CLIP.*{name}"):
        clip.build_model(state)
