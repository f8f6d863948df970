"""The rows: zero-shot CLIP, CoOp and Spotlighter over one CLIP, each a function from images to classes.

B images      n classes      L text tokens      D width      d joint width      N patch tokens      C = n
"""

import contextlib
import io
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.field import AllTokens, FieldEvaluation
from clip.model import CLIP, convert_weights
from one_run.config import build_config, options_of
from trainers.shared.prompted_clip import HandWrittenCLIP, PromptedCLIP, load_clip
from trainers.shared.prompts import DEFAULT_TEMPLATE, ContextLearner
from trainers.spotlighter.bank import Shots, remember
from trainers.spotlighter.budgeted import BudgetedCLIP
from trainers.spotlighter.checks import check_encoder
from trainers.spotlighter.model import SpotlitCLIP
from trainers.spotlighter.plan import Plan, firsts
from trainers.spotlighter.zoom import ZOOM_WIDTHS, Zoom

VIT_B_16 = {
    "embed_dim": 512,
    "image_resolution": 224,
    "vision_layers": 12,
    "vision_width": 768,
    "vision_patch_size": 16,
    "context_length": 77,
    "vocab_size": 49408,
    "transformer_width": 512,
    "transformer_heads": 8,
    "transformer_layers": 12,
}
MAIN = "ViT-B/16"  # whose figures are the ones to quote
BACKBONES = (MAIN, "ViT-Embedded/8")
REFERENCE = "zero-shot CLIP"  # as published: all tokens go through all blocks
LEAN = "zero-shot CLIP here"  # whose last block computes the class token alone
CONTROL = "CoOp"  # the same work as that, so its ratio says how far the others' can be trusted
BUDGETS = (0.6, 1.0, 2.6)
HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}
ZOOMS = (1, 3)
ZOOM_WIDTH = 0.5
SHOTS = 2  # synthetic ones a class, to fill the bank
ADJECTIVES = (
    "red green blue old young small large wild tame bright dark round flat soft hard wooden golden wet striped quiet"
)
NOUNS = (
    "apple bear boat bridge cat chair church clock cloud cup deer dog door dress duck flower fox fish forest glove "
    "guitar hat horse house kite ladder lamp leaf lion mirror mountain owl pear piano plate river road rose sheep "
    "ship shoe snake spoon star table tower train tree violin wheel"
)


class Predictor(NamedTuple):
    name: str
    predict: Callable[[Tensor], Tensor]  # images (B, 3, H, W) -> classes (B,)


def build_clip(backbone: str, precision: str, device: torch.device) -> CLIP:
    """A frozen CLIP: ViT-B/16 with random weights, or the shipped one."""
    if backbone != MAIN:
        with contextlib.redirect_stdout(io.StringIO()):
            return load_clip(backbone, precision, device)
    model = CLIP(**VIT_B_16)
    if precision in HALF:
        convert_weights(model, HALF[precision])
    return model.to(device).requires_grad_(False).eval()


def class_names() -> list[str]:
    """A thousand made-up ones."""
    return [f"{adjective} {noun}" for adjective in ADJECTIVES.split() for noun in NOUNS.split()]


class EncodedCoOp(PromptedCLIP):
    """CoOp whose text features (n, d) have been computed: all rows have the same."""

    def __init__(self, clip_model: CLIP, learner: ContextLearner, text: Tensor):
        super().__init__(clip_model, learner)
        self.register_buffer("text", text, persistent=False)

    def text_features(self, f=None) -> Tensor:
        return self.text


@torch.no_grad()
def fill_bank(spotlit: SpotlitCLIP, own) -> None:
    """Random unit features in the place of encoded shots: only their number and shape cost time."""
    names, z = spotlit.classnames, spotlit.zero_shot  # z (C, d)
    count = SHOTS * len(names)
    rows = lambda *shape: F.normalize(torch.randn(*shape, z.shape[1], device=z.device), dim=-1)  # noqa: E731
    labels = torch.arange(count, device=z.device) % len(names)
    again = rows(count, 2, len(ZOOM_WIDTHS), own.ZOOM) if own.ZOOM else None
    spotlit.head.zoom = Zoom(map=0, width=ZOOM_WIDTH, count=own.ZOOM, share=0.5) if own.ZOOM else None
    shots = Shots(rows(count), rows(count, 4 * own.R), labels, again)  # few tokens: the bank holds their means
    remember(spotlit.head, shots, spotlit.model.text_features(), z, names)


