"""CLIP-LoRA: Zanella and Ben Ayed, "Low-Rank Few-Shot Adaptation of Vision-Language Models", CVPR Workshops 2024.

No prompt is learned: in every block of both encoders, low-rank matrices (Hu et al., "LoRA", ICLR 2022) join the projections
to queries, keys and values. CLIP stays its own beside them.

    B images or texts      L tokens      D width      r rank
"""

import torch
import torch.nn as nn
import torch.nn.functional as F

import clip
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import load_checkpoint

from .shared.clip_trainer import ClipTrainer
from .shared.prompts import Learner, embedded_prompts, readable


class LowRank(nn.Module, clip.Edit):
    """`A` (blocks, 3, r, D) and `B` (blocks, 3, D, r): to block i's queries, keys and values s B A dropout(x) is added, each
    with a dropout of its own. s is ALPHA / sqrt(r), as in the authors' code; LoRA's is ALPHA / r. B is zero at first.
    """

    draws = True

    def __init__(self, blocks: int, width: int, rank: int, alpha: float, dropout: float):
        super().__init__()
        self.scale, self.dropout = alpha * rank**-0.5, dropout
        self.A = nn.Parameter(nn.init.uniform_(torch.empty(blocks, 3, rank, width), -(width**-0.5), width**-0.5))
        self.B = nn.Parameter(torch.zeros(blocks, 3, width, rank))

    def project(self, x, i):
        x = F.dropout(x.expand(3, *x.shape), self.dropout, self.training)  # (3, B, L, D)
        low = x @ self.A[i, :, None].to(x.dtype).transpose(2, 3)  # (3, B, L, r)
        added = self.scale * low @ self.B[i, :, None].to(x.dtype).transpose(2, 3)  # (3, B, L, D)
        return added.permute(1, 2, 0, 3).flatten(2)  # (B, L, 3 D)


class LoRALearner(Learner):
    """`lora.text` and `lora.visual`, of hand-written prompts."""

    frozen_images = False

    def __init__(self, clip_model, classnames, template, keys):
        super().__init__()
        prompts, end = embedded_prompts(clip_model, classnames, template)  # (C, L, D), (C,)
        self.register_buffer("prompts", prompts, persistent=False)
        self.register_buffer("end", end, persistent=False)
        towers = {"text": clip_model.transformer, "visual": clip_model.visual.transformer}
        how = keys.R, keys.ALPHA, keys.DROPOUT
        self.lora = nn.ModuleDict({name: LowRank(of.layers, of.width, *how) for name, of in towers.items()})

    def forward(self):
        return self.prompts, self.end

    def image_edits(self):
        return [self.lora["visual"]]

    def text_edits(self):
        return [self.lora["text"]]


@TRAINER_REGISTRY.register()
class CLIPLoRA(ClipTrainer):
    config_node = "CLIPLORA"
    config_keys = {
        "R": 2,  # rank
        "ALPHA": 1.0,  # what is added is times ALPHA / sqrt(R)
        "DROPOUT": 0.25,  # of the tokens that go through the low-rank matrices
    }
    config_ranges = {
        "R": "at least 1",
        "ALPHA": "a number",
        "DROPOUT": "at least 0 and below 1",
    }

    def build_learner(self, clip_model, classnames):
        if not isinstance(clip_model.visual, clip.model.VisionTransformer):
            raise clip.InputError(
                f"CLIPLoRA learns in the image encoder's attention, which backbone {self.cfg.MODEL.BACKBONE.NAME} has not: "
                "choose a ViT."
            )
        template = self.template()
        print(f"Prompts: {template.format(readable(classnames[0]))} ... ({len(classnames)} classes)")
        return LoRALearner(clip_model, classnames, template, self.keys)

    def published_beside(self, state, path):
        """The authors' `lora_weights.pt`: {"weights": {"layer_0": {"q_proj": {"w_lora_A", "w_lora_B"}, ...}, ...}, "metadata"},
        the text encoder's blocks before the image encoder's.
        """
        checkpoint = load_checkpoint(path)
        weights, stated = checkpoint.get("weights"), checkpoint.get("metadata")
        if state or not (isinstance(weights, dict) and isinstance(stated, dict)):
            return {}
        ours = {
            "r": self.keys.R,
            "alpha": self.keys.ALPHA,
            "encoder": "both",
            "params": ["q", "k", "v"],
            "position": "all",
        }
        for name, value in ours.items():
            if stated.get(name) != value:
                remedy = f"set TRAINER.CLIPLORA.{name.upper()}" if name in ("r", "alpha") else "take another file"
                raise clip.InputError(
                    f"{path} was trained with {name} {stated.get(name)}, and this run has {value}: {remedy}."
                )
        lora, parts = self.model.prompt_learner.lora, ("q_proj", "k_proj", "v_proj")
        texts, images = len(lora["text"].A), len(lora["visual"].A)
        towers = {"text": range(texts), "visual": range(texts, texts + images)}
        try:
            return {
                f"lora.{tower}.{name}": torch.stack(
                    [torch.stack([weights[f"layer_{i}"][part][f"w_lora_{name}"] for part in parts]) for i in blocks]
                )  # (blocks, 3, r, D), (blocks, 3, D, r)
                for tower, blocks in towers.items()
                for name in "AB"
            }
        except (KeyError, TypeError, RuntimeError) as error:
            raise clip.InputError(
                f"{path} has not the matrices of {texts} text and {images} image blocks ({error}): take the same backbone."
            ) from error
