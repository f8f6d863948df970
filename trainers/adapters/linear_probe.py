"""Linear probe: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021 (A.3).

Logistic regression on image features of frozen CLIP, of CLIP's own length, solved by scikit-learn's L-BFGS; texts take no
part. It is the probe of CoOp's figures, and being convex it has one solution, whatever the seed and the order of the shots.

    N images      C classes      d joint width
"""

import math

import torch
import torch.nn as nn
from torch import Tensor

from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY

from ..shared.classifier import ClassLearner
from ..shared.clip_trainer import ClipTrainer
from ..shared.features import Encoded, random_numbers_kept
from ..shared.prompted_clip import PromptedCLIP

GRID, HALVINGS = (1e6, 1e4, 1e2, 1, 1e-2, 1e-4, 1e-6), 8  # of CoOp's search


class ProbeLearner(ClassLearner):
    """`weight` (C, d) and `bias` (C,)."""

    of_classes = "a weight vector"

    def __init__(self, classes: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(classes, width))
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self) -> Tensor:
        return self.weight


class ProbedCLIP(PromptedCLIP):
    """Logits (B, C) are W f + b, of features f of CLIP's own length."""

    why_no_host = "its logits are no cosines with texts"

    def image_features(self, images, tokens=False):
        encoded = images if isinstance(images, Encoded) else self.encode(images, tokens)
        return (encoded.f.float(), encoded.v.float()) if tokens else encoded.f.float()  # (B, d), (B, N, d)

    @property
    def has_plain_images(self) -> bool:
        return not self.image_edits

    def text_features(self, f=None):
        return self.prompt_learner()  # (C, d)

    def logits(self, f, text):
        return f @ text.t() + self.prompt_learner.bias


def solve(f: Tensor, labels: Tensor, classes: int, c: float) -> tuple[Tensor, Tensor]:
    """The weight (C, d) and bias (C,) at which c times the sum of cross-entropies and half the squared weights are least, of
    features (N, d), fp64 on the CPU. Of two classes the logit is one number, as is the squared weight; each has a half of it.
    """
    from sklearn.linear_model import LogisticRegression  # which takes a second to import

    weight, bias = f.new_zeros(classes, f.shape[1]), f.new_zeros(classes)
    if len(labels.unique()) < 2:
        return weight, bias
    found = LogisticRegression(C=c, max_iter=1000).fit(f.numpy(), labels.numpy())
    w, b = torch.from_numpy(found.coef_), torch.from_numpy(found.intercept_)
    if len(b) == 1:
        w, b = torch.cat([-w, w]) / 2, torch.cat([-b, b]) / 2
    weight[found.classes_], bias[found.classes_] = w, b
    return weight, bias


@TRAINER_REGISTRY.register()
class LinearProbe(ClipTrainer):
    config_node = "LINEARPROBE"
    config_keys = {
        "C": 0.316,  # weight of the shots beside the squared weights, as OpenAI publish it
        "SEARCH": False,  # choose C on validation images instead, as CoOp's authors do
    }
    config_ranges = {
        "C": "above 0",
    }
    takes_views = False  # shots are looked at as a test looks at images

    def build_prompted_clip(self, clip_model):
        width = clip_model.text_projection.shape[1]
        return ProbedCLIP(clip_model, ProbeLearner(self.num_classes, width))

    @property
    def searches(self) -> str:
        """The setting by which validation images choose; "" where none do."""
        return "TRAINER.LINEARPROBE.SEARCH True" if self.keys.SEARCH else ""

    def run_epoch(self):
        self.set_model_mode("train")
        f, labels = self.shots(self.in_order(build_transform(self.cfg, is_train=False)))
        c = self.choose(f, labels) if self.keys.SEARCH else self.keys.C
        weight, bias = solve(f, labels, self.num_classes, c)
        learner = self.model.prompt_learner
        with torch.no_grad():
            learner.weight.copy_(weight)
            learner.bias.copy_(bias)
        print(f"Logistic regression on {len(f):,} images with C {c:.3g}")

    @torch.no_grad()
    def shots(self, loader) -> tuple[Tensor, Tensor]:
        """Features (N, d), fp64, and labels (N,) of a loader's images, on the CPU."""
        with random_numbers_kept(self.device), self.autocast():  # a loader takes one, which is the run's
            batches = [self.parse_batch_test(batch) for batch in self.encoded(loader)]
            f = torch.cat([self.model.image_features(images) for images, _ in batches])
        return f.double().cpu(), torch.cat([labels for _, labels in batches]).cpu()

    def choose(self, f: Tensor, labels: Tensor) -> float:
        """C by accuracy on validation images: the best of a grid, then halves, in log C, of the decades around it."""
        images, truth = self.shots(self.val_loader)

        def accuracy(c: float) -> float:
            weight, bias = solve(f, labels, self.num_classes, c)
            return ((images @ weight.t() + bias).argmax(dim=1) == truth).double().mean().item()

        peak = max(GRID, key=accuracy)  # of equal ones the first, which is the largest
        left, right, best = peak / 10, peak * 10, peak
        for _ in range(HALVINGS):
            middle = math.sqrt(left * right)
            if accuracy(left) < accuracy(right):
                best, left = right, middle
            else:
                best, right = left, middle
        return best
