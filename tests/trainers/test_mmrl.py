"""MMRL and MMRL++ (../trainers/{mmrl,mmrlpp,representations}.py): both encoders and the loss by hand, and who is told by what."""

import pytest
import torch
import torch.nn.functional as F

import clip
import train
from dassl.engine import build_trainer
from tests.clip_weights import SMALL, random_state
from tests.helpers import CLASSES, arguments, results
from trainers.mmrl import RepresentationLearner
from trainers.mmrlpp import SharedRepresentationLearner
from trainers.shared.representations import RepresentedCLIP

NAMES, TEMPLATE = ["cat", "german_shepherd", "ice cream"], "a photo of a {}, a type of thing."
SHAPES = {"N_REP_TOKENS": 2, "REP_DIM": 12, "REP_LAYERS": (2, 3), "BETA": 0.6, "RES_LORA_DIM": 3, "PROJ_LORA_DIM": 5}
KEYS = type("Keys", (), SHAPES)
kinds = pytest.mark.parametrize("kind", [RepresentationLearner, SharedRepresentationLearner])
methods = pytest.mark.parametrize("method", ["MMRL", "MMRLpp"])


def small(dtype=torch.float32, **sizes):
    layers = {"vision_layers": 3, "transformer_layers": 3}
    return clip.build_model(random_state(SMALL | layers | sizes)).to(dtype).requires_grad_(False).eval()


def model_of(kind, encoder=None):
    encoder = small() if encoder is None else encoder
    torch.manual_seed(3)
    learner = kind(encoder, NAMES, TEMPLATE, "Things", KEYS)
    with torch.no_grad():
        for value in learner.parameters():  # away from zeros
            value += 0.3 * torch.randn_like(value)
    return RepresentedCLIP(encoder, learner, alpha=0.7, scale=100.0)


def through(blocks, x, tokens, beta, causal):
    """A sequence (L, D), of whose first token all else is behind, through one block after another: tokens enter behind it."""
    for i, block in enumerate(blocks):
        if i == 1:
            x = torch.cat([x[:1], tokens[0], x[1:]])
        if i == 2:
            x = torch.cat([x[:1], beta * tokens[1] + (1 - beta) * x[1:3], x[3:]])
        q, k, v = block.attn.split(block.attn.projected(block.ln_1(x)[None]))
        scores = q @ k.mT * q.shape[-1] ** -0.5
        if causal:
            scores = scores + torch.full((len(x), len(x)), float("-inf")).triu(1)
        x = x + block.attn.join(scores.softmax(dim=-1) @ v)[0]
        x = x + block.mlp(block.ln_2(x))
    return x


def maps_by_hand(learner, side: str) -> list[torch.Tensor]:
    """The tokens (m, D) of both blocks."""
    x, found = learner.compound_rep_tokens, []
    for i in range(2):
        if isinstance(learner, SharedRepresentationLearner):
            shared = getattr(learner, f"srra_r2{side}proj")
            own = shared.srra[i]
            found.append(x @ (shared.weight + own.A @ own.B).t() + own.bias)
        else:
            own = getattr(learner, f"compound_rep_tokens_r2{side}proj")[i]
            found.append(x @ own.weight.t() + own.bias)
    return found


@kinds
def test_texts_by_hand(kind):
    model = model_of(kind)
    encoder, learner, texts = model.clip, model.prompt_learner, []
    for name in NAMES:
        ids = clip.tokenize(TEMPLATE.format(name.replace("_", " ")))[0]
        x = encoder.token_embedding(ids) + encoder.positional_embedding
        beta = getattr(learner, "beta", 1.0)
        x = through(encoder.transformer.resblocks, x, maps_by_hand(learner, "t"), beta, causal=True)
        texts.append(encoder.ln_final(x[ids.argmax() + 2]) @ encoder.text_projection)
    torch.testing.assert_close(model.text_features(), F.normalize(torch.stack(texts), dim=-1), atol=1e-5, rtol=0)
    encoder.text_memory = 1  # so that each prompt is a part
    torch.testing.assert_close(model.text_features(), F.normalize(torch.stack(texts), dim=-1), atol=1e-5, rtol=0)


