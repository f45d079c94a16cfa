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
        TypeError: unless it is an int, a numpy integer or an integer tensor or array ``()`` or ``(1,)``.
        ValueError: if it takes more than 64 bits.
    """
    item = _item(label)
    if _is_int(item):
        return _in_64_bits(int(item))
    shown = f"a tensor of {item.dtype} {tuple(item.shape)}" if isinstance(item, Tensor) else repr(item)
    raise TypeError(
        f"labels must be integers, got {shown} ({type(item).__name__}). Number the classes 0, 1, 2, … "
        "(target_transform does it in torchvision's datasets)"
    )


def as_integers(name: str, values: Any) -> Tensor:
    """A sequence, array, tensor or column of a table of integers as int64 ``(k,)`` on the CPU."""
    tensor = _as_tensor(name, values).cpu()
    if not _is_integer(tensor) and (tensor.ndim == 0 or tensor.numel()):
        raise TypeError(f"{name} must be integers, got {tensor.dtype}")
    return tensor.to(torch.int64).flatten()


def check_labels(labels: Any, images: Any) -> Tensor:
    """The labels of a batch as an int64 tensor ``(k,)``, those of a tensor on its device.

    Args:
        labels: ``(k,)`` or ``(k, 1)`` integers: a sequence, an array, a tensor or a column of a table.
        images: ``(k, C, H, W)``, or a list of ``k``.

    Raises:
        TypeError: if they are not integers, or mixed or one-hot.
        ValueError: if there are not as many as images.
    """
    tensor = _as_tensor("labels", labels)
    if tensor.ndim == 2 and tensor.shape[1] == 1:
        tensor = tensor[:, 0]
    if tensor.ndim == 0 and _is_integer(tensor):
        raise ValueError(f"got {len(images)} images but one label, {int(tensor)}: give a label for each")
    if tensor.ndim != 1 or not _is_integer(tensor):
        raise TypeError(
            f"labels of a batch must be integers of shape (k,), got {tensor.dtype} {tuple(tensor.shape)}; put "
            "GLICOAugment before MixUp, CutMix and one-hot encoding"
        )
    if len(tensor) != len(images):
        raise ValueError(f"got {len(images)} images but {len(tensor)} labels")
    return tensor.to(torch.int64)


def _as_tensor(name: str, values: Any) -> Tensor:
    """A tensor as it is; anything else as a tensor of integers, or of the other numbers that it holds."""
    if isinstance(values, Tensor):
        return values.as_subclass(Tensor)  # of labels, that do not make images a subclass
    if isinstance(values, (list, tuple)):
        values = [_item(each) for each in values]
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):  # of unequal lengths, say
        array = np.asarray(None)
    kind = "i" if array.size == 0 or all(map(_is_int, array.flat)) else array.dtype.kind
    if kind not in _NUMBERS:
        raise TypeError(f"{name} must be integers, got {quoted(values)}")
    if kind == "i":
        array = np.asarray([_in_64_bits(int(each)) for each in array.flat], dtype=np.int64).reshape(array.shape)
    return torch.from_numpy(np.array(array, dtype=_NUMBERS[kind], order="C"))


_NUMBERS: dict[str, Any] = {"i": np.int64, "f": np.float64, "c": np.complex128, "b": np.bool_}


def _item(value: Any) -> Any:
    """The number in a tensor or array of one; anything else as it is."""
    return value.item() if isinstance(value, (Tensor, np.ndarray)) and value.shape in ((), (1,)) else value


def _is_int(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _in_64_bits(label: int) -> int:
    if not -(2**63) <= label < 2**63:
        raise ValueError(f"labels must fit into 64 bits, got {label}: number the classes 0, 1, 2, …")
    return label


def _is_integer(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
