"""Tip-Adapter and Tip-Adapter-F (../../../trainers/adapters/tip_adapter.py): the cache by hand, and which strengths count."""

import math

import pytest
import torch
import torch.nn.functional as F

import train
from dassl.engine import build_trainer
from tests.helpers import CLASSES, REPOSITORY, arguments, results
from trainers.adapters.tip_adapter import Cache
from trainers.shared.prompted_clip import hand_written_text
from trainers.shared.prompts import imagenet_templates

BOTH = ("TipAdapter", "TipAdapterF")


def line(data_root, folder, method, *options, **flags):
    file = REPOSITORY / f"configs/trainers/{method}/embedded.yaml"
    return arguments(data_root, folder, method, config_file=file, options=["OPTIM.MAX_EPOCH", 1, *options], **flags)


def built(*args, **flags):
    return build_trainer(train.build_config(train.parse_arguments(line(*args, **flags))))


def saved(run, epoch=1) -> dict:
    return torch.load(run / f"cache/model.pth.tar-{epoch}", weights_only=True)["state_dict"]


def test_what_the_cache_says():
    """sum over keys of alpha exp(-beta (1 - cos)), for the class of each."""
    cache = Cache(3, 2, 4, (2.0, 5.0), trained=False)
    cache.keys.copy_(F.normalize(torch.randn(3, 4), dim=-1))
    cache.labels.copy_(torch.tensor([1, 0, 1]))
    f = F.normalize(torch.randn(2, 4), dim=-1)
    said = cache(f)
    for i in range(2):
        say = [2 * math.exp(-5 * (1 - float(f[i] @ key))) for key in cache.keys]
        assert said[i].tolist() == pytest.approx([say[1], say[0] + say[2]], rel=1e-5)


def test_a_step_learns_with_the_configs_strengths():
    """Those that validation images chose are for predictions."""
    cache, f = Cache(3, 2, 4, (2.0, 5.0), trained=True), torch.randn(2, 4)
    before = cache(f)
    cache.chosen = (1.0, 3.0)
    assert torch.equal(cache(f), before)
    assert not torch.equal(cache.eval()(f), before)


def test_some_of_its_classes():
    cache = Cache(4, 3, 2, (1.0, 1.0), trained=False)
    state = {
        "keys": torch.arange(8.0).view(4, 2),
        "labels": torch.tensor([0, 2, 1, 2]),
        "_extra_state": {"chosen": None},
    }
    some = cache.of_rows(state, [2, 0])
    assert some["labels"].tolist() == [1, 0, 0] and some["keys"].tolist() == [[0, 1], [2, 3], [6, 7]]
    fewer = Cache(9, 2, 2, (1.0, 1.0), trained=False)
    fewer.load_state_dict(some)
    assert fewer(torch.zeros(1, 2)).tolist() == [pytest.approx([2 / math.e, 1 / math.e])]


def test_keys_are_the_mean_of_the_passes(data_root, tmp_path):
    """As long as the encoder makes them, and a unit row after that; they follow from the seed."""
    by_chance = ["INPUT.TRANSFORMS", ("random_flip", "normalize"), "TRAINER.TIPADAPTER.AUGMENT", 3]
    trainer = built(data_root, tmp_path, "TipAdapter", *by_chance)
    passes, labels = trainer.shots(trainer.model.raw_image_features, 3)  # (3, N, d)
    assert not torch.equal(passes[0], passes[1]) and (passes.norm(dim=-1) - 1).abs().min() > 0.1
    trainer.fill()
    cache = trainer.model.prompt_learner
    torch.testing.assert_close(cache.keys, F.normalize(passes.sum(dim=0), dim=-1))
    assert cache.labels.tolist() == labels.tolist() == [item.label for item in trainer.dm.dataset.train_x]
    fixed = built(data_root, tmp_path, "TipAdapter")
    assert len(fixed.shots(fixed.model.raw_image_features, 3)[0]) == 1


