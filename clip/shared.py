"""Prompts in the text encoder without what need not be computed: what all begin with, and padding.

Under a causal mask no place sees what comes behind it. So the start token and a context that all classes share have the
same keys and values in every prompt: they go through the encoder once, and only what follows goes for each prompt.
Gradients of the shared part are the same sums. What follows stands in one sequence, the prompts of a length side by side
(`lengths.py`): only attention has to know where one ends.

    G groups of prompts that share their first P places: one, or each image's      C prompts in each
    T places of a group's prompts behind those, one prompt after another           D width
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .edits import Edits, TextPrompts
from .lengths import Span, spans
from .parts import Texts
from .vit import Attention, ResidualAttentionBlock, Transformer


def begin_alike(ids: Tensor, most: int) -> int:
    """How many of the first places are the same in all rows of ids (C, L), at `most`."""
    alike = (ids == ids[:1]).all(dim=0).int()  # (L,)
    return min(int(alike.cumprod(dim=0).sum()), most)


def texts_of(ids: Tensor) -> Texts:
    """What is known of texts by their token ids (C, L)."""
    ids = ids.cpu()
    end = ids.argmax(dim=-1)  # (C,)
    return Texts(tuple((end + 1).tolist()), begin_alike(ids, int(end.min())))


def fits(transformer: Transformer, edits: Edits, shared: int) -> bool:
    """Whether edits leave alone what lies behind the first places, and the blocks are as they are written here."""
    small = all(
        type(edit) is TextPrompts and all(edit.after + len(prompt) <= shared for prompt in edit.prompts)
        for edit in edits
    )
    return small and all(map(as_written, transformer.resblocks))


def as_written(block) -> bool:
    """Whether nothing has been put in the place of a block or its attention, or listens to them."""
    kinds = type(block) is ResidualAttentionBlock and type(block.attn) is Attention
    return kinds and not any(
        "forward" in vars(part) or part._forward_hooks or part._forward_pre_hooks for part in (block, block.attn)
    )


def encode_spans(
    transformer: Transformer, x: Tensor, end: Tensor, lengths: tuple[int, ...], shared: int, edits: Edits
) -> Tensor:
    """Prompts (G, C, L, D) of so many places, that end at `end` (C,) in every group -> what their ends become (G, C, D).

    Groups differ in the first `shared` = P places, the prompts of a group do not.
    """
    side_by_side = spans(tuple(length - shared for length in lengths), x.device.type)
    first, rest = x[:, 0, :shared], x[:, :, shared:]  # (G, P, D), (G, C, L - P, D)
    last = end - shared  # (C,)
    order = None
    if len(side_by_side) > 1:
        order = end.argsort(stable=True)  # (C,), as the spans have it
        rest, last = rest.index_select(1, order), last.index_select(0, order)
    pieces, ends, row, place = [], [], 0, 0
    for rows, places in side_by_side:
        pieces.append(rest[:, row : row + rows, :places].flatten(1, 2))  # (G, rows places, D)
        starts = torch.arange(place, place + rows * places, places, device=x.device)  # (rows,)
        ends.append(starts + last[row : row + rows])
        row, place = row + rows, place + rows * places
    last = torch.cat(ends)  # (C,), of T
    if order is not None:
        last = last.index_select(0, order.argsort())  # of each prompt, in its own order
    x = run_spans(transformer, first, torch.cat(pieces, dim=1), side_by_side, edits)  # (G, T, D)
    return x.index_select(1, last)  # (G, C, D)


def run_spans(transformer, first: Tensor, rest: Tensor, side_by_side: Sequence[Span], edits: Edits) -> Tensor:
    """The shared places (G, P, D) and what follows (G, T, D) through all blocks -> (G, T, D)."""
    P = first.shape[1]
    # Each place sees all that is shared, and what came before it.
    masks = [torch.ones(places, P + places, dtype=torch.bool, device=rest.device).tril(P) for _, places in side_by_side]
    for i, block in enumerate(transformer.resblocks):
        if P:
            for edit in edits:
                first = edit.before_block(first, i)
            q, k, v = block.attn.project(block.ln_1(first))  # (G, heads, P, D / heads)
        projected = block.attn.projected(block.ln_1(rest))  # (G, T, 3 D)
        attended, place = [], 0
        for (rows, places), sees in zip(side_by_side, masks, strict=True):
            some = projected[:, place : place + rows * places].reshape(-1, places, 3 * rest.shape[2])
            queries, keys, values = block.attn.split(some)  # (G rows, heads, places, D / heads)
            if P:
                keys = torch.cat([for_each(k, rows), keys], dim=2)  # (G rows, heads, P + places, D / heads)
                values = torch.cat([for_each(v, rows), values], dim=2)
            out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=sees)
            attended.append(out.transpose(1, 2).reshape(rest.shape[0], rows * places, -1))
            place += rows * places
        rest = rest + block.attn.out_proj(torch.cat(attended, dim=1))
        rest = rest + block.mlp(block.ln_2(rest))
        if P and i + 1 < transformer.layers:  # nobody asks what the shared places end as
            first = first + block.attn.join(F.scaled_dot_product_attention(q, k, v, is_causal=True))
            first = first + block.mlp(block.ln_2(first))
    return rest


def for_each(x: Tensor, rows: int) -> Tensor:
    """Of each group (G, ...), for so many of its prompts: (G rows, ...)"""
    return x[:, None].expand(-1, rows, -1, -1, -1).flatten(0, 1)
