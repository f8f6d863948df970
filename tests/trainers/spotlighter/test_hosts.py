"""Spotlighter over each of its hosts (trainers/spotlighter/): the same head, and the host as it is alone."""

import pytest
import torch
import torch.nn.functional as F

import train
from dassl.engine import TRAINER_REGISTRY, build_trainer
from tests.helpers import REPOSITORY, arguments, results
from trainers.spotlighter.trained import Scalars

CONFIGS = {
    "CoOp": "embedded",
    "CoCoOp": "embedded_cocoop",
    "KgCoOp": "embedded_kgcoop",
    "CLIPFit": "embedded_clipfit",
    "CLIPLoRA": "embedded_cliplora",
    "CLIPAdapter": "embedded_clipadapter",
    "TCP": "embedded_tcp",
    "ATPrompt": "embedded_atprompt",
    "MaPLe": "embedded_maple",
    "PromptSRC": "embedded_promptsrc",
    "MMA": "embedded_mma",
    "MMRL": "embedded_mmrl",
    "PromptKD": "embedded_promptkd",
}
OFF = {"g": 0.0, "b": 0.0, "alpha": 0.0, "gamma": 0.0, "delta": 0.0}  # the head is its host then
EVERY = [name for name in TRAINER_REGISTRY.registered_names() if TRAINER_REGISTRY.get(name).__module__.startswith("trainers.") and not hasattr(TRAINER_REGISTRY.get(name), "host_key")]  # fmt: skip
REFUSED = ("GDA", "LinearProbe", "TipAdapter", "TipAdapterF")
hosts = pytest.mark.parametrize("host", CONFIGS)


def line(root, output, teacher, host, plugged=True, options=(), **flags) -> list[str]:
    """A run of the host alone, or of Spotlighter over it, of two epochs."""
    options = ["OPTIM.MAX_EPOCH", 2, *options]
    if host == "PromptKD":
        options += ["TRAINER.PROMPTKD.TEACHER_DIR", teacher]
    trainer, config = ("Spotlighter", CONFIGS[host]) if plugged else (host, "embedded")
    file = REPOSITORY / f"configs/trainers/{trainer}/{config}.yaml"
    return arguments(root, output, trainer, options=options, config_file=file, **flags)


def learned(output, name, epoch=2) -> dict:
    (path,) = [file for file in output.glob(f"*/model.pth.tar-{epoch}") if (file.parent.name == "spotlighter") == name]
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def runs(data_root, tmp_path_factory):
    """Each host alone, Spotlighter over it, and that tested on base and new classes; PromptSRC alone is the teacher."""
    root = tmp_path_factory.mktemp("hosts")
    teacher = root / "alone" / "PromptSRC"
    for host in CONFIGS:
        alone, over = root / "alone" / host, root / "over" / host
        assert train.main(line(data_root, alone, teacher, host, plugged=False)) == 0
        assert train.main(line(data_root, over, teacher, host)) == 0
        for half in ("base", "new"):
            flags = {"subsample": half, "model_dir": over, "eval_only": True}
            assert train.main(line(data_root, root / half / host, teacher, host, **flags)) == 0
    return root


def build(root, runs, host, subsample="base"):
    """The trainer of a run over that host, loaded."""
    argv = line(root, runs / "unused", runs / "alone" / "PromptSRC", host, subsample=subsample)
    trainer = build_trainer(train.build_config(train.parse_arguments(argv)))
    trainer.load_model(str(runs / "over" / host), epoch=2)
    trainer.set_model_mode("eval")
    return trainer


@hosts
def test_over_a_finished_run_of_the_host(runs, data_root, tmp_path, host):
    """Its prompts are taken instead of trained, and all that is learned is what a whole run learns, to the bit."""
    options = ["TRAINER.SPOTLIGHTER.HOST_DIR", runs / "alone" / host]
    assert train.main(line(data_root, tmp_path, runs / "alone" / "PromptSRC", host, options=options)) == 0
    for name in (True, False):
        ours, whole = learned(tmp_path, name), learned(runs / "over" / host, name)
        assert ours.keys() == whole.keys()
        for key, value in ours.items():
            same = torch.equal(value, whole[key]) if torch.is_tensor(value) else value == whole[key] or "trained" in key
            assert same, (name, key)
    assert results(tmp_path)["accuracy"] == results(runs / "over" / host)["accuracy"]
    assert (
        results(tmp_path)["train_seconds"] > results(runs / "alone" / host)["train_seconds"]
    )  # which are among its own