def config(backbone: str, keep: float = 1.0, zoom: int = 0):
    """Spotlighter over CoOp with the project's defaults, but for KEEP and ZOOM."""
    options = {"MODEL.BACKBONE.NAME": backbone, "TRAINER.SPOTLIGHTER.KEEP": keep, "TRAINER.SPOTLIGHTER.ZOOM": zoom}
    return build_config("Spotlighter", options=options_of(options))


@torch.no_grad()
def spotlighter(cfg, coop: EncodedCoOp, names: list[str]) -> tuple[Predictor, SpotlitCLIP]:
    """The row, and the model whose prediction it is: the trainer's own assembly, over a bank of synthetic shots."""
    own = cfg.TRAINER.SPOTLIGHTER
    check_encoder(coop.clip.visual, own, cfg.MODEL.BACKBONE.NAME)
    model = EncodedCoOp(coop.clip, coop.prompt_learner, coop.text)  # with edits of its own
    spotlit = SpotlitCLIP(model, own, names, DEFAULT_TEMPLATE)
    spotlit.head.eval()
    fill_bank(spotlit, own)
    classes = spotlit.describe()
    name = spotlighter_name(own.KEEP) + (f" ZOOM {own.ZOOM}" if own.ZOOM else "")
    return Predictor(name, lambda images: spotlit.predict(images, classes).argmax(dim=1)), spotlit


def spotlighter_name(keep: float) -> str:
    return f"Spotlighter KEEP {keep:g}"


@torch.no_grad()
def budgeted(cfg, coop: EncodedCoOp, names: list[str], budget: float) -> Predictor:
    """The costliest plan that a budget allows, over a bank of synthetic shots."""
    cfg.defrost()
    cfg.TRAINER.SPOTLIGHTER.BUDGET = budget
    own = cfg.TRAINER.SPOTLIGHTER
    spotlit = BudgetedCLIP(EncodedCoOp(coop.clip, coop.prompt_learner, coop.text), own, names, DEFAULT_TEMPLATE)
    head, z = spotlit.head.eval(), spotlit.zero_shot  # z (C, d)
    first = max(firsts(spotlit.cost, budget, spotlit.drop.after, glances=True), key=lambda first: first.cost)
    head.zoom = Zoom(map=0, width=ZOOM_WIDTH, count=first.count, share=0.5)
    head.plan = Plan(first.keep, False, head.zoom, first.side, first.cost)
    rows = lambda *shape: F.normalize(torch.randn(*shape, z.shape[1], device=z.device), dim=-1)  # noqa: E731
    labels = torch.arange(SHOTS * len(names), device=z.device) % len(names)
    shots = Shots(rows(len(labels)), None, labels, rows(len(labels), first.count))
    remember(head, shots, coop.text, z, names)
    classes = spotlit.describe()
    return Predictor(budget_name(budget, first.cost), lambda images: spotlit.predict(images, classes).argmax(dim=1))


def budget_name(budget: float, cost: float) -> str:
    return f"Spotlighter BUDGET {budget:g}, a plan at {cost:.3f}"


@torch.no_grad()
def build_rows(backbone: str, model: CLIP, names: list[str], keeps: list[float], chosen: float):
    """All rows, the reference first, and the model of the chosen one."""
    learner = ContextLearner(model, names, config(backbone, 1.0).TRAINER.COOP).to(model.logit_scale.device)
    learner.requires_grad_(False).eval()
    with contextlib.redirect_stdout(io.StringIO()):
        zero_shot = HandWrittenCLIP(model, names, [DEFAULT_TEMPLATE])
    coop = EncodedCoOp(model, learner, PromptedCLIP(model, learner).text_features())
    field = FieldEvaluation(model, learner)
    published = PromptedCLIP(model)
    published.image_edits.append(AllTokens())
    rows = [
        Predictor(REFERENCE, lambda images: published(images, zero_shot.text).argmax(dim=1)),
        Predictor(LEAN, lambda images: zero_shot(images, zero_shot.text).argmax(dim=1)),
        Predictor(CONTROL, lambda images: coop(images, coop.text).argmax(dim=1)),
        Predictor("CoOp, the field's evaluation", lambda images: field(images).argmax(dim=1)),
    ]
    spotlit = {}
    for keep, zoom in [(keep, 0) for keep in keeps] + [(chosen, zoom) for zoom in ZOOMS]:
        row, spotlit[keep, zoom] = spotlighter(config(backbone, keep, zoom), coop, names)
        rows.append(row)
    rows += [budgeted(config(backbone), coop, names, budget) for budget in BUDGETS]
    return rows, spotlit[chosen, 0]
