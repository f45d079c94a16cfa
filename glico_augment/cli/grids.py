"""PNG grids of images."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.utils import save_image

from glico_augment.augment import GLICOAugment
from glico_augment.file_format import write_atomically


def save_grid(images: Tensor, path: Path, *, columns: int, scale: int = 1) -> None:
    """Write images ``(k, channels, height, width)`` in ``[0, 1]`` as one PNG, row by row.

    Raises:
        ValueError: unless the name ends in .png.
        OSError: if it cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise ValueError(f"a grid is written as PNG; give a name that ends in .png, not {path.name}")
    enlarged = F.interpolate(images, scale_factor=scale, mode="nearest")
    write_atomically(path, lambda partial: save_image(enlarged, partial, nrow=columns, padding=scale, pad_value=1.0))


def interpolation_rows(
    augment: GLICOAugment, *, steps: int, pairs: int = 1, generator: torch.Generator | None = None
) -> Tensor:
    """Paths between random images of each class, ``pairs`` a class, ``steps`` images each.

    Returns:
        ``(n_classes · pairs · steps, channels, height, width)`` in ``[0, 1]``.
    """
    codes = augment.codes
    classes = torch.arange(len(codes.classes)).repeat_interleave(pairs)
    anchors = codes.sample_anchors(classes, generator=generator)
    partners = codes.sample_partners(anchors, generator=generator)
    ratios = torch.linspace(0, 1, steps).repeat(len(anchors))
    return augment.model.interpolate(
        anchors.repeat_interleave(steps), partners.repeat_interleave(steps), ratios, None, augment.interpolation
    )