@pytest.mark.parametrize("method", BOTH)
def test_predictions_are_clips_and_the_caches(data_root, tmp_path, method):
    trainer = built(data_root, tmp_path, method)
    trainer.fill()
    images = torch.randn(3, 3, 64, 64)
    f = F.normalize(trainer.model.clip.encode_image(images), dim=-1)
    text = trainer.model.zero_shot_text(CLASSES[:3], "a photo of a {}.")
    expected = trainer.model.logit_scale() * f @ text.t() + trainer.model.prompt_learner(f)
    trainer.set_model_mode("eval")
    torch.testing.assert_close(trainer.model_inference(images), expected)


def test_what_is_trained(data_root, tmp_path):
    """Nothing, in no step, and the keys, whose rate falls with every step to zero."""
    for method, count in zip(BOTH, (0, 4 * 3 * 128), strict=True):
        assert train.main(line(data_root, tmp_path / method, method)) == 0
        assert results(tmp_path / method)["trainable_parameters"] == count
    first, last = (saved(tmp_path / method) for method in BOTH)
    assert first.keys() == last.keys() == {"keys", "labels", "_extra_state"}
    assert first["keys"].shape == (12, 128) and not torch.equal(first["keys"], last["keys"])
    trainer = built(data_root, tmp_path / "x", "TipAdapterF", "DATALOADER.TRAIN_X.BATCH_SIZE", 5, "OPTIM.MAX_EPOCH", 2)
    rates = []
    trainer.optim.register_step_pre_hook(lambda optim, *_: rates.append(optim.param_groups[0]["lr"]))
    trainer.train()
    steps = len(rates)
    assert rates == pytest.approx([0.0005 * (1 + math.cos(math.pi * i / steps)) for i in range(steps)])
    assert trainer.optim.param_groups[0]["eps"] == 1e-4 and trainer.get_current_lr() == pytest.approx(0)


@pytest.mark.parametrize("method", BOTH)
def test_validation_images_choose_in_the_mode_paper(data_root, tmp_path, method, capsys):
    """The first of the best strengths on the grid, which are saved with the cache and count at test."""
    assert train.main(line(data_root, tmp_path, method, "SETTINGS.MODE", "paper")) == 0
    said = capsys.readouterr().out
    (sentence,) = [row for row in said.splitlines() if row.endswith("by validation images")]
    state = torch.load(tmp_path / "cache/model-best.pth.tar", weights_only=True)["state_dict"]
    alpha, beta = state["_extra_state"]["chosen"]
    assert f"ALPHA {alpha:.2f} and BETA {beta:.2f}" in sentence and (alpha, beta) != (10.0, 5.5)
    trainer = built(data_root, tmp_path / "x", method)
    trainer.load_model(str(tmp_path))
    f, y = trainer.validation()
    zero_shot = trainer.model.logit_scale() * f @ trainer.model.text.t()
    cache = trainer.model.prompt_learner.eval()

    def right(a, b):
        cache.chosen = (a, b)
        return int(((zero_shot + cache(f)).argmax(dim=1) == y).sum())

    grid = [(0.1 + j * 2.9 / 20, 0.1 + i * 6.9 / 200) for i in range(0, 200, 20) for j in range(20)]
    assert right(alpha, beta) >= max(right(*point) for point in grid)


def test_images_of_imagenet_choose_nothing_unasked(data_root, tmp_path, capsys):
    """Without the mode paper no grid is searched."""
    assert train.main(line(data_root, tmp_path, "TipAdapter")) == 0
    assert "by validation images" not in capsys.readouterr().out
    assert saved(tmp_path)["_extra_state"]["chosen"] is None


