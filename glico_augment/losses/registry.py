"""Losses by name or as any module, and the name by which a fit keeps its loss."""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
from collections.abc import Mapping
from importlib import import_module
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from glico_augment.config import LOSSES, FitConfig
from glico_augment.losses.feature_loss import FeatureLoss


def build_loss(config: FitConfig, image_shape: tuple[int, int, int]) -> nn.Module:
    """The reconstruction loss that ``config.loss`` names, or a copy of the module it is.

    Args:
        config: the settings of the fit; see :meth:`FeatureLoss.from_config` for those that are read.
        image_shape: ``(channels, height, width)`` of the images to compare.

    Raises:
        FileNotFoundError: if pretrained weights are neither in the cache nor to be downloaded.
        ValueError: if the loss cannot compare such images.
    """
    if isinstance(config.loss, nn.Module):
        return copy.deepcopy(config.loss)  # it is moved and calibrated
    if config.loss not in LOSSES:
        raise ValueError(f"loss {config.loss} was a module of its user's; pass that module as loss= again")
    module, name = LOSSES[config.loss]
    loss: FeatureLoss = getattr(import_module(f"glico_augment.losses.{module}"), name).from_config(config)
    loss.check_images(image_shape)
    return loss


def loss_name(loss: Any) -> str:
    """The name by which a fit keeps its loss.

    A module is ``"<MyLoss 1f0c9a27>"``: its class, and a hash over the class, what it and its modules hold as
    attributes, and its parameters and buffers. Of an attribute that is neither a value, a collection of values nor a
    function, only the class counts.
    """
    if not isinstance(loss, nn.Module):
        return str(loss)
    hasher = hashlib.blake2b(digest_size=4)
    for name, module in loss.named_modules():
        attributes = {key: value for key, value in vars(module).items() if key not in _OF_TORCH}
        tensors = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
        hasher.update(f"{name} {_class(module)} {module.extra_repr()} {_described([attributes, tensors])}".encode())
    return f"<{type(loss).__name__} {hasher.hexdigest()}>"


def _described(value: Any, outer: tuple[Any, ...] = ()) -> str:
    """A text that is the same in every process for the same value, and another for another one.

    ``outer`` are the values that hold ``value``, one of which it may be itself.
    """
    if any(value is each for each in outer):
        return "recursive"
    described = functools.partial(_described, outer=(*outer, value))
    if isinstance(value, Tensor):
        content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return f"tensor {value.dtype} {tuple(value.shape)} {hashlib.blake2b(content).hexdigest()}"
    if isinstance(value, np.ndarray):
        return f"array {value.dtype} {value.shape} {hashlib.blake2b(value.tobytes()).hexdigest()}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(sorted(f'{described(key)}: {described(item)}' for key, item in value.items()))}}}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}({', '.join(map(described, value))})"
    if isinstance(value, (set, frozenset)):
        return f"set({', '.join(sorted(map(described, value)))})"
    if isinstance(value, (MethodType, BuiltinFunctionType, type)):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, functools.partial):
        return f"partial {described([value.func, value.args, value.keywords])}"
    if isinstance(value, FunctionType):
        enclosed = inspect.getclosurevars(value).nonlocals
        return f"function {described([value.__code__, enclosed, value.__defaults__, value.__kwdefaults__])}"
    if isinstance(value, CodeType):
        return f"code {value.co_name} {value.co_code.hex()} {described([value.co_consts, value.co_names])}"
    return repr(value) if isinstance(value, _PLAIN) else _class(value)


def _class(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, np.generic)
_OF_TORCH = tuple(vars(nn.Module()))
