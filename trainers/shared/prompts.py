"""Prompt building, shared by every method: hand-written prompts, learned contexts around class names, and learners.

C  classes        L  tokens of the longest prompt        D  width of the text encoder
m  context tokens                                        d  width of the joint embedding
"""

import functools
import importlib.util
import os
from collections.abc import Iterable, Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

import clip
from clip.parts import Texts
from clip.shared import begin_alike

from .config_keys import OwnKeyError
from .texts import Join, encode_once

DEFAULT_TEMPLATE = "a photo of a {}."
POSITIONS = ("end", "middle", "front")
# By a method's config node and the data set's registered name: the prompts of its authors that are not CoOp's.
TEMPLATES = {
    "CLIPFIT": {"DescribableTextures": "a photo of a {}, a type of texture."},
    "CLIPLORA": dict.fromkeys(
        (
            "OxfordPets",
            "OxfordFlowers",
            "FGVCAircraft",
            "DescribableTextures",
            "EuroSAT",
            "Food101",
            "UCF101",
        ),
        DEFAULT_TEMPLATE,
    ),
    "KGCOOP": {"DescribableTextures": "a photo of a {}, a type of texture."},
    "TCP": {
        "DescribableTextures": "a photo of a {}, a type of texture.",
        "FGVCAircraft": "a photo of an aircraft {}.",
        "Food101": "a photo of a {}, a type of food.",
    },
    "PROGRAD": {  # the class comes last, so that the words before it can be the first context
        "OxfordPets": "a type of pet, a photo of a {}.",
        "OxfordFlowers": "a type of flower, a photo of a {}.",
        "FGVCAircraft": "a type of aircraft, a photo of a {}.",
        "DescribableTextures": "a texture of {}.",
        "Food101": "a type of food, a photo of {}.",
        "EmbeddedTextures": "a texture of {}.",  # ours, after DescribableTextures
    },
}


def readable(name: str) -> str:
    """A class name as it is written into a prompt: spaces for underscores, as all of the field does."""
    return name.replace("_", " ")


def tokenize(text: str, what: str, remedy: str, room: int = 77) -> Tensor:
    """Token ids (1, room) of a text; one that CLIP has no room for is refused, with `what` it is."""
    try:
        return clip.tokenize(text, room)
    except clip.InputError as error:
        raise clip.InputError(f"{what} is too long for CLIP, which takes {room} tokens: {remedy}.") from error


def tokenize_classes(prompts: Sequence[str], names: Sequence[str], room: int = 77) -> Tensor:
    """Token ids (C, room) of the prompts of classes."""
    remedy = "shorten the class name, or the words or the learned context around it"
    both = zip(prompts, names, strict=True)
    return torch.cat([tokenize(prompt, f"The prompt of the class {name!r}", remedy, room) for prompt, name in both])


def embedded_prompts(clip_model, classnames: Sequence[str], template: str) -> tuple[Tensor, Tensor]:
    """Hand-written prompts as token embeddings (C, L, D), fp32, as long as the longest, and where each ends (C,)."""
    texts, device = [template.format(readable(name)) for name in classnames], clip_model.logit_scale.device
    tokens = tokenize_classes(texts, classnames, clip_model.context_length)  # (C, room)
    end = tokens.argmax(dim=-1)  # (C,) the end token has the largest id
    tokens = tokens[:, : int(end.max()) + 1].to(device)  # (C, L)
    with torch.no_grad():
        return clip_model.token_embedding(tokens).float(), end.to(device)  # (C, L, D), (C,)


def token_count(text: str, room: int = 77) -> int:
    """How many tokens a text has, without the start and the end token, whose id is the largest."""
    return int(clip.tokenize(text, room).argmax()) - 1


def template_of(dataset, method: str = "") -> str:
    """The hand-written prompt of a data set, for a method's config node if its authors' is not CoOp's.

    Data sets written for other code bases may have none.
    """
    own = TEMPLATES.get(method, {})
    return own.get(type(dataset).__name__, getattr(dataset, "template", DEFAULT_TEMPLATE))


def zero_shot_text_features(clip_model, classnames: Sequence[str], template: str = DEFAULT_TEMPLATE) -> Tensor:
    """CLIP's own classifier: (C, d) unit rows, from a template with one `{}` for the class name."""
    return F.normalize(template_features(clip_model, classnames, template), dim=-1)


def template_features(clip_model, classnames: Sequence[str], template: str) -> Tensor:
    """The same before normalisation: (C, d), fp32."""
    return features_of_templates(clip_model, classnames, [template], total)


def features_of_templates(clip_model, classnames: Sequence[str], templates: Sequence[str], join: Join) -> Tensor:
    """(C, d), fp32: what `join` makes of the features (C, d) of each template, each a batch of its own."""
    written = ([template.format(readable(name)) for name in classnames] for template in templates)
    room = clip_model.context_length
    return encode_once(clip_model, [tokenize_classes(prompts, classnames, room) for prompts in written], join)


