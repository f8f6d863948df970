"""Prompts in both encoders (../trainers/deep_prompts.py) against plain loops over CLIP's blocks; VPT and IVLP on them."""

import pytest
import torch
import torch.nn.functional as F
from yacs.config import CfgNode

import clip
import train
from clip.simple_tokenizer import SimpleTokenizer
from dassl.engine import build_trainer
from tests.clip_weights import SMALL, random_state
from tests.helpers import CLASSES, REPOSITORY, arguments, results
from trainers.clip_trainer import PromptedCLIP
from trainers.deep_prompts import DeepPromptLearner, VisualPromptLearner, design_details, from_published

# The encoders differ in width and depth, so that neither can be taken for the other.
SIZES = SMALL | dict(vision_layers=4, transformer_layers=3, transformer_width=64, transformer_heads=1)
RESNET = SMALL | dict(vision_layers=(1, 1, 1, 1), vision_width=8, vision_patch_size=None)
NAMES = ["cat", "german_shepherd", "ice cream"]
KEYS = {"CTX_INIT": "a photo of a", "N_CTX_TEXT": 2, "N_CTX_VISION": 3, "PROMPT_DEPTH_TEXT": 3, "PROMPT_DEPTH_VISION": 3}  # fmt: skip
START, END = 49406, 49407
encode_words = SimpleTokenizer().encode


# --- the encoders by hand, also for MaPLe and PromptSRC ---------------------------------------------------------


def tokens_by_hand(model, images, prompts):
    """Unit rows (B, 1 + N, d) of the class token and the patches, with prompts [(m, D)] for the first blocks."""
    visual = model.visual
    x = visual.conv1(images).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1) + visual.positional_embedding
    own = x.shape[1]
    if prompts:
        x = torch.cat([x, torch.stack([prompts[0]] * len(x))], dim=1)
    x = visual.ln_pre(x)
    for i, block in enumerate(visual.transformer.resblocks):
        if 0 < i < len(prompts):
            x = torch.cat([x[:, :own], torch.stack([prompts[i]] * len(x))], dim=1)
        x, _ = block(x)
    return F.normalize(visual.ln_post(x[:, :own]) @ visual.proj, dim=-1)


def texts_by_hand(model, names, ctx, deeper, rest=""):
    """Unit rows (n, d) of: start, `ctx`, `rest`, name, full stop, end; `deeper` [(m, D)] are for blocks 1, 2, ..."""
    rows, m = [], len(ctx)
    for name in names:
        words = encode_words(f"{rest} {name.replace('_', ' ')}.")
        start, after = model.token_embedding(torch.tensor([START, *words, END])).split([1, len(words) + 1])
        x = torch.cat([start, ctx, after])
        x = (x + model.positional_embedding[: len(x)])[None]
        for i, block in enumerate(model.transformer.resblocks):
            if 0 < i <= len(deeper):
                x = torch.cat([x[:, :1], deeper[i - 1][None], x[:, 1 + m :]], dim=1)
            x, _ = block(x, causal=True)
        rows.append(F.normalize(model.ln_final(x[0, -1]) @ model.text_projection, dim=-1))
    return torch.stack(rows)


def moved(learner, by=0.3):
    """Learned values at which every prompt matters."""
    torch.manual_seed(1)
    with torch.no_grad():
        for value in learner.parameters():
            value += by * torch.randn_like(value)
    return learner


def built(line):
    return build_trainer(train.build_config(train.parse_arguments(line)))


def write_checkpoint(folder, name, state):
    (folder / name).mkdir(parents=True)
    state = {key: value.detach().clone() for key, value in state.items()}
    torch.save({"state_dict": state, "epoch": 5}, folder / name / "model.pth.tar-5")


# --- the learners -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def state():
    return random_state(SIZES)


def prompted(state, seed=0, kind=DeepPromptLearner, **changes):
    keys = CfgNode(KEYS | changes)
    torch.manual_seed(seed)
    model = clip.build_model(state, design_details(keys)).float().requires_grad_(False)
    names = [NAMES] if kind is DeepPromptLearner else []
    return PromptedCLIP(model, kind(model, *names, keys))


