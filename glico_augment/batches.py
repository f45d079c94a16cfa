"""Batches of images and labels, on any device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from glico_augment.image_set import read_label


def to_device(rows: Tensor, device: torch.device) -> Tensor:
    """Rows of the CPU on ``device``, without waiting for what a CUDA device still has to do."""
    return rows.to(device, non_blocking=device.type == "cuda")


def replace_images(images: Tensor, rows: Tensor, synthetic: Tensor, is_wanted: Tensor) -> Tensor:
    """A copy of ``images``, ``(k, C, H, W)``, with some replaced.

    Args:
        images: the real images.
        rows: ``(j,)`` where the synthetic images go.
        synthetic: ``(j, C, H, W)`` of the same dtype.
        is_wanted: ``(j,)`` bool; the real image stays where it is false.
    """
    if images.dtype == torch.uint16:  # which torch cannot index
        replaced = replace_images(images.view(torch.int16), rows, synthetic.view(torch.int16), is_wanted)
        return replaced.view(torch.uint16)
    chosen = torch.where(is_wanted.view(-1, 1, 1, 1), synthetic, images[rows])
    return images.clone().index_copy_(0, rows, chosen)


def as_integers(name: str, values: Any) -> Tensor:
    """A sequence, array or tensor of integers as int64 ``(k,)`` on the CPU."""
    tensor = torch.as_tensor(values, device="cpu")
    if len(tensor.shape) > 0 and tensor.numel() == 0:
        return tensor.to(torch.int64)
    if tensor.is_floating_point() or tensor.dtype == torch.bool:
        raise TypeError(f"{name} must be integers, got {tensor.dtype}")
    return tensor.to(torch.int64).flatten()


def check_labels(labels: Any, images: Tensor) -> Tensor:
    """The labels of a batch as an int64 tensor.

    Args:
        labels: ``(k,)`` integers: a sequence, an array or a tensor.
        images: ``(k, C, H, W)``.

    Raises:
        TypeError: if they are not integers, or mixed or one-hot.
        ValueError: if there are not as many as images.
    """
    if not isinstance(labels, Tensor):
        labels = (
            torch.from_numpy(labels)
            if isinstance(labels, np.ndarray)
            else torch.tensor([read_label(label) for label in labels])
        )
    if labels.is_floating_point() or labels.ndim != 1:
        raise TypeError(
            f"labels of a batch must be integers of shape (k,), got {labels.dtype} {tuple(labels.shape)}; put "
            "GLICOAugment before MixUp, CutMix and one-hot encoding"
        )
    if len(labels) != len(images):
        raise ValueError(f"got {len(images)} images but {len(labels)} labels")
    return labels.to(torch.int64)
