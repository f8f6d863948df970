"""PromptKD (../trainers/promptkd.py): its loss, its teachers, which images it trains on, what it leaves behind."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from yacs.config import CfgNode

import clip
import train
from dassl.config import read_tree
from dassl.engine import build_trainer
from dassl.errors import InputError
from tests.helpers import CLASSES, REPOSITORY, arguments, results
from trainers.promptkd import PromptKD, Teacher, distillation_loss, teacher_checkpoint, teacher_prompts
from trainers.shared.deep_prompts import DeepPromptLearner
from trainers.shared.prompted_clip import load_clip

BACKBONE = "ViT-Embedded/8"
DESIGN = {"trainer": "IVLP", "vision_ctx": 3, "vision_depth": 2, "language_ctx": 2, "language_depth": 3}
KEYS = CfgNode({"CTX_INIT": "a photo of a", "N_CTX_TEXT": 2, "N_CTX_VISION": 3, "PROMPT_DEPTH_TEXT": 3, "PROMPT_DEPTH_VISION": 2})  # fmt: skip


def prompted_clip():
    """A CLIP with prompts that matter, and its learner; others than any config's in number and depth."""
    torch.manual_seed(0)  # the prompts are drawn while CLIP is built
    model = load_clip(BACKBONE, "fp32", torch.device("cpu"), DESIGN)
    learner = DeepPromptLearner(model, CLASSES, KEYS)
    with torch.no_grad():
        for prompt in learner.parameters():
            prompt += 0.3 * torch.randn_like(prompt)
    return model, learner


def write_teacher(folder, state, record=None):
    (folder / "VLPromptLearner").mkdir(parents=True)
    torch.save({"state_dict": state, "epoch": 5}, folder / "VLPromptLearner" / "model.pth.tar-5")
    (folder / "VLPromptLearner" / "checkpoint").write_text("model.pth.tar-5\n")
    if record is not None:
        (folder / "results.json").write_text(json.dumps(record))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A teacher's folder as our PromptSRC leaves it, its running average included."""
    folder = tmp_path_factory.mktemp("teacher") / "run"
    state = {**prompted_clip()[1].state_dict(), "aggregate": torch.zeros(3)}
    write_teacher(folder, state, {"state": "finished", "backbone": BACKBONE})
    return folder


def line(root, output, teacher, config="embedded", options=(), **flags):
    path = REPOSITORY / f"configs/trainers/PromptKD/{config}.yaml"
    options = ["TRAINER.PROMPTKD.TEACHER_DIR", teacher, "USE_CUDA", False, *options]
    return arguments(root, output, flags.pop("trainer", "PromptKD"), options=options, config_file=path, **flags)


def built(arguments):
    return build_trainer(train.build_config(train.parse_arguments(arguments)))


# --- the equation --------------------------------------------------------------------------------------------


def test_distillation_loss_by_hand():
    """T² times the sum over images and classes of p_t (log p_t - log p_s), over B and n."""
    torch.manual_seed(0)
    logits, taught, T = torch.randn(5, 7) * 4, torch.randn(5, 7) * 4, 2.5
    total = 0.0
    for s, t in zip(logits.double() / T, taught.double() / T, strict=True):
        p_s, p_t = s.exp() / s.exp().sum(), t.exp() / t.exp().sum()
        total += (p_t * (p_t.log() - p_s.log())).sum()
    assert distillation_loss(logits, taught, T).item() == pytest.approx((T**2 * total / 35).item(), rel=1e-5)
    assert distillation_loss(taught, taught, T).item() == pytest.approx(0, abs=1e-6)


