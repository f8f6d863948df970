"""TCP (../trainers/tcp.py): its prompts, where each class's own tokens enter, its loss, and what is learned."""

import pytest
import torch
import torch.nn.functional as F

import clip
import train
from dassl.engine import build_trainer
from tests.clip_weights import SMALL, random_state
from tests.helpers import CLASSES, arguments, results
from trainers.shared.prompted_clip import PromptedCLIP
from trainers.shared.prompts import template_of, zero_shot_text_features
from trainers.tcp import BEHIND, ClassAwareLearner

NAMES = ["cat", "german_shepherd", "ice cream"]
KEYS = type("Keys", (), {"N_CTX": 2, "CTX_INIT": "", "BLOCK": 2})


def small(dtype=torch.float32, **sizes):
    return clip.build_model(random_state(SMALL | sizes)).to(dtype).requires_grad_(False).eval()


def learner_of(encoder, behind="{}, a type of thing."):
    torch.manual_seed(3)
    return ClassAwareLearner(encoder, NAMES, KEYS, behind, zero_shot_text_features(encoder, NAMES))


def built(data_root, output, *options):
    return build_trainer(
        train.build_config(train.parse_arguments(arguments(data_root, output, "TCP", options=options)))
    )


def by_hand(encoder, learner, behind) -> torch.Tensor:
    """(C, d) unit rows: one prompt after another, all of its 77 places through one block after another."""
    texts = []
    mask = torch.full((77, 77), float("-inf")).triu(1)
    for number, name in enumerate(NAMES):
        ids = clip.tokenize("X X " + behind.format(name.replace("_", " ")))
        x = encoder.token_embedding(ids)[0]
        x[1:3] = learner.ctx
        x = x + encoder.positional_embedding
        hidden = learner.meta_net.linear1(learner.text[number])
        own = learner.meta_net.linear2(hidden * torch.sigmoid(1.702 * hidden)).view(2, -1)
        for i, block in enumerate(encoder.transformer.resblocks):
            if i == 1:
                x = torch.cat([x[:1], own, x[3:]])
            normed = block.ln_1(x)
            q, k, v = block.attn.split(block.attn.projected(normed[None]))
            seen = (q @ k.mT * q.shape[-1] ** -0.5 + mask).softmax(dim=-1) @ v
            x = x + block.attn.join(seen)[0]
            x = x + block.mlp(block.ln_2(x))
        texts.append(encoder.ln_final(x[ids.argmax()]) @ encoder.text_projection)
    return F.normalize(torch.stack(texts), dim=-1)


@pytest.mark.parametrize("behind", ["{}, a type of thing.", "person doing {}."])
def test_texts_by_hand(behind):
    encoder = small(transformer_layers=4)  # blocks behind the one with the tokens, which leave them what they become
    learner = learner_of(encoder, behind)
    model, expected = PromptedCLIP(encoder, learner), by_hand(encoder, learner, behind)
    torch.testing.assert_close(model.text_features(), expected, atol=1e-5, rtol=0)
    with torch.no_grad():
        learner.meta_net.linear2.bias += torch.randn(256)
    assert (model.text_features() - expected).abs().max() > 1e-3


def test_in_parts_each_class_has_its_own_tokens():
    encoder = small()
    model = PromptedCLIP(encoder, learner_of(encoder))
    whole = model.text_features()
    encoder.text_memory = 1  # so that each prompt is a part
    torch.testing.assert_close(model.text_features(), whole, atol=1e-6, rtol=0)


