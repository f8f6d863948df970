"""ATPrompt (../trainers/atprompt.py): its prompts by hand, what is trained of them, which attributes a data set has."""

import pytest
import torch
import torch.nn.functional as F
from yacs.config import CfgNode

import clip
import datasets as datasets  # importing registers them
import train
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY, build_trainer
from tests.clip_weights import SMALL, random_state
from tests.helpers import CLASSES, REPOSITORY, arguments, results
from trainers.atprompt import ATTRIBUTES, AnchoredContext, AnchoredCoupledPrompts, attributes_of
from trainers.shared.prompted_clip import PromptedCLIP

NAMES = ["cat", "german_shepherd"]
FORMS = {"CoOp's": (AnchoredContext, {}), "MaPLe's": (AnchoredCoupledPrompts, {"PROMPT_DEPTH": 2})}
WORDS = ["playfulness", "size"]  # of two tokens, and one
forms = pytest.mark.parametrize("form", FORMS)


def built(form, words=WORDS, count=3):
    """The model with a learner whose values are not the first ones."""
    model = clip.build_model(random_state(SMALL)).float().requires_grad_(False).eval()
    kind, keys = FORMS[form]
    learner = kind(model, NAMES, CfgNode({"N_CTX": count, **keys}), words)
    for number, parameter in enumerate(learner.parameters()):
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
    return PromptedCLIP(model, learner)


@forms
def test_prompts_by_hand(form):
    """The start, a context and an attribute, the second context and the second attribute, the context, and the name."""
    model = built(form)
    learner = model.prompt_learner
    prompts, end = learner()
    embed = lambda text: model.clip.token_embedding(clip.tokenize(text))[0]  # noqa: E731  (77, D)
    for name, prompt, stop in zip(("cat", "german shepherd"), prompts, end, strict=True):
        word, size, own = embed("playfulness")[1:3], embed("size")[1:2], embed(f"{name}.")
        own = own[1 : 1 + int(clip.tokenize(f"{name}.").argmax())]  # with the end
        start = embed("")[:1]
        expected = torch.cat([start, learner.ctx_att1, word, learner.ctx_att2, size, learner.ctx, own])
        assert len(expected) == stop + 1 and torch.equal(prompt[: stop + 1], expected)


@forms
def test_what_is_trained(form):
    """Contexts of attributes that are not there are drawn, as published, and get no gradient; words are not learned."""
    model = built(form)
    names = {"ctx", "ctx_att1", "ctx_att2", "ctx_att3"}
    assert names == {name for name in model.prompt_learner.state_dict() if name.startswith(("ctx", "word"))}
    images = torch.randn(2, 3, 32, 32)
    model(images)[:, 0].sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.prompt_learner.named_parameters()}
    assert gradients.pop("ctx_att3") is None
    assert all(gradient.abs().max() > 0 for gradient in gradients.values())
    assert set(gradients) == (set(names) - {"ctx_att3"}) | {name for name in gradients if form == "MaPLe's"}
    four = built(form, ["color", "shape", "size", "range"])
    assert four.prompt_learner.ctx_att4.shape == (3, 128)


def test_deep_tokens_stand_behind_the_attributes():
    """In the second block the context alone is replaced: what attributes and their contexts have become stays."""
    model = built("MaPLe's")
    learner = model.prompt_learner
    prompts, _ = learner()
    x = torch.randn(2, 20, 128)
    (edit,) = learner.text_edits()
    after = edit.before_block(x, 1)
    first = 1 + 3 + 2 + 3 + 1
    assert torch.equal(after[:, :first], x[:, :first]) and torch.equal(after[:, first + 3 :], x[:, first + 3 :])
    assert torch.equal(after[:, first : first + 3], learner.compound_prompts_text[0].expand(2, -1, -1))
    assert torch.equal(prompts[0, first : first + 3], learner.ctx)
    for own, theirs in zip(
        learner.image_edits()[0].prompts, (learner.ctx, *learner.compound_prompts_text), strict=True
    ):
        assert own.shape == theirs.shape