def test_the_loss_of_a_batch_by_hand(data_root, tmp_path, teacher):
    """Student's scale and projection on one side, teacher's features on the other; labels play no part."""
    trainer = built(line(data_root, tmp_path, teacher, options=["TRAINER.PROMPTKD.KD_WEIGHT", 3.0]))
    trainer.before_train()
    trainer.set_model_mode("train")
    items = trainer.train_loader_x.dataset
    trainer.batch_index = torch.tensor([1, 8, 20, 29])
    images = torch.stack([items[i]["img"] for i in trainer.batch_index.tolist()])

    model, learner = prompted_clip()
    learner.prompts = type(learner.prompts)(model, CLASSES, 2, words="a photo of a")
    unit = torch.nn.functional.normalize
    text = unit(model.encode_prompts(*learner(), learner.text_edits()), dim=-1)
    taught = model.logit_scale.exp() * unit(model.encode_image(images, learner.image_edits()), dim=-1) @ text.t()
    student = trainer.model.prompt_learner
    x = model.encode_image(images, [clip.VisualPrompts(list(student.visual))])
    first, norm, _, last = student.projection
    x = x @ first.weight.t() + first.bias
    x = (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt() * norm.weight + norm.bias
    x = x.clamp_min(0) @ last.weight.t() + last.bias
    logits = model.logit_scale.exp() * unit(x, dim=-1) @ text.t()
    p = taught.softmax(1)
    expected = 3.0 * (p * (p.log() - logits.log_softmax(1))).sum() / p.numel()

    for labels in (torch.zeros(4, dtype=torch.long), torch.tensor([4, 1, 0, 2])):
        loss, _ = trainer.compute_loss(images, labels)
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("name", "weight"), [("FGVCAircraft", 200), ("OxfordFlowers", 200), ("Caltech101", 1000)])
def test_published_weights(data_root, tmp_path, teacher, name, weight):
    losses = []
    for given in (0.0, 1.0):
        trainer = built(line(data_root, tmp_path, teacher, options=["TRAINER.PROMPTKD.KD_WEIGHT", given]))
        trainer.before_train()
        trainer.set_model_mode("eval")
        trainer.cfg.defrost()
        trainer.cfg.DATASET.NAME = name
        torch.manual_seed(0)
        for parameter in trainer.model.prompt_learner.parameters():
            parameter.data = 0.1 * torch.randn_like(parameter)
        trainer.batch_index = torch.arange(4)
        losses.append(trainer.compute_loss(torch.zeros(4, 3, 64, 64), None)[0].item())
    assert losses[0] == pytest.approx(weight * losses[1], rel=1e-4)


# --- the teacher ---------------------------------------------------------------------------------------------


def as_published(learner, model):
    """The same prompts under the names of the authors' checkpoints, with some of what else they hold."""
    state = {
        "prompt_learner.ctx": learner.ctx,
        "prompt_learner.token_prefix": torch.zeros(5, 1, 128),
        "prompt_learner.token_suffix": torch.zeros(5, 74, 128),
        "image_encoder.VPT": learner.visual[0],
        "image_encoder.conv1.weight": model.visual.conv1.weight,
        "logit_scale": model.logit_scale,
    }
    for i, prompt in enumerate(learner.visual[1:], start=1):
        state[f"image_encoder.transformer.resblocks.{i}.VPT_shallow"] = prompt
    for i, prompt in enumerate(learner.text, start=1):
        state[f"text_encoder.transformer.resblocks.{i}.VPT_shallow"] = prompt
    return {name: value.detach().clone() for name, value in state.items()}


def test_teachers_of_ours_and_of_the_authors(teacher, tmp_path):
    """Both give the features of the learner that they were taken from; counts and depths come from the shapes."""
    model, learner = prompted_clip()
    write_teacher(tmp_path / "theirs", as_published(learner, model))
    os.rename(
        tmp_path / "theirs/VLPromptLearner/model.pth.tar-5", tmp_path / "theirs/VLPromptLearner/model-best.pth.tar"
    )
    unit = torch.nn.functional.normalize
    images = torch.randn(2, 3, 64, 64)
    text = unit(model.encode_prompts(*learner(), learner.text_edits()), dim=-1)
    image = unit(model.encode_image(images, learner.image_edits()), dim=-1)
    for folder in (teacher, tmp_path / "theirs"):
        path = teacher_checkpoint(str(folder), BACKBONE)
        plain = load_clip(BACKBONE, "fp32", torch.device("cpu"))
        loaded = Teacher(plain, teacher_prompts(path, BACKBONE, plain), "a photo of a")
        assert [len(side) for side in (loaded.ctx, loaded.text, loaded.visual)] == [2, 2, 2]
        torch.testing.assert_close(loaded.class_texts(CLASSES), text, rtol=0, atol=1e-6)
        torch.testing.assert_close(loaded.image_features(images), image, rtol=0, atol=1e-6)


