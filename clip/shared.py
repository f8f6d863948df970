"""Prompts that begin alike: what all of them begin with goes through the text encoder once, and not once for each.

Under a causal mask no place sees what comes behind it. So the start token and a context that all classes share have the
same keys and values in every prompt, and only what follows differs. Gradients of the shared part are the same sums.

    C prompts      P shared places      S places behind them      D width
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .edits import Edits, TextPrompts


def fits(edits: Edits, shared: int) -> bool:
    """Whether edits leave alone what lies behind the first places."""
    return all(type(edit) is TextPrompts and all(len(prompt) < shared for prompt in edit.prompts) for edit in edits)


def run_shared(transformer, first: Tensor, rest: Tensor, edits: Edits) -> Tensor:
    """The shared places (1, P, D) and what follows in each prompt (C, S, D) through all blocks -> (C, S, D)."""
    P, S = first.shape[1], rest.shape[1]
    # Each place sees all that is shared, and what came before it.
    sees = torch.ones(S, P + S, dtype=torch.bool, device=rest.device).tril(P)
    for i, block in enumerate(transformer.resblocks):
        for edit in edits:
            first = edit.before_block(first, i)
        q, k, v = block.attn.project(block.ln_1(first))  # (1, heads, P, D / heads)
        q_rest, k_rest, v_rest = block.attn.project(block.ln_1(rest))  # (C, heads, S, D / heads)
        keys = torch.cat([k.expand(len(rest), -1, -1, -1), k_rest], dim=2)  # (C, heads, P + S, D / heads)
        values = torch.cat([v.expand(len(rest), -1, -1, -1), v_rest], dim=2)
        rest = rest + block.attn.join(F.scaled_dot_product_attention(q_rest, keys, values, attn_mask=sees))
        rest = rest + block.mlp(block.ln_2(rest))
        if i + 1 < transformer.layers:  # nobody asks what the shared places end as
            first = first + block.attn.join(F.scaled_dot_product_attention(q, k, v, is_causal=True))
            first = first + block.mlp(block.ln_2(first))
    return rest
