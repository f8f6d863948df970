"""TaskRes (../../../trainers/adapters/taskres.py): its equation by hand, its saved tensors, its authors' files, its refusals."""

import pytest
import torch
import torch.nn.functional as F

import clip
import train
from dassl.engine import build_trainer
from one_run.predictor import Predictor
from tests.helpers import arguments, results
from tests.test_train import one_sentence
from tests.trainers.by_hand import write_checkpoint
from trainers.shared.classifier import first_vectors
from trainers.shared.prompts import imagenet_templates

SCALE, BASE = "TRAINER.TASKRES.RESIDUAL_SCALE", "TRAINER.TASKRES.ENHANCED_BASE"


def built(data_root, folder, *options, **flags):
    line = arguments(data_root, folder, "TaskRes", options=options, **flags)
    return build_trainer(train.build_config(train.parse_arguments(line)))


def raw(model, names, template="a photo of a {}."):
    """Text features (C, d) as CLIP gives them, of any length."""
    return model.encode_text(clip.tokenize([template.format(name) for name in names])).float()


def test_a_residual_is_added_to_texts_of_clips_own_length(data_root, tmp_path):
    trainer = built(data_root, tmp_path, SCALE, 0.5)
    model, learner = trainer.model, trainer.model.prompt_learner
    t = raw(model.clip, trainer.dm.dataset.classnames)
    assert (t.norm(dim=1) - 1).abs().min() > 0.1
    torch.testing.assert_close(learner.base_text_features, t)
    torch.testing.assert_close(model.text_features(), F.normalize(t, dim=1))
    x = torch.randn(t.shape)
    with torch.no_grad():
        learner.text_feature_residuals.copy_(x)
    images = torch.randn(2, 3, 64, 64)
    f = F.normalize(model.clip.encode_image(images).float(), dim=1)
    expected = model.clip.logit_scale.exp() * f @ F.normalize(t + 0.5 * x, dim=1).t()
    torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-4)


def test_only_the_residuals_learn(data_root, tmp_path):
    trainer = built(data_root, tmp_path)
    learner, base = trainer.model.prompt_learner, trainer.model.prompt_learner.base_text_features.clone()
    assert [name for name, value in trainer.model.named_parameters() if value.requires_grad] == ["prompt_learner.text_feature_residuals"]  # fmt: skip
    trainer.train()
    assert torch.equal(learner.base_text_features, base)
    moved = learner.text_feature_residuals.abs().amax(dim=1)  # (C,)
    assert moved.min() > 0


def test_imagenet_begins_with_the_mean_of_eight_prompts(data_root, tmp_path):
    trainer = built(data_root, tmp_path)
    imagenet = type("ImageNet", (), {"classnames": ["red", "dark grey"]})()
    several = [*imagenet_templates("SIMPLE_IMAGENET_TEMPLATES"), "a photo of a {}."]
    expected = torch.stack([raw(trainer.model.clip, imagenet.classnames, one) for one in several]).mean(dim=0)
    assert len(several) == 8
    torch.testing.assert_close(first_vectors(trainer.model.clip, imagenet, "a photo of a {}."), expected)


def test_an_enhanced_base_is_another_projection_of_the_same_texts(data_root, tmp_path):
    """In the authors' file it is the weight of a linear layer."""
    plain = built(data_root, tmp_path)
    own = plain.model.clip.text_projection  # (D, d)
    weight = torch.randn(own.t().shape)
    torch.save({"state_dict": {"weight": weight}}, tmp_path / "base.pth.tar")
    trainer = built(data_root, tmp_path, BASE, tmp_path / "base.pth.tar")
    before = plain.model.prompt_learner.base_text_features @ torch.linalg.pinv(own)
    torch.testing.assert_close(
        trainer.model.prompt_learner.base_text_features, before @ weight.t(), rtol=1e-3, atol=1e-2
    )
    assert torch.equal(trainer.model.clip.text_projection, own)
    torch.save({"state_dict": {"weight": weight[:, :3]}}, tmp_path / "other.pth.tar")
    with pytest.raises(clip.InputError, match=f"holds no projection of {own.shape[0]} to {own.shape[1]} numbers"):
        built(data_root, tmp_path, BASE, tmp_path / "other.pth.tar")


def test_a_published_checkpoint_is_the_whole_classifier(data_root, tmp_path):
    """Its base texts too, which may be those of an enhanced base."""
    trainer = built(data_root, tmp_path / "out", SCALE, 0.5)
    d = trainer.model.prompt_learner.base_text_features.shape[1]
    theirs = {name: torch.randn(3, d) for name in ("base_text_features", "text_feature_residuals")}
    write_checkpoint(tmp_path / "theirs", "prompt_learner", theirs)
    trainer.load_model(str(tmp_path / "theirs"), epoch=5)
    expected = F.normalize(theirs["base_text_features"] + 0.5 * theirs["text_feature_residuals"], dim=1)
    torch.testing.assert_close(trainer.model.text_features(), expected)


def test_it_says_nothing_about_other_classes(data_root, tmp_path, capsys):
    run = tmp_path / "all"
    assert train.main(arguments(data_root, run, "TaskRes", subsample="all")) == 0
    state = torch.load(run / "prompt_learner/model.pth.tar-3", weights_only=True)["state_dict"]
    assert set(state) == {"base_text_features", "text_feature_residuals"}
    names = results(run)["identity"]["classes"]
    some = Predictor(run, [names[2], names[0]]).trainer.model.prompt_learner
    assert torch.equal(some.text_feature_residuals, state["text_feature_residuals"][[2, 0]])
    with pytest.raises(clip.InputError, match="a residual for each of its 5 classes, and 'teal' is none of them"):
        Predictor(run, [names[0], "teal"])
    assert train.main(arguments(data_root, tmp_path / "base", "TaskRes")) == 0
    capsys.readouterr()
    flags = {"subsample": "new", "eval_only": True, "model_dir": tmp_path / "base"}
    assert train.main(arguments(data_root, tmp_path / "new", "TaskRes", **flags)) == 2
    assert "a residual for each of its 3 classes, and 'dark grey' is none of them" in one_sentence(capsys)


@pytest.mark.parametrize("there, said", [(False, "is no file: name one"), (True, "no file of torch.save")])
def test_an_enhanced_base_that_cannot_be_read(data_root, tmp_path, there, said):
    """It is named by its key, as no checkpoint of a run is."""
    if there:
        (tmp_path / "enhanced.pt").write_text("words")
    with pytest.raises(clip.InputError, match=f"^TRAINER.TASKRES.ENHANCED_BASE.*enhanced.pt.*{said}"):
        built(data_root, tmp_path / "out", BASE, tmp_path / "enhanced.pt")
