"""DePT (../trainers/dept.py) over its hosts: what the head adds to a loss and to a prediction, and for which classes."""

import pytest
import torch
import torch.nn.functional as F

import train
from dassl.engine import build_trainer
from one_run.predictor import Predictor
from tests.helpers import CLASSES, REPOSITORY, arguments, results

HOSTS = {"CoOp": "embedded", "KgCoOp": "embedded_kgcoop", "MaPLe": "embedded_maple"}


def line(root, output, host="CoOp", options=(), **flags) -> list[str]:
    file = REPOSITORY / f"configs/trainers/DePT/{HOSTS.get(host, 'embedded')}.yaml"
    return arguments(root, output, "DePT", options=options, config_file=file, **flags)


def built(*given, **flags):
    return build_trainer(train.build_config(train.parse_arguments(line(*given, **flags))))


def batch(trainer):
    """Images (B, 3, H, W) and labels (B,), of which `once_per_image` keeps nothing yet."""
    items = [trainer.train_loader_x.dataset[i] for i in (0, 3, 5, 7, 9)]
    trainer.batch_index = torch.tensor([item["index"] for item in items])
    return torch.stack([item["img"] for item in items]), torch.tensor([item["label"] for item in items])


def moved(trainer):
    """With values that are not the first ones, from which a head and a scale of one could not be told."""
    for number, parameter in enumerate([*trainer.model.prompt_learner.parameters(), *trainer.head.parameters()]):
        chance = torch.Generator().manual_seed(number)
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=chance)
    return trainer


