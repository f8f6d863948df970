"""MMA (../trainers/mma.py): both encoders block by block, the gradients of adapters and of what goes in, and its refusals."""

import pytest
import torch
import torch.nn.functional as F

import clip
import train
from tests.clip_weights import SMALL, random_state
from tests.helpers import CLASSES, arguments, results
from trainers.mma import AdapterLearner, BesideBlocks
from trainers.shared.prompted_clip import PromptedCLIP

NAMES = ["cat", "german_shepherd", "ice cream"]
SHAPES = {
    "TEXT_CTX_INIT": "a photo of a",
    "ADAPTER_START": 2,
    "ADAPTER_END": 3,
    "ADAPTER_DIM": 6,
    "ADAPTER_SCALE": 0.05,
}
KEYS = type("Keys", (), SHAPES)


def model_of(dtype=torch.float32, **sizes):
    layers = {"vision_layers": 3, "transformer_layers": 3}
    encoder = clip.build_model(random_state(SMALL | layers | sizes)).to(dtype).requires_grad_(False).eval()
    torch.manual_seed(3)
    return PromptedCLIP(encoder, AdapterLearner(encoder, NAMES, KEYS))


def through(blocks, x, own, shared, causal):
    """A sequence (L, D) through one block after another, with the adapters of the second and third."""
    for i, block in enumerate(blocks):
        beside = 0
        if i > 0:
            hidden = F.relu(block.ln_1(x) @ own[i + 1].down[0].weight.t() + own[i + 1].down[0].bias)
            hidden = F.relu(hidden @ shared[i + 1][0].weight.t() + shared[i + 1][0].bias)
            beside = 0.05 * (hidden @ own[i + 1].up.weight.t() + own[i + 1].up.bias)
        q, k, v = block.attn.split(block.attn.projected(block.ln_1(x)[None]))
        scores = q @ k.mT * q.shape[-1] ** -0.5
        if causal:
            scores = scores + torch.full((len(x), len(x)), float("-inf")).triu(1)
        x = x + block.attn.join(scores.softmax(dim=-1) @ v)[0]
        x = x + block.mlp(block.ln_2(x)) + beside
    return x


def texts_by_hand(model):
    encoder, learner, texts = model.clip, model.prompt_learner, []
    for name in NAMES:
        ids = clip.tokenize(f"a photo of a {name.replace('_', ' ')}.")[0]
        x = encoder.token_embedding(ids) + encoder.positional_embedding
        x = through(encoder.transformer.resblocks, x, learner.text_adapter, learner.shared_adapter, causal=True)
        texts.append(encoder.ln_final(x[ids.argmax()]) @ encoder.text_projection)
    return F.normalize(torch.stack(texts), dim=-1)


def images_by_hand(model, images):
    visual, learner, found = model.clip.visual, model.prompt_learner, []
    for image in images:
        x = visual.conv1(image[None]).flatten(2)[0].t()
        x = visual.ln_pre(torch.cat([visual.class_embedding[None], x]) + visual.positional_embedding)
        x = through(visual.transformer.resblocks, x, learner.visual_adapter, learner.shared_adapter, causal=False)
        found.append(visual.ln_post(x) @ visual.proj)
    return F.normalize(torch.stack(found), dim=-1)  # (B, 1 + N, d)


