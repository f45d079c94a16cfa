"""Image files, read as they are."""

from __future__ import annotations

import os

import PIL.Image
import PIL.ImageOps


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