def test_loss_by_hand(data_root, tmp_path):
    """Cross-entropy + W times the mean of 1 - cos to the hand-written texts; images are not asked for their gradients."""
    trainer = built(data_root, tmp_path, "TRAINER.TCP.W", 3.0)
    trainer.is_transform_fixed = lambda: False  # batches here are not of training images
    images, labels, model = torch.randn(4, 3, 64, 64), torch.tensor([2, 0, 1, 1]), trainer.model
    f, t = F.normalize(model.clip.encode_image(images), dim=-1), model.text_features()
    fixed = F.normalize(
        model.clip.encode_text(clip.tokenize([f"a photo of a {name}." for name in CLASSES[:3]])), dim=-1
    )
    distance = sum(1 - t[c] @ fixed[c] for c in range(3)) / 3
    expected = F.cross_entropy(model.clip.logit_scale.exp() * f @ t.t(), labels) + 3 * distance
    loss, shown = trainer.compute_loss(images, labels)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    assert shown["loss_kg"] == pytest.approx(distance.item(), rel=1e-3) and distance > 0.01
    (gradient,) = torch.autograd.grad(expected, model.prompt_learner.ctx)  # of the distance too
    loss.backward()
    torch.testing.assert_close(model.prompt_learner.ctx.grad, gradient, rtol=1e-3, atol=1e-5)
    learned = [
        name for name, value in model.named_parameters() if value.grad is not None and value.grad.abs().sum() > 0
    ]
    layers = [f"meta_net.linear{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")]
    assert learned == [f"prompt_learner.{name}" for name in ("ctx", *layers)]


def test_half_precision_learns_in_fp32():
    half = small(torch.bfloat16)
    learner = learner_of(half)
    PromptedCLIP(half, learner).text_features()[:, 0].sum().backward()
    assert all(value.dtype == value.grad.dtype == torch.float32 for value in learner.parameters())


def test_prompts_of_its_authors():
    """Behind the context, and those that make the tokens."""
    of = lambda name, template: template_of(type(name, (), {"template": template})(), "TCP")  # noqa: E731
    assert of("FGVCAircraft", "a photo of a {}, a type of aircraft.") == "a photo of an aircraft {}."
    assert of("OxfordPets", "a photo of a {}, a type of pet.") == "a photo of a {}, a type of pet."
    assert BEHIND["UCF101"] == "person doing {}." and BEHIND["StanfordCars"] == "{}, a type of car"


def test_trains_on_base_and_tests_on_new(data_root, tmp_path):
    """A checkpoint as its authors write it: theirs has the names of ours, and buffers of the classes trained on."""
    assert train.main(arguments(data_root, tmp_path / "base", "TCP")) == 0
    path = tmp_path / "base" / "prompt_learner" / "model.pth.tar-3"
    checkpoint = torch.load(path, weights_only=True)
    buffers = {"token_prefix": torch.zeros(3, 1, 128), "token_suffix": torch.zeros(3, 72, 128)}
    theirs = tmp_path / "theirs" / "prompt_learner" / path.name
    theirs.parent.mkdir(parents=True)
    torch.save({"state_dict": checkpoint["state_dict"] | buffers, "epoch": 3}, theirs)
    for subsample in ("base", "new"):
        accuracies = set()
        for run in ("base", "theirs"):
            flags = {"model_dir": tmp_path / run, "eval_only": True, "load_epoch": 3, "subsample": subsample}
            assert train.main(arguments(data_root, tmp_path / run / subsample, "TCP", **flags)) == 0
            accuracies.add(results(tmp_path / run / subsample)["accuracy"])
        assert len(accuracies) == 1
    assert list(results(tmp_path / "base" / "new")["classwise"]) == CLASSES[3:]
    assert results(tmp_path / "base")["trainable_parameters"] == 4 * 128 + 32 * 129 + 4 * 128 * 33


def test_a_block_that_is_not_there(data_root, tmp_path, capsys):
    for block, said in ((5, "this text encoder has 4 blocks: choose 2 to 4"), (1, "at least 2")):
        assert train.main(arguments(data_root, tmp_path, "TCP", options=["TRAINER.TCP.BLOCK", block])) == 2
        (sentence,) = capsys.readouterr().err.splitlines()
        assert f"TRAINER.TCP.BLOCK is {block}" in sentence and said in sentence
