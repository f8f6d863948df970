"""CLIP called in MaPLe's way: Khattak et al., "MaPLe: Multi-modal Prompt Learning", CVPR 2023.

Trainer files of that family hand the prompts to the encoders in their call. Here those calls become edits, so such a
file runs on the one encoder there is; `build_model(state_dict, {"trainer": "MaPLe", ...})` gives this class.
"""

from collections.abc import Sequence

from torch import Tensor

from .edits import Edits, TextPrompts, VisualPrompts
from .vit import Transformer, VisionTransformer


class MaPLeVision(VisionTransformer):
    def forward(  # type: ignore[override]  # prompts come before edits, as that family calls it
        self,
        image: Tensor,
        first: Tensor | None = None,
        deeper: Sequence[Tensor] = (),
        edits: Edits = (),
        tokens: bool = False,
    ):
        """image (B, 3, H, W), and prompts (m, D): of the first block, and of the next ones -> (B, d)."""
        prompts = [] if first is None else [VisualPrompts([first, *deeper])]
        return super().forward(image, [*prompts, *edits], tokens)


class MaPLeText(Transformer):
    def forward(self, inputs: Tensor | list):
        """[x (L, B, D), prompts (m, D) of blocks 1, 2, ..., counter] -> the same list with x after all blocks."""
        if isinstance(inputs, Tensor):
            return super().forward(inputs)
        x, deeper, _ = inputs
        x = self.run(x.transpose(0, 1), [TextPrompts(deeper)]).transpose(0, 1)
        return [x, deeper, len(deeper)]
