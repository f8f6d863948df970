"""TextRefiner: Xie et al., "TextRefiner: Internal Visual Feature as Efficient Refiner for Vision-Language Models Prompt
Tuning", AAAI 2025.

Over CoOp: a small cache gathers what image patches look like in training, and the text features read from it.
The published code's `scale * image @ text` is kept: refined texts and projected tokens are not scaled to unit length.

    B images    N patches    C classes    d joint width    M entries of the cache
"""

import os

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

import clip
import inert
from dassl.engine import TRAINER_REGISTRY
from dassl.metrics import compute_accuracy
from dassl.utils import load_checkpoint

from .shared.clip_trainer import ClipTrainer
from .shared.features import of_features
from .shared.prompted_clip import PromptedCLIP
from .shared.prompts import POSITIONS, ContextLearner
from .shared.published_names import load_clip_to_cpu  # noqa: F401  for other code

TOP = 5  # patches that the class token attends to most
REMEMBERED = 2**30  # bytes of tokens that training may keep, rather than compute them again in every epoch


class RankPatches(clip.Edit):
    """Puts the patches behind the last block in the order of the class token's attention there, strongest first."""

    def __init__(self, blocks: int):
        self.last = blocks - 1

    def needs_class_attention(self, i):
        return i == self.last

    def after_block(self, x, i, class_attention):
        if i != self.last:
            return x
        order = class_attention[:, 1:].argsort(dim=1, descending=True)  # (B, N)
        return torch.cat([x[:, :1], torch.take_along_dim(x[:, 1:], order[..., None], dim=1)], dim=1)


class RefinerLearner(ContextLearner):
    """CoOp's context; a `project`ion of visual tokens, used in training only; the `cache` (M, d) and its `refiner`.

    The cache is a buffer, written and not learned, and saved with the rest. (In the published code it is a plain
    attribute beside the state dict, which a resumed run loses.)
    """

    def __init__(self, clip_model, classnames, keys):
        super().__init__(clip_model, classnames, keys)
        d = clip_model.text_projection.shape[1]
        self.alpha, self.momentum = keys.ALPHA, keys.MOMENTUM
        # No running statistics: evaluation does not project.
        norm = nn.BatchNorm1d(d, track_running_stats=False)
        self.project = nn.Sequential(nn.Linear(d, d), norm, nn.ReLU(), nn.Linear(d, d))
        self.register_buffer("cache", F.normalize(torch.rand(keys.MEMORY_SIZE, d), dim=-1))
        self.refiner = nn.Linear(2 * d, d, bias=False)

    def refine(self, text: Tensor) -> Tensor:
        """Unit rows (C, d) -> (C, d), about as long: each text with what it reads from the cache, by a softmax."""
        read = (text @ self.cache.t()).softmax(dim=-1) @ self.cache  # (C, M) (M, d)
        return text + self.alpha * self.refiner(torch.cat([text, read], dim=-1))

    @torch.no_grad()
    def write(self, tokens: Tensor) -> None:
        """Each token (T, d) goes to the entry most like it, with a weight of one for the token most like that entry.

        As published, an entry takes the sum of its tokens, not their mean. They are many, so momentum counts little.
        """
        tokens = F.normalize(tokens.float(), dim=-1)
        score = tokens @ self.cache.t()  # (T, M)
        weight = (score - score.amax(dim=0)).exp()
        weight = weight * F.one_hot(score.argmax(dim=1), score.shape[1])  # (T, M)
        cache = self.momentum * self.cache + (1 - self.momentum) * (weight.t() @ tokens)  # (M, d)
        # A new tensor, as the gradient of this step still needs the old one. Entries without a token keep direction.
        self.cache = F.normalize(cache, dim=-1)


class RefinedCLIP(PromptedCLIP):
    def plain_text_features(self) -> Tensor:
        """(C, d) unit rows: CoOp's."""
        return super().text_features()

    def text_features(self, f=None):
        return self.prompt_learner.refine(self.plain_text_features())

    def ranked_tokens(self, images: Tensor) -> Tensor:
        """(B, 1 + N, d) in the joint space, not normalised: the class token, then the patches, strongest first."""
        feature, patches = self.clip.encode_image(
            images, [RankPatches(self.clip.visual.transformer.layers)], tokens=True
        )
        return torch.cat([feature[:, None], patches], dim=1).float()


