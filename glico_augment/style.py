"""The style of an image, its local brightness and contrast, and the transfer of style between images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

GRID = 3
"""Cells a side in which the style of an image is taken."""

_LEAST_STD = 0.02  # of an image that is given a style: flat cells would turn their noise into contrast


def style_of(images: Tensor) -> Tensor:
    """Mean and standard deviation of each channel in each cell of a 3×3 grid.

    Args:
        images: ``(k, channels, height, width)`` floats in ``[0, 1]``.

    Returns:
        ``(k, 2, channels, rows, columns)``, means before standard deviations. There are fewer than 3 rows or columns
        where an image has fewer pixels.
    """
    rows, columns = (_cells(side, images) for side in images.shape[-2:])
    sizes = rows.sum(dim=1)[:, None] * columns.sum(dim=1)

    def average(values: Tensor) -> Tensor:
        return rows @ values @ columns.T / sizes

    with torch.autocast(images.device.type, enabled=False):  # a variance is a small difference of large numbers
        means = average(images)
        variances = average(images.square()) - means.square()
    return torch.stack([means, variances.clamp(min=0).sqrt()], dim=1)


def _cells(side: int, like: Tensor) -> Tensor:
    """The matrix of ones and zeros that adds ``side`` pixels into cells; a pixel on a border counts in both cells."""
    count = min(GRID, side)
    pixels, cells = torch.arange(side, device=like.device), torch.arange(count, device=like.device)[:, None]
    return ((pixels * count < (cells + 1) * side) & ((pixels + 1) * count > cells * side)).to(like.dtype)


def transfer_style(images: Tensor, styles: Tensor, ratios: Tensor) -> Tensor:
    """Images whose style is moved towards another, ``s`` of the way.

    Means and standard deviations are matched as in the colour transfer of Reinhard et al. (2001), channel by channel
    but locally, and mixed at a random ratio as the statistics of features are by MixStyle (Zhou et al., ICLR 2021).
    What happens between the centres of cells is interpolated. The last of 2 or 4 channels is transparency, and stays.

    Args:
        images: ``(k, channels, height, width)`` floats in ``[0, 1]``.
        styles: ``(k, 2, channels, rows, columns)``, those of :func:`style_of`.
        ratios: ``(k,)`` ``s`` in ``[0, 1]``.

    Returns:
        Images of the same shape, clamped to ``[0, 1]``.
    """
    means, stds = style_of(images).unbind(1)
    other_means, other_stds = styles.unbind(1)
    ratios = ratios.view(-1, 1, 1, 1)
    stds = stds.clamp(min=_LEAST_STD)
    gains = torch.lerp(stds, other_stds, ratios) / stds
    shifts = torch.lerp(means, other_means, ratios) - gains * means
    if images.shape[1] in (2, 4):
        gains[:, -1], shifts[:, -1] = 1, 0
    size = (images.shape[-2], images.shape[-1])
    maps = F.interpolate(torch.cat([gains, shifts], dim=1), size, mode="bilinear", align_corners=False)
    gains, shifts = maps.chunk(2, dim=1)
    return torch.addcmul(shifts, gains, images).clamp_(0, 1)
