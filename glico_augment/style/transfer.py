"""The style of an image, its local brightness and contrast, and the transfer of style between images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from glico_augment.images.values import with_channels

GRID = 3
"""Cells per side in which the style of an image is taken, unless another number is asked for."""

_MIN_STD = 0.02  # of an image that is given a style: flat cells would turn their noise into contrast


def style_of(images: Tensor, grid: int = GRID) -> Tensor:
    """Mean and standard deviation of each channel in each cell of a ``grid × grid`` grid.

    Args:
        images: ``(k, channels, height, width)`` floats in ``[0, 1]``.
        grid: cells per side, at least 1. Where an image has fewer pixels per side, neighbouring cells share pixels.

    Returns:
        ``(k, 2, channels, grid, grid)``, means in ``[0, 1]`` before standard deviations in ``[0, 0.5]``.
    """
    rows, columns = (_cells(side, grid, images) for side in images.shape[-2:])
    sizes = rows.sum(dim=1)[:, None] * columns.sum(dim=1)

    def average(values: Tensor) -> Tensor:
        return rows @ values @ columns.T / sizes

    with torch.autocast(images.device.type, enabled=False):  # a variance is a small difference of large numbers
        means = average(images)
        variances = average(images.square()) - means.square()
    return torch.stack([means, variances.clamp(min=0).sqrt()], dim=1)


def _cells(side: int, grid: int, like: Tensor) -> Tensor:
    """The matrix of ones and zeros that adds ``side`` pixels into cells; a pixel on a border counts in both cells."""
    pixels, cells = torch.arange(side, device=like.device), torch.arange(grid, device=like.device)[:, None]
    return ((pixels * grid < (cells + 1) * side) & ((pixels + 1) * grid > cells * side)).to(like.dtype)


def transfer_style(images: Tensor, styles: Tensor, ratios: Tensor) -> Tensor:
    """Images whose style is moved towards another, ``s`` of the way.

    Means and standard deviations are matched as in the colour transfer of Reinhard et al. (2001), channel by channel
    but locally, and mixed at a random ratio as the statistics of features are by MixStyle (Zhou et al., ICLR 2021).
    What happens between the centres of cells is interpolated. The last of 2 or 4 channels is transparency, and stays.
    A contrast below 0.02 is taken for noise and not amplified to the other's. Gradients reach the images with their
    style as a constant, as in MixStyle.

    Args:
        images: ``(k, channels, height, width)`` floats in ``[0, 1]``.
        styles: ``(k, 2, channels, grid, grid)``, those of :func:`style_of`; the grid is theirs.
        ratios: ``(k,)`` ``s`` in ``[0, 1]``.

    Returns:
        Images of the same shape, clamped to ``[0, 1]``.
    """
    means, stds = style_of(images.detach(), styles.shape[-1]).unbind(1)
    other_means, other_stds = styles.unbind(1)
    ratios = ratios.view(-1, 1, 1, 1)
    gains = 1 + ratios * (other_stds - stds) / stds.clamp(min=_MIN_STD)
    shifts = torch.lerp(means, other_means, ratios) - gains * means
    if images.shape[1] in (2, 4):
        gains[:, -1], shifts[:, -1] = 1, 0
    size = (images.shape[-2], images.shape[-1])
    maps = F.interpolate(torch.cat([gains, shifts], dim=1), size, mode="bilinear", align_corners=False)
    gains, shifts = maps.chunk(2, dim=1)
    return torch.addcmul(shifts, gains, images).clamp_(0, 1)


def match_channels(styles: Tensor, channels: int) -> Tensor:
    """Styles for images of another number of channels among 1 to 4: grey, grey and alpha, RGB, RGBA.

    They are those of the converted images; but where colour becomes grey, the standard deviation is the one there
    would be if the three channels rose and fell together, as those of photographs nearly do.

    Args:
        styles: ``(k, 2, c, grid, grid)``, those of :func:`style_of`.
        channels: wanted instead of ``c``.

    Returns:
        ``(k, 2, channels, grid, grid)``.

    Raises:
        ValueError: if either number is not among 1 to 4 and they differ.
    """
    found = styles.shape[2]
    if found == channels:
        return styles
    means, stds = (with_channels(part, channels) for part in styles.unbind(1))
    if channels in (2, 4) and found in (1, 3):
        stds[:, -1] = 0  # of an alpha that is 1 everywhere
    return torch.stack([means, stds], dim=1)