@forms
def test_what_all_prompts_begin_with_goes_once(form):
    """The same features, and gradients, as where nothing is known to be shared."""
    model = built(form)
    learner = model.prompt_learner
    assert learner.shared == 1 + 3 + 2 + 3 + 1 + 3 and learner.lengths == tuple((learner()[1] + 1).tolist())
    prompts, end = learner()
    plain = F.normalize(model.clip.encode_prompts(prompts, end, learner.text_edits()), dim=-1)
    torch.testing.assert_close(model.text_features(), plain, atol=1e-6, rtol=1e-5)
    for parameter in (learner.ctx, learner.ctx_att1):
        (ours,), (theirs,) = (torch.autograd.grad(t[0, 0], parameter, retain_graph=True) for t in (model.text_features(), plain))  # fmt: skip
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_every_benchmark_has_attributes():
    of = lambda name: type(name, (), {})()  # noqa: E731
    assert attributes_of(of("OxfordFlowers"), "") == ["color", "habitat", "growth"]
    assert attributes_of(of("ImageNetSketch"), "") == ["color", "shape"] == attributes_of(of("EmbeddedSpecies"), "")
    assert attributes_of(of("OxfordFlowers"), " red , big flower ") == ["red", "big flower"]
    ours = {name for name in DATASET_REGISTRY.registered_names() if DATASET_REGISTRY.get(name).__module__.startswith("datasets.")}  # fmt: skip
    assert set(ATTRIBUTES) <= ours
    without = {name for name in ours - set(ATTRIBUTES) if not name.startswith("Embedded")}
    for name in without:
        with pytest.raises(clip.InputError, match=f"no attributes for the data set {name}: name some"):
            attributes_of(of(name), "")
    for given in ("red,,blue", " ", "('color', 'shape')", '["color", "shape"]', "color; shape"):
        with pytest.raises(clip.InputError, match="TRAINER.ATPROMPT.ATTRIBUTES is .*: give words with commas"):
            attributes_of(of("DTD"), given)
    assert attributes_of(of("DTD"), "farbe, größe, life-like, bird's eye") == [
        "farbe",
        "größe",
        "life-like",
        "bird's eye",
    ]


def test_an_attribute_that_is_too_long(data_root, tmp_path, capsys):
    options = ["TRAINER.ATPROMPT.ATTRIBUTES", "color " * 80]
    assert train.main(arguments(data_root, tmp_path, "ATPrompt", options=options)) == 2
    assert capsys.readouterr().err.startswith("error: TRAINER.ATPROMPT.ATTRIBUTES 'color color")


@pytest.mark.parametrize("config", ["embedded", "embedded_maple"])
def test_trains_on_base_and_tests_on_new(data_root, tmp_path, config):
    file = REPOSITORY / f"configs/trainers/ATPrompt/{config}.yaml"
    assert train.main(arguments(data_root, tmp_path / "base", "ATPrompt", config_file=file)) == 0
    record = results(tmp_path / "base")
    assert record["trainable_parameters"] >= 4 * 2 * 128
    for subsample in ("base", "new"):
        output = tmp_path / subsample / "test"
        flags = {"subsample": subsample, "model_dir": tmp_path / "base", "eval_only": True, "config_file": file}
        assert train.main(arguments(data_root, output, "ATPrompt", **flags)) == 0
    assert results(tmp_path / "base" / "test")["accuracy"] == record["accuracy"]
    assert list(results(tmp_path / "new" / "test")["classwise"]) == CLASSES[3:]


def test_a_test_may_have_other_attributes(data_root, tmp_path):
    """As on another data set, which has more of them than there are trained contexts."""
    assert train.main(arguments(data_root, tmp_path, "ATPrompt")) == 0
    options = ["TRAINER.ATPROMPT.ATTRIBUTES", "pattern, color, design"]
    argv = arguments(data_root, tmp_path / "x", "ATPrompt", options=options)
    trainer = build_trainer(train.build_config(train.parse_arguments(argv)))
    trainer.load_model(str(tmp_path), epoch=3)
    assert trainer.model.prompt_learner.before == 3 * (2 + 1) + 2


@pytest.mark.parametrize(("key", "value"), [("N_CTX", 0), ("PROMPT_DEPTH", -1)])
def test_bad_values(data_root, tmp_path, capsys, key, value):
    assert train.main(arguments(data_root, tmp_path, "ATPrompt", options=[f"TRAINER.ATPROMPT.{key}", value])) == 2
    assert f"TRAINER.ATPROMPT.{key} is {value}" in capsys.readouterr().err


@pytest.mark.parametrize("depth", [0, 2])
def test_its_folder_of_checkpoints(depth):
    """As its authors' code has them."""
    kind = TRAINER_REGISTRY.get("ATPrompt")
    trainer = object.__new__(kind)
    trainer.cfg = CfgNode({"TRAINER": {"ATPROMPT": {"PROMPT_DEPTH": depth}}})
    assert trainer.learner_name == ("MultiModalPromptLearner" if depth else "prompt_learner")
    theirs = {"prompt_learner.ctx": torch.ones(1), "image_encoder.proj": torch.ones(1)}
    assert list(trainer.from_published(theirs)) == ["ctx"] and trainer.from_published({"ctx": 1}) == {"ctx": 1}
