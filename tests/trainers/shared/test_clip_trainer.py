"""The trainer under all methods (../../../trainers/shared/clip_trainer.py): what it refuses and computes once, checkpoints, facts."""

import re

import pytest
import torch
from torch import nn

import clip
import train
from dassl.engine import build_trainer
from datasets.base import Benchmark
from datasets.splits import Item
from tests.helpers import arguments
from tests.trainers.by_hand import built, write_checkpoint
from trainers.shared.clip_trainer import load_learner
from trainers.shared.prompted_clip import load_clip, resolve_precision
from trainers.shared.prompts import ContextPrompts


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["MODEL.BACKBONE.NAME", "ViT-B16"], "'ViT-B16' is neither .* nearest name is 'ViT-B/16'"),
        (["INPUT.SIZE", (32, 32)], r"INPUT.SIZE is \(32, 32\) and backbone ViT-Embedded/8 takes \(64, 64\)"),
    ],
)
def test_what_does_not_fit_is_one_sentence(data_root, tmp_path, capsys, options, says):
    assert train.main(arguments(data_root, tmp_path, options=options)) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert re.search(says, said)


UNKNOWN = ("global", "local", "accordion", "ant")  # to the tiny CLIP, whose words are those of the drawn sets


def test_a_precision_that_a_device_has_not_is_said_of_the_whole_key(data_root, tmp_path, monkeypatch):
    """Also where nobody checked the config, as upstream Dassl does not."""

    def refuse(wanted, device):
        return resolve_precision("fp16", torch.device("cpu"))

    monkeypatch.setattr("trainers.shared.clip_trainer.resolve_precision", refuse)
    with pytest.raises(clip.InputError, match=r"^TRAINER\.COOP\.PREC fp16 needs a GPU"):
        build_trainer(train.build_config(train.parse_arguments(arguments(data_root, tmp_path))))


def lines_about(texts, said):
    return [line for line in said.splitlines() if texts in line]


@pytest.mark.parametrize("method", ["CoOp", "Spotlighter", "ZeroshotCLIP2", "VPT", "CoCoOp"])
@pytest.mark.parametrize("own", [True, False])
def test_classes_of_one_text_are_named(data_root, tmp_path, monkeypatch, capsys, method, own):
    """All words that a backbone never learned are one to it, and classes of such words train to chance.

    Of a set that is introduced this is said before training, else in the test, by the texts that it has at hand; where
    the texts depend on the image there are none.
    """
    named_anew(monkeypatch, dict(zip(("red", "green", "dark_grey", "yellow"), UNKNOWN, strict=True)))
    monkeypatch.setattr(Benchmark, "introduce", own, raising=False)
    line = arguments(data_root, tmp_path, method, subsample="all", options=["OPTIM.MAX_EPOCH", 1])
    assert train.main(line) == 0
    said = capsys.readouterr().out
    if (method, own) == ("CoCoOp", False):
        assert not lines_about("one and the same text", said)
        return
    assert (said.index("one and the same text") < said.index("Finish training")) == own
    (line,) = lines_about("one and the same text", said)
    names = ("accordion", "global", "local", "ant")
    assert line.startswith("Warning: 4 classes ") and set(re.findall(r"'(\w+)'", line)) == set(names)
    assert "backbone ViT-Embedded/8 does not know their words" in line


def test_a_test_alone_names_them_too(data_root, tmp_path, monkeypatch, capsys):
    named_anew(monkeypatch, dict(zip(("red", "green"), UNKNOWN[:2], strict=True)))
    built(arguments(data_root, tmp_path, subsample="all")).test()
    (line,) = lines_about("one and the same text", capsys.readouterr().out)
    assert line.startswith("Warning: 2 classes ") and "'global'" in line and "'local'" in line


def test_classes_of_one_name_are_no_unknown_words(data_root, tmp_path, monkeypatch, capsys):
    """As ImageNet's two missiles."""
    named_anew(monkeypatch, {"green": "Red"})
    built(arguments(data_root, tmp_path, subsample="all")).test()
    (line,) = lines_about("so that no prompt", capsys.readouterr().out)
    assert line.lower().startswith("2 classes are called 'red', so that ")


def test_classes_of_texts_of_their_own_are_no_news(data_root, tmp_path, capsys):
    built(arguments(data_root, tmp_path, subsample="all")).test()
    said = capsys.readouterr().out
    assert not lines_about("text, so that", said) and not lines_about("are called", said)


