"""CoCoOp (../trainers/cocoop.py): each image's prompts by hand, parts under a memory bound, what is computed once."""

import pytest
import torch
import torch.nn.functional as F
from yacs.config import CfgNode

import clip
import train
from clip import lengths
from clip.simple_tokenizer import SimpleTokenizer
from dassl.engine import build_trainer
from dassl.utils import set_random_seed
from tests.clip_weights import SMALL, random_state
from tests.helpers import arguments
from trainers.cocoop import ConditionalCLIP, ConditionalContext

NAMES = ["cat", "german_shepherd", "ice cream"]  # so prompts of different lengths, up to 9 tokens with their ends
KEYS = CfgNode(dict(N_CTX=4, CTX_INIT="a photo of a"))
LONGEST, SHARED = 9, 5  # places: with the end, and of the start and the context


def size(prompts: int) -> int:
    """Bytes of so many prompts of an image, as `clip.parts.activations` says what it counts: two blocks of width 128 and two
    heads, and one at work.
    """
    token, joined = lambda length: 128 * (2 * 4 + 12 * 4) + 2 * length * 4, 2 * LONGEST * 128 * 4
    behind = LONGEST - SHARED  # for all of them, as it is not worth a span of its own to spare one of them a place
    return 3 * (SHARED * token(SHARED) + prompts * (behind * token(LONGEST) + joined))


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
    ("memory", "parts"),
    [
        (4 * size(3), [12]),
        (4 * size(3) - 1, [6, 6]),
        (2 * size(3) - 1, [3] * 4),
        (size(3) - 1, [1, 2] * 4),  # not one image's at once
        (size(1), [1] * 12),
    ],
)
def test_parts_change_nothing_and_keep_to_the_bound(small, learner, prompts_per_call, monkeypatch, memory, parts):
    whole = step(small, learner)
    assert prompts_per_call == [12]
    del prompts_per_call[:]
    monkeypatch.setattr(small, "text_memory", memory)
    for ours, expected in zip(step(small, learner), whole, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)
    assert prompts_per_call == parts + (parts[::-1] if len(parts) > 1 else [])  # backward, again, from the last part on


def test_without_gradients_more_fit(small, learner, prompts_per_call, monkeypatch):
    monkeypatch.setattr(small, "text_memory", size(3))
    with torch.no_grad():
        ConditionalCLIP(small, learner).text_features(unit_rows(6))
    assert prompts_per_call == [9, 9]


@pytest.mark.parametrize("names", [NAMES, NAMES * 5])
def test_what_backward_keeps_is_within_the_bound(small, names):
    """The bytes that autograd holds of two images' prompts: the count is no less, and not twice as much."""
    model, kept = ConditionalCLIP(small, ConditionalContext(small, names, KEYS)), {}
    weights = {value.untyped_storage().data_ptr() for value in model.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    contexts = model.prompt_learner.contexts(unit_rows(2))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        features = model.encode_some(contexts, slice(0, len(names)))
    measured, counted = sum(kept.values()), small.text_size(model.prompt_learner.text_work(2), learns=True)
    assert features.requires_grad and 0.5 * counted < measured < counted


@pytest.fixture
def places(small):
    """How many places each pass through the first text block's MLP had."""
    seen = []
    mlp = small.transformer.resblocks[0].mlp
    hook = mlp.register_forward_hook(lambda _, x, y: seen.append(y[..., 0].numel()))
    yield seen
    hook.remove()


def test_what_an_images_prompts_share_is_encoded_once(small, learner, places):
    """The start token and its context; behind them every name has room for the longest."""
    step(small, learner)
    assert sum(places) == 4 * (SHARED + 3 * (LONGEST - SHARED))


class Own(ConditionalContext):
    """Another code's: each class has a context of its own, and a prompt ends a place early."""

    def forward(self, contexts, classes):
        prompts, end = super().forward(contexts, classes)
        own = torch.arange(len(prompts), device=prompts.device)[:, None, None]
        return prompts + 0.01 * own, end - 1


def in_code(learner):
    learner.__class__ = Own


def in_what_it_is_made_of(learner):
    learner.prompts.embeddings[1, 0] += 1


@pytest.mark.parametrize("change", [in_code, in_what_it_is_made_of])
@torch.no_grad()
def test_prompts_that_another_has_changed_are_encoded_whole(small, places, change):
    learner = ConditionalContext(small, NAMES, KEYS)
    change(learner)
    found = ConditionalCLIP(small, learner).text_features(unit_rows(2))
    prompts, end = learner(learner.contexts(unit_rows(2)), slice(0, 3))
    assert sum(places) == 6 * LONGEST
    expected = F.normalize(small.encode_prompts(prompts, end, (), LONGEST), dim=-1)
    torch.testing.assert_close(found.flatten(0, 1), expected)


@torch.no_grad()
def test_ends_that_another_has_moved_are_heeded(small, monkeypatch):
    """Though each prompt would have had no more places than its own end needs."""
    monkeypatch.setitem(lengths.PRICES, "cpu", 0)
    learner = ConditionalContext(small, NAMES, KEYS)
    learner.prompts.end[0] += 1
    found = ConditionalCLIP(small, learner).text_features(unit_rows(2))
    prompts, end = learner(learner.contexts(unit_rows(2)), slice(0, 3))
    expected = F.normalize(small.encode_prompts(prompts, end, (), LONGEST), dim=-1)
    torch.testing.assert_close(found.flatten(0, 1), expected)


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
