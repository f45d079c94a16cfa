"""How a fitted image is recognised, and how a set of images is told from another."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from glico_augment.images.convert import to_uint8
from glico_augment.images.values import COLOUR_CHANNELS, promote_channels

_MODES = {1: "L", 3: "RGB"}
_MAX_GRID = 64  # pixels per side


def digest(image: Any, channels: int) -> int:
    """64-bit BLAKE2 hash of an image's size and of the pixels on a grid of at most 64 × 64, as a signed integer.

    Equal for an image however it was read: grey as one channel or as three equal ones, as a PIL image, an array or a
    tensor of bytes. Images of more than 64 pixels per side that differ off the grid alone share it.

    Args:
        image: what :func:`to_uint8` takes, and with its errors.
        channels: those of the fit, which the pixels are brought to; others than grey and colour keep their own.
    """
    if isinstance(image, PIL.Image.Image) and image.mode == _MODES.get(channels) and 0 not in image.size:
        # The most frequent case: its bytes are hashed as they are.
        grid = (min(image.width, _MAX_GRID), min(image.height, _MAX_GRID))
        pixels = image.resize(grid, PIL.Image.Resampling.NEAREST).tobytes()
        return _hashed((channels, image.height, image.width), pixels)
    return _hash(*_on_grid(image), channels)


def digests(image: Any) -> dict[int, int]:
    """The :func:`digest` of an image by channels: in each of 1 to 4, and in its own."""
    pixels, size = _on_grid(image)
    return {channels: _hash(pixels, size, channels) for channels in {*COLOUR_CHANNELS, len(pixels)}}


def fingerprint(digests: Tensor, labels: Tensor) -> str:
    """32 hexadecimal digits over digests and labels, in order."""
    hasher = hashlib.blake2b(digest_size=16)
    for values in (digests, labels):
        hasher.update(values.cpu().numpy().astype("<i8").tobytes())
    return hasher.hexdigest()


def _on_grid(image: Any) -> tuple[Tensor, tuple[int, int]]:
    """The pixels of an image on the grid, uint8 ``(channels, rows, columns)``, and its height and width."""
    if isinstance(image, PIL.Image.Image) and image.mode in ("L", "RGB"):
        # Nearest neighbour takes the pixels of the grid, so that no more than these are converted.
        grid = (min(image.width, _MAX_GRID), min(image.height, _MAX_GRID))
        return to_uint8(image.resize(grid, PIL.Image.Resampling.NEAREST)), (image.height, image.width)
    pixels = to_uint8(image)
    height, width = pixels.shape[1:]
    if max(height, width) > _MAX_GRID:
        pixels = torch.from_numpy(pixels.numpy()[:, _grid(height)][:, :, _grid(width)])
    return pixels, (height, width)


@functools.cache
def _grid(side: int) -> np.ndarray:
    """The pixels that PIL's nearest neighbour takes of ``side``."""
    count = min(side, _MAX_GRID)
    return (2 * np.arange(count) + 1) * side // (2 * count)


def _hash(pixels: Tensor, size: tuple[int, int], channels: int) -> int:
    if {len(pixels), channels} <= set(COLOUR_CHANNELS):
        pixels = promote_channels(pixels[None], channels)[0]
    return _hashed((len(pixels), *size), pixels.permute(1, 2, 0).contiguous().numpy())


def _hashed(shape: tuple[int, int, int], pixels: Any) -> int:
    hasher = hashlib.blake2b(b"%d %d %d " % shape, digest_size=8)
    hasher.update(pixels)
    return int.from_bytes(hasher.digest(), "big", signed=True)
