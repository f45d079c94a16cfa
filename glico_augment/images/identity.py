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

_GLIMPSE_SIDE = 16


def glimpse(image: Any) -> int:
    """64-bit hash of an image's size and of up to 16 × 16 of its pixels, on a grid, as a signed integer.

    Equal for an image of any kind and its canonical form, and at any size as cheap as for a small one where the image
    is a grey or RGB PIL image or a uint8 tensor. Images that differ off the grid alone share it.
    """
    if isinstance(image, PIL.Image.Image) and image.mode in ("L", "RGB"):
        shape = (len(image.mode), image.height, image.width)
        grid = (min(image.width, _GLIMPSE_SIDE), min(image.height, _GLIMPSE_SIDE))
        pixels = image.resize(grid, PIL.Image.Resampling.NEAREST).tobytes()
    else:
        is_canonical = isinstance(image, Tensor) and image.dtype == torch.uint8 and image.ndim == 3
        canonical = (image.as_subclass(Tensor).cpu() if is_canonical else to_uint8(image)).numpy()
        shape = canonical.shape
        pixels = canonical[:, _grid(shape[1])[:, None], _grid(shape[2])].transpose(1, 2, 0).tobytes()
    hasher = hashlib.blake2b(b"%d %d %d " % shape, digest_size=8)
    hasher.update(pixels)
    return int.from_bytes(hasher.digest(), "big", signed=True)


@functools.cache
def _grid(side: int) -> np.ndarray:
    """The pixels that PIL's nearest neighbour takes of ``side``."""
    count = min(side, _GLIMPSE_SIDE)
    return (2 * np.arange(count) + 1) * side // (2 * count)


def digest(image: Tensor) -> int:
    """64-bit BLAKE2 hash of a canonical image's shape and pixels, as a signed integer."""
    hasher = hashlib.blake2b(repr(tuple(image.shape)).encode(), digest_size=8)
    hasher.update(image.contiguous().numpy())  # type: ignore[arg-type]
    return int.from_bytes(hasher.digest(), "big", signed=True)


def fingerprint(digests: Tensor, labels: Tensor) -> str:
    """32 hexadecimal digits over digests and labels, in order."""
    hasher = hashlib.blake2b(digest_size=16)
    for values in (digests, labels):
        hasher.update(values.cpu().numpy().astype("<i8").tobytes())
    return hasher.hexdigest()