def test_features_by_hand():
    """Of texts, at once and in parts, of class tokens, for which the last block computes nothing else, and of patches."""
    model, images = model_of(), torch.randn(2, 3, 32, 32)
    texts, rows = texts_by_hand(model), images_by_hand(model, images)
    torch.testing.assert_close(model.text_features(), texts, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.image_features(images), rows[:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(model.image_features(images, tokens=True)[1], rows[:, 1:], atol=1e-5, rtol=0)
    model.clip.text_memory = 1  # so that each prompt is a part
    torch.testing.assert_close(model.text_features(), texts, atol=1e-5, rtol=0)
    assert (texts - model.zero_shot_text(NAMES, "a photo of a {}.")).abs().max() > 1e-3


def test_adapters_learn_as_if_they_were_not_scaled():
    """Gradients are those by hand over the scale, in every adapter, so that what lies before has its own."""
    model, images = model_of(), torch.randn(2, 3, 32, 32)
    names, learned = zip(*model.prompt_learner.named_parameters(), strict=True)
    target = torch.randn(2, 3)
    ours = ((model.image_features(images) @ model.text_features().t()) * target).sum()
    theirs = ((images_by_hand(model, images)[:, 0] @ texts_by_hand(model).t()) * target).sum()
    for name, own, true in zip(names, *(torch.autograd.grad(x, learned) for x in (ours, theirs)), strict=True):
        torch.testing.assert_close(own, true / 0.05, rtol=1e-3, atol=1e-5, msg=name)
        assert own.abs().sum() > 0, name


def test_the_gradient_of_what_goes_in():
    """Is the true one: an adapter's part in it is scaled."""
    model = model_of()
    learner, transformer = model.prompt_learner, model.clip.transformer
    x = torch.randn(1, 5, 128, requires_grad=True)

    def beside(edit, scale):
        edit.before_block(x, 1)
        return torch.autograd.grad((edit.beside * torch.arange(128)).sum(), x)[0]

    ours = beside(BesideBlocks(transformer, learner.text_adapter, learner.shared_adapter, 0.05), 0.05)
    own, shared = learner.text_adapter[2], learner.shared_adapter[2]
    true = 0.05 * own.up(shared(own.down(transformer.resblocks[1].ln_1(x))))
    torch.testing.assert_close(ours, torch.autograd.grad((true * torch.arange(128)).sum(), x)[0], rtol=1e-4, atol=1e-4)


def test_what_is_learned():
    model = model_of(torch.bfloat16)
    shapes = {"down.0": (6, 128), "up": (128, 6)}
    expected = {f"{side}_adapter.{i}.{part}.weight": shape for side in ("text", "visual") for i in (2, 3) for part, shape in shapes.items()}  # fmt: skip
    expected |= {f"shared_adapter.{i}.0.weight": (6, 6) for i in (2, 3)}
    state = model.prompt_learner.state_dict()
    assert {name: tuple(value.shape) for name, value in state.items() if name.endswith("weight")} == expected
    assert len(state) == 2 * len(expected)  # and a bias each
    (model.image_features(torch.randn(2, 3, 32, 32)) @ model.text_features().t()).square().sum().backward()
    for name, value in model.named_parameters():
        learns = name.startswith("prompt_learner.")
        assert value.requires_grad == learns and (value.grad is not None) == learns
        assert not learns or value.dtype == value.grad.dtype == torch.float32


def test_trains_on_base_and_tests_on_new(data_root, tmp_path):
    """A checkpoint as its authors write it has the names of ours, and buffers of the classes trained on."""
    assert train.main(arguments(data_root, tmp_path / "base", "MMA")) == 0
    path = tmp_path / "base" / "adapter_learner" / "model.pth.tar-3"
    state = torch.load(path, weights_only=True)["state_dict"]
    buffers = {"token_embedding": torch.zeros(3, 77, 128), "tokenized_prompts": torch.zeros(3, 77, dtype=torch.long)}
    theirs = tmp_path / "theirs" / "adapter_learner" / path.name
    theirs.parent.mkdir(parents=True)
    torch.save({"state_dict": state | buffers, "epoch": 3}, theirs)
    for subsample in ("base", "new"):
        accuracies = set()
        for run in ("base", "theirs"):
            flags = {"model_dir": tmp_path / run, "eval_only": True, "load_epoch": 3, "subsample": subsample}
            assert train.main(arguments(data_root, tmp_path / run / subsample, "MMA", **flags)) == 0
            accuracies.add(results(tmp_path / run / subsample)["accuracy"])
        assert len(accuracies) == 1
    assert list(results(tmp_path / "base" / "new")["classwise"]) == CLASSES[3:]


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        (3, 5, "error: TRAINER.MMA.ADAPTER_END is 5, and this backbone has 4 such blocks: choose 1 to 4"),
        (4, 3, "TRAINER.MMA.ADAPTER_START is 4, behind TRAINER.MMA.ADAPTER_END, 3"),
        (0, 3, "TRAINER.MMA.ADAPTER_START is 0"),
    ],
)
def test_blocks_that_are_not_there(data_root, tmp_path, capsys, start, end, said):
    options = ["TRAINER.MMA.ADAPTER_START", start, "TRAINER.MMA.ADAPTER_END", end]
    assert train.main(arguments(data_root, tmp_path, "MMA", options=options)) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert said in sentence
