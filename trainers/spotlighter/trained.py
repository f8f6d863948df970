"""What the head trains: 21 scalars, and with `HEAD: full` the mapping modules of the paper's framework figure.

B images      C classes      d joint width      K prototypes a class      R tokens kept by the head
"""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


def unit(x: Tensor) -> Tensor:
    """Rows of length one."""
    return F.normalize(x, dim=-1)


class Scalars(nn.Module):
    """The 21 trained numbers, named as in the equations below."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.ones(2))  # weights of the sample-wise and the semantic-wise activation
        self.rho = nn.Parameter(torch.zeros(5))  # a bonus for each rank; ranks beyond the fifth share the last
        self.gamma = nn.Parameter(torch.zeros(3))  # how much of level 1, level 2 and both joins the feature
        self.omega = nn.Parameter(torch.tensor([1.0, 0.5, 0.5]))  # class token, level 1, level 2 in the bank's kernel
        self.alpha = nn.Parameter(torch.tensor(0.5))  # how much of the bank's map joins the feature
        self.g = nn.Parameter(torch.tensor(0.5))  # share of the mean taken from image and text features
        self.g_v = nn.Parameter(torch.tensor(1.0))  # the same for tokens
        self.b = nn.Parameter(torch.tensor(0.5))  # weight of the zero-shot anchor
        self.log_lambda = nn.Parameter(torch.tensor(10.0).log())  # ridge of the bank's map
        self.tau_w = nn.Parameter(torch.tensor(1.0))  # temperature of the weights within a level
        self.tau_b = nn.Parameter(torch.tensor(0.1))  # temperature of carrying over to classes never seen
        self.delta = nn.Parameter(torch.tensor(-0.7))  # log factor on the logit scale


class Mapping(nn.Module):
    """`HEAD: full`, the mapping modules of the paper's framework figure, for comparison with published numbers.

    Image side: the image's prototypes ask its kept tokens (cross-attention), then a transformer layer. Text side: a
    linear layer over [prototype, text] with a residual to the prototype. What both agree on joins the logits.
    """

    def __init__(self, width: int):
        super().__init__()
        heads = max(1, width // 64)
        self.cross = nn.MultiheadAttention(width, heads, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.text = nn.Linear(2 * width, width)
        self.beta = nn.Parameter(torch.tensor(0.1))  # its share in the logits

    def forward(self, believed: Tensor, tokens: Tensor, text: Tensor, prototypes: Tensor) -> Tensor:
        """Cosines (B, C) of images, by the prototypes (B, K, d) that they believe in and their kept tokens (B, R, d),
        with classes, by their text (C, d) and prototypes (C, K, d).
        """
        image = unit(self.of_image(believed, tokens).mean(dim=1))  # (B, d)
        text = unit(self.of_text(prototypes.mean(dim=1), text))  # (C, d)
        return self.beta * image @ text.t()

    def of_image(self, believed: Tensor, tokens: Tensor) -> Tensor:
        """Representative tokens (B, K, d), of prototypes (B, K, d) and tokens (B, R, d)."""
        asked, _ = self.cross(believed, tokens, tokens, need_weights=False)  # (B, K, d)
        return self.layer(believed + asked)

    def of_text(self, prototypes: Tensor, text: Tensor) -> Tensor:
        """Representative tokens (..., d), of prototypes and texts (..., d)."""
        return prototypes + self.text(torch.cat([prototypes, text], dim=-1))
