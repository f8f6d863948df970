"""CoCoOp (../trainers/cocoop.py): each image's prompts by hand, parts under a memory bound, what is computed once."""

import pytest
import torch
import torch.nn.functional as F
from yacs.config import CfgNode

import clip
import train
from clip.simple_tokenizer import SimpleTokenizer
from dassl.engine import build_trainer
from dassl.utils import set_random_seed
from tests.clip_weights import SMALL, random_state
from tests.helpers import arguments
from trainers.cocoop import ConditionalCLIP, ConditionalContext

NAMES = ["cat", "german_shepherd", "ice cream"]  # so prompts of different lengths, up to 9 tokens with their ends
KEYS = CfgNode(dict(N_CTX=4, CTX_INIT="a photo of a"))
LONGEST = 9
# Bytes of one prompt, as `clip.parts.activations` says what it counts: two blocks of width 128 and two heads, and one at work.
ONE = 3 * LONGEST * (128 * (2 * 4 + 12 * 4) + 2 * LONGEST * 4)


@pytest.fixture(scope="module")
def small():
    return clip.build_model(random_state(SMALL)).float().requires_grad_(False).eval()


@pytest.fixture(scope="module")
def learner(small):
    torch.manual_seed(0)
    learner = ConditionalContext(small, NAMES, KEYS)
    with torch.no_grad():
        learner.ctx += 0.1 * torch.randn_like(learner.ctx)
        learner.meta_net.linear1.weight.mul_(5)  # of two hidden units; so images differ, and some units are off
    return learner


@pytest.fixture
def prompts_per_call(monkeypatch):
    counts, encode = [], clip.model.CLIP.encode_prompts
    monkeypatch.setattr(
        clip.model.CLIP, "encode_prompts", lambda self, x, *rest: counts.append(len(x)) or encode(self, x, *rest)
    )
    return counts


def unit_rows(count):
    torch.manual_seed(1)
    return F.normalize(torch.randn(count, 32), dim=-1)


def texts_by_hand(small, learner, feature):
    """An image's text features, one prompt at a time, each put together from its tokens."""
    net = learner.meta_net
    hidden = (net.linear1.weight @ feature + net.linear1.bias).clamp(min=0)
    shift = net.linear2.weight @ hidden + net.linear2.bias
    encode = SimpleTokenizer().encode
    texts = []
    for name in NAMES:
        ids = [49406, *encode(name.replace("_", " ")), *encode("."), 49407]
        start, *rest = small.token_embedding(torch.tensor(ids))
        prompt = torch.stack([start, *(token + shift for token in learner.ctx), *rest])
        text = small.encode_prompts(prompt[None], torch.tensor([len(prompt) - 1]))[0]
        texts.append(text / text.norm())
    return torch.stack(texts), hidden


@torch.no_grad()
def test_each_image_has_prompts_of_its_own(small, learner):
    model = ConditionalCLIP(small, learner)
    f = unit_rows(5)
    texts = model.text_features(f)
    logits = model.logits(f, texts)
    on = []
    for i in range(len(f)):
        expected, hidden = texts_by_hand(small, learner, f[i])
        on += (hidden > 0).tolist()
        torch.testing.assert_close(texts[i], expected, rtol=0, atol=1e-6)
        for c in range(len(NAMES)):
            cosine = (f[i] * expected[c]).sum()
            assert logits[i, c].item() == pytest.approx((small.logit_scale.exp() * cosine).item(), abs=1e-4)
    assert 0 < sum(on) < len(on)  # the activation matters
    assert (texts[0] - texts[1]).abs().max() > 1e-3


@torch.no_grad()
def test_logits_of_images(small, learner):
    model = ConditionalCLIP(small, learner)
    images = torch.randn(2, 3, 32, 32)
    f = F.normalize(small.encode_image(images), dim=-1)
    expected = torch.stack([small.logit_scale.exp() * texts_by_hand(small, learner, x)[0] @ x for x in f])
    torch.testing.assert_close(model(images), expected, rtol=0, atol=1e-4)


