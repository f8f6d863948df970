"""MaPLe: Khattak et al., "MaPLe: Multi-modal Prompt Learning", CVPR 2023.

Both encoders get learned prompts in their first blocks, and the visual ones are linear maps of the textual ones.

    m tokens of a prompt      D width of the text encoder      D_v width of the image encoder
"""

import copy

import torch.nn as nn

import clip
from clip.vit import draw_prompt
from dassl.engine import TRAINER_REGISTRY

from .clip_trainer import ClipTrainer
from .deep_prompts import check_depth, first_context
from .prompts import ContextPrompts, NamesInContext


class CoupledPromptLearner(NamesInContext):
    """Text prompts P_0 = `ctx`, P_1, ... (m, D) and their maps F_0 = `proj`, F_1, ...: visual prompt i is F_i(P_i).

    The names are those of the published checkpoints, and the numbers are drawn in the published order.
    """

    frozen_images = False

    def __init__(self, clip_model, classnames, keys):
        super().__init__()
        check_depth("PROMPT_DEPTH", keys.PROMPT_DEPTH, 1, clip_model.visual)
        check_depth("PROMPT_DEPTH", keys.PROMPT_DEPTH, 1, clip_model)
        context, words = first_context(clip_model, keys.CTX_INIT, keys.N_CTX)  # (m, D)
        m, width = context.shape
        visual_width, deeper = clip_model.visual.transformer.width, keys.PROMPT_DEPTH - 1
        self.proj = nn.Linear(width, visual_width)
        self.ctx = nn.Parameter(context)
        self.compound_prompts_text = nn.ParameterList([draw_prompt(m, width) for _ in range(deeper)])
        one = nn.Linear(width, visual_width)  # the deeper maps all start from it
        self.compound_prompt_projections = nn.ModuleList([copy.deepcopy(one) for _ in range(deeper)])
        self.prompts = ContextPrompts(clip_model, classnames, m, words=words)

    def text_edits(self):
        return [clip.TextPrompts(list(self.compound_prompts_text))]

    def image_edits(self):
        maps = [self.proj, *self.compound_prompt_projections]
        prompts = [self.ctx, *self.compound_prompts_text]
        return [clip.VisualPrompts([F(P) for F, P in zip(maps, prompts, strict=True)])]  # (m, D) -> (m, D_v) each


@TRAINER_REGISTRY.register()
class MaPLe(ClipTrainer):
    config_node = "MAPLE"
    config_keys = {
        "N_CTX": 2,  # learned tokens in either encoder
        "CTX_INIT": "a photo of a",  # words whose first N_CTX tokens are learned; "": at random
        "PROMPT_DEPTH": 9,  # blocks of either encoder with tokens of their own; 1 is shallow
    }
    config_ranges = {
        "N_CTX": "at least 1",
        "PROMPT_DEPTH": "at least 1",
    }
    learner_name = "MultiModalPromptLearner"

    def build_learner(self, clip_model, classnames):
        return CoupledPromptLearner(clip_model, classnames, self.keys)

    def from_published(self, state):
        """A checkpoint of MaPLe's own code holds the whole model; its learner has our names."""
        prefix = "prompt_learner."
        learned = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        return learned or state