@pytest.mark.parametrize("host", HOSTS)
def test_loss_by_hand(data_root, tmp_path, host):
    """(1 - w) CE + w CE of the head, which sees a text and an image of each example; the rest of the host's loss is whole."""
    trainer = moved(built(data_root, tmp_path, host, ["TRAINER.DEPT.WEIGHT", 0.3]))
    images, labels = batch(trainer)
    model, head = trainer.model, trainer.head
    f = model.clip.encode_image(images, model.learner_edits())  # (B, d), no unit rows
    prompts, end = model.prompt_learner()
    text = model.clip.encode_prompts(prompts, end, model.prompt_learner.text_edits())  # (C, d)
    assert f.norm(dim=-1).max() > 1.5 and text.norm(dim=-1).max() > 1.5
    plain = F.cross_entropy(model.logit_scale() * F.normalize(f) @ F.normalize(text).t(), labels)
    seen_f = head.image.scale * f + head.image.bias
    seen_text = head.text.scale * text[labels] + head.text.bias
    logits = torch.cat([seen_f, seen_text]) @ head.linear.weight.t() + head.linear.bias
    expected = 0.7 * plain + 0.3 * F.cross_entropy(logits, torch.cat([labels, labels]))
    if host == "KgCoOp":
        cosine = F.cosine_similarity(text, model.zero_shot_text(trainer.dm.dataset.classnames, trainer.template()))
        expected = expected + trainer.keys.W * (1 - cosine.mean())
    loss, _ = trainer.compute_loss(images, labels)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    learned = [*model.prompt_learner.parameters(), *head.parameters()]
    for ours, theirs in zip(torch.autograd.grad(loss, learned), torch.autograd.grad(expected, learned), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
        assert ours.abs().max() > 0


def test_the_heads_rate(data_root, tmp_path):
    trainer = built(data_root, tmp_path, options=["OPTIM.LR", 0.01, "TRAINER.DEPT.LR_TIMES", 3.0])
    trainer.sched.go_to(2)
    assert [group["lr"] for group in trainer.optim.param_groups] == pytest.approx(
        [0.0075, 0.0225]
    )  # a third of half a cosine, behind the warm-up
    groups = [group["params"] for group in trainer.optim.param_groups]
    parts = trainer.model.prompt_learner, trainer.head
    assert [list(map(id, group)) for group in groups] == [[*map(id, part.parameters())] for part in parts]


@pytest.mark.parametrize("host", HOSTS)
@torch.no_grad()
def test_which_classes_the_head_speaks_of(data_root, tmp_path, host):
    """Where all asked for were trained on, in any order, and only there."""
    trained = moved(built(data_root, tmp_path / "base", host))
    trained.save_model(0, str(tmp_path / "base"))
    images = torch.stack([item["img"] for item in trained.test_loader.dataset])

    def answers(subsample, names=None):
        trainer = built(data_root, tmp_path / "unused", host, subsample=subsample)
        trainer.load_model(str(tmp_path / "base"), epoch=1)
        if names:
            trainer.dm.dataset._classnames = names
        state = trainer.encode_classes()
        f = trainer.model.raw_image_features(images)
        plain = trainer.model.logits(F.normalize(f, dim=-1), state.text)
        return trainer.predict(images, state), plain, trainer.head(f)

    ours, plain, head = answers("base")
    torch.testing.assert_close(ours, 0.3 * plain + 0.7 * head)
    torch.testing.assert_close(ours, trained.predict(images, trained.encode_classes()))
    for half in ("new", "all"):
        ours, plain, head = answers(half)
        assert torch.equal(ours, plain) and head.shape == (len(images), 3)


def test_trains_on_base_and_tests_on_new(data_root, tmp_path, monkeypatch):
    assert train.main(line(data_root, tmp_path / "base")) == 0
    record, d = results(tmp_path / "base"), 128
    assert record["extra_trainable_parameters"] == 4 * d + 3 * (d + 1)
    assert record["trainable_parameters"] == record["extra_trainable_parameters"] + 4 * d
    for subsample in ("base", "new"):
        output = tmp_path / subsample / "test"
        flags = {"subsample": subsample, "model_dir": tmp_path / "base", "eval_only": True}
        assert train.main(line(data_root, output, **flags)) == 0
    assert results(tmp_path / "base" / "test")["accuracy"] == record["accuracy"]
    assert list(results(tmp_path / "new" / "test")["classwise"]) == CLASSES[3:]
    # Some of its classes in another order are answered by their own rows of the head, others by the texts alone.
    picture = data_root / "caltech-101" / "101_ObjectCategories" / "blue" / "test_0.png"
    whole, some, others = (Predictor(tmp_path / "base", names) for names in ("", ["blue", "red"], ["blue", "yellow"]))
    p = dict(whole.predict(picture)[0].top(3))
    q = dict(some.predict(picture)[0].top(2))
    assert q["blue"] / q["red"] == pytest.approx(p["blue"] / p["red"], rel=1e-3)
    assert some.trainer.class_state.rows.tolist() == [2, 0] and others.trainer.class_state.rows is None


def test_a_resumed_run_learns_the_same(data_root, tmp_path):
    often = ["TRAIN.CHECKPOINT_FREQ", 1]
    assert train.main(line(data_root, tmp_path / "whole", options=often)) == 0
    for name in ("prompt_learner", "dept"):
        (tmp_path / "part" / name).mkdir(parents=True)
        file = f"{name}/model.pth.tar-2"
        (tmp_path / "part" / file).write_bytes((tmp_path / "whole" / file).read_bytes())
    again = line(data_root, tmp_path / "on", options=often, resume=tmp_path / "part")
    assert train.main(again) == 0
    for name in ("prompt_learner", "dept"):
        whole, resumed = (
            torch.load(tmp_path / run / name / "model.pth.tar-3", weights_only=True)["state_dict"]
            for run in ("whole", "on")
        )
        assert all(torch.equal(value, resumed[key]) for key, value in whole.items() if torch.is_tensor(value))


@pytest.mark.parametrize("host", ["CoCoOp", "ProGrad", "TextRefiner", "VPT", "ZeroshotCLIP", "DePT", "Spotlighter"])
def test_hosts_that_cannot_carry_it(data_root, tmp_path, capsys, host):
    file = REPOSITORY / f"configs/trainers/{host}/embedded.yaml"
    argv = arguments(data_root, tmp_path, "DePT", options=["TRAINER.DEPT.HOST", host], config_file=file)
    assert train.main(argv) == 2
    assert f"TRAINER.DEPT.HOST cannot be {host}" in capsys.readouterr().err


def test_it_is_no_host(data_root, tmp_path, capsys):
    options = ["TRAINER.SPOTLIGHTER.HOST", "DePT", "TRAINER.DEPT.HOST", "Spotlighter"]
    assert train.main(arguments(data_root, tmp_path, "Spotlighter", options=options)) == 2
    assert "TRAINER.SPOTLIGHTER.HOST cannot be DePT, which stands on a host of its own" in capsys.readouterr().err


def test_over_other_hosts(data_root, tmp_path):
    """Those whose authors of DePT publish nothing: a step changes what they learn, and the head."""
    for host in ("ATPrompt", "CLIPFit", "IVLP", "PromptSRC"):
        file = REPOSITORY / f"configs/trainers/{host}/embedded.yaml"
        argv = arguments(data_root, tmp_path, "DePT", options=["TRAINER.DEPT.HOST", host], config_file=file)
        trainer = build_trainer(train.build_config(train.parse_arguments(argv)))
        loss, _ = trainer.compute_loss(*batch(trainer))
        loss.backward()
        learned = [*trainer.model.prompt_learner.parameters(), *trainer.head.parameters()]
        assert sum(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in learned) > 8


@pytest.mark.parametrize(("key", "value"), [("WEIGHT", 1.5), ("LR_TIMES", 0.0)])
def test_bad_values(data_root, tmp_path, capsys, key, value):
    assert train.main(line(data_root, tmp_path, options=[f"TRAINER.DEPT.{key}", value])) == 2
    assert f"TRAINER.DEPT.{key} is {value}" in capsys.readouterr().err
