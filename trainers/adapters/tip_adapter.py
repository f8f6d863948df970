"""Tip-Adapter and Tip-Adapter-F: Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification",
ECCV 2022.

A cache of the shots: their features are keys, their labels the values. An image's logits are zero-shot CLIP's and, times
alpha, what the cache says of it. Tip-Adapter trains nothing; Tip-Adapter-F goes on to train the keys.

    B images      N shots      C classes      d joint width
"""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dassl.engine import TRAINER_REGISTRY

from ..shared.from_shots import FromShots, ShotLearner
from ..shared.prompted_clip import HandWrittenCLIP
from ..shared.prompts import imagenet_templates

SEARCHED = 200, 20  # values of beta and alpha on the authors' grid


def are_two(value) -> bool:
    """two numbers above 0, the largest beta and alpha"""
    return len(value) == 2 and all(isinstance(x, int | float) and x > 0 for x in value)


class Cache(ShotLearner):
    """`keys` (N, d), which are trained or not, and `labels` (N,)."""

    of_classes = "keys of a cache"
    sized = ("keys", "labels")

    def __init__(self, shots: int, classes: int, width: int, strengths: tuple[float, float], trained: bool):
        super().__init__()
        keys = torch.zeros(shots, width)
        if trained:
            self.keys = nn.Parameter(keys)
        else:
            self.register_buffer("keys", keys)
        self.register_buffer("labels", torch.zeros(shots, dtype=torch.long))
        self.classes, self.strengths = classes, strengths

    def forward(self, f: Tensor) -> Tensor:
        """Logits (B, C) beside CLIP's, of unit rows f (B, d); a step learns with the config's strengths."""
        alpha, beta = self.strengths if self.training or self.chosen is None else self.chosen
        return alpha * self.votes(f @ self.keys.t(), beta)

    def votes(self, affinity: Tensor, beta: float) -> Tensor:
        """phi(f K') V, phi(x) = exp(-beta (1 - x)): affinities (B, N) -> (B, C)."""
        return (beta * (affinity - 1)).exp() @ F.one_hot(self.labels, self.classes).to(affinity.dtype)

    def of_rows(self, state, rows):
        """The keys of some classes alone, under their new numbers."""
        number = {old: new for new, old in enumerate(rows)}
        here = [i for i, label in enumerate(state["labels"].tolist()) if label in number]
        labels = torch.tensor([number[int(state["labels"][i])] for i in here], dtype=torch.long)
        return state | {"keys": state["keys"][here], "labels": labels}


class CachedCLIP(HandWrittenCLIP):
    why_no_host = "its logits are more than cosines with texts"

    def logits(self, f, text):
        return super().logits(f, text) + self.prompt_learner(f)  # (B, C)


@TRAINER_REGISTRY.register()
class TipAdapter(FromShots):
    config_node = "TIPADAPTER"
    config_keys = {
        "ALPHA": 1.17,  # weight of the cache's logits
        "BETA": 1.0,  # how fast a key's say falls with its distance
        "AUGMENT": 10,  # passes over the shots, whose mean feature is a key
        "SEARCH": (
            7.0,
            3.0,
        ),  # largest beta and alpha among which validation images choose, with TEST.FINAL_MODEL best_val
    }
    config_ranges = {
        "ALPHA": "at least 0",
        "BETA": "at least 0",
        "AUGMENT": "at least 1",
        "SEARCH": are_two,
    }
    learner_name = "cache"
    trained = False

    def build_prompted_clip(self, clip_model):
        dataset, strengths = self.dm.dataset, (self.keys.ALPHA, self.keys.BETA)
        several = type(dataset).__name__.startswith("ImageNet")  # and its shifted variants
        templates = imagenet_templates("SIMPLE_IMAGENET_TEMPLATES") if several else [self.template()]
        classes, width = len(dataset.classnames), clip_model.visual.output_dim
        learner = Cache(len(dataset.train_x), classes, width, strengths, self.trained)
        return CachedCLIP(clip_model, dataset.classnames, templates, learner)

    def take_shots(self):
        f, y = self.shots(self.model.raw_image_features, self.keys.AUGMENT)  # (V, N, d), (N,)
        cache = self.model.prompt_learner
        cache.keys.copy_(F.normalize(f.mean(dim=0), dim=-1))
        cache.labels.copy_(y)

    def after_epoch(self):
        if self.is_chosen():
            self.choose()
        super().after_epoch()

    @torch.no_grad()
    def choose(self) -> None:
        """The first of the strengths on the authors' grid that are right most often on validation images."""
        cache, (f, y) = self.model.prompt_learner, self.validation()
        zero_shot, affinity = super(CachedCLIP, self.model).logits(f, self.model.text), f @ cache.keys.t()
        betas, alphas = (
            [0.1 + i * (most - 0.1) / count for i in range(count)]
            for most, count in zip(self.keys.SEARCH, SEARCHED, strict=True)
        )
        best = -1.0
        for beta in betas:
            votes = cache.votes(affinity, beta)
            for alpha in alphas:
                right = float(((zero_shot + alpha * votes).argmax(dim=1) == y).sum())
                if right > best:
                    best, cache.chosen = right, (alpha, beta)
        print("ALPHA {:.2f} and BETA {:.2f} by validation images".format(*cache.chosen))


@TRAINER_REGISTRY.register()
class TipAdapterF(TipAdapter):
    """With keys that are trained; the rate falls with every step, to zero."""

    config_node = "TIPADAPTERF"
    takes_views = True
    trained = True

    def build_optimiser(self, learner):
        optim = super().build_optimiser(learner)
        optim.register_step_post_hook(lambda *_: self.lower_rate())
        return optim

    def lower_rate(self) -> None:
        step = self.batch_idx + 1
        if hasattr(self.sched, "go_to"):  # upstream Dassl's goes by epochs
            self.sched.go_to(self.epoch + 1 if step == self.num_batches else self.epoch + step / self.num_batches)

    def update_lr(self, names=None):
        if not hasattr(self.sched, "go_to"):
            super().update_lr(names)
