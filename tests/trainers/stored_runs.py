"""Runs with a store of features: what their encoders see, and all bits that they give."""

import pytest
import torch

import clip
import train
from dassl.engine import SimpleTrainer, build_trainer
from dassl.utils import set_random_seed
from tests.helpers import arguments


@pytest.fixture
def seen(monkeypatch):
    """The numbers of images and hand-written texts that the encoders have seen, and all logits of tests."""
    seen = {"images": 0, "texts": 0, "logits": []}
    encode, check, encode_texts = clip.model.CLIP.encode_image, SimpleTrainer.check_output, clip.model.CLIP.encode_text

    def encode_image(self, image, *more, **how):
        seen["images"] += len(image)
        return encode(self, image, *more, **how)

    def encode_text(self, text, *more):
        seen["texts"] += len(text)
        return encode_texts(self, text, *more)

    def check_output(self, output, batch):
        seen["logits"].append((list(batch["impath"]), output))
        return check(self, output, batch)

    monkeypatch.setattr(clip.model.CLIP, "encode_image", encode_image)
    monkeypatch.setattr(clip.model.CLIP, "encode_text", encode_text)
    monkeypatch.setattr(SimpleTrainer, "check_output", check_output)
    return seen


def run(seen, data_root, output, method, folder, options=(), **flags):
    """(images encoded, logits of the test, what was learned) of a run."""
    seen.update(images=0, texts=0, logits=[])
    options = ["OPTIM.MAX_EPOCH", 2, "FEATURES.DIR", folder, *options]
    assert train.main(arguments(data_root, output, method, options=options, **flags)) == 0
    learned = {
        path.parent.name: torch.load(path, weights_only=False)["state_dict"] for path in output.glob("*/model*tar*")
    }
    return seen["images"], seen["logits"], learned


def built(data_root, tmp_path, method, options):
    cfg = train.build_config(train.parse_arguments(arguments(data_root, tmp_path / "built", method, options=options)))
    set_random_seed(cfg.SEED)
    return build_trainer(cfg)


def are_equal(one, other) -> bool:
    """To the bit."""
    if torch.is_tensor(one):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(are_equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(are_equal, one, other))
    return one == other
