"""Checkpoints of other libraries (../clip/foreign.py) compute what these libraries compute."""

import json
import re

import pytest
import torch

import clip
from clip.errors import InputError
from tests.foreign import features, of_open_clip, of_transformers, with_changes

TEXTS = ["a photo of a cat.", "a drawing of a very old steam locomotive on a bridge", "dog"]
CPU = torch.device("cpu")


def agree(theirs, ours, size: int, at_most: float = 1e-5) -> bool:
    """To 1e-5 of the largest number."""
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))
    tokens = clip.tokenize(TEXTS, ours.context_length)
    pairs = zip(features(theirs, images, tokens), features(ours, images, tokens), strict=True)
    return all((one - other).abs().max() < at_most * one.abs().max() for one, other in pairs)


def loaded(name, **options):
    return clip.build_model(clip.load_weights(str(name), **options), dtype=torch.float32)


GELU = {"vision_config.hidden_act": "gelu", "text_config.hidden_act": "gelu"}
EPS = {"vision_config.layer_norm_eps": 1e-2, "text_config.layer_norm_eps": 1e-2}
CASES = {
    "quick_gelu": {},
    "gelu": GELU,
    "other heads": {"vision_config.num_attention_heads": 2, "text_config.num_attention_heads": 12},
    "long texts": {"text_config.max_position_embeddings": 248},
    "short texts": {"text_config.max_position_embeddings": 16},
    "other layers": {"vision_config.intermediate_size": 100, "text_config.intermediate_size": 500},
    "other norms": EPS,
    "large patches": {"vision_config.patch_size": 16, "vision_config.image_size": 48},
    "pixels that fill no patch": {"vision_config.image_size": 67},
    "joint width": {"projection_dim": 48},
    "of before": {"text_config.eos_token_id": 2},
}


@pytest.mark.parametrize("case", CASES)
def test_transformers(tmp_path, case):
    theirs, ours = of_transformers(tmp_path, CASES[case]), loaded(tmp_path)
    assert ours.activation == ("gelu" if case == "gelu" else "quick_gelu")
    assert agree(theirs, ours, theirs.config.vision_config.image_size)
    assert torch.equal(ours.logit_scale, theirs.logit_scale)


def test_transformers_other_files(tmp_path):
    """Shards with an index, pickles, a file by its path, a config that says a part twice."""
    theirs = of_transformers(tmp_path, GELU, max_shard_size="1MB")
    assert len([*tmp_path.glob("model-*.safetensors")]) > 1 and agree(theirs, loaded(tmp_path), 64)
    for file in tmp_path.glob("model*"):
        file.unlink()
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    assert agree(theirs, loaded(tmp_path), 64) and agree(theirs, loaded(tmp_path / "pytorch_model.bin"), 64)
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config_dict"], config["text_config"] = config["text_config"], {}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert agree(theirs, loaded(tmp_path), 64)


OPEN_CASES = {
    "gelu": {},
    "quick_gelu": {"quick_gelu": True},
    "other heads": {"vision_cfg.head_width": 32, "text_cfg.heads": 8},
    "long texts": {"text_cfg.context_length": 248},
    "other layers": {"vision_cfg.mlp_ratio": 4.9231, "text_cfg.mlp_ratio": 3.0},
    "other norms": {"vision_cfg.norm_kwargs": {"eps": 1e-2}, "text_cfg.norm_kwargs": {"eps": 1e-2}},
    "residual network": {"vision_cfg": {"layers": [1, 1, 1, 1], "width": 32, "head_width": 32, "image_size": 64}},
}


@pytest.mark.parametrize("custom", [False, True])
@pytest.mark.parametrize("case", OPEN_CASES)
def test_open_clip(tmp_path, case, custom):
    theirs, ours = of_open_clip(tmp_path, OPEN_CASES[case], custom), loaded(tmp_path)
    assert ours.activation == ("quick_gelu" if case == "quick_gelu" else "gelu")
    assert agree(theirs, ours, ours.visual.input_resolution)
    assert torch.equal(ours.logit_scale, theirs.logit_scale)


