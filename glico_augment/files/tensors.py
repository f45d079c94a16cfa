"""The named tensors of a file, against those there should be."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from glico_augment.checks import quoted


def check_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless ``tensors`` has the names of ``expected`` and no others, with their types and shapes."""
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors:
            raise ValueError(f"it lacks the tensor {quoted(name)}")
        if name not in expected:
            raise ValueError(f"it has a tensor {quoted(name)} too many")
        found, wanted = tensors[name], expected[name]
        if (found.dtype, found.shape) != (wanted.dtype, wanted.shape):
            raise ValueError(
                f"the tensor {quoted(name)} must be {wanted.dtype} of shape {tuple(wanted.shape)}; got "
                f"{found.dtype} of shape {tuple(found.shape)}"
            )


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with ``prefix`` before their names."""
    return {prefix + name: value for name, value in tensors.items()}