RECORD = {"state": "finished", "backbone": BACKBONE}


@pytest.mark.parametrize(
    ("spoil", "record", "says"),
    [
        (None, RECORD, "TEACHER_DIR is empty.*scripts/promptkd/teacher.sh"),
        (lambda state: state, {**RECORD, "state": "running"}, "has not finished.*run it again"),
        (lambda state: state, {**RECORD, "backbone": "ViT-B/16"}, "was trained on ViT-B/16.*TEACHER_NAME"),
        (lambda state: {}, RECORD, "no teacher for"),
        (lambda state: {k: v for k, v in state.items() if k != "text.0"}, RECORD, "no teacher for.*text.0"),
        (lambda state: {**state, "visual.0": torch.zeros(3, 768)}, RECORD, "no teacher for.*widths"),
    ],
)
def test_a_teacher_that_cannot_teach(data_root, tmp_path, capsys, spoil, record, says):
    folder = ""
    if spoil is not None:
        folder = tmp_path / "teacher"
        write_teacher(folder, spoil(prompted_clip()[1].state_dict()), record)
    assert train.main(line(data_root, tmp_path / "student", folder)) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and pytest.importorskip("re").search(says, said[0])


def test_a_teachers_backbone_computes_as_in_its_run(data_root, tmp_path, teacher):
    """Whatever the student's does."""
    shutil.copytree(teacher, tmp_path / "gelu")
    record = {"state": "finished", "backbone": BACKBONE, "config": {"MODEL": {"BACKBONE": {"ACT": "gelu"}}}}
    (tmp_path / "gelu/results.json").write_text(json.dumps(record))
    model = built(line(data_root, tmp_path / "out", tmp_path / "gelu")).model
    assert (model.teacher.clip.activation, model.clip.activation) == ("gelu", "quick_gelu")


@pytest.mark.parametrize("config", [[1], {"MODEL": 5}, {"MODEL": {"BACKBONE": []}}, {"INPUT": {"SIZE": 5}, "MODEL": {"BACKBONE": {"RESIZE_POSITIONS": True}}}])  # fmt: skip
def test_a_teachers_config_that_is_damaged(data_root, tmp_path, teacher, capsys, config):
    shutil.copytree(teacher, tmp_path / "other")
    (tmp_path / "other/results.json").write_text(json.dumps({**RECORD, "config": config}))
    assert train.main(line(data_root, tmp_path / "out", tmp_path / "other")) == 2
    assert "The config in the teacher's" in capsys.readouterr().err


def test_a_folder_without_a_teacher(data_root, tmp_path, capsys):
    assert train.main(line(data_root, tmp_path / "student", tmp_path)) == 2
    assert "VLPromptLearner holds no checkpoint" in capsys.readouterr().err


# --- which images --------------------------------------------------------------------------------------------


def spoiled_copy(root, to):
    """The data, with the new classes' training images blackened."""
    from PIL import Image

    shutil.copytree(root, to)
    for name in CLASSES[3:]:
        for path in (to / "caltech-101/101_ObjectCategories" / name).glob("train_*.png"):
            Image.new("RGB", (64, 64)).save(path)
    return to