@kinds
def test_images_by_hand(kind):
    """Both features, and those of patches; the answer is the sum of two logits, each by its share."""
    model = model_of(kind)
    visual, learner, images = model.clip.visual, model.prompt_learner, torch.randn(2, 3, 32, 32)
    rows = []
    for image in images:
        x = visual.conv1(image[None]).flatten(2)[0].t()
        x = visual.ln_pre(torch.cat([visual.class_embedding[None], x]) + visual.positional_embedding)
        x = through(visual.transformer.resblocks, x, maps_by_hand(learner, "v"), learner.beta, causal=False)
        own = visual.proj + learner.A @ learner.B if kind is SharedRepresentationLearner else learner.proj_rep
        x = visual.ln_post(x)
        rows.append((x[0] @ visual.proj, x[1:3].mean(dim=0) @ own, x[3:] @ visual.proj))
    expected = [F.normalize(torch.stack(part), dim=-1) for part in zip(*rows, strict=True)]
    for found, wanted in zip(model.features(images, tokens=True), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    (f, g, v), t = expected, model.text_features()
    assert (f - g).abs().max() > 0.1
    logits = 70 * f @ t.t() + 30 * g @ t.t()
    torch.testing.assert_close(model(images), logits, atol=1e-3, rtol=0)
    one, patches = model.image_features(images, tokens=True)  # as a plug-in has them: one feature, of unit length
    torch.testing.assert_close(patches, v, atol=1e-5, rtol=0)
    length = (0.7 * f + 0.3 * g).norm(dim=-1, keepdim=True)
    torch.testing.assert_close(model.logits(one, t) * length, logits, atol=1e-3, rtol=0)
    learner.learned = {"dataset": "Things", "classes": NAMES[:2]}
    torch.testing.assert_close(model(images), 100 * f @ t.t(), atol=1e-3, rtol=0)
    torch.testing.assert_close(model.image_features(images), f, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("dataset", "classes", "known"),
    [("Things", NAMES, True), ("Things", [*NAMES[::-1], "dog"], True), ("Things", NAMES[1:], False), ("Others", NAMES, False)],
)  # fmt: skip
def test_classes_that_were_learned(dataset, classes, known):
    """They, or some of them, of the same data set; the learner's state says which they were."""
    model, another = model_of(RepresentationLearner), model_of(RepresentationLearner)
    model.prompt_learner.learned = {"dataset": dataset, "classes": classes}
    another.prompt_learner.load_state_dict(model.prompt_learner.state_dict())
    assert another.prompt_learner.knows_classes() == known


@kinds
def test_what_learns(kind):
    """In fp32 whatever the encoders' precision, and nothing of the encoders."""
    model = model_of(kind, small(torch.bfloat16))
    f, g = model.features(torch.randn(2, 3, 32, 32))
    ((f + g) @ model.text_features().t()).square().sum().backward()
    for name, value in model.named_parameters():
        learns = name.startswith("prompt_learner.")
        assert value.requires_grad == learns and (value.grad is not None and value.grad.abs().sum() > 0) == learns, name
        assert not learns or value.grad.dtype == torch.float32


def test_at_first_the_second_feature_is_projected_as_the_class_token():
    torch.manual_seed(3)
    encoder = small()
    learner, x = SharedRepresentationLearner(encoder, NAMES, TEMPLATE, "Things", KEYS), torch.randn(4, 128)
    torch.testing.assert_close(learner.project(x), x @ encoder.visual.proj)
    assert "proj" not in learner.state_dict()


@methods
def test_loss_by_hand(data_root, tmp_path, method):
    options = [f"TRAINER.{method.upper()}.REG_WEIGHT", 3.0]
    trainer = build_trainer(
        train.build_config(train.parse_arguments(arguments(data_root, tmp_path, method, options=options)))
    )
    trainer.is_transform_fixed = lambda: False  # batches here are not of training images
    model, images, labels = trainer.model, torch.randn(4, 3, 64, 64), torch.tensor([2, 0, 1, 1])
    (f, g), t, scale = model.features(images), model.text_features(), model.clip.logit_scale.exp()
    prompts = clip.tokenize([f"a photo of a {name}." for name in CLASSES[:3]])
    frozen_f, frozen_t = (
        F.normalize(x, dim=-1) for x in (model.clip.encode_image(images), model.clip.encode_text(prompts))
    )
    drift = 2 - F.cosine_similarity(f, frozen_f).mean() - F.cosine_similarity(t, frozen_t).mean()
    both = 0.7 * F.cross_entropy(scale * f @ t.t(), labels) + 0.3 * F.cross_entropy(scale * g @ t.t(), labels)
    loss, shown = trainer.compute_loss(images, labels)
    torch.testing.assert_close(loss, both + 3 * drift, rtol=1e-4, atol=1e-5)
    assert shown["drift"] == pytest.approx(drift.item(), rel=1e-3) and drift > 1e-3


def as_published(state: dict, method: str) -> dict:
    """The whole model, in half precision, as the authors save it."""
    beside = {"MMRL": ("proj_rep",), "MMRLpp": ("A", "B")}[method]
    named = {name: value for name, value in state.items() if name != "_extra_state"}
    theirs = {
        ("image_encoder." if name in beside else "representation_learner.") + name: value
        for name, value in named.items()
    }
    others = {"prompt_embeddings": torch.zeros(3, 77, 128), "image_encoder.conv1.weight": torch.zeros(4, 3, 8, 8)}
    return theirs | others


@methods
def test_trains_on_base_and_tests_on_new(data_root, tmp_path, method, monkeypatch):
    """By both features and by the class token's; a checkpoint of the authors' code is told by the protocol which it is."""
    said, joined = [], RepresentedCLIP.joined
    monkeypatch.setattr(
        RepresentedCLIP, "joined", lambda self, f, g: said.append(joined(self, f, g) is not f) or joined(self, f, g)
    )
    assert train.main(arguments(data_root, tmp_path / "base", method)) == 0
    path = tmp_path / "base" / "MultiModalRepresentationLearner" / "model.pth.tar-3"
    state = torch.load(path, weights_only=True)["state_dict"]
    theirs = tmp_path / "theirs" / path.parent.name / path.name
    theirs.parent.mkdir(parents=True)
    torch.save({"state_dict": as_published(state, method), "epoch": 3}, theirs)
    for subsample, protocol, known in [
        ("base", "base2new", True),
        ("new", "base2new", False),
        ("all", "base2new", False),
    ]:
        accuracies = set()
        for run in ("base", "theirs"):
            said.clear()
            flags = {
                "model_dir": tmp_path / run,
                "eval_only": True,
                "load_epoch": 3,
                "subsample": subsample,
                "protocol": protocol,
            }
            assert train.main(arguments(data_root, tmp_path / run / subsample, method, **flags)) == 0
            assert set(said) == {known}
            accuracies.add(results(tmp_path / run / subsample)["accuracy"])
        assert len(accuracies) == 1
    assert results(tmp_path / "base" / "base")["accuracy"] == results(tmp_path / "base")["accuracy"]


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ((2, 5), "error: TRAINER.MMRL.REP_LAYERS is 5, and this backbone has 4 such blocks: choose 1 to 4"),
        ((3, 2), "REP_LAYERS is (3, 2)"),
        ((), "REP_LAYERS is ()"),
    ],
)
def test_blocks_that_are_not_there(data_root, tmp_path, capsys, layers, said):
    assert train.main(arguments(data_root, tmp_path, "MMRL", options=["TRAINER.MMRL.REP_LAYERS", layers])) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert said in sentence


def test_a_residual_network_is_refused():
    sizes = {"vision_layers": (1, 1, 1, 1), "vision_width": 64, "vision_patch_size": None, "image_resolution": 64}
    with pytest.raises(clip.InputError, match="residual network"):
        RepresentationLearner(small(**sizes), NAMES, TEMPLATE, "Things", KEYS)
