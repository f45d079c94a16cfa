"""Integer labels, of one sample and of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from glico_augment.checks import quoted


def read_label(label: Any) -> int:
    """A label as an int.

    Raises:
        TypeError: unless it is an int, a numpy integer or a 0-d integer tensor or array.
        ValueError: if it takes more than 64 bits.
    """
    if isinstance(label, (Tensor, np.ndarray)) and label.ndim == 0:
        label = label.item()
    if isinstance(label, (int, np.integer)) and not isinstance(label, bool):
        if not -(2**63) <= int(label) < 2**63:
            raise ValueError(f"labels must fit into 64 bits, got {label}: number the classes 0, 1, 2, …")
        return int(label)
    shown = f"a tensor of {label.dtype} {tuple(label.shape)}" if isinstance(label, Tensor) else repr(label)
    raise TypeError(
        f"labels must be integers, got {shown} ({type(label).__name__}). Number the classes 0, 1, 2, … "
        "(target_transform does it in torchvision's datasets)"
    )


def as_integers(name: str, values: Any) -> Tensor:
    """A sequence, array or tensor of integers as int64 ``(k,)`` on the CPU."""
    try:
        tensor = torch.as_tensor(values, device="cpu").as_subclass(Tensor)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name} must be integers, got {quoted(values)}") from None
    if len(tensor.shape) > 0 and tensor.numel() == 0:
        return tensor.to(torch.int64)
    if not _is_integer(tensor):
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
    if isinstance(labels, np.ndarray):
        labels = torch.from_numpy(labels)
    elif not isinstance(labels, Tensor):
        labels = torch.tensor([read_label(label) for label in labels], device="cpu")
    if not _is_integer(labels) or labels.ndim != 1:
        raise TypeError(
            f"labels of a batch must be integers of shape (k,), got {labels.dtype} {tuple(labels.shape)}; put "
            "GLICOAugment before MixUp, CutMix and one-hot encoding"
        )
    if len(labels) != len(images):
        raise ValueError(f"got {len(images)} images but {len(labels)} labels")
    return labels.to(torch.int64)


def _is_integer(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
