"""Looking again: windows around the strongest activation of an image, cut out at the size that the encoder takes.

Nothing is learned here. Places and widths are shares of the image's side, (x, y) from its upper left corner.

    B images      G x G the grid of patches      Z windows of an image
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

APART = 0.25  # two windows' peaks are at least this far from each other
FINE, PEAK = 8, 2  # steps of a peak's place on a patch's side; patches along the side of the square whose mean it is
ZOOM_WIDTHS = (0.5, 0.625, 0.75)  # of a region, as shares of the image's side, to choose from


class Zoom(NamedTuple):
    """Where and how the second look goes."""

    map: int  # which of `AttentionMaps.maps`
    width: float  # of a region, as a share of the image's side
    count: int  # Z
    share: float  # of the second look in the logits


def grid_places(side: int, device=None) -> Tensor:
    """(G * G, 2) the centres (x, y) of the patches."""
    axis = (torch.arange(side, device=device) + 0.5) / side
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y], dim=-1).flatten(0, 1)


def window_centres(activation: Tensor, count: int) -> Tensor:
    """Where to look again: centres (B, Z, 2), strongest first, given an activation (B, G * G), NaN where unknown.

    A peak is the largest mean over 3 x 3 patches; its window is centred on the patches around it, weighted by their
    activation's softmax. The next peak is at least `APART` away.
    """
    side = round(activation.shape[1] ** 0.5)
    places = grid_places(side, activation.device)
    known = ~activation.isnan()
    activation = activation.nan_to_num(0.0).masked_fill(~known, 0.0).float()
    around = lambda x: F.avg_pool2d(x.float().view(-1, 1, side, side), 3, 1, 1).flatten(1)  # noqa: E731
    peaks = around(activation) / around(known).clamp_min(1e-6)  # (B, G * G) means of what is known
    peaks = peaks.masked_fill(around(known) == 0, -torch.inf)
    centres = []
    for _ in range(count):
        top = places[peaks.argmax(dim=1)]  # (B, 2)
        near = ((places - top[:, None]).abs().amax(dim=-1) < 1.5 / side) & known  # (B, G * G)
        centre = activation.masked_fill(~near, -1e4).softmax(dim=1) @ places  # (B, 2)
        centres.append(centre)
        peaks = peaks.masked_fill((places - centre[:, None]).norm(dim=-1) < APART, -torch.inf)
    return torch.stack(centres, dim=1)


def peaks(activation: Tensor, count: int) -> Tensor:
    """Where to look again: centres (B, Z, 2), strongest first, given an activation (B, G * G) that is known everywhere.

    A peak may lie between patches: it is the largest mean over `PEAK` of a patch's side, of the activation interpolated
    bicubically. The next one is at least `APART` away.
    """
    side = round(activation.shape[1] ** 0.5)
    fine = F.interpolate(
        activation.float().view(-1, 1, side, side), scale_factor=FINE, mode="bicubic", align_corners=False
    )
    wide = PEAK * FINE // 2  # (B, 1, FINE G, FINE G)
    for size, pad in (
        ((2 * wide + 1, 1), (wide, 0)),
        ((1, 2 * wide + 1), (0, wide)),
    ):  # down, then across: far fewer sums
        fine = F.avg_pool2d(fine, size, 1, pad, count_include_pad=False)
    means = fine.flatten(1)
    places = grid_places(side * FINE, activation.device)
    centres = []
    for _ in range(count):
        centres.append(places[means.argmax(dim=1)])  # (B, 2)
        means = means.masked_fill((places - centres[-1][:, None]).norm(dim=-1) < APART, -torch.inf)
    return torch.stack(centres, dim=1)


def inside(centres: Tensor, width: float) -> Tensor:
    """The centres (..., 2), moved so that windows of that width lie within the image."""
    return centres.clamp(width / 2, 1 - width / 2)


def cut(images: Tensor, centres: Tensor, width: float, pixels: int = 0) -> Tensor:
    """images (B, 3, H, W), centres (B, Z, 2) -> windows (B * Z, 3, H, W), the Z of one image next to each other; of so many
    `pixels` along a side, or of the images' own.
    """
    B, Z, _ = centres.shape
    transform = torch.zeros(B * Z, 2, 3, device=images.device)
    transform[:, 0, 0] = transform[:, 1, 1] = width
    transform[:, :, 2] = 2 * inside(centres, width).flatten(0, 1) - 1
    size = (B * Z, 3, pixels, pixels) if pixels else (B * Z, *images.shape[1:])
    grid = F.affine_grid(transform, size, align_corners=False)  # (B Z, H, W, 2), in fp32: half a pixel counts
    repeated = images[:, None].expand(-1, Z, -1, -1, -1).flatten(0, 1).float()  # (B Z, 3, H, W)
    windows = F.grid_sample(repeated, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return windows.to(images.dtype)
