"""TCP: Yao et al., "TCP: Textual-based Class-aware Prompt tuning for Visual-Language Model", CVPR 2024.

KgCoOp's learned context; in a later block of the text encoder the place of its tokens is taken by tokens of each class's
own, which a small network makes of the class's hand-written text.

    C classes      m context tokens      D width of the text encoder      d joint width
"""

from collections import OrderedDict

import torch
import torch.nn as nn
import torch.nn.functional as F

import clip
from clip.vit import QuickGELU
from dassl.engine import TRAINER_REGISTRY
from dassl.metrics import compute_accuracy

from .shared.clip_trainer import ClipTrainer
from .shared.features import of_features
from .shared.prompts import ContextPrompts, NamesInContext, initial_context, zero_shot_text_features

# By the data set's registered name: what stands behind the learned context, where it is not the class name and what
# follows it in the hand-written prompt.
BEHIND = {
    "DescribableTextures": "{} texture.",
    "FGVCAircraft": "{}, a type of aircraft.",
    "StanfordCars": "{}, a type of car",
    "UCF101": "person doing {}.",
    "EmbeddedTextures": "{} texture.",  # ours, after DescribableTextures
}


class ClassTokens(clip.Edit):
    """Before block `block` the tokens (C, m, D) of each class take the places behind the start token."""

    def __init__(self, tokens: torch.Tensor, block: int):
        self.tokens, self.block = tokens, block

    def before_block(self, x, i):
        if i != self.block:
            return x
        tokens = self.tokens.to(x.dtype)
        return torch.cat([x[:, :1], tokens, x[:, 1 + tokens.shape[1] :]], dim=1)

    def of_rows(self, rows):
        return ClassTokens(self.tokens[rows], self.block)


class ClassAwareLearner(NamesInContext):
    """CoOp's context `ctx` (m, D), and `meta_net`, which maps a class's hand-written text (d,) to its tokens (m, D).

    The names are those of the published checkpoints, and the numbers are drawn in the published order.
    """

    shared, lengths = 0, None  # behind the edit no place is the same for all classes

    def __init__(self, clip_model, classnames, keys, behind: str, text: torch.Tensor):
        """behind: what follows the context, with `{}` for the name. text: (C, d) unit rows."""
        super().__init__()
        blocks, (d, D) = clip_model.transformer.layers, (text.shape[1], clip_model.ln_final.weight.shape[0])
        if blocks < keys.BLOCK:
            raise clip.InputError(
                f"TRAINER.TCP.BLOCK is {keys.BLOCK}, and this text encoder has {blocks} blocks: choose 2 to {blocks}."
            )
        if keys.CTX_INIT:
            context = initial_context(clip_model, keys.CTX_INIT)  # (m, D)
        else:
            context = nn.init.normal_(torch.empty(keys.N_CTX, D), std=0.02)
        m = len(context)
        self.ctx = nn.Parameter(context)
        layers = [("linear1", nn.Linear(d, d // 4)), ("relu", QuickGELU()), ("linear2", nn.Linear(d // 4, m * D))]
        self.meta_net = nn.Sequential(OrderedDict(layers))
        between, _, after = behind.partition("{}")
        self.prompts = ContextPrompts(clip_model, classnames, m, words=f"{'X ' * m}{between}".strip(), after=after)
        self.register_buffer("text", text, persistent=False)  # (C, d)
        self.block = keys.BLOCK - 1

    def text_edits(self):
        tokens = self.meta_net(self.text).unflatten(1, self.ctx.shape)  # (C, m D) -> (C, m, D)
        return [ClassTokens(tokens, self.block)]


@TRAINER_REGISTRY.register()
class TCP(ClipTrainer):
    config_node = "TCP"
    config_keys = {
        "N_CTX": 4,  # context tokens, where CTX_INIT is empty; each class gets as many of its own
        "CTX_INIT": "",  # words to start from, such as "a photo of a"; "" starts at random
        "BLOCK": 9,  # the text block, counted from 1, that takes the classes' own tokens
        "W": 8.0,  # times the distance from the hand-written prompts' features
    }
    config_ranges = {
        "N_CTX": "at least 1",
        "BLOCK": "at least 2",
        "W": "at least 0",
    }

    def build_learner(self, clip_model, classnames):
        template, name = self.template(), type(self.dm.dataset).__name__
        behind = BEHIND.get(name, f"{{}}{template.partition('{}')[2]}")
        text = zero_shot_text_features(clip_model, classnames, template)  # (C, d)
        return ClassAwareLearner(clip_model, classnames, self.keys, behind, text)

    @of_features
    def compute_loss(self, images, labels):
        text = self.model.text_features()  # (C, d)
        logits = self.model.logits(self.train_features(images), text)  # (B, C)
        distance = (1 - (text * self.model.prompt_learner.text).sum(dim=-1)).mean()  # both have unit rows
        loss = F.cross_entropy(logits, labels) + self.keys.W * distance
        return loss, {"acc": compute_accuracy(logits, labels)[0], "loss_kg": distance.detach()}