@TRAINER_REGISTRY.register()
class TextRefiner(ClipTrainer):
    config_node = "TEXTREFINER"
    config_keys = {
        "N_CTX": 4,  # context tokens, where CTX_INIT is empty
        "CTX_INIT": "a photo of a",  # words to start from
        "CSC": False,  # a context for each class
        "CLASS_TOKEN_POSITION": "end",  # end, middle, front
        "MEMORY_SIZE": 25,  # entries of the cache
        "ALPHA": 0.2,  # how much a refined text takes from the refiner
        "MOMENTUM": 0.8,  # how much of an entry stays when it is written
        "BALANCE": 50.0,  # what the loss of the local tokens is divided by
        "DISTILL": 20.0,  # weight of the distance between refined and plain texts
    }
    config_ranges = {
        "N_CTX": "at least 1",
        "CLASS_TOKEN_POSITION": POSITIONS,
        "MEMORY_SIZE": "at least 1",
        "ALPHA": "a number",
        "MOMENTUM": "at least 0 and at most 1",
        "BALANCE": "above 0",
        "DISTILL": "at least 0",
    }

    def build_prompted_clip(self, clip_model):
        return RefinedCLIP(clip_model, self.build_learner(clip_model, self.dm.dataset.classnames))

    def build_learner(self, clip_model, classnames):
        if not isinstance(clip_model.visual, clip.model.VisionTransformer):
            raise clip.InputError(
                f"TextRefiner reads visual tokens, which backbone {self.cfg.MODEL.BACKBONE.NAME} has not: choose a ViT."
            )
        return RefinerLearner(clip_model, classnames, self.keys)

    @of_features
    def compute_loss(self, images, labels):
        learner, tokens = self.model.prompt_learner, self.tokens(images)  # (B, 1 + N, d)
        text = self.model.plain_text_features()  # (C, d)
        refined = learner.refine(text)
        logits = self.model.logits(F.normalize(tokens[:, 0], dim=-1), refined)  # (B, C)

        local = learner.project(tokens.flatten(0, 1)).view_as(tokens)  # (B, 1 + N, d)
        strongest = torch.cat([local[:, : 1 + TOP], local.mean(dim=1, keepdim=True)], dim=1)  # (B, 1 + TOP + 1, d)
        local_logits = self.model.logits(strongest, text)  # (B, 1 + TOP + 1, C)

        globally = F.cross_entropy(logits, labels)
        locally = F.cross_entropy(local_logits.flatten(0, 1), labels.repeat_interleave(local_logits.shape[1]))
        distance = F.l1_loss(F.normalize(refined, dim=-1), text)
        learner.write(local.flatten(0, 1))
        shown = {"global": globally.detach(), "local": locally.detach(), "distance": distance.detach()}
        shown["acc"] = compute_accuracy(logits, labels)[0]
        return globally + locally / self.keys.BALANCE + self.keys.DISTILL * distance, shown

    def tokens(self, images: Tensor) -> Tensor:
        """`ranked_tokens` (B, 1 + N, d) of the current batch, computed once for each image where they have room."""
        return self.once_per_image("tokens", self.model.ranked_tokens, images)

    def is_remembered(self):
        visual, count = self.model.clip.visual, self.views() * len(self.train_loader_x.dataset.data_source)
        return 0 < 4 * count * len(visual.positional_embedding) * visual.output_dim <= REMEMBERED

    # --- checkpoints --------------------------------------------------------------------------------------

    def from_published(self, state):
        """The authors save the whole model, whose projection is made of 1 x 1 convolutions, and the rest in `Memory`."""
        if "prompt_learner.ctx" not in state:
            return state  # one of ours
        layers = "mid_image_trans.conv1."
        return {"ctx": state["prompt_learner.ctx"]} | {
            name.replace(layers, "project."): value.flatten(1) if value.dim() == 4 else value
            for name, value in state.items()
            if name.startswith(layers) and name.endswith((".weight", ".bias"))
        }

    def published_beside(self, state, path):
        """The refiner, and the cache, which stands beside the state dict: both in the folder `Memory`."""
        if "prompt_learner.ctx" not in state:
            return {}
        folder, file = os.path.split(path)
        memory = os.path.join(os.path.dirname(folder), "Memory", file)
        if not os.path.isfile(memory):
            raise clip.InputError(
                f"{path} is one of two files that TextRefiner's authors save, and the other, {memory}, is missing: put it there."
            )
        checkpoint = load_checkpoint(memory)
        cache, refiner = checkpoint.get("memory_item"), inert.weights_of(checkpoint).get("extractor.weight")
        if not (isinstance(cache, Tensor) and isinstance(refiner, Tensor)):
            raise clip.InputError(
                f"{memory} lacks memory_item, the cache, or extractor.weight, the refiner: take the authors' own file."
            )
        return {"cache": cache, "refiner.weight": refiner}