def step(small, learner):
    """Logits, loss and gradients of a batch of four images, twelve prompts."""
    model, f = ConditionalCLIP(small, learner), unit_rows(4)
    logits = model.logits(f, model.text_features(f))
    loss = F.cross_entropy(logits, torch.tensor([0, 1, 2, 1]))
    return [logits.detach(), loss.detach(), *torch.autograd.grad(loss, list(learner.parameters()))]


@pytest.mark.parametrize(
    ("at_once", "parts"), [(1, [1] * 12), (2, [2] * 6), (5, [4, 4, 4]), (7, [6, 6]), (11, [6, 6]), (12, [12])]
)
def test_parts_change_nothing_and_keep_to_the_bound(small, learner, prompts_per_call, monkeypatch, at_once, parts):
    whole = step(small, learner)
    assert prompts_per_call == [12]
    del prompts_per_call[:]
    monkeypatch.setattr(small, "text_memory", at_once * ONE)
    for ours, expected in zip(step(small, learner), whole, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)
    assert prompts_per_call == parts + (parts if len(parts) > 1 else [])  # backward, again


def test_without_gradients_more_fit(small, learner, prompts_per_call, monkeypatch):
    monkeypatch.setattr(small, "text_memory", ONE)
    with torch.no_grad():
        ConditionalCLIP(small, learner).text_features(unit_rows(3))
    assert prompts_per_call == [3, 3, 3]


def test_what_backward_keeps_is_within_the_bound(small, learner):
    """The bytes that autograd holds of seven pairs' prompts: the count is no less, and not twice as much."""
    model, kept = ConditionalCLIP(small, learner), {}
    weights = {value.untyped_storage().data_ptr() for value in model.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    contexts = learner.contexts(unit_rows(3))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        features = model.encode_pairs(contexts, torch.arange(1, 8))
    measured = sum(kept.values())
    assert features.requires_grad and 0.5 * 7 * ONE < measured < 7 * ONE


def test_the_key_of_before(data_root, tmp_path, capsys):
    assert train.main(arguments(data_root, tmp_path, "CoCoOp", options=["TRAINER.COCOOP.MEMORY_MB", 512])) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "TRAINER.COCOOP.MEMORY_MB is unknown; the nearest is TRAINER.MEMORY_MB." in sentence


def trained(data_root, output, **replaced):
    """A whole training of three epochs and its test: what is learned, images that CLIP saw, names it embedded."""
    set_random_seed(1)
    line = arguments(data_root, output, "CoCoOp", options=["OPTIM.LR", 0.05])
    trainer = build_trainer(train.build_config(train.parse_arguments(line)))
    for name, value in replaced.items():
        setattr(trainer, name, value)
    learned = trainer.model.prompt_learner.state_dict()
    first = {name: value.clone() for name, value in learned.items()}
    images, names = [], []
    trainer.model.clip.visual.register_forward_pre_hook(lambda module, args: images.append(len(args[0])))
    trainer.model.clip.token_embedding.register_forward_pre_hook(lambda module, args: names.append(len(args[0])))
    trainer.train()
    return {name: learned[name] - value for name, value in first.items()}, sum(images), names


def test_images_are_encoded_once_and_class_names_are_not_embedded_again(data_root, tmp_path):
    """12 training images and 12 test images; with chance in the transform, the former again each epoch."""
    moved, images, names = trained(data_root, tmp_path / "once")
    again, more, _ = trained(data_root, tmp_path / "again", is_transform_fixed=lambda: False)
    assert images == 12 + 12 and more == 3 * 12 + 12
    assert names == []
    for name, value in moved.items():  # what is looked up is what the batch's images give
        torch.testing.assert_close(value, again[name], rtol=0, atol=0.01 * value.abs().max().item())
