"""GDA: Wang et al., "A Hard-to-Beat Baseline for Training-free CLIP-Based Adaptation", ICLR 2024.

Features of a class are taken for Gaussian, with one covariance for all classes: Bayes' rule then gives a linear classifier
in closed form, whose logits are added to zero-shot CLIP's. Of a class without shots, its text and the shots nearest to it
stand in for its own.

    M features of shots, of all passes      C classes      d joint width
"""

import torch
from torch import Tensor

from clip import InputError
from dassl.engine import TRAINER_REGISTRY

from ..shared.from_shots import FromShots, ShotLearner
from ..shared.plug_in import rows_of
from ..shared.prompted_clip import HandWrittenCLIP
from ..shared.prompts import imagenet_templates

GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)  # of ALPHA, among which validation images choose
NEAREST, TEXTS = 64, 16  # shots and copies of the text whose mean is a new class's


def shrunk(covariance: Tensor, degrees: int) -> Tensor:
    """Precision (d, d) = d ((n - 1) S + tr(S) I)^-1."""
    d = len(covariance)
    eye = torch.eye(d, device=covariance.device)
    return d * torch.linalg.pinv(degrees * covariance + covariance.trace() * eye)


def classifier(means: Tensor, precision: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (C, d) and biases (C,) of means (C, d), with equal priors."""
    weight = means @ precision
    return weight, -torch.tensor(float(len(means))).log() - (weight * means).sum(dim=1) / 2


class Gaussians(ShotLearner):
    """`f` (M, d), unit rows, and `labels` (M,), of the classes `names`."""

    sized = ("f", "labels")

    def __init__(self, names: list[str], width: int, alpha: float, shrink: bool):
        super().__init__()
        self.names, self.alpha, self.shrink = list(names), alpha, shrink
        self.register_buffer("f", torch.zeros(0, width))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.long))

    def get_extra_state(self):
        return super().get_extra_state() | {"names": self.names}

    def set_extra_state(self, state):
        super().set_extra_state(state)
        self.names = state["names"]

    def of_shots(self) -> tuple[Tensor, Tensor]:
        """The classifier of the classes with shots."""
        parts = [self.f[self.labels == label] for label in range(len(self.names))]
        means = torch.stack([part.mean(dim=0) for part in parts])  # (C, d)
        if self.shrink:
            away = self.f - means[self.labels]
            return classifier(means, shrunk(away.t().cov(), len(away) - 1))
        return classifier(means, torch.linalg.pinv(torch.stack([part.t().cov() for part in parts]).mean(dim=0)))

    def of_texts(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """The classifier of classes without shots, by their texts (C, d): a covariance around each, of the shots nearest to it."""
        means, precision, count = [], 0, min(NEAREST, len(self.f))
        for t in text:
            near = self.f[(self.f @ t).topk(count).indices]  # (k, d)
            means.append((near.sum(dim=0) + TEXTS * t) / (count + TEXTS))
            around = (near - t).t() @ (near - t) / (count - 1)
            precision = precision + shrunk(around, count - 1) / len(text)
        return classifier(torch.stack(means), precision)

    def of(self, names: list[str], text: Tensor) -> tuple[Tensor, Tensor]:
        """Of the classes asked for: those with shots, or some of them; or else, if any has none, all by their texts."""
        rows = rows_of(names, self.names)
        if -1 in rows:
            return self.of_texts(text)
        weight, bias = self.of_shots()
        return (weight, bias) if names == self.names else (weight[rows], bias[rows])


class GaussianCLIP(HandWrittenCLIP):
    why_no_host = "its logits are more than cosines with texts"
    found: tuple[Tensor, Tensor]  # the classifier of the classes asked for

    def logits(self, f, text):
        weight, bias = self.found
        alpha = self.prompt_learner.alpha if self.prompt_learner.chosen is None else self.prompt_learner.chosen[0]
        return super().logits(f, text) + alpha * (f @ weight.t() + bias)  # (B, C)


@TRAINER_REGISTRY.register()
class GDA(FromShots):
    config_node = "GDA"
    config_keys = {
        "ALPHA": 0.1,  # weight of the Gaussian classifier's logits
        "AUGMENT": 10,  # passes over the shots, each of which adds its features
        "SHRINK": True,  # the covariance of all shots around their means, shrunk; or the mean of the classes', as it is
    }
    config_ranges = {
        "ALPHA": "at least 0",
        "AUGMENT": "at least 1",
    }
    learner_name = "gaussians"

    def build_prompted_clip(self, clip_model):
        names = list(self.dm.dataset.classnames)
        several = type(self.dm.dataset).__name__.startswith("ImageNet")  # and its shifted variants
        templates = imagenet_templates("SIMPLE_IMAGENET_TEMPLATES") if several else [self.template()]
        learner = Gaussians(names, clip_model.visual.output_dim, self.keys.ALPHA, self.keys.SHRINK)
        return GaussianCLIP(clip_model, names, templates, learner)

    def check_shots(self) -> None:
        """Refuse so few that they have no covariance: without SHRINK each class has one of its own."""
        passes = 1 if self.is_transform_fixed() else self.keys.AUGMENT
        counts = torch.tensor([item.label for item in self.dm.dataset.train_x]).bincount(minlength=self.num_classes)
        if passes * int(counts.max() if self.keys.SHRINK else counts.min()) < 2:
            raise InputError(
                f"GDA needs two features of {'a' if self.keys.SHRINK else 'each'} class, and there is one: give it two shots, or "
                "TRAINER.GDA.AUGMENT 2 or more with chance in INPUT.TRANSFORMS."
            )

    def take_shots(self):
        self.check_shots()
        f, y = self.shots(self.model.image_features, self.keys.AUGMENT)  # (V, N, d), (N,)
        learner = self.model.prompt_learner
        learner.f, learner.labels = f.flatten(0, 1), y.repeat(len(f))

    @torch.no_grad()
    def encode_classes(self):
        text = super().encode_classes()  # (C, d)
        self.model.found = self.model.prompt_learner.of(list(self.dm.dataset.classnames), text)
        return text

    def after_epoch(self):
        if self.is_chosen():
            self.choose()
        super().after_epoch()

    @torch.no_grad()
    def choose(self) -> None:
        """The first ALPHA on the authors' grid that is right most often on validation images."""
        learner, (f, y) = self.model.prompt_learner, self.validation()
        zero_shot, (weight, bias) = super(GaussianCLIP, self.model).logits(f, self.model.text), learner.of_shots()
        best = -1.0
        for alpha in GRID:
            right = float(((zero_shot + alpha * (f @ weight.t() + bias)).argmax(dim=1) == y).sum())
            if right > best:
                best, learner.chosen = right, (alpha,)
        print(f"ALPHA {learner.chosen[0]:g} by validation images")