def total(features: Iterable[Tensor]) -> Tensor:
    """The sum of features (C, d): in direction their mean."""
    return sum(features)


def mean_of_units(features: Iterable[Tensor]) -> Tensor:
    """The mean (C, d) of what has unit rows by then."""
    return torch.stack([F.normalize(one, dim=-1) for one in features]).mean(dim=0)


def hand_written_text(clip_model, classnames: Sequence[str], templates: Sequence[str]) -> Tensor:
    """(C, d) unit rows: with several templates the mean of a class's unit features under each, normalised."""
    join = total if len(templates) == 1 else mean_of_units
    return F.normalize(features_of_templates(clip_model, classnames, templates, join), dim=-1)


def same_texts(text: Tensor) -> list[list[int]]:
    """Which classes have one and the same text, of features (C, d): groups of two or more, in the order of labels."""
    text = F.normalize(text.float(), dim=-1)
    alike = text @ text.t() > 1 - 1e-6  # (C, C)
    firsts = alike.fill_diagonal_(True).int().argmax(dim=1).tolist()  # of each class the first one with its text
    groups = [[label for label, first in enumerate(firsts) if first == own] for own in sorted(set(firsts))]
    return [group for group in groups if len(group) > 1]


@functools.cache
def imagenet_templates(name: str = "OPENAI_IMAGENET_TEMPLATES") -> tuple[str, ...]:
    """CLIP's published prompts for ImageNet, with `{}` for the class name: all 80, or the 7 that do as well
    (`SIMPLE_IMAGENET_TEMPLATES`).
    """
    return tuple(template("{}") for template in getattr(of_imagenet(), name))


