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

from glico_augment.images import pil
from glico_augment.images.values import (
    COLOUR_CHANNELS,
    as_type_of,
    bring,
    check_dtype,
    check_values,
    from_unit,
    to_unit,
)


def to_uint8(image: Any) -> Tensor:
    """Bring an image to the canonical form, uint8 ``(channels, height, width)``.

    Args:
        image: PIL image (1, L, LA, P, PA, RGB, RGBA, CMYK, YCbCr, HSV, 16-bit or float grey); tensor or tv_tensor
            ``(C, H, W)`` or ``(H, W)``; array ``(H, W, C)``, ``(C, H, W)`` or ``(H, W)``, of at most four channels.
            Tensors and arrays are uint8, uint16 or floating point in ``[0, 1]``.

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
    return to_unit(to_tensor(image))


def to_tensor(image: Any) -> Tensor:
    """As :func:`to_float`, in the image's own dtype: uint8, uint16 or floating point; it may share its memory."""
    return pil.to_tensor(image) if isinstance(image, PIL.Image.Image) else _check_tensor(image)


def plain(image: Any, channels: int) -> Any:
    """An image as it is handed on beside the others of its set: a PIL image in a mode whose values are its colours.

    Args:
        image: what :func:`to_uint8` takes.
        channels: of the set, see :func:`values.common_channels`. Images of 1 to 4 are brought to it; others stay.

    Raises:
        TypeError, ValueError: for images that are none.
    """
    found = channels_of(image)
    other = None if found == channels or not {found, channels} <= set(COLOUR_CHANNELS) else channels
    if isinstance(image, PIL.Image.Image):
        return pil.plain(image, other)
    if other is None:
        return image
    height, width = size_of(image)
    if isinstance(image, np.ndarray):
        is_last = image.ndim == 2 or _is_channels_last(image)
        template: Any = np.empty_like(image, shape=(height, width, other) if is_last else (other, height, width))
    else:
        template = as_type_of(image.as_subclass(Tensor).new_empty(other, height, width), image)
    return like(to_float(image), template)


def as_array(image: Any) -> np.ndarray:
    """An image as an array ``(H, W, C)``, or ``(H, W)`` of grey, of its own values."""
    if isinstance(image, Tensor):
        image = image.as_subclass(Tensor)
        return (image.permute(1, 2, 0) if image.ndim == 3 else image).numpy()
    array = np.asarray(image)
    is_first = array.ndim == 3 and not _is_channels_last(array) and array.shape[0] in COLOUR_CHANNELS
    return array.transpose(1, 2, 0) if is_first else array


def channels_of(image: Any) -> int:
    """The channels of an image that :func:`to_uint8` takes, as it is read."""
    if isinstance(image, PIL.Image.Image):
        return pil.channels_of(image)
    if image.ndim == 2:
        return 1
    return int(image.shape[-1] if isinstance(image, np.ndarray) and _is_channels_last(image) else image.shape[0])


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
        if image.ndim == 3 and not {image.shape[0], image.shape[-1]} & {0, *COLOUR_CHANNELS}:
            raise ValueError(
                f"an array {image.shape} may be (H, W, C) or (C, H, W): give a tensor, which is (C, H, W), "
                "torch.from_numpy(image).permute(2, 0, 1) of the first and torch.from_numpy(image) of the second"
            )
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
        tensor = _array_to_tensor(template)
        shape = tensor.shape if tensor.ndim == 3 else (1, *tensor.shape)
        array = bring(image, shape, tensor.dtype).cpu().numpy()
        of_its_type = np.empty_like(template)
        of_its_type[...] = (array.transpose(1, 2, 0) if _is_channels_last(template) else array).reshape(template.shape)
        return of_its_type
    shape = template.shape if template.ndim == 3 else (1, *template.shape)
    made = bring(image, shape, template.dtype)
    tensor = made.clone(memory_format=torch.contiguous_format) if made is image else made.contiguous()
    return as_type_of(tensor.reshape(template.shape).to(template.device), template)


def _array_to_tensor(array: np.ndarray) -> Tensor:
    """``(H, W, C)``, ``(C, H, W)`` or ``(H, W)`` to ``(C, H, W)`` or ``(H, W)``."""
    try:
        native = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
        tensor = torch.from_numpy(native if native.flags.writeable else native.copy())
    except TypeError as error:
        raise TypeError(
            f"image values must be uint8, uint16 or floating point in [0, 1]; got an array of {array.dtype}"
        ) from error
    return tensor.permute(2, 0, 1) if _is_channels_last(array) else tensor


def _is_channels_last(array: np.ndarray) -> bool:
    return array.ndim == 3 and array.shape[-1] in COLOUR_CHANNELS
