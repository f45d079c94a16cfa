"""The styles of a set of images: read from a dataset, or checked when they come from a file."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from glico_augment.data.image_set import check_dataset
from glico_augment.data.sources import as_images
from glico_augment.images import convert, values
from glico_augment.style.transfer import match_channels, style_of


def read_styles(dataset: Any, grid: int) -> Tensor:
    """The styles of a dataset's images, each read once.

    Args:
        dataset: map-style, of images as :func:`convert.to_float` takes them, or of tuples that begin with one.
        grid: cells a side, at least 1.

    Returns:
        ``(n, 2, channels, grid, grid)`` float32 on the CPU, with the channels of the image that has most.

    Raises:
        TypeError: unless it is map-style and yields images; the message names the index.
        ValueError: if it is empty, or for an image that cannot be read, is smaller than the grid, or has channels
            that cannot be matched; the message names the index.
    """
    dataset = as_images(dataset)
    check_dataset(dataset, "dataset")
    styles = [_read_style(dataset, index, grid) for index in range(len(dataset))]
    most = max(style.shape[2] for style in styles)
    for index, style in enumerate(styles):
        if style.shape[2] != most and most > max(values.COLOUR_CHANNELS):
            raise ValueError(f"image {index} has {style.shape[2]} channels, another has {most}: make sets of one kind")
    return torch.cat([match_channels(style, most) for style in styles])


def _read_style(dataset: Any, index: int, grid: int) -> Tensor:
    """The style of one image, ``(1, 2, channels, grid, grid)``."""
    try:
        sample = dataset[index]
        pixels = convert.to_float(sample[0] if isinstance(sample, (tuple, list)) and sample else sample).cpu()
    except (TypeError, ValueError, OSError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"image {index} could not be read: {error}") from error
    height, width = pixels.shape[-2:]
    if min(height, width) < grid:
        raise ValueError(
            f"image {index} is {height} × {width} pixels, too small for its style to be taken in {grid} × {grid} "
            "cells: leave it out, or lower grid"
        )
    return style_of(pixels[None], grid)


def check_styles(styles: Tensor) -> Tensor:
    """The ``styles`` of a file.

    Raises:
        ValueError: unless they may be those of images.
    """
    if styles.dtype != torch.float32 or styles.ndim != 5 or 0 in styles.shape or styles.shape[1] != 2:
        raise ValueError(
            f"its styles must be float32 (n, 2, channels, grid, grid); got {styles.dtype} {tuple(styles.shape)}"
        )
    if styles.shape[3] != styles.shape[4]:
        raise ValueError(f"its styles must have as many rows as columns; got {styles.shape[3]} and {styles.shape[4]}")
    means, stds = styles.unbind(1)
    is_style = (means >= 0) & (means <= 1 + _ROUNDING) & (stds >= 0) & (stds <= 0.5 + _ROUNDING)  # false for NaN
    if not bool(is_style.all()):
        raise ValueError("its styles must be means in [0, 1] and standard deviations in [0, 0.5]")
    return styles


_ROUNDING = 1e-4  # of a mean or standard deviation of many float32 values
