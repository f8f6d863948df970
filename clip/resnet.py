"""CLIP's residual networks: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, as CLIP changed them.

B images      D width      d joint width      h x w places of the last layer
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from .edits import Edits
from .errors import InputError, check_images


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1; a stride is an average pooling before the last, so that nothing is aliased."""

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int = 1):
        super().__init__()
        out = planes * self.expansion
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu2 = nn.ReLU(inplace=True)
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(planes, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.relu3 = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or inplanes != out:
            conv = nn.Conv2d(inplanes, out, 1, bias=False)
            self.downsample = nn.Sequential(
                OrderedDict([("-1", nn.AvgPool2d(stride)), ("0", conv), ("1", nn.BatchNorm2d(out))])
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.avgpool(self.relu2(self.bn2(self.conv2(out))))
        out = self.bn3(self.conv3(out))
        return self.relu3(out + (x if self.downsample is None else self.downsample(x)))


class AttentionPool2d(nn.Module):
    """Attention of the mean feature over all places, as the last layer of the residual network."""

    def __init__(self, spacial_dim: int, embed_dim: int, num_heads: int, output_dim: int):
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(spacial_dim**2 + 1, embed_dim) / embed_dim**0.5)
        self.k_proj = nn.Linear(embed_dim, embed_dim)
        self.q_proj = nn.Linear(embed_dim, embed_dim)
        self.v_proj = nn.Linear(embed_dim, embed_dim)
        self.c_proj = nn.Linear(embed_dim, output_dim)
        self.num_heads = num_heads

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, d)"""
        x = x.flatten(2).transpose(1, 2)  # (B, hw, D)
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1)  # (B, 1 + hw, D)
        x = x + self.positional_embedding.to(x.dtype)
        heads = lambda y: y.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, L, D / heads)  # noqa: E731
        out = F.scaled_dot_product_attention(heads(self.q_proj(x[:, :1])), heads(self.k_proj(x)), heads(self.v_proj(x)))
        return self.c_proj(out.transpose(1, 2).flatten(1))


class ModifiedResNet(nn.Module):
    """ResNet with three convolutions in its stem, anti-aliased strides and an attention pool."""

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(
        self, layers: Sequence[int], output_dim: int, heads: int, input_resolution: int = 224, width: int = 64
    ):
        super().__init__()
        self.output_dim, self.input_resolution = output_dim, input_resolution
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.relu3 = nn.ReLU(inplace=True)
        self.avgpool = nn.AvgPool2d(2)
        inplanes = width
        for stage, blocks in enumerate(layers):
            planes, stride = width * 2**stage, 1 if stage == 0 else 2
            first = Bottleneck(inplanes, planes, stride)
            inplanes = planes * Bottleneck.expansion
            setattr(
                self,
                f"layer{stage + 1}",
                nn.Sequential(first, *(Bottleneck(inplanes, planes) for _ in range(1, blocks))),
            )
        self.attnpool = AttentionPool2d(input_resolution // 32, width * 32, heads, output_dim)

    def forward(self, image: Tensor, edits: Edits = (), tokens: bool = False) -> Tensor:
        """image (B, 3, H, W) -> (B, d)"""
        if edits or tokens:
            raise InputError(
                "A residual network has no visual tokens to edit or return: choose a ViT backbone, such as ViT-B/16."
            )
        check_images(image, self.input_resolution)
        x = image.to(self.conv1.weight.dtype)
        for conv, norm, relu in (
            (self.conv1, self.bn1, self.relu1),
            (self.conv2, self.bn2, self.relu2),
            (self.conv3, self.bn3, self.relu3),
        ):
            x = relu(norm(conv(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.avgpool(x)))))  # (B, 32 width, H/32, W/32)
        return self.attnpool(x)
