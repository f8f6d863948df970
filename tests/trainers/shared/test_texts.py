"""Texts of hand-written prompts, encoded once for all runs (../../../trainers/shared/texts.py)."""

import inspect
import sys
from pathlib import Path

import pytest
import torch

import clip
import train
from tests.helpers import CLASSES, arguments
from tests.trainers.stored_runs import are_equal, built, run
from trainers.shared import texts
from trainers.shared.prompts import (
    features_of_templates,
    mean_of_units,
    template_features,
    total,
    zero_shot_text_features,
)

METHODS = (
    "ZeroshotCLIP",
    "ZeroshotCLIP2",
    "KgCoOp",
    "ProGrad",
    "TCP",
    "PromptSRC",
    "CLIPFit",
    "MMRL",
    "VPT",
    "Spotlighter",
)
SEVERAL = ["a photo of a {}.", "a drawing of a {}."]


@pytest.fixture
def all_kept(monkeypatch):
    """However few they are."""
    monkeypatch.setitem(texts.LEAST, "cpu", 1)


@pytest.fixture
def trainer(data_root, tmp_path, all_kept):
    return built(data_root, tmp_path, "CoOp", ["FEATURES.DIR", tmp_path / "features"])


def files(folder) -> list[str]:
    return sorted(path.name for path in folder.glob("*-texts-*.safetensors"))


@pytest.mark.parametrize("method", METHODS)
def test_same_bits_with_and_without(seen, data_root, tmp_path, method, all_kept):
    """Of logits and of all that is learned, whether a run finds texts or leaves them there."""
    without = run(seen, data_root, tmp_path / "a", method, "")
    assert seen["texts"] > 0
    first = run(seen, data_root, tmp_path / "b", method, tmp_path / "features")
    second = run(seen, data_root, tmp_path / "c", method, tmp_path / "features")
    assert seen["texts"] == 0 and len(files(tmp_path / "features")) == 1
    assert are_equal(without[1:], first[1:]) and are_equal(without[1:], second[1:])


def test_methods_seeds_and_shots_share_them(seen, data_root, tmp_path, all_kept):
    def encoded(name, method, *options, **flags) -> int:
        run(seen, data_root, tmp_path / name, method, tmp_path / "features", options, **flags)
        return seen["texts"]

    assert encoded("a", "ZeroshotCLIP") == 3
    assert encoded("b", "KgCoOp", seed=2) == 0 and encoded("c", "CLIPFit", "DATASET.NUM_SHOTS", 2) == 0
    assert encoded("d", "Spotlighter") == 0 and encoded("e", "VPT") == 0
    assert encoded("f", "PromptSRC") == 60 * 3 and encoded("g", "PromptSRC", seed=2) == 0
    assert encoded("h", "ZeroshotCLIP", subsample="new") == 2  # other classes
    assert encoded("i", "KgCoOp", "TRAINER.KGCOOP.PREC", "bf16") == 3
    assert len(files(tmp_path / "features")) == 4


def test_few_prompts_are_encoded_each_time(seen, data_root, tmp_path):
    run(seen, data_root, tmp_path / "a", "KgCoOp", tmp_path / "features")
    assert not files(tmp_path / "features") and len(CLASSES[:3]) < texts.LEAST["cpu"] <= 60 * len(CLASSES[:3])
    run(seen, data_root, tmp_path / "b", "PromptSRC", tmp_path / "features")
    assert len(files(tmp_path / "features")) == 1


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-1] + bytes([content[-1] ^ 1]), lambda content: content[:9]]
)
def test_a_damaged_file_is_computed_again(seen, data_root, tmp_path, capsys, all_kept, damage):
    first = run(seen, data_root, tmp_path / "a", "ZeroshotCLIP", tmp_path / "features")
    [path] = tmp_path.glob("features/*-texts-*.safetensors")
    path.write_bytes(damage(path.read_bytes()))
    capsys.readouterr()
    assert are_equal(run(seen, data_root, tmp_path / "b", "ZeroshotCLIP", tmp_path / "features")[1:], first[1:])
    assert seen["texts"] == 3 and f"{path} is damaged: what it held is computed again" in capsys.readouterr().out


# --- what they are known by ---------------------------------------------------------------------------------------

