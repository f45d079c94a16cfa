"""Images of every kind a dataset yields, to one canonical form and back.

The canonical form is a uint8 tensor ``(channels, height, width)``. Synthetic images come as float tensors in
``[0, 1]`` and are returned in the type, dtype, value range, size and channels of a real image.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import tv_tensors

# PIL mode → the mode whose bytes are taken. 16-bit and float grey are scaled to 8 bits instead.
_PIL_MODES = {
    "1": "L",
    "L": "L",
    "P": "RGB",
    "PA": "RGBA",
    "LA": "RGBA",
    "La": "RGBA",
    "RGB": "RGB",
    "RGBX": "RGB",
    "RGBA": "RGBA",
    "RGBa": "RGBA",
    "CMYK": "RGB",
    "YCbCr": "RGB",
    "HSV": "RGB",
}
# 16-bit modes and the layout of their bytes; I has 32-bit integers, in which PIL keeps 16-bit files as well.
_PIL_SIXTEEN_BIT = {"I;16": "<u2", "I;16L": "<u2", "I;16B": ">u2", "I;16N": "=u2", "I": "=i4"}
_GLIMPSE_SIDE = 16
_CHANNELS_LAST = (1, 2, 3, 4)  # a last dimension of this size is read as channels, as PIL and matplotlib do

# Resampling and compression leave values a little outside [0, 1]; normalised images go far outside.
_TOLERANCE = 0.05

REMEDY = (
    "GLICO works on plain images: put normalisation after it (in the transform given to wrap(), or behind "
    "GLICOAugment in the pipeline)"
)


def to_uint8(image: Any) -> Tensor:
    """Bring an image to the canonical form.

    Args:
        image: PIL image (1, L, LA, P, PA, RGB, RGBA, CMYK, YCbCr, HSV, 16-bit or float grey); tensor or tv_tensor
            ``(C, H, W)`` or ``(H, W)``; array ``(H, W, C)``, ``(C, H, W)`` or ``(H, W)``. Tensors and arrays are
            uint8, uint16 or floating point in ``[0, 1]``.

    Returns:
        uint8 ``(channels, height, width)``.

    Raises:
        TypeError: for anything else.
        ValueError: for values that are NaN or out of range, or a shape that is no image.
    """
    if isinstance(image, PIL.Image.Image):
        return _pil_to_uint8(image)
    tensor = _check_tensor(image)
    tensor = tensor if tensor.dtype == torch.uint8 else from_unit(to_unit(tensor), torch.uint8)
    return tensor.cpu()


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


def check_image(image: Any) -> None:
    """Raise the errors of :func:`to_uint8`, without converting a PIL image."""
    if not isinstance(image, PIL.Image.Image):
        _check_tensor(image)
    elif image.mode not in (*_PIL_MODES, *_PIL_SIXTEEN_BIT, "F"):
        raise TypeError(f"PIL images of mode {image.mode} are not supported; convert them to RGB first")


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
    if isinstance(image, Tensor) and tensor.shape[0] > 4 and tensor.shape[-1] in (1, 3, 4):
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
        return _like_pil(image, template)
    if isinstance(template, np.ndarray):
        channels_last = template.ndim == 3 and template.shape[-1] in _CHANNELS_LAST
        tensor = _array_to_tensor(template)
        shape = tensor.shape if tensor.ndim == 3 else (1, *tensor.shape)
        array = _as_dtype(image, shape, tensor.dtype).cpu().numpy()
        return (array.transpose(1, 2, 0) if channels_last else array).reshape(template.shape).copy()
    shape = template.shape if template.ndim == 3 else (1, *template.shape)
    made = _as_dtype(image, shape, template.dtype)
    tensor = made.clone(memory_format=torch.contiguous_format) if made is image else made.contiguous()
    tensor = tensor.reshape(template.shape).to(template.device)
    return tv_tensors.wrap(tensor, like=template) if isinstance(template, tv_tensors.TVTensor) else tensor


def _as_dtype(image: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A float or uint8 image with the shape and dtype asked for, itself if it has them."""
    if image.dtype == dtype == torch.uint8 and image.shape == shape:
        return image
    if dtype == torch.uint8:  # resized as bytes, several times as fast
        pixels = image if image.dtype == torch.uint8 else from_unit(image, torch.uint8)
        return resize(promote_channels(pixels[None], shape[0]), (shape[1], shape[2]))[0]
    return from_unit(like_shape(to_unit(image)[None], shape)[0], dtype)