def test_a_run_goes_on(data_root, tmp_path):
    """Keys that were trained for an epoch are not filled anew."""
    options = ["OPTIM.MAX_EPOCH", 3, "TRAIN.CHECKPOINT_FREQ", 1]
    assert train.main(line(data_root, tmp_path / "whole", "TipAdapterF", *options)) == 0
    assert train.main(line(data_root, tmp_path / "half", "TipAdapterF", *options)) == 0
    for epoch in (2, 3):
        (tmp_path / f"half/cache/model.pth.tar-{epoch}").unlink()
    (tmp_path / "half/cache/checkpoint").unlink(missing_ok=True)
    assert train.main(line(data_root, tmp_path / "on", "TipAdapterF", *options, resume=tmp_path / "half")) == 0
    assert torch.equal(saved(tmp_path / "on", 3)["keys"], saved(tmp_path / "whole", 3)["keys"])


@pytest.mark.parametrize("method", BOTH)
def test_new_classes_are_refused(data_root, tmp_path, method, capsys):
    assert train.main(line(data_root, tmp_path / "base", method)) == 0
    flags = {"subsample": "new", "model_dir": tmp_path / "base", "eval_only": True}
    assert train.main(line(data_root, tmp_path / "new", method, **flags)) == 2
    assert "has keys of a cache for each of its 3 classes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ["MODEL.INIT_WEIGHTS", "x"],
            "computes what it begins with from the training images: leave MODEL.INIT_WEIGHTS",
        ),
        (["DATALOADER.VIEWS", 2], "TipAdapter has no use for DATALOADER.VIEWS"),
        (["TRAINER.TIPADAPTER.SEARCH", (3.0,)], "TRAINER.TIPADAPTER.SEARCH is"),
        (["TRAINER.TIPADAPTER.SEARCH", (3.0, 0.0)], "TRAINER.TIPADAPTER.SEARCH is"),
    ],
)
def test_refusals(data_root, tmp_path, capsys, options, says):
    assert train.main(line(data_root, tmp_path, "TipAdapter", *options)) == 2
    assert says in capsys.readouterr().err


def test_the_first_of_equals_is_chosen(data_root, tmp_path):
    """Of 200 values of BETA from 0.1, each with 20 of ALPHA: the smallest, where none is right; else the first of the best."""
    trainer = built(data_root, tmp_path, "TipAdapter", "TRAINER.TIPADAPTER.SEARCH", (10.0, 20.0))
    trainer.fill()
    trainer.encode_classes()
    cache, f = trainer.model.prompt_learner, F.normalize(torch.randn(400, 128), dim=-1)
    trainer.validation = lambda: (f, torch.full((400,), -1))
    trainer.choose()
    assert cache.chosen == (0.1, 0.1)
    zero_shot = trainer.model.logit_scale() * f @ trainer.model.text.t()
    betas, alphas = ([0.1 + i * step for i in range(count)] for step, count in ((9.9 / 200, 200), (19.9 / 20, 20)))

    def classes(alpha, beta):
        said = (-beta * (1 - f @ cache.keys.t())).exp() @ F.one_hot(cache.labels, 3).float()
        return (zero_shot + alpha * said).argmax(dim=1)

    y = classes(alphas[15], betas[7])  # at which all are right
    trainer.validation = lambda: (f, y)
    trainer.choose()
    best = next((alpha, beta) for beta in betas for alpha in alphas if torch.equal(classes(alpha, beta), y))
    assert cache.chosen == pytest.approx(best)
    assert min(best) > 0.1


@pytest.mark.parametrize("method", ["GDA", *BOTH])
def test_which_prompts(data_root, tmp_path, method):
    """ImageNet and its variants have seven, other data sets their own."""
    trainer = built(data_root, tmp_path, method)
    clip_model, dataset = trainer.model.clip, trainer.dm.dataset
    own = hand_written_text(clip_model, CLASSES[:3], ["a photo of a {}."])
    seven = hand_written_text(clip_model, CLASSES[:3], imagenet_templates("SIMPLE_IMAGENET_TEMPLATES"))
    assert (own - seven).abs().max() > 1e-3
    torch.testing.assert_close(trainer.model.text, own)
    dataset.__class__ = type("ImageNetV2", (type(dataset),), {})
    torch.testing.assert_close(trainer.build_prompted_clip(clip_model).text, seven)