@hosts
def test_21_scalars_over_the_host_as_it_is_alone(runs, host):
    alone, over = results(runs / "alone" / host), results(runs / "over" / host)
    assert over["extra_trainable_parameters"] == 21
    assert over["trainable_parameters"] == alone["trainable_parameters"] + 21
    theirs, ours = (learned(runs / kind / host, False) for kind in ("alone", "over"))
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs if torch.is_tensor(theirs[name]))
    scalars, start = learned(runs / "over" / host, True), Scalars().state_dict()
    assert sum(scalars[f"scalars.{name}"].numel() for name in start) == 21
    assert (scalars["scalars.delta"] - start["delta"]).abs() > 1e-3  # they were fitted


@hosts
def test_a_test_says_what_the_training_said(runs, host):
    assert results(runs / "base" / host)["accuracy"] == results(runs / "over" / host)["accuracy"]
    assert results(runs / "base" / host)["classwise"] == results(runs / "over" / host)["classwise"]
    assert set(results(runs / "new" / host)["classwise"]) == {"dark_grey", "yellow"}


def host_logits(model, images):
    """Of one feature of unit length for each image, as the protocol has it; MMRL's own logits are the sum of two features'."""
    f = model.image_features(images)
    return model.logits(f, model.text_features(f))


@hosts
@pytest.mark.parametrize("half", ["base", "new"])
@torch.no_grad()
def test_with_its_parts_off_the_head_is_its_host(runs, data_root, host, half):
    trainer = build(data_root, runs, host, half)
    images = torch.stack([item["img"] for item in trainer.test_loader.dataset])
    state = trainer.encode_classes()
    on = trainer.predict(images, state)
    for name, value in OFF.items():
        getattr(trainer.head.scalars, name).fill_(value)
    ours = trainer.predict(images, trainer.encode_classes())
    theirs = host_logits(trainer.model, images)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert (on - theirs).abs().max() > 0.1


@pytest.mark.parametrize("half", ["base", "new"])
@pytest.mark.parametrize("host", [name for name in EVERY if name not in REFUSED])
@torch.no_grad()
def test_over_every_method_zeros_are_the_host(runs, data_root, tmp_path, host, half):
    """Wherever its prompts have come to, and whatever the length of its texts, of which TextRefiner's are no unit rows."""
    options = ["TRAINER.SPOTLIGHTER.HOST", host, "TRAINER.SPOTLIGHTER.FIT", False]
    if host == "PromptKD":
        options += ["TRAINER.PROMPTKD.TEACHER_DIR", runs / "alone" / "PromptSRC"]
    file = REPOSITORY / f"configs/trainers/{host}/embedded.yaml"
    argv = arguments(data_root, tmp_path, "Spotlighter", subsample=half, options=options, config_file=file)
    trainer = build_trainer(train.build_config(train.parse_arguments(argv)))
    for parameter in getattr(trainer.model.prompt_learner, "parameters", list)():
        parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    for name, value in OFF.items():
        getattr(trainer.head.scalars, name).fill_(value)
        trainer.initial[f"scalars.{name}"].fill_(value)
    trainer.fit_head()
    trainer.set_model_mode("eval")
    images = torch.stack([item["img"] for item in trainer.test_loader.dataset])
    classes = trainer.encode_classes()
    torch.testing.assert_close(
        trainer.predict(images, classes), host_logits(trainer.model, images), rtol=1e-5, atol=1e-5
    )
    assert classes.length.eq(1).all() == (host != "TextRefiner")


@hosts
@torch.no_grad()
def test_an_images_logits_are_its_own(runs, data_root, host):
    """Nothing of the other images of a batch, nor of the new classes' images, is used: the protocol is inductive."""
    trainer = build(data_root, runs, host, "new")
    images = torch.stack([item["img"] for item in trainer.test_loader.dataset])
    state = trainer.encode_classes()
    others = torch.cat([images[:1], torch.randn_like(images[1:])])
    torch.testing.assert_close(trainer.predict(others, state)[0], trainer.predict(images, state)[0])


