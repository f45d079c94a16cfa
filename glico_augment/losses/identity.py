"""The name of a loss: which loss a fit was made with."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Mapping
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def loss_name(loss: Any) -> str:
    """The name by which a fit keeps its loss.

    A module is ``"<MyLoss 1f0c9a27>"``: its class, and a hash over the class, what it and its modules hold as
    attributes, and its parameters and buffers. Of an attribute that is neither a value, a collection of values nor a
    function, the class alone counts.
    """
    if not isinstance(loss, nn.Module):
        return str(loss)
    hasher = hashlib.blake2b(digest_size=4)
    for name, module in loss.named_modules():
        attributes = {key: value for key, value in vars(module).items() if key not in _OF_TORCH}
        tensors = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
        hasher.update(f"{name} {_class(module)} {module.extra_repr()} {_described([attributes, tensors])}".encode())
    return f"<{type(loss).__name__} {hasher.hexdigest()}>"


def _described(value: Any) -> str:
    """A text that is the same in every process for the same value, and another for another one."""
    if isinstance(value, Tensor):
        held = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return f"tensor {value.dtype} {tuple(value.shape)} {hashlib.blake2b(held).hexdigest()}"
    if isinstance(value, np.ndarray):
        return f"array {value.dtype} {value.shape} {hashlib.blake2b(value.tobytes()).hexdigest()}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(sorted(f'{_described(key)}: {_described(item)}' for key, item in value.items()))}}}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}({', '.join(map(_described, value))})"
    if isinstance(value, (set, frozenset)):
        return f"set({', '.join(sorted(map(_described, value)))})"
    if isinstance(value, (MethodType, BuiltinFunctionType, type)):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, functools.partial):
        return f"partial {_described([value.func, value.args, value.keywords])}"
    if isinstance(value, FunctionType):
        code = value.__code__
        enclosed = inspect.getclosurevars(value).nonlocals
        enclosed = {key: held for key, held in enclosed.items() if not callable(held)}  # which may be itself
        constants = [constant for constant in code.co_consts if isinstance(constant, _PLAIN)]
        inside = _described([constants, code.co_names, enclosed, value.__defaults__, value.__kwdefaults__])
        return f"function {value.__qualname__} {code.co_code.hex()} {inside}"
    return repr(value) if isinstance(value, _PLAIN) else _class(value)


def _class(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, np.generic)
_OF_TORCH = tuple(vars(nn.Module()))
