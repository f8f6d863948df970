"""ProGrad: Zhu et al., "Prompt-aligned Gradient for Prompt Tuning", ICCV 2023.

CoOp's learned context, which is only moved where zero-shot CLIP does not object: a gradient of the cross-entropy
that would increase the divergence from zero-shot predictions loses its part in that direction.
"""

import functools

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from clip import InputError
from dassl.engine import TRAINER_REGISTRY
from dassl.metrics import compute_accuracy

from .shared.clip_trainer import ClipTrainer
from .shared.features import of_features
from .shared.prompts import ContextLearner, ContextPrompts, NamesInContext, initial_context


class PaddedContext(NamesInContext):
    """A context `ctx` (m, D) that starts as zeros, then the embeddings of hand-written words.

    The authors count words, and where a word is several tokens ("pet,") leave the last tokens of the words fixed,
    behind their context; here tokens are counted, and all of them are learned.
    """

    def __init__(self, clip_model, classnames, length: int, words: str):
        super().__init__()
        context = initial_context(clip_model, words)  # (k, D)
        if len(context) > length:
            raise InputError(
                f"TRAINER.PROGRAD.N_CTX is {length}, and the words {words!r} are {len(context)} tokens: "
                f"set it to {len(context)} or more, or TRAINER.PROGRAD.CTX_INIT to False."
            )
        self.ctx = nn.Parameter(F.pad(context, (0, 0, length - len(context), 0)))  # (m, D)
        self.prompts = ContextPrompts(clip_model, classnames, length)


def without_conflict(gradient: Tensor, general: Tensor, strength: float) -> Tensor:
    """The gradient less, where the two are opposed, `strength` times its projection on the general one (eq. 4)."""
    direction = F.normalize(general.flatten(), dim=0).view_as(general)
    return gradient - strength * (gradient * direction).sum().clamp(max=0) * direction


@TRAINER_REGISTRY.register()
class ProGrad(ClipTrainer):
    config_node = "PROGRAD"
    config_keys = {
        "N_CTX": 16,  # context tokens
        "CTX_INIT": True,  # start from the data set's hand-written prompt; False: at random
        "LAMBDA": 1.0,  # how much of an opposed part is taken away: 1 all of it, 0 is CoOp
        "T": 1.0,  # temperature of the divergence from zero-shot predictions
    }
    config_ranges = {
        "N_CTX": "at least 1",
        "LAMBDA": "at least 0",
        "T": "above 0",
    }

    adds_up = False
    why_not_compiled = "it takes two gradients of one step, and what is compiled gives one"

    def check_cfg(self, cfg):
        super().check_cfg(cfg)
        if cfg.TRAINER.PROGRAD.PREC == "amp":
            raise InputError(
                "TRAINER.PROGRAD.PREC is amp, whose scaled loss does not fit a gradient put together from two: "
                "choose auto, fp32, fp16 or bf16."
            )

    def build_learner(self, clip_model, classnames):
        if not self.keys.CTX_INIT:
            return ContextLearner(clip_model, classnames, self.keys)
        words, _, rest = self.template().partition("{}")
        if rest != "." or not words:
            raise InputError(
                f"TRAINER.PROGRAD.CTX_INIT is True, and the prompt {self.template()!r} does not end with the class "
                "name: set it to False, or add a prompt that does to TEMPLATES in trainers/shared/prompts.py."
            )
        return PaddedContext(clip_model, classnames, self.keys.N_CTX, words.strip())

    @functools.cached_property
    def hand_written(self) -> Tensor:
        """Zero-shot CLIP's text features (C, d); only training asks for them."""
        return self.model.zero_shot_text(self.dm.dataset.classnames, self.template())

    @of_features
    def compute_loss(self, images, labels):
        """The cross-entropy, with the gradient that ProGrad gives it."""
        f, T = self.train_features(images), self.keys.T  # (B, d)
        logits = self.model.logits(f, self.model.text_features())  # (B, C)
        teacher = (self.model.logits(f, self.hand_written) / T).softmax(dim=-1)  # (B, C)
        loss = F.cross_entropy(logits, labels)
        divergence = T**2 * F.cross_entropy(logits / T, teacher)  # the KL divergence but for a constant (eq. 3)

        learned = list(self.model.prompt_learner.parameters())
        general = torch.autograd.grad(divergence, learned, retain_graph=True)
        gradients = torch.autograd.grad(loss, learned)
        shown = {"acc": compute_accuracy(logits, labels)[0], "loss_kl": divergence.detach()}
        # A scalar with the value of the loss and these gradients: the step itself is every method's.
        loss = loss.detach()
        for tensor, ours, theirs in zip(learned, gradients, general, strict=True):
            aligned = without_conflict(ours, theirs, self.keys.LAMBDA)
            loss = loss + (aligned * (tensor - tensor.detach())).sum()
        return loss, shown