@pytest.mark.parametrize(("config", "classes", "count"), [("embedded", CLASSES, 30), ("embedded_inductive", CLASSES[:3], 12)])  # fmt: skip
def test_images_trained_on(data_root, tmp_path, teacher, config, classes, count, monkeypatch):
    trainer = built(line(data_root, tmp_path, teacher, config))
    assert "unlabelled" not in vars(trainer)  # an evaluation would not have read them
    trainer.before_train()
    items = trainer.train_loader_x.dataset.data_source
    assert len(items) == len({item.impath for item in items}) == count
    assert {item.classname for item in items} == set(classes)
    assert trainer.taught_text.shape == (len(classes), 128)
    assert {item.classname for item in trainer.dm.dataset.train_x} == set(CLASSES[:3])  # a plug-in's few shots
    assert trainer.model.text_features().shape == (3, 128) and len(trainer.dm.dataset.train_x) == 12


def test_one_image_is_no_batch(data_root, tmp_path, teacher, capsys):
    options = ["TRAINER.PROMPTKD.TRANSDUCTIVE", False, "DATASET.NUM_SHOTS", 1]
    trainer = built(line(data_root, tmp_path, teacher, options=options))
    loader = trainer.train_loader_x.dataset
    loader.data_source = loader.data_source[:1]
    with pytest.raises(clip.InputError, match="there is but one image: raise DATASET.NUM_SHOTS"):
        trainer.before_train()


def test_inductive_training_sees_nothing_of_the_new_classes(data_root, tmp_path, teacher):
    """Their training images, changed, change no learned tensor; of a transductive run they do."""
    spoiled = spoiled_copy(data_root, tmp_path / "spoiled")
    for config, same in (("embedded_inductive", True), ("embedded", False)):
        learned = []
        for root in (data_root, spoiled):
            output = tmp_path / config / root.name
            assert train.main(line(root, output, teacher, config)) == 0
            learned.append(torch.load(output / "VLPromptLearner/model.pth.tar-3", weights_only=True)["state_dict"])
        assert all(torch.equal(value, learned[1][name]) for name, value in learned[0].items()) is same
        whole, broken = (results(tmp_path / config / root.name) for root in (data_root, spoiled))
        assert (whole["accuracy"] == broken["accuracy"]) or not same


def test_a_transductive_run_is_another_with_other_unlabelled_images(data_root, tmp_path, teacher, capsys):
    """Of which none may be among its shots; an inductive run, and a test, have none."""
    spoiled = spoiled_copy(data_root, tmp_path / "spoiled")
    for config, again in (("embedded_inductive", 0), ("embedded", 2)):
        assert train.main(line(data_root, tmp_path / config, teacher, config)) == 0
        capsys.readouterr()
        assert train.main(line(spoiled, tmp_path / config, teacher, config)) == again
        assert ("Skipped" in capsys.readouterr().out) == (again == 0)
        assert train.main(line(data_root, tmp_path / config, teacher, config)) == 0
        assert "Skipped" in capsys.readouterr().out
        test = {"subsample": "base", "model_dir": tmp_path / config, "eval_only": True}
        assert train.main(line(spoiled, tmp_path / f"{config}_test", teacher, config, **test)) == 0


# --- whole runs ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(data_root, tmp_path_factory, teacher):
    folder = tmp_path_factory.mktemp("student")
    assert train.main(line(data_root, folder, teacher)) == 0
    return folder


def test_what_is_learned_and_saved(trained):
    """Prompts of all four blocks and the projection with its running statistics; nothing of teacher or CLIP."""
    state = torch.load(trained / "VLPromptLearner/model.pth.tar-3", weights_only=True)["state_dict"]
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert shapes == {
        **{f"visual.{i}": (4, 128) for i in range(4)},
        "projection.0.weight": (128, 128), "projection.0.bias": (128,),
        "projection.1.weight": (128,), "projection.1.bias": (128,),
        "projection.1.running_mean": (128,), "projection.1.running_var": (128,), "projection.1.num_batches_tracked": (),
        "projection.3.weight": (128, 128), "projection.3.bias": (128,),
    }  # fmt: skip
    record = results(trained)
    assert record["trainable_parameters"] == 4 * 4 * 128 + 2 * (128 * 128 + 128) + 2 * 128
    assert state["projection.1.num_batches_tracked"] == 3 * 7  # 30 images in batches of 4: nothing else counted
    assert (record["transductive"], record["unlabelled_images"], record["shots"]) == (True, 30, 4)
    assert len(record["unlabelled_sha256"]) == 64 != record["images_sha256"]