@pytest.mark.parametrize("depth", [0, 1, 3, 4])
@torch.no_grad()
def test_image_features(state, depth):
    """Beyond the depth, blocks keep what the prompts have become; the patches that are returned are not prompts."""
    model, images = prompted(state, PROMPT_DEPTH_VISION=depth), torch.randn(2, 3, 32, 32)
    moved(model.prompt_learner)
    prompts = list(model.prompt_learner.visual)
    assert [tuple(prompt.shape) for prompt in prompts] == [(3, 128)] * depth
    assert model.prompt_learner.frozen_images is (depth == 0)
    expected = tokens_by_hand(model.clip, images, prompts)
    f, patches = model.image_features(images, tokens=True)
    torch.testing.assert_close(torch.cat([f[:, None], patches], dim=1), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.image_features(images), expected[:, 0], atol=1e-5, rtol=0)
    if depth:
        assert (expected - tokens_by_hand(model.clip, images, prompts[:-1])).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("count", "words", "depth", "rest"),
    [
        (2, "a photo of a", 3, "of a"),  # the words that nothing takes the place of stay
        (4, "a photo of a", 1, ""),
        (5, "a photo of a", 2, ""),
        (3, "", 3, ""),
    ],
)
@torch.no_grad()
def test_text_features(state, count, words, depth, rest):
    model = prompted(state, N_CTX_TEXT=count, CTX_INIT=words, PROMPT_DEPTH_TEXT=depth)
    learner = moved(model.prompt_learner)
    assert [tuple(prompt.shape) for prompt in learner.text] == [(count, 64)] * (depth - 1)
    expected = texts_by_hand(model.clip, NAMES, learner.ctx, list(learner.text), rest)
    torch.testing.assert_close(model.text_features(), expected, atol=1e-5, rtol=0)
    if depth > 1:
        fewer = texts_by_hand(model.clip, NAMES, learner.ctx, list(learner.text)[:-1], rest)
        assert (expected - fewer).abs().max() > 1e-2


def test_first_values(state):
    """Words where there are words, for at most four tokens; else at random, and so for each seed anew."""
    embedding = state["token_embedding.weight"]
    photo = embedding[encode_words("a photo of a")]
    assert torch.equal(prompted(state).prompt_learner.ctx, photo[:2])
    drawn = {"CTX_INIT": "a photo of a very", "N_CTX_TEXT": 5}
    one, same, other = (prompted(state, seed, **drawn).prompt_learner for seed in (0, 0, 1))
    for name, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[name]) and not torch.equal(value, other.state_dict()[name])
        assert value.std().item() == pytest.approx(0.02, rel=0.2) and abs(value.mean()) < 0.004
    assert len({value.sum().item() for value in one.parameters()}) == 6  # each prompt is drawn by itself


@pytest.mark.parametrize("changes", [{}, {"PROMPT_DEPTH_VISION": 0}, {"PROMPT_DEPTH_TEXT": 1}])
def test_what_is_learned(state, changes):
    model = prompted(state, **changes)
    keys = KEYS | changes
    expected = {"ctx"} | {f"text.{i}" for i in range(keys["PROMPT_DEPTH_TEXT"] - 1)}
    expected |= {f"visual.{i}" for i in range(keys["PROMPT_DEPTH_VISION"])}
    assert set(model.prompt_learner.state_dict()) == expected
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {f"prompt_learner.{n}" for n in expected}
    (model.image_features(torch.randn(2, 3, 32, 32)) @ model.text_features().t()).sum().backward()
    assert all(value.grad.abs().sum() > 0 for value in model.prompt_learner.parameters())
    assert not any("VPT" in name for name in model.state_dict())  # CLIP has no prompts of its own any more


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"N_CTX_VISION": -1}, "N_CTX_VISION is -1 with PROMPT_DEPTH_VISION 3"),
        ({"N_CTX_VISION": -1, "PROMPT_DEPTH_VISION": 0}, "N_CTX_VISION is -1"),
        ({"N_CTX_VISION": 0}, "N_CTX_VISION is 0"),
        ({"N_CTX_TEXT": 0}, "N_CTX_TEXT is 0 with PROMPT_DEPTH_TEXT 3"),
        ({"PROMPT_DEPTH_VISION": 5}, "PROMPT_DEPTH_VISION is 5.*choose 0 to 4"),
        ({"PROMPT_DEPTH_VISION": -1}, "PROMPT_DEPTH_VISION is -1.*choose 0 to 4"),
        ({"PROMPT_DEPTH_TEXT": 4}, "PROMPT_DEPTH_TEXT is 4.*choose 1 to 3"),
        ({"PROMPT_DEPTH_TEXT": 0}, "PROMPT_DEPTH_TEXT is 0.*choose 1 to 3"),
        ({"CTX_INIT": "a", "N_CTX_TEXT": 2}, "CTX_INIT 'a' has 1 tokens, fewer than the 2"),
        ({"kind": VisualPromptLearner, "PROMPT_DEPTH_VISION": 0}, "PROMPT_DEPTH_VISION is 0.*choose 1 to 4"),
    ],
)
def test_what_cannot_be_prompted(state, changes, says):
    with pytest.raises(clip.InputError, match=says) as error:
        prompted(state, **changes)
    assert "\n" not in str(error.value)