@functools.cache
def of_imagenet():
    """CLIP's published prompts and class names for ImageNet. They come from open_clip, whose package takes seconds to import,
    so this one file of it is read alone.
    """
    package = importlib.util.find_spec("open_clip").submodule_search_locations[0]
    spec = importlib.util.spec_from_file_location("_templates", os.path.join(package, "zero_shot_metadata.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class ContextPrompts(nn.Module):
    """Class names with room for a learned context of m tokens at the end, the middle or the front (CoOp, eq. 3-4).

    With `words` ("a photo of a") the context takes the place of their first m tokens, and the others stay as they are.
    `after` is what follows it all.
    `forward(context)` puts a context, (m, D) for all classes or (C, m, D) one for each, into the prompts:
    (C, L, D) token embeddings, without positions. `end` (C,) is where each prompt stops.
    The buffers are not saved: they follow from the class names and CLIP.
    """

    derived_tensors = frozenset({"token_prefix", "token_suffix"})  # the same in checkpoints of the field's own code

    def __init__(
        self,
        clip_model,
        classnames: Sequence[str],
        length: int,
        position: str = "end",
        words: str | None = None,
        after: str = ".",
    ):
        super().__init__()
        if position not in POSITIONS:
            raise clip.InputError(
                f"A class token position {position!r} is unknown: choose one of {', '.join(POSITIONS)}."
            )
        names = [readable(name) for name in classnames]
        before = " ".join(["X"] * length) if words is None else readable(words)
        stop = (
            after if position == "end" else f" {after}"
        )  # apart, where context comes between: "c++." ends in the token "+."
        room, device = clip_model.context_length, clip_model.logit_scale.device
        tokens = tokenize_classes([f"{before} {name}{stop}".lstrip() for name in names], names, room)  # (C, room)
        end = tokens.argmax(dim=-1)  # (C,) the end token has the largest id
        tokens = tokens[:, : int(end.max()) + 1]  # (C, L)
        with torch.no_grad():
            embeddings = clip_model.token_embedding(tokens.to(device)).float()  # (C, L, D)
        order = torch.stack([_order(tokens.shape[1], length, token_count(name, room), position) for name in names])
        self.register_buffer("embeddings", embeddings, persistent=False)
        self.register_buffer("end", end.to(device), persistent=False)
        self.register_buffer("order", order.to(device), persistent=False)  # (C, L)
        self.lengths = tuple((end + 1).tolist())  # of each prompt, for who may not wait for a GPU to look at `end`
        self.shared = places_alike(order, tokens, length, int(end.min()))  # of a context that all classes share

    def forward(self, context: Tensor) -> Tensor:
        C, _, width = self.embeddings.shape
        if context.dim() == 2:
            context = context.expand(C, -1, -1)  # (m, D) -> (C, m, D)
        pieces = torch.cat([context, self.embeddings], dim=1)  # (C, m + L, D)
        return pieces.gather(1, self.order[..., None].expand(-1, -1, width))  # (C, L, D)


def places_alike(order: Tensor, tokens: Tensor, length: int, most: int) -> int:
    """How many of the first places are the same in all prompts, at `most`: by which piece stands there (C, L), the
    `length` ones of the context first, and the ids (C, L) of the others.
    """
    ids = torch.cat([-1 - torch.arange(length).expand(len(tokens), -1), tokens], dim=1).gather(1, order)  # (C, L)
    return begin_alike(ids, most)


def _order(total: int, length: int, name: int, position: str) -> Tensor:
    """Which piece stands at each of the `total` places: pieces 0..length-1 are the context, then the tokenised prompt.

    The tokenised prompt is: start, `length` placeholders, `name` tokens of the class name, full stop, end, padding.
    """
    context = list(range(length))
    start = [length]
    words = list(range(length + 1 + length, length + 1 + length + name))
    rest = list(range(length + 1 + length + name, length + total))
    before = {"end": length, "middle": length // 2, "front": 0}[position]
    return torch.tensor(start + context[:before] + words + context[before:] + rest)


def initial_context(clip_model, words: str, key: str = "CTX_INIT") -> Tensor:
    """(m, D) embeddings of hand-written words, such as "a photo of a", to start a context from; `key` has them."""
    device, room = clip_model.logit_scale.device, clip_model.context_length
    with torch.no_grad():
        try:
            tokens = tokenize(readable(words), f"{key} {words!r}", "shorten it", room)  # (1, room)
        except clip.InputError as error:
            raise OwnKeyError(str(error)) from error
        embeddings = clip_model.token_embedding(tokens.to(device)).float()  # (1, room, D)
    return embeddings[0, 1 : 1 + token_count(readable(words), room)].clone()


# --- learners: modules that hold everything a method trains --------------------------------------------------------


class Learner(nn.Module):
    """What is trained. Calling it gives prompts (C, L, D), as long as the longest of them, and their ends (C,); the edits
    are its deep prompts.
    """

    shared = 0  # of the first places of its prompts, those that are the same for all classes
    lengths: tuple[int, ...] | None = None  # of its prompts, with their ends, where they are known beforehand
    frozen_images = True  # nothing in it changes an image's features
    frozen_texts = False  # nothing in it changes a text's; it cannot be called then
    of_classes = ""  # what it learns for each class, and fits no other: "a context"; "": nothing

    def image_edits(self) -> list[clip.Edit]:
        return []

    def text_edits(self) -> list[clip.Edit]:
        return []

    def of_rows(self, state: dict[str, Tensor], rows: list[int]) -> dict[str, Tensor]:
        """Its tensors for some of the classes, where it learns something for each: those are the first dimension."""
        return {name: value[rows] for name, value in state.items()}

    @torch.no_grad()
    def text_work(self, images: int) -> Texts:
        """The prompts that a batch of so many images sends through the text encoder."""
        if self.frozen_texts:
            return Texts(())
        prompts, end = self()
        return Texts(self.lengths or (prompts.shape[1],) * len(end), self.shared)


class NamesInContext(Learner):
    """A learner of a context `ctx`, (m, D) or (C, m, D), that stands in `prompts` around the class names."""

    ctx: Tensor
    prompts: ContextPrompts

    @property
    def shared(self) -> int:
        """The start token, a context that is not each class's own, and words that all have."""
        return self.prompts.shared if self.ctx.dim() == 2 and self.as_written(NamesInContext) else 0

    @property
    def lengths(self) -> tuple[int, ...] | None:
        return self.prompts.lengths if self.as_written(NamesInContext) else None

    def as_written(self, kind: type[Learner]) -> bool:
        """Whether that kind's own code makes the prompts: those of another may differ in any place, and end anywhere."""
        prompts, of = self.prompts, type(self)
        own = of.forward is kind.forward and of.__call__ is nn.Module.__call__ and type(prompts) is ContextPrompts
        hooked = any("forward" in vars(x) or x._forward_hooks or x._forward_pre_hooks for x in (self, prompts))
        return own and not hooked

    def forward(self) -> tuple[Tensor, Tensor]:
        return self.prompts(self.ctx), self.prompts.end  # (C, L, D), (C,)


class ContextLearner(NamesInContext):
    """CoOp's learned context `ctx`: (m, D), or (C, m, D) with class-specific contexts.

    `keys` are a method's config keys: CTX_INIT, N_CTX, and where it has them CSC and CLASS_TOKEN_POSITION.
    """

    def __init__(self, clip_model, classnames: Sequence[str], keys):
        super().__init__()
        own = keys.get("CSC", False)
        self.of_classes = "a context" if own else ""
        if keys.CTX_INIT:
            context = initial_context(clip_model, keys.CTX_INIT)  # (m, D)
            if own:
                context = context.expand(len(classnames), -1, -1).clone()
        else:
            width = clip_model.ln_final.weight.shape[0]
            shape = (len(classnames), keys.N_CTX, width) if own else (keys.N_CTX, width)
            context = nn.init.normal_(torch.empty(shape), std=0.02)
        self.ctx = nn.Parameter(context)
        self.prompts = ContextPrompts(
            clip_model, classnames, context.shape[-2], keys.get("CLASS_TOKEN_POSITION", "end")
        )

    def of_rows(self, state, rows):
        return state | {"ctx": state["ctx"][rows]}