@pytest.mark.parametrize("half", ["base", "new"])
def test_evaluation_in_another_process(trained, data_root, tmp_path, teacher, half):
    options = line(data_root, tmp_path, teacher, subsample=half, model_dir=trained, eval_only=True)
    done = subprocess.run([sys.executable, "train.py", *options], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = results(tmp_path)
    assert list(record["classwise"]) == (CLASSES[:3] if half == "base" else CLASSES[3:])
    assert record["transductive"] and record["unlabelled_images"] is None
    if half == "base":
        assert record["classwise"] == results(trained)["classwise"]


def test_text_and_teacher_features_are_computed_once(data_root, tmp_path, teacher, monkeypatch):
    """The teacher's texts at the start, of all classes and of those tested; each training image once."""
    texts, images = [], []
    encode_texts, encode_images = clip.model.CLIP.encode_prompts, Teacher.image_features
    monkeypatch.setattr(clip.model.CLIP, "encode_prompts", lambda self, x, *rest: texts.append(len(x)) or encode_texts(self, x, *rest))  # fmt: skip
    monkeypatch.setattr(Teacher, "image_features", lambda self, x: images.append(len(x)) or encode_images(self, x))
    options = ["DATALOADER.TEST.BATCH_SIZE", 2, "OPTIM.MAX_EPOCH", 4]
    assert train.main(line(data_root, tmp_path, teacher, options=options)) == 0
    assert texts == [3, 5] and sum(images) == 30


def test_tokens_for_a_plug_in(data_root, tmp_path, teacher):
    """Unit rows in the teacher's space, the class token's the same with and without them; not while training."""
    trainer = built(line(data_root, tmp_path, teacher))
    model, images = trainer.model, torch.randn(3, 3, 64, 64)
    with pytest.raises(clip.InputError, match="JOINT False"):
        model.image_features(images, tokens=True)
    trainer.set_model_mode("eval")
    f, v = model.image_features(images, tokens=True)
    assert f.shape == (3, 128) and v.shape == (3, 64, 128)
    torch.testing.assert_close(f, model.image_features(images))
    torch.testing.assert_close(v.norm(dim=-1), torch.ones(3, 64))
    plain = load_clip(BACKBONE, "fp32", torch.device("cpu"))
    tokens = clip.tokenize(["a red thing."])
    expected = torch.nn.functional.normalize(plain.encode_text(tokens), dim=-1)
    torch.testing.assert_close(model.zero_shot_text(["red"], "a {} thing."), expected)


def test_a_checkpoint_of_the_authors_student(trained, data_root, tmp_path, teacher):
    """Its projection's layers are convolutions, beside the whole image encoder."""
    state = torch.load(trained / "VLPromptLearner/model.pth.tar-3", weights_only=True)["state_dict"]
    theirs = {"image_encoder.VPT": state["visual.0"], "image_encoder.proj": torch.zeros(128, 128), "logit_scale": torch.tensor(4.6)}  # fmt: skip
    for i in (1, 2, 3):
        theirs[f"image_encoder.transformer.resblocks.{i}.VPT_shallow"] = state[f"visual.{i}"]
    for name, value in state.items():
        if name.startswith("projection."):
            wide = value[..., None, None] if value.dim() == 2 else value
            theirs[name.replace("projection", "VPT_image_trans.conv1")] = wide
    write_teacher(tmp_path / "student", theirs)  # the same folder and file names
    flags = dict(model_dir=tmp_path / "student", eval_only=True, load_epoch=5)
    assert train.main(line(data_root, tmp_path / "test", teacher, **flags)) == 0
    assert results(tmp_path / "test")["classwise"] == results(trained)["classwise"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["DATALOADER.TRAIN_X.BATCH_SIZE", 1], "BATCH_SIZE is 1: it must be at least 2, as PromptKD normalises"),
        (["TRAINER.PROMPTKD.TEMPERATURE", 0.0], "TEMPERATURE.*above 0"),
        (["TRAINER.PROMPTKD.PROMPT_DEPTH_VISION", 5], "PROMPT_DEPTH_VISION is 5.*choose 0 to 4"),
    ],
)
def test_bad_settings(data_root, tmp_path, teacher, options, says):
    with pytest.raises((clip.InputError, InputError), match=says):
        built(line(data_root, tmp_path, teacher, options=options))


