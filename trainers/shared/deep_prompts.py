"""Learned prompts in both encoders, block by block; shared by VPT, IVLP, MaPLe, ATPrompt, PromptSRC and PromptKD.

The text side is CoOp's context, with one of its own for the first blocks (deep language prompting); the image side is
VPT (Jia et al., "Visual Prompt Tuning", ECCV 2022). They are edits of CLIP's encoders (`clip/edits.py`), drawn while
CLIP is built, where the published code draws them, so the same seed gives the same first values.

    C classes      m tokens of a prompt      D width of its encoder, D_v that of the image encoder
"""

import copy
from collections.abc import Sequence

import torch.nn as nn
from torch import Tensor

import clip
from clip.vit import draw_prompt

from .config_keys import OwnKeyError
from .prompts import ContextPrompts, Learner, NamesInContext, initial_context

MOST_WORDS = 4  # as published: contexts of more tokens start at random, whatever CTX_INIT says


def design_details(keys) -> dict:
    """What `clip.build_model` is to draw, by a method's keys; an encoder without keys gets nothing."""
    for side in ("VISION", "TEXT"):
        check_count(f"N_CTX_{side}", keys.get(f"N_CTX_{side}", 0), f"PROMPT_DEPTH_{side}", keys)
    return {
        "trainer": "IVLP",
        "vision_ctx": keys.get("N_CTX_VISION", 0),
        "vision_depth": keys.get("PROMPT_DEPTH_VISION", 0),
        "language_ctx": keys.get("N_CTX_TEXT", 0),
        "language_depth": keys.get("PROMPT_DEPTH_TEXT", 0),
    }


def check_count(name: str, count: int, depth_name: str, keys) -> None:
    """Refuse prompts without tokens."""
    depth = keys.get(depth_name, 0)
    if count < 0 or (depth > 0 and count < 1):
        raise OwnKeyError(f"{name} is {count} with {depth_name} {depth}: set it to 1 or more.")


def check_depth(name: str, depth: int, least: int, encoder: nn.Module) -> None:
    """Refuse a depth that this encoder, `clip_model.visual` or `clip_model`, cannot have."""
    most = getattr(getattr(encoder, "transformer", None), "layers", 0)
    if least <= depth <= most or depth == least == 0:
        return
    if most == 0:
        raise OwnKeyError(
            f"{name} is {depth}, and this backbone is a residual network, which has no tokens to prompt: "
            "choose a ViT, such as ViT-B/16."
        )
    raise OwnKeyError(f"{name} is {depth}, and this backbone has {most} such blocks: choose {least} to {most}.")


def first_context(clip_model, words: str, count: int) -> tuple[Tensor, str | None]:
    """First values (m, D) of a context of m = `count` tokens, and the words in whose place it stands, if any."""
    if not words or count > MOST_WORDS:
        return clip.model.draw_prompt(count, clip_model.ln_final.weight.shape[0]).detach(), None
    context = initial_context(clip_model, words)
    if len(context) < count:
        raise OwnKeyError(
            f"CTX_INIT {words!r} has {len(context)} tokens, fewer than the {count} to learn: give it more words, or "
            "leave it empty for a random start."
        )
    return context[:count], words


def own_parameters(prompts: Sequence[Tensor]) -> nn.ParameterList:
    """Prompts that CLIP was built with, as a learner's own: fp32, whatever CLIP's precision, and trained."""
    return nn.ParameterList([nn.Parameter(prompt.detach().float()) for prompt in prompts])


class VisualPromptLearner(Learner):
    """`visual` [(m, D)], one for each of the first image blocks. The model must have been built with `design_details`.

    It has no text prompts, so it cannot be called.
    """

    frozen_texts = True

    def __init__(self, clip_model, keys, least: int = 1):
        super().__init__()
        check_depth("PROMPT_DEPTH_VISION", keys.PROMPT_DEPTH_VISION, least, clip_model.visual)
        visual, text = clip.take_prompts(clip_model)
        self.visual, self.text = own_parameters(visual), own_parameters(text)
        self.frozen_images = not visual  # without prompts an image's features never change

    def image_edits(self):
        return [clip.VisualPrompts(list(self.visual))] if len(self.visual) else []


class DeepPromptLearner(NamesInContext, VisualPromptLearner):
    """`ctx` (m, D) before the class names, `text` [(m, D)] for the next text blocks, `visual` [(m, D)] from the first on.

    With PROMPT_DEPTH_VISION 0 it is deep language prompting alone.
    """

    frozen_texts = False

    def __init__(self, clip_model, classnames: Sequence[str], keys):
        check_depth("PROMPT_DEPTH_TEXT", keys.PROMPT_DEPTH_TEXT, 1, clip_model)
        super().__init__(clip_model, keys, least=0)
        context, words = first_context(clip_model, keys.CTX_INIT, keys.N_CTX_TEXT)
        self.ctx = nn.Parameter(context)
        self.prompts = ContextPrompts(clip_model, classnames, len(context), words=words)

    def text_edits(self):
        return [clip.TextPrompts(list(self.text))]


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


def learner_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The learner's tensors in a checkpoint of the published MaPLe and what stands on it, which holds the whole model."""
    prefix = "prompt_learner."
    learned = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return learned or state


def from_published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The learned tensors in a checkpoint of the published IVLP, PromptSRC or VPT, which holds the whole model."""
    if not any(name.startswith("image_encoder.") for name in state):
        return state  # one of ours
    learned = {}
    for name, value in state.items():
        if name == "prompt_learner.ctx":
            learned["ctx"] = value
        elif name == "image_encoder.VPT":
            learned["visual.0"] = value
        elif name.endswith(".VPT_shallow"):
            block = int(name.split("resblocks.")[1].split(".")[0])
            learned[f"visual.{block}" if name.startswith("image_encoder.") else f"text.{block - 1}"] = value
    return learned