def test_a_residual_network_has_text_prompts_only():
    state = random_state(RESNET)
    for depth in (1, 3):
        with pytest.raises(clip.InputError, match=f"PROMPT_DEPTH_VISION is {depth}.*residual network.*ViT-B/16"):
            prompted(state, PROMPT_DEPTH_VISION=depth, PROMPT_DEPTH_TEXT=2)
    model = prompted(state, PROMPT_DEPTH_VISION=0, PROMPT_DEPTH_TEXT=2)
    assert set(model.prompt_learner.state_dict()) == {"ctx", "text.0"}
    assert torch.equal(model.image_features(images := torch.randn(1, 3, 32, 32)), F.normalize(model.clip.encode_image(images), dim=-1))  # fmt: skip


# --- VPT and IVLP -----------------------------------------------------------------------------------------------

VISUAL = {f"visual.{i}": (8, 128) for i in range(4)}
RUNS = {  # what each learns on the shipped CLIP, of four blocks of width 128
    "deep": ("VPT", "embedded", [], VISUAL),
    "shallow": ("VPT", "embedded_shallow", [], {"visual.0": (8, 128)}),
    "both": ("IVLP", "embedded", ["TRAINER.IVLP.N_CTX_VISION", 3], {
        "ctx": (2, 128),
        **{f"text.{i}": (2, 128) for i in range(3)},
        **{f"visual.{i}": (3, 128) for i in range(4)},
    }),
    "language": ("IVLP", "embedded", ["TRAINER.IVLP.PROMPT_DEPTH_VISION", 0, "TRAINER.IVLP.PROMPT_DEPTH_TEXT", 2], {
        "ctx": (2, 128),
        "text.0": (2, 128),
    }),
}  # fmt: skip
FOLDERS = {"VPT": "prompt_learner", "IVLP": "VLPromptLearner"}
kinds = pytest.mark.parametrize("kind", RUNS)


def line(root, output, kind, **flags):
    trainer, config, options, _ = RUNS[kind]
    path = REPOSITORY / f"configs/trainers/{trainer}/{config}.yaml"
    return arguments(root, output, trainer, options=["OPTIM.MAX_EPOCH", 2, *options], config_file=path, **flags)