# --- scripts -------------------------------------------------------------------------------------------------


def script(name, *arguments, **environment):
    env = {**os.environ, "PYTHON": sys.executable, "SHOTS": "4", "DEVICE": "cpu", **environment}
    call = ["bash", str(REPOSITORY / "scripts" / name), *map(str, arguments)]
    return subprocess.run(call, env=env, capture_output=True, text=True, cwd="/")


def test_what_a_planner_reads_of_its_teacher():
    configs = REPOSITORY / "configs/trainers"
    stated = read_tree(str(configs / "PromptKD/teacher.yaml"))
    assert stated["METHOD"] == "PromptSRC" and stated["PASSED_AS"] == "TRAINER.PROMPTKD.TEACHER_DIR"
    assert "TEACHER_DIR" in PromptKD.config_keys
    assert {start: (configs / "PromptSRC" / f"{name}.yaml").is_file() for start, name in stated["CONFIGS"].items()} == {
        "embedded": True,
        "": True,
    }


def test_scripts(data_root, tmp_path, teacher):
    """The teacher is trained first, by its own config, and once; then students of it, each by its own."""
    where = dict(DATA=str(data_root), OUTPUT=str(tmp_path), TEACHER_CFG="embedded")
    short = ("OPTIM.MAX_EPOCH", 1, "DATALOADER.TRAIN_X.BATCH_SIZE", 4)
    runs = tmp_path / "base2new/train_base/caltech101/shots_4"
    done = script("promptkd/base2new_train.sh", "caltech101", 2, *short, CFG="embedded_inductive", **where)
    assert done.returncode == 0, done.stderr
    source = results(runs / "PromptSRC/embedded/seed2")
    assert (source["method"], source["subsample"], source["state"]) == ("PromptSRC", "base", "finished")
    student = results(runs / "PromptKD/embedded_inductive/seed2")
    assert student["config"]["TRAINER"]["PROMPTKD"]["TEACHER_DIR"] == str(runs / "PromptSRC/embedded/seed2")
    done = script("promptkd/teacher.sh", "caltech101", 2, CFG="embedded_inductive", **where)
    assert done.returncode == 0 and "Skipped" in done.stdout
    done = script("promptkd/base2new_test.sh", "caltech101", 2, *short, CFG="embedded_inductive", **where)
    assert done.returncode == 0, done.stderr
    tested = "base2new/test_new/caltech101/shots_4/{}/seed2"
    assert results(tmp_path / tested.format("PromptKD/embedded_inductive"))["subsample"] == "new"

    where |= dict(TEACHER_DIR=str(teacher), CFG="embedded_promptkd")  # another teacher; none is trained
    for phase in ("train", "test"):
        done = script(f"spotlighter_promptkd/base2new_{phase}.sh", "caltech101", 3, *short, **where)
        assert done.returncode == 0, done.stderr
    record = results(tmp_path / tested.format("Spotlighter/embedded_promptkd").replace("seed2", "seed3"))
    assert record["transductive"] and record["extra_trainable_parameters"] == 21
    assert not (runs / "PromptSRC/embedded/seed3").exists()


@pytest.mark.parametrize("name", ["promptkd/base2new_train", "promptkd/teacher", "spotlighter_promptkd/base2new_test"])
def test_usage(name):
    done = script(f"{name}.sh")
    assert done.returncode == 2 and done.stderr.startswith("usage:")
