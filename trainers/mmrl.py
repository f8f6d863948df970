"""MMRL: Guo & Gu, "MMRL: Multi-Modal Representation Learning for Vision-Language Models", CVPR 2025.

A few learned tokens of a space of their own are mapped into the later blocks of both encoders, by another map for each. Their
mean behind the image encoder is a second feature of an image. Classes that were learned are told by both features, others by
the class token's alone, which is held near frozen CLIP's.

    B images      C classes      m, r representation tokens, their width      d joint width      D, D_v widths of the encoders
"""

import copy
import functools

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from dassl.engine import TRAINER_REGISTRY
from dassl.metrics import compute_accuracy

from .shared.clip_trainer import ClipTrainer
from .shared.deep_prompts import check_depth
from .shared.prompted_clip import PromptedCLIP
from .shared.prompts import Learner, embedded_prompts, zero_shot_text_features
from .shared.representations import RepresentationTokens, RepresentedCLIP, are_ascending


class RepresentationLearner(Learner):
    """The tokens (m, r), for each block a map to D_v and one to D, and `proj_rep` (D_v, d), which maps their mean.

    The names are those of the published checkpoints. Saved with it are the data set and the classes that it has learned.
    """

    frozen_images, beta = False, 1.0
    beside = ("proj_rep",)  # of its tensors, those that the authors keep in the image encoder

    def __init__(self, clip_model, classnames, template: str, dataset: str, keys):
        super().__init__()
        for encoder in (clip_model.visual, clip_model):
            check_depth("REP_LAYERS", max(keys.REP_LAYERS), 1, encoder)
        self.blocks = [block - 1 for block in keys.REP_LAYERS]
        prompts, end = embedded_prompts(clip_model, classnames, template)
        self.register_buffer("prompts", prompts, persistent=False)  # (C, L, D)
        self.register_buffer("end", end, persistent=False)  # (C,)
        self.asked = self.learned = {"dataset": dataset, "classes": list(classnames)}
        self.compound_rep_tokens = nn.Parameter(nn.init.normal_(torch.empty(keys.N_REP_TOKENS, keys.REP_DIM), std=0.02))
        self.draw_maps(clip_model.visual.proj.detach().float(), clip_model.ln_final.weight.shape[0], keys)

    def draw_maps(self, proj: Tensor, width: int, keys) -> None:
        """proj (D_v, d) is the class token's own map; width: D."""
        to_image, to_text = nn.Linear(keys.REP_DIM, len(proj)), nn.Linear(keys.REP_DIM, width)
        self.compound_rep_tokens_r2vproj = nn.ModuleList([copy.deepcopy(to_image) for _ in self.blocks])
        self.compound_rep_tokens_r2tproj = nn.ModuleList([copy.deepcopy(to_text) for _ in self.blocks])
        self.proj_rep = nn.Parameter(len(proj) ** -0.5 * torch.randn(proj.shape))

    def of_image(self, i: int) -> Tensor:
        """The tokens (m, D_v) of the i-th of the blocks."""
        return self.compound_rep_tokens_r2vproj[i](self.compound_rep_tokens)

    def of_text(self, i: int) -> Tensor:
        return self.compound_rep_tokens_r2tproj[i](self.compound_rep_tokens)

    def project(self, x: Tensor) -> Tensor:
        """(B, D_v) -> (B, d)"""
        return x @ self.proj_rep

    def forward(self):
        return self.prompts, self.end

    def text_work(self, images):
        texts = super().text_work(images)
        return texts._replace(lengths=tuple(length + len(self.compound_rep_tokens) for length in texts.lengths))

    def image_edits(self):
        return [RepresentationTokens(self.blocks, [self.of_image(i) for i in range(len(self.blocks))], self.beta)]

    def text_edits(self):
        tokens = [self.of_text(i) for i in range(len(self.blocks))]
        return [RepresentationTokens(self.blocks, tokens, self.beta, text=True)]

    def knows_classes(self) -> bool:
        """Whether the classes asked for are among those learned, of the same data set."""
        same = self.asked["dataset"] == self.learned["dataset"]
        return same and set(self.asked["classes"]) <= set(self.learned["classes"])

    def get_extra_state(self):
        return self.learned

    def set_extra_state(self, state):
        self.learned = state


