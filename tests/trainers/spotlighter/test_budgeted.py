"""Looks as a plan says (trainers/spotlighter/budgeted.py), and whole runs with a budget through train.py."""

import json

import pytest
import torch
import torch.nn.functional as F
from yacs.config import CfgNode

import train
from clip.positions import interpolated
from clip.vit import ResidualAttentionBlock
from dassl.engine import build_trainer
from tests.helpers import REPOSITORY, results, train_elsewhere
from tests.trainers.spotlighter.runs import ShiftedTexts, learned, line, one_sentence
from trainers.shared.prompted_clip import load_clip
from trainers.shared.prompts import zero_shot_text_features
from trainers.spotlighter import Keys, choice
from trainers.spotlighter.budgeted import BudgetedCLIP
from trainers.spotlighter.drop import AttentionMaps
from trainers.spotlighter.look import look
from trainers.spotlighter.plan import Plan, one_look
from trainers.spotlighter.survey import survey
from trainers.spotlighter.zoom import Zoom, cut, peaks

NAMES = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def images():
    return torch.randn(12, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def spotlit(images):
    clip_model = load_clip("ViT-Embedded/8", "fp32", torch.device("cpu"))
    own = CfgNode(Keys.config_keys)
    own.BUDGET = 1.0
    texts = zero_shot_text_features(clip_model, NAMES)
    spotlit = BudgetedCLIP(ShiftedTexts(clip_model, texts), own, NAMES, "a photo of a {}.", seed=1)
    labels = torch.arange(12) % 3
    survey(clip_model.visual, spotlit.drop, list(zip(images.split(5), labels.split(5), strict=True)), 3)
    return spotlit


# --- looks ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_first_looks(spotlit, images):
    """All patches give CLIP's own class token and the map of the second block, which is that of a share too: it is taken of all
    patches before any is dropped.
    """
    maps = AttentionMaps(1, 64)
    plain = spotlit.model.image_features(images)
    with spotlit.through(maps):
        spotlit.model.image_features(images)
    whole = spotlit.look_first(images, 1.0)
    assert torch.equal(whole.f, plain) and whole.v is None and whole.alive is None
    torch.testing.assert_close(whole.maps[:, 0], maps.maps[:, 0])
    part = spotlit.look_first(images, 0.4)
    assert part.alive.shape == (12, 26)
    torch.testing.assert_close(part.maps, whole.maps, atol=1e-5, rtol=1e-5)
    unmapped = spotlit.look_first(images, 0.4, mapped=False)
    assert unmapped.maps is None and torch.equal(unmapped.f, part.f) and torch.equal(unmapped.alive, part.alive)
    assert spotlit.model.image_edits == []


@torch.no_grad()
def test_one_look_asks_for_no_map(spotlit, images):
    spotlit.head.plan = Plan(0.6, False, None, 0, 0.6)
    try:
        assert spotlit.first_look(images).maps is None
        spotlit.head.plan = PLAN
        assert spotlit.first_look(images).maps.shape == (12, 1, 64)
    finally:
        spotlit.head.plan = None


@torch.no_grad()
def test_a_glance_ends_with_its_map(spotlit, images, monkeypatch):
    blocks, forward = [], ResidualAttentionBlock.forward
    monkeypatch.setattr(
        ResidualAttentionBlock, "forward", lambda self, *a, **k: blocks.append(1) or forward(self, *a, **k)
    )
    glance = spotlit.look_first(images, 0.0)
    assert len(blocks) == 1 and glance.f is None
    torch.testing.assert_close(glance.maps, spotlit.look_first(images, 1.0).maps, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_regions_in_fewer_pixels(spotlit, images):
    """Cut out at that size, with positions in between: what an encoder with such positions makes of them."""
    first = spotlit.look_first(images, 1.0)
    regions = spotlit.regions_of(images, first, count=2, width=0.5, side=5)
    windows = cut(images, peaks(first.maps[:, 0], 2), 0.5, pixels=40)  # (24, 3, 40, 40)
    assert windows.shape == (24, 3, 40, 40)
    visual = spotlit.model.clip.visual
    former, size = visual.positional_embedding.data, visual.input_resolution
    visual.positional_embedding.data, visual.input_resolution = interpolated(former, 5), 40
    try:
        expected = F.normalize(visual(windows), dim=-1).view(12, 2, -1)
    finally:
        visual.positional_embedding.data, visual.input_resolution = former, size
    torch.testing.assert_close(regions, expected)


@torch.no_grad()
@pytest.mark.parametrize("keep, share", [(0.0, 1.0), (0.4, 0.5), (1.0, 0.25)])
def test_an_image_is_answered_alone(spotlit, images, keep, share):
    """Its logits depend on no other image of the batch."""
    head, zoom = spotlit.head, Zoom(0, 0.5, 2, share)
    seen = choice.Seen(
        {keep: spotlit.look_first(images, keep).f} if keep else {},
        {choice.First(keep, 2, 4, 0.9): torch.stack([spotlit.regions_of(images, spotlit.look_first(images, keep), 2, w, 4) for w in (0.5, 0.625, 0.75)], dim=1)},
    )  # fmt: skip
    from trainers.spotlighter.bank import Shots, remember

    head.plan, head.zoom = Plan(keep, False, zoom, 4, 0.9), zoom
    try:
        y = torch.arange(12) % 3
        shots = Shots(spotlit.model.image_features(images), None, y)
        remember(head, seen.under(head.plan, shots), spotlit.zero_shot, spotlit.zero_shot, NAMES)
        together = spotlit.predict(images, spotlit.describe())
        alone = torch.cat([spotlit.predict(image[None], spotlit.describe()) for image in images])
        assert together.isfinite().all() and together.shape == (12, 3)
        torch.testing.assert_close(together, alone, atol=1e-3, rtol=1e-4)
    finally:
        head.plan = head.zoom = None


# --- runs ------------------------------------------------------------------------------------------------------------

PLAN = Plan(0.4, False, Zoom(0, 0.625, 2, 0.5), 4, 0.89)


@pytest.fixture(scope="module")
def run(data_root, tmp_path_factory):
    """A run with a budget whose choice is set, as it does not matter here which is the best."""
    folder = tmp_path_factory.mktemp("budget")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainers.spotlighter.choice.choose_plan", lambda *args: PLAN)
        assert train.main(line(data_root, folder, BUDGET=1.0)) == 0
    return folder


def test_nothing_more_is_trained(run, data_root, tmp_path):
    """21 scalars, and the host is what it is alone: it trains on all tokens, before the budget is spent."""
    record = results(run)
    assert record["extra_trainable_parameters"] == 21
    assert record["plan"] == {"words": PLAN.in_words(8), "cost": PLAN.cost}
    assert train.main(line(data_root, tmp_path, "CoOp")) == 0
    alone, over = learned(tmp_path, "prompt_learner"), learned(run, "prompt_learner")
    assert all(torch.equal(value, over[name]) for name, value in alone.items())
    assert results(tmp_path)["plan"] is None


def test_a_plan_is_saved_with_the_run(run, data_root, tmp_path):
    """Another process tests it alike, on the old classes and on new ones."""
    halves = [line(data_root, tmp_path / half, BUDGET=1.0, subsample=half, model_dir=run, eval_only=True) for half in ("base", "new")]  # fmt: skip
    done = train_elsewhere(*halves)
    assert done.returncode == 0, done.stderr
    assert results(tmp_path / "base")["classwise"] == results(run)["classwise"]
    assert len(results(tmp_path / "new")["classwise"]) == 2


def test_what_it_looks_at(run, data_root, tmp_path):
    trainer = build_trainer(train.build_config(train.parse_arguments(line(data_root, tmp_path, BUDGET=1.0))))
    trainer.load_model(str(run), epoch=2)
    trainer.set_model_mode("eval")
    seen = look(trainer, torch.randn(2, 3, 64, 64))
    assert seen.plan == PLAN.in_words(8) and seen.windows.shape == (2, 2, 4) and seen.selected.shape == (2, 0)
    assert seen.alive.sum(dim=1).tolist() == [26, 26]
    assert seen.attention.isfinite().all()  # of all patches, before any was dropped


@pytest.mark.parametrize("budget", [0.6, 1.0, 2.6])
def test_a_run_chooses_by_itself(data_root, tmp_path, capsys, budget):
    assert train.main(line(data_root, tmp_path, BUDGET=budget)) == 0
    (said,) = [text for text in capsys.readouterr().out.splitlines() if text.startswith("Spotlighter's plan")]
    plan = results(tmp_path)["plan"]
    assert said == f"Spotlighter's plan for a budget of {budget:g}: {plan['words']}"
    assert plan["cost"] <= max(budget, 1.05)


@pytest.mark.parametrize(
    "keys, says",
    [
        ({"BUDGET": 0.1}, "pays for no look"),
        ({"BUDGET": 1.0, "KEEP": 0.6}, "set KEEP 1 and ZOOM 0"),
        ({"BUDGET": 1.0, "ZOOM": 3}, "set KEEP 1 and ZOOM 0"),
        ({"BUDGET": 1.0, "JOINT": True}, "set JOINT False"),
        ({"BUDGET": 1.0, "HEAD": "full"}, "HEAD lite"),
        ({"BUDGET": -1.0}, "at least 0"),
    ],
)
def test_budgets_that_cannot_be(data_root, tmp_path, capsys, keys, says):
    assert train.main(line(data_root, tmp_path, **keys)) == 2
    sentence = one_sentence(capsys)
    assert "TRAINER.SPOTLIGHTER.BUDGET" in sentence and says in sentence


@pytest.mark.parametrize("budget", [0.6, 0.0])
def test_another_budget_is_another_run(run, data_root, tmp_path, capsys, budget):
    """Also where there is none, so that the checkpoint has tensors that the model has no place for."""
    assert train.main(line(data_root, tmp_path, BUDGET=budget, model_dir=run, eval_only=True)) == 2
    assert f"TRAINER.SPOTLIGHTER.BUDGET is {budget}, and the model in {run} was" in one_sentence(capsys)


def test_a_budget_that_paid_in_training_is_not_refused_for_more_classes(data_root, tmp_path):
    """Which all cost a little more: the plan is chosen, and is what it was."""
    argv = lambda half, **more: line(data_root, tmp_path / half, subsample=half, **more)  # noqa: E731
    cost = build_trainer(train.build_config(train.parse_arguments(argv("new", BUDGET=1.0)))).spotlit.cost
    least = one_look(cost, 0.01, (0,)).cost
    assert train.main(argv("new", BUDGET=least)) == 0
    assert train.main(argv("all", BUDGET=least, model_dir=tmp_path / "new", eval_only=True)) == 0
    assert train.main(line(data_root, tmp_path / "trained", subsample="all", BUDGET=least)) == 2


def test_a_host_whose_texts_depend_on_the_image_gets_no_glance(data_root, tmp_path, monkeypatch):
    """Its texts are made of the class token, which a glance does not come to."""
    asked, encode = [], choice.encode_for_plans
    monkeypatch.setattr(
        "trainers.spotlighter.choice.encode_for_plans",
        lambda spotlit, batches, looks, alone: asked.extend(looks) or encode(spotlit, batches, looks, alone),
    )
    file = REPOSITORY / "configs/trainers/Spotlighter/embedded_cocoop.yaml"
    assert train.main(line(data_root, tmp_path, HOST="CoCoOp", BUDGET=1.0, config_file=file)) == 0
    assert asked and all(first.keep > 0 for first in asked)
    assert json.dumps(results(tmp_path)["plan"])