def test_open_clip_files(tmp_path):
    """Of its training, and bare: which of two activations is right, they do not say."""
    theirs = of_open_clip()
    state = {f"module.{name}": value for name, value in theirs.state_dict().items()}
    training = {"epoch": 3, "name": "mine", "state_dict": state, "optimizer": {"state": {}}}
    torch.save(training, tmp_path / "epoch_3.pt")
    torch.save(theirs.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    for name in ("epoch_3.pt", "open_clip_pytorch_model.bin"):
        with pytest.raises(InputError, match=r"do not say whether .* set MODEL\.BACKBONE\.ACT to gelu"):
            loaded(tmp_path / name)
        assert agree(theirs, loaded(tmp_path / name, activation="gelu"), 32)
        assert not agree(theirs, loaded(tmp_path / name, activation="quick_gelu"), 32, 1e-4)
    with pytest.raises(InputError, match=r"MODEL\.BACKBONE\.ACT"):
        clip.build_model(clip.load_state_dict(tmp_path / "epoch_3.pt"))
    (tmp_path / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": {"vision_cfg": {"width": 128}, "text_cfg": {"width": 128, "heads": 2}}})
    )
    assert agree(theirs, loaded(tmp_path / "open_clip_pytorch_model.bin"), 32)  # it says no more of quick_gelu: GELU


def test_half_precision(tmp_path):
    """fp16 and bf16 are rounded but once; what does not multiply stays as it is in the file."""
    theirs = of_open_clip(tmp_path)
    for dtype in (torch.float16, torch.bfloat16):
        ours = clip.build_model(clip.load_weights(str(tmp_path)), dtype=dtype)
        assert torch.equal(ours.visual.proj, theirs.visual.proj.to(dtype))
        assert torch.equal(ours.token_embedding.weight, theirs.token_embedding.weight)


@pytest.mark.parametrize("changes", [GELU, EPS, CASES["other heads"]], ids=("gelu", "eps", "heads"))
def test_a_models_own_state_dict_says_what_it_is(tmp_path, changes):
    """So that nobody builds another from it."""
    theirs = of_transformers(tmp_path, changes)
    ours = loaded(tmp_path)
    again = clip.build_model(ours.state_dict(), dtype=torch.float32)
    assert again.facts == ours.facts and agree(theirs, again, 64)
    ours.load_state_dict(again.state_dict())


def test_openais_own_state_dict_holds_nothing_more():
    assert not clip.facts.NUMBERS & clip.load("ViT-Embedded/8", device="cpu")[0].state_dict().keys()


@pytest.mark.parametrize("design", [{"trainer": "IVLP"}, {"trainer": "MaPLe"}])
def test_prompts_are_drawn_into_it(tmp_path, design):
    of_transformers(tmp_path, GELU)
    design |= {"vision_ctx": 2, "vision_depth": 2, "language_ctx": 2, "language_depth": 2}
    model = clip.build_model(clip.load_weights(str(tmp_path)), design)
    visual, text = clip.take_prompts(model)
    assert [prompt.shape for prompt in (*visual, *text)] == [(2, 80), (2, 80), (2, 96)]
    assert model.activation == "gelu"


REFUSED = [
    ({"model_type": "siglip"}, "is a model of type 'siglip'"),
    ({"text_config.vocab_size": 21128}, "tokenizer of 21,128 tokens"),
    ({"text_config.eos_token_id": 7}, "end at the token 7"),
    ({"text_config.hidden_act": "gelu"}, "have 'gelu' and 'quick_gelu' as their hidden_act"),
    ({"text_config.hidden_act": "silu", "vision_config.hidden_act": "silu"}, "computes with silu"),
    ({"text_config.layer_norm_eps": 1e-6}, "as their layer_norm_eps"),
    ({"vision_config.num_attention_heads": 0}, "has 0 as its num_attention_heads"),
    ({"vision_config.num_attention_heads": 7}, "width 80 cannot have 7 heads"),
    ({"vision_config": [1]}, "has a list as its vision_config"),
    ({"vision_config.image_size": [64, 32]}, r"has \[64, 32\] as its image_size"),
]


@pytest.mark.parametrize(("changes", "says"), REFUSED)
def test_what_is_no_clip_of_transformers(tmp_path, changes, says):
    of_transformers(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for key, value in changes.items():
        *sections, last = key.split(".")
        (config[sections[0]] if sections else config)[last] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=says) as caught:
        loaded(tmp_path)
    assert re.search(r": (choose|correct|fetch)[^:]*\.$", str(caught.value))


@pytest.mark.parametrize(
    "changes",
    [{"vision_config.hidden_size": 160}, {"text_config": None}, {"vision_config": {"num_attention_heads": 10}}],
)
def test_another_models_config_of_transformers(tmp_path, changes):
    """Heads and activation would be that model's, or those of a part that is left out."""
    of_transformers(tmp_path, {"vision_config.num_attention_heads": 4, "text_config.num_attention_heads": 8})
    path = tmp_path / "config.json"
    path.write_text(json.dumps(with_changes(json.loads(path.read_text()), changes)))
    with pytest.raises(
        InputError, match=r"has an encoder of width (160|512|768), and its weights one of \d+: fetch both"
    ):
        loaded(tmp_path)


@pytest.mark.parametrize("part", ["vision_cfg", "text_cfg"])
def test_another_models_config_of_open_clip(tmp_path, part):
    of_open_clip(tmp_path)
    path = tmp_path / "open_clip_config.json"
    path.write_text(json.dumps(with_changes(json.loads(path.read_text()), {f"model_cfg.{part}.width": 256})))
    with pytest.raises(InputError, match="has an encoder of width 256, and its weights one of 128: fetch both"):
        loaded(tmp_path)


SPOILT = {
    "text_projection.weight": torch.zeros(()),
    "visual_projection.weight": torch.zeros(2, 2, 2),
    "vision_model.embeddings.patch_embedding.weight": torch.zeros(5),
    "vision_model.encoder.layers.1.self_attn.q_proj.weight": torch.zeros(5),
    "vision_model.encoder.layers.0.mlp.fc1.weight": torch.zeros(()),
}


@pytest.mark.parametrize("name", SPOILT)
def test_shapes_that_no_clip_has(tmp_path, name):
    state = of_transformers(tmp_path).state_dict()
    (tmp_path / "model.safetensors").unlink()
    torch.save(state | {name: SPOILT[name]}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="is not a (whole )?CLIP"):
        loaded(tmp_path)


OPEN_REFUSED = [
    ({"multimodal_cfg": {"layers": 2}}, "it is a CoCa"),
    ({"init_logit_bias": -10}, "it is a SigLIP"),
    ({"vision_cfg": {"timm_model_name": "eva02_base"}}, "its image encoder is timm's eva02_base"),
    ({"text_cfg": {"hf_model_name": "roberta-base"}}, "its text encoder is roberta-base"),
    ({"text_cfg": {"hf_tokenizer_name": "bert"}}, "its tokenizer is that of bert"),
    ({"text_cfg": {"vocab_size": 32000}}, "its tokenizer has 32,000 tokens"),
    ({"text_cfg": {"no_causal_mask": True}}, "its text_cfg has no_causal_mask True"),
    ({"text_cfg": {"pool_type": "last"}}, "its text_cfg has pool_type 'last'"),
    ({"vision_cfg": {"ls_init_value": 0.1}}, "its vision_cfg has ls_init_value 0.1"),
    ({"text_cfg": {"act_kwargs": {"approximate": "tanh"}}}, "its text_cfg has act_kwargs"),
]


@pytest.mark.parametrize(("config", "says"), OPEN_REFUSED)
def test_what_is_no_clip_of_open_clip(tmp_path, config, says):
    config = {"vision_cfg": {"width": 64}, "text_cfg": {"width": 64}} | config
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    with pytest.raises(InputError, match=f"cannot be loaded, as {says}.*: choose"):
        loaded(tmp_path)


def test_a_config_of_open_clip_that_says_nothing(tmp_path):
    for config in ({}, {"model_cfg": {}}, {"model_cfg": {"vision_cfg": {"width": 64}}}):
        (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
        with pytest.raises(InputError, match="has no vision_cfg or no text_cfg: fetch it again"):
            loaded(tmp_path)


NAMES = {"logit_bias": "a SigLIP", "text_decoder.a": "a CoCa", "visual.trunk.a": "timm's", "text.transformer.embeddings.a": "Hugging Face's"}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_bare_file_that_is_no_clip(tmp_path, name):
    torch.save({name: torch.zeros(1), "visual.conv1.weight": torch.zeros(1)}, tmp_path / "a.pt")
    with pytest.raises(InputError, match=rf"a\.pt cannot be loaded, as .*{NAMES[name]}"):
        loaded(tmp_path / "a.pt")


def test_transformers_without_its_config(tmp_path):
    theirs = of_transformers(tmp_path)
    torch.save(theirs.state_dict(), tmp_path / "a.pt")
    with pytest.raises(
        InputError, match=r"a\.pt is Hugging Face's, and its config\.json is not beside it: name a folder"
    ):
        loaded(tmp_path / "a.pt")
    state = {name: value for name, value in theirs.state_dict().items() if "1.self_attn.k_proj.bias" not in name}
    (tmp_path / "model.safetensors").unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"no \S*resblocks\.1\.self_attn\.k_proj\.bias; fetch it again"):
        loaded(tmp_path)