@kinds
def test_a_run(data_root, tmp_path, kind, monkeypatch):
    """What is learned and saved, and how often each encoder works for it."""
    texts, images, encode = [], [], (clip.model.CLIP.encode_prompts, clip.model.CLIP.encode_image)
    monkeypatch.setattr(clip.model.CLIP, "encode_prompts", lambda self, x, *rest: texts.append(len(x)) or encode[0](self, x, *rest))  # fmt: skip
    monkeypatch.setattr(clip.model.CLIP, "encode_image", lambda self, x, *rest, **more: images.append(len(x)) or encode[1](self, x, *rest, **more))  # fmt: skip
    assert train.main(line(data_root, tmp_path / "base", kind)) == 0
    trainer, _, _, shapes = RUNS[kind]
    # VPT's hand-written texts never change; else they do with each of 2 x 3 steps. 12 images are tested.
    assert texts == [3] * (1 if trainer == "VPT" else 2 * 3 + 1)
    assert sum(images) == (12 if kind == "language" else 2 * 12) + 12

    saved = torch.load(tmp_path / "base" / FOLDERS[trainer] / "model.pth.tar-2", weights_only=True)["state_dict"]
    assert {name: tuple(value.shape) for name, value in saved.items()} == shapes
    record = results(tmp_path / "base")
    assert record["trainable_parameters"] == sum(m * width for m, width in shapes.values())
    first = built(line(data_root, tmp_path / "unused", kind)).model.prompt_learner.state_dict()
    assert all((value - first[name]).abs().max() > 0 for name, value in saved.items())

    if kind in ("shallow", "language"):
        return
    flags = {"model_dir": tmp_path / "base", "eval_only": True}
    for half in ("base", "new"):
        assert train.main(line(data_root, tmp_path / half / "test", kind, subsample=half, **flags)) == 0
    assert results(tmp_path / "base" / "test")["classwise"] == record["classwise"]
    assert list(results(tmp_path / "new" / "test")["classwise"]) == CLASSES[3:]


def as_published(model):
    """The prompts under the names of the authors' checkpoints, with some of what else these hold."""
    learner = model.prompt_learner
    state = {"image_encoder.conv1.weight": model.clip.visual.conv1.weight, "logit_scale": model.clip.logit_scale}
    if hasattr(learner, "ctx"):
        state |= {"prompt_learner.ctx": learner.ctx, "prompt_learner.token_prefix": torch.zeros(5, 1, 128)}
    for i, prompt in enumerate(learner.visual):
        where = f"transformer.resblocks.{i}.VPT_shallow" if i else "VPT"
        state[f"image_encoder.{where}"] = prompt
    for i, prompt in enumerate(learner.text):
        state[f"text_encoder.transformer.resblocks.{i + 1}.VPT_shallow"] = prompt
    return state


def test_names_of_published_checkpoints(state):
    model = prompted(state)
    theirs, ours = as_published(model), model.prompt_learner.state_dict()
    learned = from_published(theirs)
    assert learned.keys() == ours.keys() and from_published(ours) is ours
    assert learned["visual.0"] is theirs["image_encoder.VPT"]
    assert learned["visual.2"] is theirs["image_encoder.transformer.resblocks.2.VPT_shallow"]
    assert learned["text.1"] is theirs["text_encoder.transformer.resblocks.2.VPT_shallow"]


@kinds
@torch.no_grad()
def test_a_published_checkpoint(data_root, tmp_path, kind):
    """Theirs gives the logits of the model that it was taken from, and so does ours, saved after loading it."""
    images, argv = torch.randn(2, 3, 64, 64), line(data_root, tmp_path, kind)
    source, trainer, again = built(argv), built(argv), built(argv)
    moved(source.model.prompt_learner)
    expected = source.model(images)
    assert (trainer.model(images) - expected).abs().max() > 0.1
    write_checkpoint(tmp_path / "theirs", FOLDERS[RUNS[kind][0]], as_published(source.model))
    trainer.load_model(str(tmp_path / "theirs"), epoch=5)
    assert torch.equal(trainer.model(images), expected)
    trainer.save_model(0, str(tmp_path / "ours"))
    again.load_model(str(tmp_path / "ours"), epoch=1)
    assert torch.equal(again.model(images), expected)


@torch.no_grad()
def test_vpts_texts_are_hand_written(data_root, tmp_path):
    trainer = built(line(data_root, tmp_path, "deep"))
    expected = trainer.model.clip.encode_text(clip.tokenize([f"a photo of a {name}." for name in CLASSES[:3]]))
    torch.testing.assert_close(trainer.model.text_features(), F.normalize(expected, dim=-1), atol=1e-6, rtol=0)


def test_a_depth_that_cannot_be_is_one_sentence(data_root, tmp_path, capsys):
    options = ["TRAINER.VPT.PROMPT_DEPTH_VISION", 5]
    assert train.main(arguments(data_root, tmp_path, "VPT", options=options)) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: PROMPT_DEPTH_VISION is 5") and "choose 1 to 4" in said
