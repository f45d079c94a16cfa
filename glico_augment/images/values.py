"""Tensors of pixel values: their range, dtype, size and channels."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

COLOUR_CHANNELS = (1, 2, 3, 4)
"""Grey, grey and alpha, RGB, RGBA: what can be converted into one another, and what a last dimension is read as."""

# Resampling and compression leave values a little outside [0, 1]; normalised images go far outside.
_TOLERANCE = 0.05

REMEDY = (
    "Augmentation works on plain images: put normalisation after it (in the transform given to wrap(), or behind "
    "GLICOAugment and LocalStyle in the pipeline)"
)


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize ``(k, C, H, W)`` images to ``(height, width)``, bilinear with antialiasing; uint8 stays uint8."""
    if images.shape[-2:] == size:
        return images
    if size[1] == 1 < size[0]:  # all rows of a single column come out alike, those of a row do not
        return resize(images.mT, (1, size[0])).mT
    # Elsewhere torch has no such kernel for bytes, and it fails at a single pixel.
    if images.dtype == torch.uint8 and images.device.type == "cpu" and size != (1, 1):
        return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
    resized = F.interpolate(images.float(), size, mode="bilinear", align_corners=False, antialias=True)
    return resized.round_().clamp_(0, 255).to(torch.uint8) if images.dtype == torch.uint8 else resized


def to_unit(tensor: Tensor) -> Tensor:
    """uint8, uint16 or float values to float32 in ``[0, 1]``."""
    if tensor.is_floating_point():
        return tensor.float().clamp(0, 1)
    return tensor.float().div_(torch.iinfo(tensor.dtype).max)


def from_unit(unit: Tensor, dtype: torch.dtype) -> Tensor:
    """Float values in ``[0, 1]`` to ``dtype``: its whole range for uint8 and uint16, ``[0, 1]`` for floats."""
    if dtype.is_floating_point:
        return unit.to(dtype)
    return round_to(unit.float() * torch.iinfo(dtype).max, dtype)


def round_to(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Floats, which are changed, to the nearest integers of uint8 or uint16."""
    values.round_().clamp_(0, torch.iinfo(dtype).max)
    return values.to(torch.int32).to(dtype)  # uint16 has few kernels, and uint8 a slow one


def check_dtype(tensor: Tensor) -> None:
    """Raise TypeError unless the dtype says what value is white."""
    if not (tensor.is_floating_point() or tensor.dtype in (torch.uint8, torch.uint16)):
        raise TypeError(f"image values must be uint8, uint16 or floating point in [0, 1]; got {tensor.dtype}")


def check_values(tensor: Tensor) -> None:
    """Raise ValueError for float images that are NaN or outside ``[0, 1]``. Reads the values: synchronises a GPU."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return
    low, high = (value.item() for value in torch.aminmax(tensor))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("image has NaN or infinite pixels")
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        raise ValueError(
            f"float images must lie in [0, 1]; got values from {low:.3g} to {high:.3g}, as of a normalised image or "
            f"one in [0, 255]. {REMEDY}"
        )


def common_channels(found: Collection[int]) -> int:
    """The channels in which the images of a set are read.

    Args:
        found: the channels of its images.

    Returns:
        Their own where all have as many; else those of RGB: grey is repeated, and transparency left out. The most
        where some have more than four, which the others cannot be brought to.
    """
    return max(found) if len(set(found)) == 1 or max(found) > max(COLOUR_CHANNELS) else 3


def as_type_of(tensor: Tensor, template: Tensor) -> Tensor:
    """A tensor as the subclass of another, ``tv_tensors.Image`` or that of any library, with copies of its attributes.

    Libraries choose what to do by the type; without it they pass a synthetic image over.
    """
    if type(template) in (Tensor, nn.Parameter):
        return tensor
    made = tensor.as_subclass(type(template))
    made.__dict__.update(attributes_of(template))
    return made


def attributes_of(image: Any) -> dict[str, Any]:
    """What an instance of a subclass holds beside its pixels, its lists and mappings copied."""
    held = vars(image).items()
    return {name: copy.copy(value) if isinstance(value, (dict, list, set)) else value for name, value in held}


def like_shape(unit_images: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Bring float images ``(k, C, H, W)`` in ``[0, 1]`` to the channels and size of ``shape``, ``(C, H, W)``."""
    images = with_channels(unit_images, shape[-3])
    return resize(images, (shape[-2], shape[-1]))


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Convert between grey (1), grey and alpha (2), RGB (3) and RGBA (4)."""
    found = images.shape[1]
    if found == channels:
        return images
    if not (found in COLOUR_CHANNELS and channels in COLOUR_CHANNELS):
        raise ValueError(
            f"images have {channels} channels but GLICO was fitted on {found}: fit on images like those it will swap"
        )
    colour = images if found in (1, 3) else images[:, :-1]
    alpha = torch.ones_like(images[:, :1]) if found in (1, 3) else images[:, -1:]
    if channels in (1, 2) and colour.shape[1] == 3:
        colour = 0.299 * colour[:, :1] + 0.587 * colour[:, 1:2] + 0.114 * colour[:, 2:]  # ITU-R BT.601, as PIL
    elif channels in (3, 4):
        colour = colour.expand(-1, 3, -1, -1)
    return colour if channels in (1, 3) else torch.cat([colour, alpha], dim=1)


def promote_channels(images: Tensor, channels: int) -> Tensor:
    """uint8 ``(k, C, H, W)`` to another number of channels among 1 to 4."""
    if images.shape[1] == channels:
        return images
    return from_unit(with_channels(to_unit(images), channels), torch.uint8)


def bring(image: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A float or uint8 image with the shape and dtype asked for, itself if it has them."""
    if image.dtype == dtype == torch.uint8 and image.shape == shape:
        return image
    if dtype == torch.uint8:  # resized as bytes, several times as fast
        pixels = image if image.dtype == torch.uint8 else from_unit(image, torch.uint8)
        return resize(promote_channels(pixels[None], shape[0]), (shape[1], shape[2]))[0]
    return from_unit(like_shape(to_unit(image)[None], shape)[0], dtype)


def replace_rows(images: Tensor, rows: Tensor, synthetic: Tensor, is_wanted: Tensor) -> Tensor:
    """A copy of ``images``, ``(k, C, H, W)``, with those of ``rows`` replaced by ``synthetic`` where ``is_wanted``."""
    if images.dtype == torch.uint16:  # which torch cannot index
        replaced = replace_rows(images.view(torch.int16), rows, synthetic.view(torch.int16), is_wanted)
        return replaced.view(torch.uint16)
    chosen = torch.where(is_wanted.view(-1, 1, 1, 1), synthetic, images[rows])
    return images.clone().index_copy_(0, rows, chosen)
