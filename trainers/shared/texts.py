"""Texts of hand-written prompts, which frozen CLIP encodes once for all methods, seeds, shots and protocols.

What is kept is known by the text encoder as it is, so that one which somebody has changed never passes for CLIP's own.

    C classes      L tokens      D width of the text encoder      d joint width
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

import clip
from clip.shared import texts_of

# To find texts, the encoder's weights are hashed, which takes a CPU as long as some 16 prompts do
# (`benchmarks/frozen_texts.py`). On a GPU, which encodes faster, it was not measured, so many more are asked for.
LEAST = {"cpu": 64, "cuda": 4096}  # prompts that are kept; fewer are encoded each time
PARTS = ("transformer.", "ln_final.", "text_projection", "positional_embedding")  # of CLIP, those that all texts pass

Join = Callable[[Iterable[Tensor]], Tensor]  # features (C, d) of each template -> (C, d)


def encode(clip_model, batches: Sequence[Tensor], join: Join) -> Tensor:
    """(C, d), fp32: what `join` makes of the features of each batch of token ids (C, 77)."""
    device = clip_model.logit_scale.device
    return join(clip_model.encode_text(ids.to(device)).float() for ids in batches)


@torch.no_grad()
def encode_once(clip_model, batches: Sequence[Tensor], join: Join) -> Tensor:
    """The same, from the store of the trainer that has loaded this CLIP, where that pays."""
    store, device = getattr(clip_model, "text_store", None), clip_model.logit_scale.device
    few = sum(map(len, batches)) < LEAST.get(device.type, LEAST["cuda"])
    if few or store is None or not store.folder or not is_plain(clip_model):
        return encode(clip_model, batches, join)
    facts = store.made_by(tensors_of(clip_model, batches), *code(join), **settings(clip_model, batches))
    return store.of("texts", facts, lambda: {"t": encode(clip_model, batches, join).cpu()})["t"].to(device)


def is_plain(clip_model) -> bool:
    """Whether the text encoder is CLIP's own code, and nothing in it is learned, drawn or hooked in."""
    if type(clip_model) is not clip.model.CLIP or clip_model.transformer.own_prompts():
        return False
    modules = [clip_model, clip_model.token_embedding, clip_model.ln_final, *clip_model.transformer.modules()]
    changed = ("encode_text", "encode_prompts", "forward", "run")  # on an object, rather than in its class
    hooked = (x._forward_hooks or x._forward_pre_hooks or any(name in vars(x) for name in changed) for x in modules)
    learns = (value.requires_grad for name, value in clip_model.named_parameters() if not name.startswith("visual."))
    return not any(hooked) and not any(learns)


def tensors_of(clip_model, batches: Sequence[Tensor]) -> dict[str, Tensor]:
    """The text encoder's, of its vocabulary the words that stand there, as it is most of a small one, and the prompts in
    their batches: products over others may differ in their last bits.
    """
    state, words = clip_model.state_dict(), torch.cat([ids.flatten() for ids in batches]).unique()
    weights = {name: value for name, value in state.items() if name.startswith(PARTS)}
    embeddings = state["token_embedding.weight"]
    prompts = {f"prompts {i}": ids for i, ids in enumerate(batches)}
    return {**weights, "words": embeddings[words.to(embeddings.device)], **prompts}


def code(join: Join) -> tuple:
    return clip.model, clip.vit, clip.edits, clip.parts, clip.shared, clip.lengths, encode, join


def settings(clip_model, batches: Sequence[Tensor]) -> dict:
    """What else the bits of texts depend on, but for the machine and its libraries."""
    device = clip_model.logit_scale.device.type
    return {
        **clip_model.facts,
        "precision": str(clip_model.dtype),
        "autocast": str(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else "",
        "parts": [len(clip_model.text_parts(texts_of(ids))) for ids in batches],
    }
