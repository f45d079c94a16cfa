"""Grids of images, as pixels and as PNG."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.utils import make_grid

from glico_augment.checks import shown
from glico_augment.files.atomic import write_atomically
from glico_augment.images import values

_MAX_NAME = 24
_FONT_SIZES = 10, 24  # pixels


def visible(images: Tensor) -> Tensor:
    """Images of any number of channels as RGB: alpha on white, and the first three channels of more than four.

    Args:
        images: ``(k, channels, height, width)``, uint8 or float in ``[0, 1]``.

    Returns:
        ``(k, 3, height, width)`` float32 in ``[0, 1]``.
    """
    unit = values.to_unit(images)
    channels = unit.shape[1]
    if channels > 4:
        return unit[:, :3]
    if channels in (2, 4):
        colour, alpha = unit[:, :-1], unit[:, -1:]
        unit = alpha * colour + (1 - alpha)
    return unit.expand(-1, 3, -1, -1)


def make_pixels(images: Tensor, *, columns: int, scale: int = 1) -> Tensor:
    """Images in rows, white between them.

    Args:
        images: ``(k, channels, height, width)``, uint8 or float in ``[0, 1]``.
        columns: images per row.
        scale: factor by which both sides are enlarged.

    Returns:
        uint8 ``(3, rows · (scale · height + scale) + scale, columns · (scale · width + scale) + scale)``.
    """
    enlarged = F.interpolate(visible(images), scale_factor=scale, mode="nearest")
    grid = make_grid(enlarged, nrow=columns, padding=scale, pad_value=1.0)
    return values.from_unit(grid, torch.uint8)


def to_png(pixels: Tensor) -> bytes:
    """A PNG file of uint8 ``(3, height, width)``."""
    file = io.BytesIO()
    PIL.Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).save(file, "PNG", optimize=True)
    return file.getvalue()


def data_uri(png: bytes) -> str:
    """A PNG file as the ``src`` of an image that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def save_grid(images: Tensor, path: Path, *, columns: int, scale: int = 1, names: Sequence[str] = ()) -> None:
    """Write images ``(k, channels, height, width)`` in ``[0, 1]`` as one PNG, row by row, atomically.

    Args:
        images: in rows.
        path: the file.
        columns: images per row.
        scale: factor by which both sides of the images are enlarged.
        names: one for each row, written on its left; none for the images alone.

    Raises:
        ValueError: unless the name ends in .png.
        OSError: if it cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise ValueError(f"a grid is written as PNG; give a name that ends in .png, not {path.name}")
    pixels = make_pixels(images, columns=columns, scale=scale)
    png = to_png(_labelled(pixels, names) if names else pixels)
    write_atomically(path, lambda partial: partial.write_bytes(png))


def shortened(name: str) -> str:
    """The name of a class as text of at most 24 characters, whatever it holds."""
    name = name.encode(errors="replace").decode()  # names of folders may hold bytes that are not text
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"


def _labelled(pixels: Tensor, names: Sequence[str]) -> Tensor:
    """A grid ``(3, height, width)`` with the name of each of its rows in black on white on the left."""
    height = pixels.shape[1] / len(names)
    smallest, largest = _FONT_SIZES
    font = PIL.ImageFont.load_default(min(max(height / 4, smallest), largest))
    texts = [shown(shortened(name)) for name in names]
    margin = 8 + max(round(font.getlength(text)) for text in texts)
    column = PIL.Image.new("RGB", (margin, pixels.shape[1]), "white")
    draw = PIL.ImageDraw.Draw(column)
    for row, text in enumerate(texts):
        draw.text((margin - 4, (row + 0.5) * height), text, fill="black", font=font, anchor="rm")
    return torch.cat([torch.from_numpy(np.array(column)).permute(2, 0, 1), pixels], dim=2)