CHANGES = {
    "a bias": lambda model: model.transformer.resblocks[1].mlp.c_proj.bias[0].add_(1),
    "a position": lambda model: model.positional_embedding[2].add_(1),
    "the last norm": lambda model: model.ln_final.weight[0].add_(1),
    "the projection": lambda model: model.text_projection[0].add_(1),
    "a word": lambda model: model.token_embedding.weight[int(clip.tokenize("red")[0, 1])].add_(1),
    "parts": lambda model: setattr(model, "text_memory", 1),
    "the precision": lambda model: clip.model.convert_weights(model, torch.bfloat16),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_another_encoder_has_other_texts(seen, trainer, change):
    model = trainer.model.clip
    template_features(model, CLASSES, "a {}.")
    with torch.no_grad():
        change(model)
    expected = model.encode_text(clip.tokenize([f"a {name.replace('_', ' ')}." for name in CLASSES])).float()
    seen["texts"] = 0
    found = template_features(model, CLASSES, "a {}.")
    assert seen["texts"] == len(CLASSES) and torch.equal(found, expected)
    template_features(model, CLASSES, "a {}.")
    assert seen["texts"] == len(CLASSES)


def test_all_code_of_clip_that_encodes_is_in_the_key(trainer):
    """Texts of other lengths, so that they are packed."""
    ran, batches = set(), [clip.tokenize(["a cat.", "a very old and slow cat."])]
    sys.setprofile(lambda frame, *_: ran.add(frame.f_code.co_filename))
    try:
        texts.encode(trainer.model.clip, batches, total)
    finally:
        sys.setprofile(None)
    ours = {path for path in ran if Path(path).parent == Path(clip.__file__).parent}
    assert clip.vit.__file__ in ours
    assert ours <= {part.__file__ for part in texts.code(total) if inspect.ismodule(part)}


def test_the_image_encoder_and_words_that_are_not_there_have_no_part(seen, trainer):
    model = trainer.model.clip
    template_features(model, CLASSES, "a {}.")
    with torch.no_grad():
        model.visual.proj[0] += 1
        model.token_embedding.weight[int(clip.tokenize("violin")[0, 1])] += 1
    seen["texts"] = 0
    template_features(model, CLASSES, "a {}.")
    assert seen["texts"] == 0


def test_each_list_of_prompts_and_each_mean_of_them_has_its_own(trainer):
    model, folder = trainer.model.clip, trainer.cfg.FEATURES.DIR
    asked = [
        (CLASSES, SEVERAL, total), (CLASSES, SEVERAL, mean_of_units), (CLASSES, SEVERAL[::-1], total),
        (CLASSES[::-1], SEVERAL, total), (CLASSES, SEVERAL[:1], total), (CLASSES, [*SEVERAL, SEVERAL[0]], total),
    ]  # fmt: skip
    found = [features_of_templates(model, *one) for one in asked]
    model.text_store = None
    assert are_equal([features_of_templates(model, *one) for one in asked], found)
    assert len(files(Path(folder))) == len(asked)


SPOILT = {
    "learned": lambda model: model.transformer.resblocks[0].mlp.c_fc.bias.requires_grad_(True),
    "hooked": lambda model: model.transformer.resblocks[0].ln_1.register_forward_hook(lambda *_: None),
    "replaced": lambda model: setattr(model, "encode_prompts", model.encode_prompts),
    "of another kind": lambda model: setattr(model, "__class__", type("Another", (clip.model.CLIP,), {})),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_what_may_not_be_clips_own_is_never_kept(seen, trainer, tmp_path, spoil):
    model = trainer.model.clip
    before = zero_shot_text_features(model, CLASSES)
    spoil(model)
    seen["texts"] = 0
    assert torch.equal(zero_shot_text_features(model, CLASSES), before) and seen["texts"] == len(CLASSES)
    zero_shot_text_features(model, CLASSES[:2])
    assert len(files(tmp_path / "features")) == 1


def test_prompts_that_were_drawn_into_the_encoder_are_not_mixed_up(seen, trainer, tmp_path):
    """They are the encoder's until a learner takes them; then its texts are those of CLIP."""
    plain = zero_shot_text_features(trainer.model.clip, CLASSES)
    state = clip.load_state_dict(clip.find_weights("ViT-Embedded/8"))
    design = {"trainer": "IVLP", "vision_ctx": 2, "vision_depth": 2, "language_ctx": 2, "language_depth": 3}
    model = clip.build_model(state, design).float().requires_grad_(False)
    model.text_memory, model.text_store = trainer.model.clip.text_memory, trainer.features
    seen["texts"] = 0
    assert not torch.equal(zero_shot_text_features(model, CLASSES), plain) and seen["texts"] == len(CLASSES)
    assert len(files(tmp_path / "features")) == 1
    clip.take_prompts(model)
    assert torch.equal(zero_shot_text_features(model, CLASSES), plain) and seen["texts"] == len(CLASSES)


def test_what_clipfit_learns_leaves_them_alone(seen, data_root, tmp_path, all_kept):
    """It tunes biases of the text encoder; what its second run, or another method, finds is CLIP as it was."""
    folder = tmp_path / "features"
    run(seen, data_root, tmp_path / "a", "CLIPFit", folder, ["OPTIM.LR", 0.1])
    expected = run(seen, data_root, tmp_path / "b", "ZeroshotCLIP", "")
    found = run(seen, data_root, tmp_path / "c", "ZeroshotCLIP", folder)
    assert seen["texts"] == 0 and are_equal(found[1:], expected[1:])
    assert train.main(arguments(data_root, tmp_path / "d", "CLIPFit", subsample="new", options=["OPTIM.MAX_EPOCH", 2, "FEATURES.DIR", folder], eval_only=True, model_dir=tmp_path / "a")) == 0  # fmt: skip
    assert len(files(folder)) == 2


def test_without_a_store_each_computes_its_own(seen, trainer):
    """As of a CLIP that another code base has loaded."""
    model = trainer.model.clip
    zero_shot_text_features(model, CLASSES)
    del model.text_store
    seen["texts"] = 0
    zero_shot_text_features(model, CLASSES)
    assert seen["texts"] == len(CLASSES)


def test_under_autocast_they_are_others(seen, trainer):
    model = trainer.model.clip
    plain = template_features(model, CLASSES, "a {}.")
    for encoded in (len(CLASSES), 0):
        seen["texts"] = 0
        with torch.autocast("cpu", torch.bfloat16):
            found = template_features(model, CLASSES, "a {}.")
        assert seen["texts"] == encoded and not torch.equal(found, plain)