@TRAINER_REGISTRY.register()
class MMRL(ClipTrainer):
    config_node = "MMRL"
    config_keys = {
        "N_REP_TOKENS": 5,  # representation tokens
        "REP_DIM": 512,  # their width
        "REP_LAYERS": (6, 7, 8, 9, 10, 11, 12),  # blocks of both encoders that they enter, counted from 1
        "ALPHA": 0.7,  # the class token's share in losses and answers; the rest is the representation tokens'
        "LOGIT_SCALE": 100.0,  # factor on cosines, as published for any backbone; 0: the backbone's own
        "REG_WEIGHT": 1.0,  # times the distances from frozen CLIP's image and text features
    }
    config_ranges = {
        "N_REP_TOKENS": "at least 1",
        "REP_DIM": "at least 1",
        "REP_LAYERS": are_ascending,
        "ALPHA": "at least 0 and at most 1",
        "LOGIT_SCALE": "at least 0",
        "REG_WEIGHT": "at least 0",
    }
    learner_name, learner_kind = "MultiModalRepresentationLearner", RepresentationLearner

    def build_prompted_clip(self, clip_model):
        learner = self.build_learner(clip_model, self.dm.dataset.classnames)
        return RepresentedCLIP(clip_model, learner, self.keys.ALPHA, float(self.keys.LOGIT_SCALE))

    def build_learner(self, clip_model, classnames):
        return self.learner_kind(clip_model, classnames, self.template(), self.cfg.DATASET.NAME, self.keys)

    @functools.cached_property
    def frozen(self) -> PromptedCLIP:
        """The one CLIP there is, without tokens."""
        return PromptedCLIP(self.model.clip)

    @functools.cached_property
    def frozen_text(self) -> Tensor:
        """(C, d) unit rows."""
        return zero_shot_text_features(self.model.clip, self.dm.dataset.classnames, self.template())

    def compute_loss(self, images, labels):
        (f, g), t = self.model.features(images), self.model.text_features()  # (B, d) each, (C, d)
        frozen_f = self.once_per_image("frozen", self.frozen.image_features, images)  # (B, d)
        own, other = (F.cross_entropy(self.model.logits(x, t), labels) for x in (f, g))
        drift = sum(1 - (now * then).sum(dim=-1).mean() for now, then in ((f, frozen_f), (t, self.frozen_text)))
        loss = self.keys.ALPHA * own + (1 - self.keys.ALPHA) * other + self.keys.REG_WEIGHT * drift
        acc = compute_accuracy(self.model.logits(self.model.joined(f, g), t), labels)[0]
        return loss, {"loss_class": own.detach(), "loss_rep": other.detach(), "drift": drift.detach(), "acc": acc}

    def from_published(self, state):
        """A checkpoint of the authors' code holds the whole model, and not the classes that it has learned: theirs are told by
        the protocol.
        """
        learner, image = "representation_learner.", "image_encoder."
        if f"{learner}compound_rep_tokens" not in state:
            return state  # one of ours
        cfg, own = self.cfg, self.model.prompt_learner
        task, here = cfg.get("SETTINGS", {}).get("PROTOCOL", ""), cfg.DATASET
        known = task == "fewshot" or here.SUBSAMPLE_CLASSES == "base" or (task == "xd" and here.NAME == "ImageNet")
        parts = {name.removeprefix(learner): value for name, value in state.items() if name.startswith(learner)}
        parts |= {name: state[image + name] for name in own.beside if image + name in state}
        return parts | {"_extra_state": own.asked if known else {"dataset": "", "classes": []}}
