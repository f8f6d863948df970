"""ATPrompt: Li et al., "Advancing Textual Prompt Learning with Anchored Attributes", ICCV 2025.

Between a learned context and the class names stand words that are attributes of all of them, each behind learned tokens of its
own: "[V] color [V] shape [V] dog." With PROMPT_DEPTH it is the deep form, MaPLe's: later blocks take new tokens in the place of
the context before the class name, and leave the attributes and their tokens what they have become.

    m tokens of a context      m' those before the class name, fixed ones included      D width of the text encoder
"""

import re

import torch
import torch.nn as nn
from torch import Tensor
from yacs.config import CfgNode

import clip
from dassl.engine import TRAINER_REGISTRY

from .shared.clip_trainer import ClipTrainer
from .shared.deep_prompts import CoupledPromptLearner, learner_of
from .shared.prompts import ContextLearner, ContextPrompts, NamesInContext, initial_context

# By the data set's registered name: what the authors' search has found.
ATTRIBUTES = {
    **dict.fromkeys(("ImageNet", "ImageNetV2", "ImageNetSketch", "ImageNetA", "ImageNetR"), "color, shape"),
    "Caltech101": "shape, size",
    "OxfordPets": "playfulness, energy",
    "StanfordCars": "luxury",
    "OxfordFlowers": "color, habitat, growth",
    "Food101": "flavor, preparation",
    "FGVCAircraft": "design, range",
    "SUN397": "function",
    "DescribableTextures": "pattern, color, design",
    "EuroSAT": "habitat",
    "UCF101": "precision",
    "EmbeddedTextures": "pattern, color, design",  # ours, after DescribableTextures
    "EmbeddedScenes": "function",  # after SUN397
}
EMBEDDED = "color, shape"  # of the other embedded sets, after ImageNet
LEAST = 3  # contexts of attributes that there are, as published; those without a word are not trained


def attributes_of(dataset, given: str) -> list[str]:
    """The words of a config, or else those of the data set."""
    name = type(dataset).__name__
    known = ATTRIBUTES.get(name, EMBEDDED if name.startswith("Embedded") else "")
    words = [word.strip() for word in (given or known).split(",")]
    if given and not all(re.fullmatch(r"\w[\w '-]*", word) for word in words):
        raise clip.InputError(
            f"TRAINER.ATPROMPT.ATTRIBUTES is {given!r}: give words with commas between them, such as 'color, shape'."
        )
    if not all(words):
        raise clip.InputError(
            f"ATPrompt knows no attributes for the data set {name}: name some in TRAINER.ATPROMPT.ATTRIBUTES, such as "
            "'color, shape'."
        )
    return words


class Anchored(NamesInContext):
    """A learner with a context `ctx` (m, D) before the class names, and `ctx_att1`, `ctx_att2`, ... before the attributes."""

    derived_tensors = frozenset(f"token_middle{i + 1}" for i in range(LEAST))  # in checkpoints of the authors' code

    def __init__(self, clip_model, classnames, keys, words: list[str]):
        super().__init__(clip_model, classnames, CfgNode({**keys, "CTX_INIT": ""}))
        for i in range(max(LEAST, len(words))):
            setattr(self, f"ctx_att{i + 1}", nn.Parameter(nn.init.normal_(torch.empty_like(self.ctx), std=0.01)))
        anchors = [initial_context(clip_model, word, key="ATTRIBUTES") for word in words]  # (tokens, D) each
        for i, anchor in enumerate(anchors):
            self.register_buffer(f"word{i + 1}", anchor, persistent=False)
        self.count = len(words)
        self.before = (self.count + 1) * len(self.ctx) + sum(map(len, anchors))  # m'
        self.prompts = ContextPrompts(clip_model, classnames, self.before)

    def whole(self) -> Tensor:
        """(m', D), all that stands before a class name."""
        numbers = range(1, self.count + 1)
        return torch.cat([*(getattr(self, kind + str(i)) for i in numbers for kind in ("ctx_att", "word")), self.ctx])

    def forward(self):
        return self.prompts(self.whole()), self.prompts.end  # (C, L, D), (C,)

    @property
    def shared(self) -> int:
        return self.prompts.shared if self.as_written(Anchored) else 0

    @property
    def lengths(self):
        return self.prompts.lengths if self.as_written(Anchored) else None


class AnchoredContext(Anchored, ContextLearner):
    """CoOp's form."""


class AnchoredCoupledPrompts(Anchored, CoupledPromptLearner):
    """MaPLe's form, whose later tokens stand behind the attributes."""

    def text_edits(self):
        behind = 1 + self.before - len(self.ctx)
        return [clip.TextPrompts(list(self.compound_prompts_text), behind)]


@TRAINER_REGISTRY.register()
class ATPrompt(ClipTrainer):
    config_node = "ATPROMPT"
    config_keys = {
        "N_CTX": 2,  # learned tokens before each attribute, and before the class name
        "ATTRIBUTES": "",  # words, such as "color, shape"; "": those that the authors' search has found for the data set
        "PROMPT_DEPTH": 0,  # blocks of either encoder with tokens of their own, coupled as MaPLe's; 0: texts alone, as CoOp's
    }
    config_ranges = {
        "N_CTX": "at least 1",
        "PROMPT_DEPTH": "at least 0",
    }

    @property
    def learner_name(self) -> str:
        return "MultiModalPromptLearner" if self.keys.PROMPT_DEPTH else "prompt_learner"

    def build_learner(self, clip_model, classnames):
        words = attributes_of(self.dm.dataset, self.keys.ATTRIBUTES)
        print(f"Attributes: {', '.join(words)}")
        kind = AnchoredCoupledPrompts if self.keys.PROMPT_DEPTH else AnchoredContext
        return kind(clip_model, classnames, self.keys, words)

    def from_published(self, state):
        """In the deep form a checkpoint of the authors' code holds the whole model; its learner has our names."""
        return learner_of(state)
