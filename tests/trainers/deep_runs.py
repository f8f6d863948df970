"""Whole runs of methods with deep prompts on the shipped CLIP, of four blocks of width 128: what VPT and IVLP share."""

from typing import NamedTuple

import torch

import clip
import train
from tests.helpers import CLASSES, REPOSITORY, arguments, results
from tests.trainers.by_hand import as_published, built, moved, write_checkpoint


class DeepRun(NamedTuple):
    trainer: str
    folder: str  # of its learner's checkpoints
    shapes: dict[str, tuple[int, int]]  # of what it learns
    config: str = "embedded"
    options: tuple = ()

    def line(self, root, output, **flags) -> list[str]:
        path = REPOSITORY / f"configs/trainers/{self.trainer}/{self.config}.yaml"
        options = ["OPTIM.MAX_EPOCH", 2, *self.options]
        return arguments(root, output, self.trainer, options=options, config_file=path, **flags)


def check_training(run: DeepRun, root, output, monkeypatch, texts: list[int], images: int) -> None:
    """What is learned and saved; `texts` encoded at a time and `images` in all, in 2 epochs of 3 batches and a test."""
    seen_texts, seen_images = [], []
    encode = (clip.model.CLIP.encode_prompts, clip.model.CLIP.encode_image)
    monkeypatch.setattr(clip.model.CLIP, "encode_prompts", lambda self, x, *rest: seen_texts.append(len(x)) or encode[0](self, x, *rest))  # fmt: skip
    monkeypatch.setattr(clip.model.CLIP, "encode_image", lambda self, x, *rest, **more: seen_images.append(len(x)) or encode[1](self, x, *rest, **more))  # fmt: skip
    assert train.main(run.line(root, output)) == 0
    assert seen_texts == texts and sum(seen_images) == images

    saved = torch.load(output / run.folder / "model.pth.tar-2", weights_only=True)["state_dict"]
    assert {name: tuple(value.shape) for name, value in saved.items()} == run.shapes
    assert results(output)["trainable_parameters"] == sum(m * width for m, width in run.shapes.values())
    first = built(run.line(root, output.parent / "unused")).model.prompt_learner.state_dict()
    assert all((value - first[name]).abs().max() > 0 for name, value in saved.items())


def check_tests(run: DeepRun, root, base) -> None:
    """A trained run, tested on the base and the new classes."""
    flags = {"model_dir": base, "eval_only": True}
    for half in ("base", "new"):
        assert train.main(run.line(root, base.parent / half / "test", subsample=half, **flags)) == 0
    assert results(base.parent / "base" / "test")["classwise"] == results(base)["classwise"]
    assert list(results(base.parent / "new" / "test")["classwise"]) == CLASSES[3:]


@torch.no_grad()
def check_published(run: DeepRun, root, folder) -> None:
    """Theirs gives the logits of the model that it was taken from, and so does ours, saved after loading it."""
    images, argv = torch.randn(2, 3, 64, 64), run.line(root, folder)
    source, trainer, again = built(argv), built(argv), built(argv)
    moved(source.model.prompt_learner)
    expected = source.model(images)
    assert (trainer.model(images) - expected).abs().max() > 0.1
    write_checkpoint(folder / "theirs", run.folder, as_published(source.model))
    trainer.load_model(str(folder / "theirs"), epoch=5)
    assert torch.equal(trainer.model(images), expected)
    trainer.save_model(0, str(folder / "ours"))
    again.load_model(str(folder / "ours"), epoch=1)
    assert torch.equal(again.model(images), expected)
