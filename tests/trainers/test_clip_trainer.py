"""What all methods share (../trainers/clip_trainer.py): precision, CLIP's loading, what is computed once, checkpoints."""

import re

import pytest
import torch
from torch import nn

import clip
import train
from tests.clip_weights import SMALL, random_state
from tests.helpers import arguments
from tests.trainers.by_hand import built, write_checkpoint
from trainers.clip_trainer import load_clip, load_learner, resolve_precision
from trainers.prompts import ContextPrompts

CPU, GPU = torch.device("cpu"), torch.device("cuda")
BACKBONE = "ViT-Embedded/8"


@pytest.mark.parametrize(
    ("wanted", "device", "found"),
    [("auto", CPU, "fp32"), ("auto", GPU, "fp16"), ("fp32", GPU, "fp32"), ("bf16", CPU, "bf16"), ("amp", GPU, "amp")],
)
def test_precision(wanted, device, found):
    assert resolve_precision(wanted, device) == found


@pytest.mark.parametrize(("wanted", "says"), [("fp16", "fp16 needs a GPU"), ("amp", "amp needs a GPU"), ("fp8", "'fp8': choose one of auto")])  # fmt: skip
def test_precision_that_a_cpu_has_not(wanted, says):
    with pytest.raises(clip.InputError, match=says):
        resolve_precision(wanted, CPU)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("amp", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)])  # fmt: skip
def test_clip_is_frozen_in_its_precision(precision, dtype):
    model = load_clip(BACKBONE, precision, CPU)
    assert model.dtype == dtype and not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_backbone_may_be_a_checkpoint(tmp_path):
    state = random_state(SMALL)
    torch.save(state, tmp_path / "own.pt")
    loaded = load_clip(str(tmp_path / "own.pt"), "fp32", CPU).state_dict()
    assert loaded.keys() == state.keys()
    torch.testing.assert_close(loaded["visual.proj"], state["visual.proj"], atol=1e-3, rtol=1e-3)  # through fp16


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
    learner = Learner(load_clip(BACKBONE, "fp32", CPU))
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
    """A method that adds nothing says what the engine says of all; a plug-in adds its count to its host's."""
    options = ["TRAINER.COOP.CTX_INIT", "", "TRAINER.COOP.N_CTX", 3]
    learned = built(arguments(data_root, tmp_path, options=options)).facts()
    assert learned == {"trainable_parameters": 3 * 128, "extra_trainable_parameters": 0, "transductive": False}
    over = built(arguments(data_root, tmp_path, "Spotlighter", options=options)).facts()
    assert over == learned | {"trainable_parameters": 3 * 128 + 21, "extra_trainable_parameters": 21}
