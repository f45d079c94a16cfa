"""The file of a fitted model: codes, networks, images, and the record of the fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glico_augment import checks
from glico_augment.config import FitConfig, SwapConfig
from glico_augment.devices import cpu_by_default
from glico_augment.errors import FileFormatError
from glico_augment.files.format import read_file, write_file
from glico_augment.files.tensors import check_tensors, under, with_prefix
from glico_augment.fit.progress import LOSS_PARTS
from glico_augment.fit.quality import FitQuality
from glico_augment.fit.record import FitRecord, Fitted
from glico_augment.images.identity import fingerprint
from glico_augment.model.codes import SphereCodes
from glico_augment.model.model import GLICOModel


def save_model(path: str | Path, fitted: Fitted, swap: SwapConfig) -> None:
    """Write a fitted model to one safetensors file.

    Tensors: ``codes``, ``labels``, ``images``, ``digests``, ``glimpses``, ``losses``, ``generator.*`` and
    ``classifier.*``.

    Args:
        path: the file.
        fitted: the model, on any device, the labelled images and the record.
        swap: how the images are to be swapped.

    Raises:
        ValueError: if the model is no longer what a fit makes, so that it could not be read again.
        OSError: if the file cannot be written; an older file of that name is left as it was.
    """
    model, images, record = fitted
    tensors = {
        "codes": model.codes.codes,
        "labels": model.codes.labels,
        "images": images,
        "digests": record.digests,
        "glimpses": record.glimpses,
        "losses": record.losses,
        **with_prefix("generator.", model.generator.state_dict()),
        **with_prefix("classifier.", model.classifier.state_dict()),
    }
    quality = None if record.quality is None else record.quality.to_json()
    info = {**record.identity(), "restarts": record.restarts, "quality": quality, "swap": swap.to_json()}
    tensors = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    try:
        _build(tensors, info)
    except _WRONG as error:
        raise ValueError(f"{path} is not written, as it could not be read again: {_reason(error)}") from error
    write_file(path, tensors, info)


def load_model(path: str | Path) -> tuple[Fitted, SwapConfig]:
    """Read a file of :func:`save_model`, onto the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        FileFormatError: if it is not whole, or its header and its tensors do not fit together.
    """
    tensors, info = read_file(path)
    try:
        return _build(tensors, info)
    except _WRONG as error:
        raise FileFormatError(f"{path} is damaged: {_reason(error)}") from error


def _build(tensors: dict[str, Tensor], info: dict[str, Any]) -> tuple[Fitted, SwapConfig]:
    """What :func:`load_model` returns, of the content of a file.

    Raises:
        KeyError, TypeError, ValueError, RuntimeError, OverflowError: if its parts do not fit together.
    """
    codes = SphereCodes.read(tensors)
    record = _read_record(tensors, info, codes)
    swap = SwapConfig.from_json(info["swap"])
    # Without storage until the file is known to fill it: a width in a header costs nothing to claim.
    with torch.inference_mode(False), cpu_by_default():  # whatever context and default the caller has
        model = GLICOModel(codes, record.config, record.image_shape, device="meta")
        for prefix, network in (("generator.", model.generator), ("classifier.", model.classifier)):
            stored = under(prefix, tensors)
            check_tensors(stored, network.state_dict())
            network.to_empty(device="cpu").load_state_dict(stored)
    images = tensors["images"]
    if images.dtype != torch.uint8 or images.shape != (codes.n_labeled, *record.image_shape):
        raise ValueError(f"its images must be uint8 of shape {(codes.n_labeled, *record.image_shape)}")
    return Fitted(model, images, record), swap


_WRONG = (KeyError, TypeError, ValueError, RuntimeError, OverflowError)


def _reason(error: Exception) -> str:
    return f"it lacks {error}" if isinstance(error, KeyError) else str(error)


def _read_record(tensors: dict[str, Tensor], info: dict[str, Any], codes: SphereCodes) -> FitRecord:
    names, shape, seed, restarts = info["class_names"], info["image_shape"], info["seed"], info["restarts"]
    if not (isinstance(names, list) and all(name is None or isinstance(name, str) for name in names)):
        raise TypeError("class_names must be a list of strings and nulls")
    if not (isinstance(shape, list) and len(shape) == 3 and all(isinstance(n, int) and n > 0 for n in shape)):
        raise TypeError("image_shape must be three positive integers")
    if not isinstance(seed, int) or not isinstance(restarts, int) or not isinstance(info["fingerprint"], str):
        raise TypeError("seed and restarts must be integers and fingerprint a string")
    losses, digests, glimpses = tensors["losses"], tensors["digests"], tensors["glimpses"]
    if losses.dtype != torch.float32 or losses.ndim != 2 or losses.shape[1] != len(LOSS_PARTS):
        raise ValueError(f"losses must be float32 and have {len(LOSS_PARTS)} columns")
    is_labeled = checks.boolean("is_labeled", info["is_labeled"])
    if not is_labeled and bool(codes.labels.any()):
        raise ValueError("its images have no labels, as it says, and labels")
    config = FitConfig.from_json(info["config"])
    if codes.latent_dim != config.latent_dim or len(codes.classes) != len(names):
        raise ValueError("its codes and its header do not fit together")
    if digests.dtype != torch.int64 or digests.shape != (len(codes),):
        raise ValueError("its digests are not integers, one a code")
    if fingerprint(digests, codes.labels) != info["fingerprint"]:
        raise ValueError("its fingerprint is not that of its labels and digests")
    if glimpses.dtype != torch.int64 or glimpses.shape != digests.shape:
        raise ValueError("its glimpses are not integers, one a digest")
    quality = FitQuality.from_json(info["quality"], n_classes=len(names), n_images=codes.n_labeled)
    return FitRecord(
        config,
        tuple(names),
        (shape[0], shape[1], shape[2]),
        digests,
        glimpses,
        info["fingerprint"],
        seed,
        is_labeled,
        restarts,
        quality,
        losses,
    )
