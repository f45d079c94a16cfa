"""Images of every kind a dataset yields, to one canonical form and back.

The canonical form is a uint8 tensor ``(channels, height, width)``. Synthetic images come as float tensors in
``[0, 1]`` and are returned in the type, dtype, value range, size and channels of a real image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torchvision import tv_tensors

from glico_augment.images import pil
from glico_augment.images.values import COLOUR_CHANNELS, bring, check_dtype, check_values, from_unit, to_unit


def to_uint8(image: Any) -> Tensor:
    """Bring an image to the canonical form, uint8 ``(channels, height, width)``.

    Args:
        image: PIL image (1, L, LA, P, PA, RGB, RGBA, CMYK, YCbCr, HSV, 16-bit or float grey); tensor or tv_tensor
            ``(C, H, W)`` or ``(H, W)``; array ``(H, W, C)``, ``(C, H, W)`` or ``(H, W)``. Tensors and arrays are
            uint8, uint16 or floating point in ``[0, 1]``.

    Raises:
        TypeError, ValueError: for anything else, and for values that are NaN or out of range.
    """
    if isinstance(image, PIL.Image.Image):
        return pil.to_uint8(image)
    tensor = _check_tensor(image)
    tensor = tensor if tensor.dtype == torch.uint8 else from_unit(to_unit(tensor), torch.uint8)
    return tensor.cpu()


def to_float(image: Any) -> Tensor:
    """Bring an image to ``(channels, height, width)`` float32 in ``[0, 1]``, on its device, at its own precision.

    Takes what :func:`to_uint8` takes, and raises its errors; 16-bit images keep their 16 bits.
    """
    return pil.to_float(image) if isinstance(image, PIL.Image.Image) else to_unit(_check_tensor(image))


def size_of(image: Any) -> tuple[int, int]:
    """``(height, width)`` of an image that :func:`to_uint8` takes."""
    if isinstance(image, PIL.Image.Image):
        return image.height, image.width
    height, width = _check_tensor(image).shape[-2:]
    return height, width


def check_image(image: Any) -> None:
    """Raise the errors of :func:`to_uint8`, without converting a PIL image."""
    if not isinstance(image, PIL.Image.Image):
        _check_tensor(image)
    else:
        pil.check_mode(image)


def _check_tensor(image: Any) -> Tensor:
    """A tensor or array as a checked tensor ``(C, H, W)``."""
    if isinstance(image, np.ndarray):
        tensor = _array_to_tensor(image)
    elif isinstance(image, Tensor):
        tensor = image.as_subclass(Tensor).detach()
    else:
        raise TypeError(f"an image must be a PIL image, a tensor or an array; got {type(image).__name__}")
    if tensor.ndim == 2:
        tensor = tensor.unsqueeze(0)
    if tensor.ndim != 3 or 0 in tensor.shape:
        raise ValueError(f"an image must have shape (C, H, W) or (H, W); got {tuple(image.shape)}")
    if isinstance(image, Tensor) and min(tensor.shape[:2]) > 4 and tensor.shape[-1] in (1, 3, 4):
        raise ValueError(
            f"a tensor image has shape (C, H, W); {tuple(image.shape)} looks like (H, W, C): permute(2, 0, 1) it"
        )
    check_dtype(tensor)
    check_values(tensor)
    return tensor


def like(image: Tensor, template: Any) -> Any:
    """Return a synthetic image in the form of a real one.

    Args:
        image: ``(channels, height, width)``, float in ``[0, 1]`` or uint8.
        template: an image :func:`to_uint8` takes.

    Returns:
        An image with the type, dtype, value range, size and channels of ``template``, in memory of its own.
    """
    if isinstance(template, PIL.Image.Image):
        return pil.like(image, template)
    if isinstance(template, np.ndarray):
        channels_last = template.ndim == 3 and template.shape[-1] in COLOUR_CHANNELS
        tensor = _array_to_tensor(template)
        shape = tensor.shape if tensor.ndim == 3 else (1, *tensor.shape)
        array = bring(image, shape, tensor.dtype).cpu().numpy()
        return (array.transpose(1, 2, 0) if channels_last else array).reshape(template.shape).copy()
    shape = template.shape if template.ndim == 3 else (1, *template.shape)
    made = bring(image, shape, template.dtype)
    tensor = made.clone(memory_format=torch.contiguous_format) if made is image else made.contiguous()
    tensor = tensor.reshape(template.shape).to(template.device)
    return tv_tensors.wrap(tensor, like=template) if isinstance(template, tv_tensors.TVTensor) else tensor


def _array_to_tensor(array: np.ndarray) -> Tensor:
    """``(H, W, C)``, ``(C, H, W)`` or ``(H, W)`` to ``(C, H, W)`` or ``(H, W)``."""
    try:
        native = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
        tensor = torch.from_numpy(native if native.flags.writeable else native.copy())
    except TypeError as error:
        raise TypeError(
            f"image values must be uint8, uint16 or floating point in [0, 1]; got an array of {array.dtype}"
        ) from error
    if tensor.ndim == 3 and tensor.shape[-1] in COLOUR_CHANNELS:
        tensor = tensor.permute(2, 0, 1)
    return tensor
