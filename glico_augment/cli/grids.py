"""PNG grids of images."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.utils import save_image

from glico_augment.files.atomic import write_atomically
from glico_augment.swap.augment import GLICOAugment


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


def random_pairs(
    augment: GLICOAugment, class_positions: Tensor, *, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Two random images of each of the classes at ``class_positions``, ``(k,)``, as two ``(k,)`` of indices."""
    anchors = augment.codes.sample_anchors(class_positions, generator=generator)
    return anchors, augment.codes.sample_partners(anchors, generator=generator)


def paths(augment: GLICOAugment, anchors: Tensor, partners: Tensor, *, steps: int) -> Tensor:
    """Images along the paths from ``anchors``, ``(k,)``, to ``partners``, ``steps`` on each.

    Returns:
        ``(k · steps, channels, height, width)`` in ``[0, 1]``.
    """
    ratios = torch.linspace(0, 1, steps).repeat(len(anchors))
    return augment.model.interpolate(
        anchors.repeat_interleave(steps), partners.repeat_interleave(steps), ratios, None, augment.interpolation
    )