def like_shape(unit_images: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Bring float images ``(k, C, H, W)`` in ``[0, 1]`` to the channels and size of ``shape``, ``(C, H, W)``."""
    images = _with_channels(unit_images, shape[-3])
    return resize(images, (shape[-2], shape[-1]))


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize ``(k, C, H, W)`` images to ``(height, width)``, bilinear with antialiasing; uint8 stays uint8."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    if images.dtype == torch.uint8 and images.device.type == "cpu":  # elsewhere torch has no such kernel for bytes
        return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
    resized = F.interpolate(images.float(), size, mode="bilinear", align_corners=False, antialias=True)
    return resized.round_().clamp_(0, 255).to(torch.uint8) if images.dtype == torch.uint8 else resized


def to_unit(tensor: Tensor) -> Tensor:
    """uint8, uint16 or float values to float32 in ``[0, 1]``."""
    if tensor.is_floating_point():
        return tensor.float().clamp(0, 1)
    return tensor.float() / torch.iinfo(tensor.dtype).max


def from_unit(unit: Tensor, dtype: torch.dtype) -> Tensor:
    """Float values in ``[0, 1]`` to ``dtype``: its whole range for uint8 and uint16, ``[0, 1]`` for floats."""
    if dtype.is_floating_point:
        return unit.to(dtype)
    largest = torch.iinfo(dtype).max
    scaled = (unit.float() * largest).round_().clamp_(0, largest)
    # uint16 has few kernels, so it is reached through int32.
    return scaled.to(torch.uint8) if dtype == torch.uint8 else scaled.to(torch.int32).to(dtype)


def check_dtype(tensor: Tensor) -> None:
    """Raise TypeError unless the dtype says what value is white."""
    if not (tensor.is_floating_point() or tensor.dtype in (torch.uint8, torch.uint16)):
        raise TypeError(f"image values must be uint8, uint16 or floating point in [0, 1]; got {tensor.dtype}")


def check_values(tensor: Tensor) -> None:
    """Raise ValueError for float images that are NaN or outside ``[0, 1]``. Reads the values: synchronises a GPU."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return
    low, high = (value.item() for value in torch.aminmax(tensor))
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("image has NaN or infinite pixels")
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        raise ValueError(
            f"float images must lie in [0, 1]; got values from {low:.3g} to {high:.3g}, as of a normalised image or "
            f"one in [0, 255]. {REMEDY}"
        )


def _with_channels(images: Tensor, channels: int) -> Tensor:
    """Convert between grey (1), grey and alpha (2), RGB (3) and RGBA (4)."""
    found = images.shape[1]
    if found == channels:
        return images
    if not (found in _CHANNELS_LAST and channels in _CHANNELS_LAST):
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
    return from_unit(_with_channels(to_unit(images), channels), torch.uint8)


def _array_to_tensor(array: np.ndarray) -> Tensor:
    """``(H, W, C)``, ``(C, H, W)`` or ``(H, W)`` to ``(C, H, W)`` or ``(H, W)``."""
    try:
        native = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
        tensor = torch.from_numpy(native if native.flags.writeable else native.copy())
    except TypeError as error:
        raise TypeError(
            f"image values must be uint8, uint16 or floating point in [0, 1]; got an array of {array.dtype}"
        ) from error
    if tensor.ndim == 3 and tensor.shape[-1] in _CHANNELS_LAST:
        tensor = tensor.permute(2, 0, 1)
    return tensor


def _pil_to_uint8(image: PIL.Image.Image) -> Tensor:
    check_image(image)
    if 0 in image.size:
        raise ValueError(f"image is empty: {image.size[0]} × {image.size[1]} pixels")
    if image.mode in _PIL_SIXTEEN_BIT:
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(
                f"a PIL image of mode {image.mode} must hold values from 0 to 65535; "
                f"got {values.min()} to {values.max()}"
            )
        return torch.from_numpy(np.round(values / 257).astype(np.uint8))[None]
    if image.mode == "F":
        return to_uint8(np.asarray(image))
    mode = _byte_mode(image)
    if image.mode == "La":
        image = image.convert("LA")
    array = np.asarray(image if image.mode == mode else image.convert(mode))
    array = array[:, :, None] if array.ndim == 2 else array
    return torch.from_numpy(array.transpose(2, 0, 1).copy())


def _byte_mode(image: PIL.Image.Image) -> str:
    """L, RGB or RGBA: what an 8-bit image is read as."""
    has_alpha = "transparency" in image.info or (image.palette is not None and image.palette.mode == "RGBA")
    return "RGBA" if image.mode == "P" and has_alpha else _PIL_MODES[image.mode]


def _like_pil(image: Tensor, template: PIL.Image.Image) -> PIL.Image.Image:
    size = (template.height, template.width)
    if template.mode in _PIL_SIXTEEN_BIT or template.mode == "F":
        grey = like_shape(to_unit(image)[None], (1, *size))[0, 0].cpu().numpy()
        if template.mode == "F":
            return PIL.Image.fromarray(grey.astype(np.float32))
        values = np.round(grey * 65535)
        return PIL.Image.frombytes(
            template.mode, template.size, values.astype(_PIL_SIXTEEN_BIT[template.mode]).tobytes()
        )
    mode = _byte_mode(template)
    channels = {"L": 1, "RGB": 3, "RGBA": 4}[mode]
    pixels = _as_dtype(image, (channels, *size), torch.uint8).cpu()
    pixels = pixels[0] if channels == 1 else pixels.permute(1, 2, 0)
    made = PIL.Image.fromarray(pixels.contiguous().numpy())
    made = made.copy() if made.readonly else made  # of the tensor's memory
    if made.mode == template.mode:
        return made
    if template.mode == "P":
        return _as_palette(made, template)
    # PIL reaches these two modes from one other mode only without loss.
    between = {"PA": "RGBA", "La": "LA"}.get(template.mode)
    made = made if between is None else made.convert(between)
    return made.convert(template.mode)


def _as_palette(image: PIL.Image.Image, template: PIL.Image.Image) -> PIL.Image.Image:
    """An RGB or RGBA image in mode P, with the template's palette where it is one of opaque colours."""
    if image.mode == "RGBA":
        return image.quantize(method=PIL.Image.Quantize.FASTOCTREE)
    is_rgb = template.palette is not None and template.palette.mode == "RGB"
    palette = template if is_rgb else template.convert("RGB").quantize()
    return image.quantize(palette=palette, dither=PIL.Image.Dither.NONE)