def named_anew(monkeypatch, names):
    """The small benchmark's classes under other names."""
    read = Benchmark.read

    def read_anew(self):
        return {
            part: [Item(path, label, names.get(name, name)) for path, label, name in items]
            for part, items in read(self).items()
        }

    monkeypatch.setattr(Benchmark, "read", read_anew)
    monkeypatch.setattr(Benchmark, "twins", ("red", "Red"))


# --- what is computed once ----------------------------------------------------------------------------------------


def batch_of(trainer, indices):
    """The images (B, 3, H, W) of some training images, as the training transform shows them."""
    items = [trainer.train_loader_x.dataset[i] for i in indices]
    trainer.batch_index = torch.tensor(indices)
    return torch.stack([item["img"] for item in items])


def test_once_per_image(data_root, tmp_path):
    """Under a fixed transform all images are worked on when the first batch comes, in their order, and then never again."""
    trainer, seen = built(arguments(data_root, tmp_path)), []

    def compute(images):
        seen.append(len(images))
        return images.flatten(1).sum(dim=1)  # (B,)

    for indices in ([7, 2, 11, 0], [1, 7]):
        images, before = batch_of(trainer, indices), torch.get_rng_state()
        assert torch.equal(trainer.once_per_image("sum", compute, images), images.flatten(1).sum(dim=1))
        assert torch.equal(torch.get_rng_state(), before)
    assert sum(seen) == 12
    trainer.once_per_image("other", compute, images)
    assert sum(seen) == 24  # each name by itself


def test_every_batch_anew_under_a_transform_with_chance(data_root, tmp_path):
    options = ["INPUT.TRANSFORMS", ("random_flip", "normalize")]
    trainer, seen = built(arguments(data_root, tmp_path, options=options)), []
    for _ in range(2):
        images = batch_of(trainer, [3, 4])
        trainer.once_per_image("sum", lambda images: seen.append(len(images)) or images, images)
    assert seen == [2, 2] and not trainer.remembered


# --- checkpoints --------------------------------------------------------------------------------------------------


class Learner(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.ctx = nn.Parameter(torch.zeros(2, 128))
        self.prompts = ContextPrompts(model, ["cat"], 2)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({}, None),
        ({"token_prefix": torch.zeros(1), "token_suffix": torch.zeros(1)}, None),  # derived, in whatever shape
        ({"bias_vectors": torch.zeros(1)}, None),  # a method says that it is not used
        ({"ctx": torch.ones(3, 128)}, "size mismatch for ctx"),
        ({"other": torch.zeros(1)}, "other"),
    ],
)
def test_loading_is_strict(more, says):
    learner = Learner(load_clip("ViT-Embedded/8", "fp32", torch.device("cpu")))
    state = {"ctx": torch.ones(2, 128)} | more
    if says is None:
        load_learner(learner, state, "here", frozenset({"bias_vectors"}))
        assert torch.equal(learner.ctx, torch.ones(2, 128))
        return
    with pytest.raises(clip.InputError, match=f"here does not fit this run .*{says}"):
        load_learner(learner, state, "here", frozenset({"bias_vectors"}))


def test_what_is_there_instead_of_a_checkpoint(data_root, tmp_path):
    trainer = built(arguments(data_root, tmp_path / "out"))
    with pytest.raises(clip.InputError, match="there is no folder .*train first"):
        trainer.load_model(str(tmp_path / "nowhere"))
    write_checkpoint(tmp_path / "run", "elsewhere", {})
    with pytest.raises(clip.InputError, match="holds elsewhere, so it is the run of another method"):
        trainer.load_model(str(tmp_path / "run"))
    write_checkpoint(tmp_path / "run", "prompt_learner", {})
    with pytest.raises(clip.InputError, match="there are model.pth.tar-5; choose one with --load-epoch"):
        trainer.load_model(str(tmp_path / "run"), epoch=9)


def test_facts(data_root, tmp_path):
    """What the engine says of all, and of the text encoder's parts; a plug-in adds its count to its host's."""
    options = ["TRAINER.COOP.CTX_INIT", "", "TRAINER.COOP.N_CTX", 3]
    learned = built(arguments(data_root, tmp_path, options=options)).facts()
    assert learned == {
        "trainable_parameters": 3 * 128,
        "extra_trainable_parameters": 0,
        "transductive": False,
        "precision": "fp32",
        "text_parts": 1,
        "text_memory_mb": learned["text_memory_mb"],
    }
    over = built(arguments(data_root, tmp_path, "Spotlighter", options=options)).facts()
    assert over == learned | {"trainable_parameters": 3 * 128 + 21, "extra_trainable_parameters": 21}
