"""What classifying an image costs: multiplications (each with its addition), in units of zero-shot CLIP's on the same backbone.

The unit is CLIP as published, all tokens through all blocks; where the class token alone is wanted, the last block here computes no
other. Counted from shapes, so that hundreds of plans are compared before any is tried; a test holds the count to PyTorch's.

    L tokens of a sequence      N patches      D width of the encoder      d joint width      C classes      K prototypes a class
"""

from collections.abc import Sequence

from clip.vit import VisionTransformer

from .classes import BELIEVED
from .drop import number_kept

PIXEL_CHANNELS = 3


class Cost:
    """Of looks of an image encoder, and of the answers made of them."""

    def __init__(self, visual: VisionTransformer, classes: int, prototypes: int, more: Sequence[int] = ()):
        """more: how many learned tokens a host has in each of the first blocks; those of the last of these go on through the others."""
        blocks = visual.transformer.resblocks
        self.D, self.d, self.layers = visual.transformer.width, visual.output_dim, len(blocks)
        self.hidden = blocks[0].mlp.c_fc.out_features
        self.patch = visual.conv1.stride[0]
        self.side = visual.input_resolution // self.patch
        self.C, self.K = classes, prototypes
        self.more = (*more, *[more[-1] if more else 0] * (self.layers - len(more)))
        plain = sum(self._block(1 + self.side**2) for _ in blocks)
        self.unit = self._patches(self.side) + plain + self.D * self.d + self.C * self.d

    def look(self, side: int, keep: float = 1.0, after: Sequence[int] = (), tokens: bool = False) -> float:
        """The encoder on an image of side x side patches, of which a share `keep` is left behind each block of `after`
        (counted from 0), with a map behind the first of them; the last block for the class token alone unless `tokens`.
        """
        N, total, folds = side**2, self._patches(side), 0
        for i in range(self.layers):
            L = 1 + N + folds + self.more[i]
            alone = i + 1 == self.layers and not tokens
            total += self._block(L, rows=1 if alone else L)
            if i in after and number_kept(N, keep) < N:
                total += N * self.D + N * self.D  # the probe's scores, and the fold
                N, folds = number_kept(N, keep), 1
        return (total + (1 + N if tokens else 1) * self.D * self.d) / self.unit

    def map(self, at: int) -> float:
        """The class token's attention in block `at`, before any drop: that block's keys and one query."""
        L = 1 + self.side**2 + self.more[at - 1]
        return (L * self.D * (self.D + 1) + self.D**2) / self.unit

    def glance(self, at: int) -> float:
        """The blocks before block `at`, and the map."""
        before = sum(self._block(1 + self.side**2 + more) for more in self.more[:at])
        return (self._patches(self.side) + before) / self.unit + self.map(at)

    def answer(self, looks: int = 1, tokens: int = 0) -> float:
        """The head on the class tokens of so many looks, and on so many patch tokens of the first."""
        total = looks * (self.d**2 + self.C * self.d)
        if tokens:  # belief and its text, products with 3 + c K directions, the bank's ridge over three parts
            products = tokens * self.d * (3 + min(BELIEVED, self.C) * self.K)
            total += 2 * self.C * self.d + products + self.C * self.K * self.d + 2 * self.d**2
        return total / self.unit

    def _patches(self, side: int) -> int:
        return side**2 * PIXEL_CHANNELS * self.patch**2 * self.D

    def _block(self, L: int, rows: int | None = None) -> int:
        """Of L tokens, `rows` of which are wanted: keys and values of all, the rest for those."""
        rows = L if rows is None else rows
        own = 2 * self.D**2 + 2 * L * self.D + 2 * self.D * self.hidden  # query, joined heads, attention, MLP
        return 2 * L * self.D**2 + rows * own
