"""Image files, and PIL images of every mode to uint8 tensors and back."""

from __future__ import annotations

import os
from contextlib import suppress

import numpy as np
import PIL.Image
import PIL.ImageFile
import PIL.ImageOps
import torch
from torch import Tensor

from glico_augment.images.values import attributes_of, bring, check_values, from_unit, like_shape, to_unit

# PIL mode → the mode whose bytes are taken. 16-bit and float grey are scaled to 8 bits instead.
_PIL_MODES = {
    **dict.fromkeys(("1", "L"), "L"),
    **dict.fromkeys(("P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"), "RGB"),
    **dict.fromkeys(("PA", "LA", "La", "RGBA", "RGBa"), "RGBA"),
}
# 16-bit modes and the layout of their bytes; I has 32-bit integers, in which PIL keeps 16-bit files as well.
_PIL_SIXTEEN_BIT = {"I;16": "<u2", "I;16L": "<u2", "I;16B": ">u2", "I;16N": "=u2", "I": "=i4"}
_MODE_OF = {1: "L", 3: "RGB", 4: "RGBA"}  # channels → the mode that has as many bytes
# Modes that may have one another's colour profiles; the others have their own.
_PROFILES = {
    **dict.fromkeys(("1", "L", "LA", "La", "F", *_PIL_SIXTEEN_BIT), "grey"),
    **dict.fromkeys(("P", "PA", "RGB", "RGBX", "RGBA", "RGBa"), "RGB"),
}


def load_image(path: str | os.PathLike[str]) -> PIL.Image.Image:
    """Read an image file as a fit reads it, in its own depth, upright as its EXIF orientation says.

    A loader for torchvision's folders, ``ImageFolder("photos/train", loader=load_image)``, and the one of the command
    line. Torchvision's own converts every file to 8-bit RGB, which leaves of a 16-bit one little but white.

    Args:
        path: the file; of several pictures in it the first is read.

    Returns:
        A PIL image of mode L, RGB or RGBA, of grey of more than 8 bits I;16 or F; palettes, CMYK and the like are
        converted.

    Raises:
        OSError: if it cannot be read, or is no image.
        TypeError, ValueError: for a mode that is not read, and values beyond 16 bits.
    """
    with PIL.Image.open(path) as file:
        return plain(PIL.ImageOps.exif_transpose(file))


def plain(image: PIL.Image.Image, channels: int | None = None) -> PIL.Image.Image:
    """An image in the mode that it is read as, in which its values are its colours.

    Args:
        image: of any mode that is read.
        channels: 1, 3 or 4 to bring it to, then in 8 bits; None for its own.

    Returns:
        Itself if it has that mode; else one of mode L, RGB or RGBA, of grey of more than 8 bits I;16 or F.

    Raises:
        TypeError, ValueError: for a mode that is not read, and values beyond 16 bits.
    """
    check_mode(image)
    is_deep = _is_deep(image)
    own = "F" if image.mode == "F" else "I;16" if is_deep else _byte_mode(image)
    mode = own if channels in (None, PIL.Image.getmodebands(own)) else _MODE_OF.get(channels, own)
    if image.mode == mode:
        return image
    if is_deep:
        grey = _sixteen_bits(image).astype("<u2") if mode == own else to_uint8(image)[0].numpy()
        made = PIL.Image.fromarray(grey)
    else:
        made = image.convert("LA") if image.mode == "La" else image
    return _with_metadata(made if made.mode == mode else made.convert(mode), image, {"transparency"})


def copied(image: PIL.Image.Image) -> PIL.Image.Image:
    """A copy with the same type and metadata; of an open file the image in it."""
    return _with_metadata(image.copy(), image, set())


def check_mode(image: PIL.Image.Image) -> None:
    """Raise TypeError for a mode that is not read."""
    if image.mode not in (*_PIL_MODES, *_PIL_SIXTEEN_BIT, "F"):
        raise TypeError(f"PIL images of mode {image.mode} are not supported; convert them to RGB first")


def channels_of(image: PIL.Image.Image) -> int:
    """1, 3 or 4: the channels it is read in."""
    check_mode(image)
    return 1 if _is_deep(image) else PIL.Image.getmodebands(_byte_mode(image))


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


def to_tensor(image: PIL.Image.Image) -> Tensor:
    """As :func:`to_uint8`, but float32 in ``[0, 1]`` of grey of more than 8 bits."""
    return _deep_grey(image) if _is_deep(image) and 0 not in image.size else to_uint8(image)


def _is_deep(image: PIL.Image.Image) -> bool:
    """Whether it is grey of more than 8 bits."""
    return image.mode in _PIL_SIXTEEN_BIT or image.mode == "F"


def _deep_grey(image: PIL.Image.Image) -> Tensor:
    """float32 ``(1, height, width)`` in ``[0, 1]`` of 16-bit or float grey."""
    if image.mode == "F":
        grey = torch.from_numpy(np.asarray(image).copy())[None]
        check_values(grey)
        return to_unit(grey)
    return torch.from_numpy((_sixteen_bits(image) / 65535).astype(np.float32))[None]


def _sixteen_bits(image: PIL.Image.Image) -> np.ndarray:
    """The values of 16-bit grey; raises ValueError for one of 32 bits that goes beyond."""
    values = np.asarray(image).astype(np.int64)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise ValueError(
            f"a PIL image of mode {image.mode} must hold values from 0 to 65535; got {values.min()} to {values.max()}"
        )
    return values


def _byte_mode(image: PIL.Image.Image) -> str:
    """L, RGB or RGBA: what an 8-bit image is read as."""
    has_alpha = "transparency" in image.info or (image.palette is not None and image.palette.mode == "RGBA")
    return "RGBA" if image.mode == "P" and has_alpha else _PIL_MODES[image.mode]


def like(image: Tensor, template: PIL.Image.Image) -> PIL.Image.Image:
    """A synthetic image ``(channels, height, width)`` in the type, mode and size of ``template``, with its metadata."""
    # The transparency of a palette is a number of that palette, and one with alpha has its own.
    lost = {"transparency"} if template.mode == "P" else set()
    return _with_metadata(_in_mode_of(template, image), template, lost)


def _in_mode_of(template: PIL.Image.Image, image: Tensor) -> PIL.Image.Image:
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
    channels = PIL.Image.getmodebands(mode)
    pixels = bring(image, (channels, *size), torch.uint8).cpu()
    interleaved = pixels.permute(1, 2, 0)
    if interleaved.is_contiguous():
        made = PIL.Image.frombytes(mode, template.size, interleaved.numpy())
    else:  # PIL is faster than torch at this
        made = PIL.Image.merge(mode, [PIL.Image.fromarray(band) for band in pixels.contiguous().numpy()])
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


def _with_metadata(made: PIL.Image.Image, template: PIL.Image.Image, lost: set[str]) -> PIL.Image.Image:
    """An image with what a transform may act on of the one it stands for: its type, EXIF, colour profile and notes."""
    if len({_PROFILES.get(mode, mode) for mode in (made.mode, template.mode)}) > 1:
        lost = {*lost, "icc_profile"}
    made.info = {name: value for name, value in template.info.items() if name not in lost}
    with suppress(Exception):  # of EXIF that cannot be read: it is in the info of both
        exif, own = template.getexif(), made.getexif()
        if dict(exif) != dict(own):  # changed since the file was read
            own.clear()
            own.update(exif)
    if isinstance(template, PIL.ImageFile.ImageFile) or type(template) is PIL.Image.Image:
        return made
    typed = type(template).__new__(type(template))
    typed.__dict__ = attributes_of(template) | vars(made)
    return typed
