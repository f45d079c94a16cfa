"""Image files, and PIL images of every mode to uint8 tensors and back."""

from __future__ import annotations

import os

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from torch import Tensor

from glico_augment.images.values import bring, check_values, from_unit, like_shape, to_unit

# PIL mode → the mode whose bytes are taken. 16-bit and float grey are scaled to 8 bits instead.
_PIL_MODES = {
    **dict.fromkeys(("1", "L"), "L"),
    **dict.fromkeys(("P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"), "RGB"),
    **dict.fromkeys(("PA", "LA", "La", "RGBA", "RGBa"), "RGBA"),
}
# 16-bit modes and the layout of their bytes; I has 32-bit integers, in which PIL keeps 16-bit files as well.
_PIL_SIXTEEN_BIT = {"I;16": "<u2", "I;16L": "<u2", "I;16B": ">u2", "I;16N": "=u2", "I": "=i4"}


def load_image(path: str | os.PathLike[str]) -> PIL.Image.Image:
    """Read an image file in its own mode and depth, upright as its EXIF orientation says.

    A loader for torchvision's folders, ``ImageFolder("photos/train", loader=load_image)``, and the one of the command
    line. Torchvision's own converts every file to 8-bit RGB, which leaves of a 16-bit one little but white.

    Args:
        path: the file.

    Returns:
        A PIL image of any mode; :meth:`GLICOAugment.fit` reads grey as one channel and alpha as a further one.

    Raises:
        OSError: if it cannot be read, or is no image.
    """
    with PIL.Image.open(path) as file:
        return PIL.ImageOps.exif_transpose(file)


def check_mode(image: PIL.Image.Image) -> None:
    """Raise TypeError for a mode that is not read."""
    if image.mode not in (*_PIL_MODES, *_PIL_SIXTEEN_BIT, "F"):
        raise TypeError(f"PIL images of mode {image.mode} are not supported; convert them to RGB first")


def to_uint8(image: PIL.Image.Image) -> Tensor:
    """uint8 ``(channels, height, width)`` of an image; a TypeError for its mode or a ValueError for its values."""
    check_mode(image)
    if 0 in image.size:
        raise ValueError(f"image is empty: {image.size[0]} × {image.size[1]} pixels")
    if _is_deep(image):
        return from_unit(_deep_grey(image), torch.uint8)
    mode = _byte_mode(image)
    if image.mode == "La":
        image = image.convert("LA")
    array = np.asarray(image if image.mode == mode else image.convert(mode))
    array = array[:, :, None] if array.ndim == 2 else array
    return torch.from_numpy(array.transpose(2, 0, 1).copy())


def to_float(image: PIL.Image.Image) -> Tensor:
    """float32 ``(channels, height, width)`` in ``[0, 1]``, with the errors of :func:`to_uint8`, which loses 16 bits."""
    return _deep_grey(image) if _is_deep(image) and 0 not in image.size else to_unit(to_uint8(image))


def _is_deep(image: PIL.Image.Image) -> bool:
    """Whether it is grey of more than 8 bits."""
    return image.mode in _PIL_SIXTEEN_BIT or image.mode == "F"


def _deep_grey(image: PIL.Image.Image) -> Tensor:
    """float32 ``(1, height, width)`` in ``[0, 1]`` of 16-bit or float grey."""
    if image.mode == "F":
        grey = torch.from_numpy(np.asarray(image).copy())[None]
        check_values(grey)
        return to_unit(grey)
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f"a PIL image of mode {image.mode} must hold values from 0 to 65535; got {values.min()} to {values.max()}"
        )
    return torch.from_numpy((values / 65535).astype(np.float32))[None]


def _byte_mode(image: PIL.Image.Image) -> str:
    """L, RGB or RGBA: what an 8-bit image is read as."""
    has_alpha = "transparency" in image.info or (image.palette is not None and image.palette.mode == "RGBA")
    return "RGBA" if image.mode == "P" and has_alpha else _PIL_MODES[image.mode]


def like(image: Tensor, template: PIL.Image.Image) -> PIL.Image.Image:
    """A synthetic image ``(channels, height, width)`` in the mode and size of ``template``."""
    size = (template.height, template.width)
    if _is_deep(template):
        grey = like_shape(to_unit(image)[None], (1, *size))[0, 0].cpu().numpy()
        if template.mode == "F":
            return PIL.Image.fromarray(grey.astype(np.float32))
        values = np.round(grey * 65535)
        return PIL.Image.frombytes(
            template.mode, template.size, values.astype(_PIL_SIXTEEN_BIT[template.mode]).tobytes()
        )
    mode = _byte_mode(template)
    channels = {"L": 1, "RGB": 3, "RGBA": 4}[mode]
    pixels = bring(image, (channels, *size), torch.uint8).cpu()
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
