"""Prompt building, shared by every method: hand-written prompts, and learned contexts around class names.

n  classes        L  tokens of the longest prompt        D  width of the text encoder
m  context tokens                                        d  width of the joint embedding
"""

from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F

import clip
from clip.simple_tokenizer import SimpleTokenizer

DEFAULT_TEMPLATE = "a photo of a {}."
POSITIONS = ("end", "middle", "front")


def readable(name: str) -> str:
    """A class name as it is written into a prompt: spaces for underscores, as all of the field does."""
    return name.replace("_", " ")


def template_of(dataset) -> str:
    """The hand-written prompt of a data set; data sets written for other code bases may have none."""
    return getattr(dataset, "template", DEFAULT_TEMPLATE)


@torch.no_grad()
def zero_shot_text_features(clip_model, classnames: Sequence[str], template: str = DEFAULT_TEMPLATE) -> torch.Tensor:
    """CLIP's own classifier: (n, d) unit rows, from a template with one `{}` for the class name."""
    device = clip_model.logit_scale.device
    tokens = clip.tokenize([template.format(readable(name)) for name in classnames]).to(device)  # (n, 77)
    return F.normalize(clip_model.encode_text(tokens).float(), dim=-1)


class ContextPrompts(nn.Module):
    """Class names with room for a learned context of m tokens at the end, the middle or the front (CoOp, eq. 3-4).

    `forward(context)` puts a context, (m, D) for all classes or (n, m, D) one for each, into the prompts:
    (n, L, D) token embeddings, without positions. `end` (n,) is where each prompt stops.
    The buffers are not saved: they follow from the class names and CLIP.
    """

    def __init__(self, clip_model, classnames: Sequence[str], length: int, position: str = "end"):
        super().__init__()
        if position not in POSITIONS:
            raise clip.InputError(
                f"A class token position {position!r} is unknown: choose one of {', '.join(POSITIONS)}."
            )
        names = [readable(name) for name in classnames]
        tokens = clip.tokenize([" ".join(["X"] * length + [name]) + "." for name in names])  # (n, 77)
        tokens = tokens.to(clip_model.logit_scale.device)
        end = tokens.argmax(dim=-1)  # (n,) the end token has the largest id
        tokens = tokens[:, : int(end.max()) + 1]  # (n, L)
        with torch.no_grad():
            embeddings = clip_model.token_embedding(tokens).float()  # (n, L, D)
        encode = SimpleTokenizer().encode
        order = torch.stack([_order(tokens.shape[1], length, len(encode(name)), position) for name in names])
        self.register_buffer("embeddings", embeddings, persistent=False)
        self.register_buffer("end", end, persistent=False)
        self.register_buffer("order", order.to(tokens.device), persistent=False)  # (n, L)

    def forward(self, context: torch.Tensor) -> torch.Tensor:
        n, _, width = self.embeddings.shape
        if context.dim() == 2:
            context = context.expand(n, -1, -1)  # (m, D) -> (n, m, D)
        pieces = torch.cat([context, self.embeddings], dim=1)  # (n, m + L, D)
        return pieces.gather(1, self.order[..., None].expand(-1, -1, width))  # (n, L, D)


def _order(total: int, length: int, name: int, position: str) -> torch.Tensor:
    """Which piece stands at each of the `total` places: pieces 0..length-1 are the context, then the tokenised prompt.

    The tokenised prompt is: start, `length` placeholders, `name` tokens of the class name, full stop, end, padding.
    """
    context = list(range(length))
    start = [length]
    words = list(range(length + 1 + length, length + 1 + length + name))
    rest = list(range(length + 1 + length + name, length + total))
    before = {"end": length, "middle": length // 2, "front": 0}[position]
    return torch.tensor(start + context[:before] + words + context[before:] + rest)


def initial_context(clip_model, words: str) -> torch.Tensor:
    """(m, D) embeddings of hand-written words, such as "a photo of a", to start a context from."""
    device = clip_model.logit_scale.device
    length = len(SimpleTokenizer().encode(readable(words)))
    with torch.no_grad():
        embeddings = clip_model.token_embedding(clip.tokenize(readable(words)).to(device)).float()  # (1, 77, D)
    return embeddings[0, 1 : 1 + length].clone()
