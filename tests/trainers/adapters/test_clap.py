"""CLAP (../../../trainers/adapters/clap.py): its loss by hand, what holds a class, what is learned and saved."""

import pytest
import torch
import torch.nn.functional as F

import train
from dassl.engine import build_trainer
from tests.helpers import arguments
from trainers.adapters.clap import multipliers

CONSTRAINT = "TRAINER.CLAP.CONSTRAINT"


def built(data_root, folder, *options):
    line = arguments(data_root, folder, "CLAP", options=["DATALOADER.TRAIN_X.BATCH_SIZE", 6, *options])
    trainer = build_trainer(train.build_config(train.parse_arguments(line)))
    trainer.batch_index, trainer.batch_views = torch.tensor([5, 0, 3]), 0
    return trainer


def shots(trainer):
    """Unit features (N, d) and labels (N,) of all training images, in order."""
    batches = [*trainer.in_order(trainer.train_loader_x.dataset.transform)]
    f = torch.cat([trainer.model.clip.encode_image(batch["img"]) for batch in batches]).float()
    return F.normalize(f, dim=1), torch.cat([batch["label"] for batch in batches])


def test_a_class_is_held_by_the_mean_probability_of_its_own_shots():
    p = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.3, 0.3, 0.4]])
    torch.testing.assert_close(multipliers(p, torch.tensor([0, 0, 1])), torch.tensor([0.6, 0.3, 0.0]))


def test_its_loss_by_hand(data_root, tmp_path):
    trainer = built(data_root, tmp_path)
    learner, (f, labels) = trainer.model.prompt_learner, shots(trainer)
    t, scale = learner.base_text_features, trainer.model.clip.logit_scale.exp()
    assert (t.norm(dim=1) - 1).abs().min() > 0.1  # of CLIP's own length
    p = (scale * f @ F.normalize(t, dim=1).t()).softmax(dim=1)
    held = torch.stack([p[labels == c, c].mean() for c in range(3)])
    with torch.no_grad():
        learner.prototypes += torch.randn_like(t)
    w, rows = learner.prototypes.detach().clone().requires_grad_(), trainer.batch_index
    cross = F.cross_entropy(scale * f[rows] @ F.normalize(w, dim=1).t(), labels[rows])
    expected = cross + sum(held[c] * ((w[c] - t[c]) ** 2).sum() for c in range(3)) / 3
    loss, shown = trainer.compute_loss(None, labels[rows])
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    assert shown["held"] > 0.1 and shown["fit"] + shown["held"] == pytest.approx(loss.item())
    loss.backward()
    expected.backward()
    torch.testing.assert_close(learner.prototypes.grad, w.grad, rtol=1e-3, atol=1e-5)
    zslp = built(data_root, tmp_path, CONSTRAINT, "none")
    zslp.model.prompt_learner.load_state_dict(learner.state_dict())
    torch.testing.assert_close(zslp.compute_loss(None, labels[rows])[0], cross, rtol=1e-4, atol=1e-5)


def test_all_views_count_and_are_the_same_again(data_root, tmp_path):
    """So that a run that goes on from a checkpoint is held as before."""
    views = ["INPUT.TRANSFORMS", ("random_resized_crop", "normalize"), "DATALOADER.VIEWS", 3]
    trainer = built(data_root, tmp_path, *views)
    found, f = trainer.multipliers(), trainer.remembered["image"]
    assert len(f) == 3 and torch.equal(built(data_root, tmp_path, *views).multipliers(), found)
    text, labels = F.normalize(trainer.model.prompt_learner.base_text_features, dim=1), shots(trainer)[1]
    each = [multipliers((trainer.model.logits(view, text)).softmax(dim=1), labels) for view in f]
    torch.testing.assert_close(found, torch.stack(each).mean(dim=0))
    assert (each[0] - each[1]).abs().max() > 1e-4


def test_only_the_prototypes_learn_and_both_are_saved(data_root, tmp_path):
    trainer = built(data_root, tmp_path)
    base = trainer.model.prompt_learner.base_text_features.clone()
    assert [name for name, value in trainer.model.named_parameters() if value.requires_grad] == ["prompt_learner.prototypes"]  # fmt: skip
    trainer.train()
    state = torch.load(tmp_path / "adapter/model.pth.tar-3", weights_only=True)[
        "state_dict"
    ]  # as the authors call them
    assert set(state) == {"prototypes", "base_text_features"} and torch.equal(state["base_text_features"], base)
    assert (state["prototypes"] - base).abs().amax(dim=1).min() > 0