@torch.no_grad()
def test_over_cocoop_each_image_has_prompts_of_its_own(runs, data_root):
    """Step 6 by hand: the texts of an image are anchored and centred, and its corrected feature is compared with them."""
    trainer = build(data_root, runs, "CoCoOp")
    head, model, bank = trainer.head, trainer.model, trainer.head.bank
    q, classes = head.scalars, trainer.encode_classes()
    images = torch.stack([item["img"] for item in trainer.test_loader.dataset])[:3]
    f, v = model.image_features(images, tokens=True)
    chosen = head.explain(f, v, classes, bank.image_mean, bank.token_mean).selection
    levels = head.levels(chosen)
    for i in range(3):
        own = F.normalize(model.text_features(f[i : i + 1])[0] + q.b * trainer.spotlit.zero_shot, dim=-1)  # (C, d)
        own = F.normalize(own - q.g * bank.text_mean, dim=-1)
        x = torch.cat([q.omega[0] * (f[i] - bank.image_mean), *(q.omega[1:, None] * (levels[i] - bank.level_means))])
        both = [levels[i, 0], levels[i, 1], F.normalize(levels[i].sum(dim=0), dim=-1)]
        u = f[i] - q.g * bank.image_mean + q.alpha * x @ bank.map
        u = F.normalize(u + sum(gamma * level for gamma, level in zip(q.gamma, both, strict=True)), dim=-1)
        expected = head.logit_scale * q.delta.exp() * own @ u
        torch.testing.assert_close(trainer.predict(images, classes)[i], expected, rtol=1e-4, atol=1e-4)
    # The classes as such are described by the prompts of the mean training image.
    mean = F.normalize(bank.image_mean, dim=-1)
    typical = head.anchored(model.text_features(mean[None])[0], trainer.spotlit.zero_shot)
    torch.testing.assert_close(classes.text, head.centred_text(typical, bank.text_mean))


@pytest.mark.parametrize("host", ["MaPLe", "PromptSRC", "CoCoOp"])
def test_selection_in_the_encoder_over_prompts(data_root, tmp_path, host):
    """Tokens are dropped beside visual prompts, which stay; the second look has them too."""
    looks = ["TRAINER.SPOTLIGHTER.KEEP", 0.5, "TRAINER.SPOTLIGHTER.ZOOM", 1]
    assert train.main(line(data_root, tmp_path / "run", None, host, options=looks)) == 0
    argv = line(data_root, tmp_path / "unused", None, host, options=looks)
    trainer = build_trainer(train.build_config(train.parse_arguments(argv)))
    trainer.load_model(str(tmp_path / "run"), epoch=2)
    images = torch.stack([item["img"] for item in trainer.test_loader.dataset])[:2]
    lengths = []
    for block in trainer.model.clip.visual.transformer.resblocks:
        block.register_forward_pre_hook(lambda module, args: lengths.append(args[0].shape[1]))
    with torch.no_grad():
        _, tokens = trainer.model.image_features(images, tokens=True)
    prompts = len(trainer.model.learner_edits()[0].prompts[0]) if trainer.model.learner_edits() else 0
    assert tokens.shape[1] == 32 and lengths == [1 + 64 + prompts, *[1 + 32 + 1 + prompts] * 3]
    probe = trainer.head.drop.probe
    assert torch.isfinite(probe).all() and probe.abs().max() > 0


def test_joint_training_needs_prompts_for_all_images(data_root, tmp_path, capsys):
    assert train.main(line(data_root, tmp_path, None, "CoCoOp", options=["TRAINER.SPOTLIGHTER.JOINT", True])) == 2
    assert "same for all images" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["MaPLe", "CoCoOp"])
def test_full_head(data_root, tmp_path, host):
    full = ["TRAINER.SPOTLIGHTER.HEAD", "full"]
    assert train.main(line(data_root, tmp_path, None, host, options=full)) == 0
    assert results(tmp_path)["extra_trainable_parameters"] > 100_000


@pytest.mark.parametrize("host", REFUSED)
def test_a_host_whose_logits_are_no_cosines_alone_is_refused(data_root, tmp_path, capsys, host):
    file = REPOSITORY / f"configs/trainers/{host}/embedded.yaml"
    options = ["TRAINER.SPOTLIGHTER.HOST", host]
    assert train.main(arguments(data_root, tmp_path, "Spotlighter", options=options, config_file=file)) == 2
    said = capsys.readouterr().err
    assert f"HOST {host} cannot carry Spotlighter" in said and ": its logits are " in said
