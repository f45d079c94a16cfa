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
from glico_augment.files.format import WRONG, check_tensors, read_file, reason, with_prefix, without_prefix, write_file
from glico_augment.fit.progress import LOSS_PARTS
from glico_augment.fit.quality import FitQuality
from glico_augment.fit.record import FitRecord, Fitted
from glico_augment.images.identity import fingerprint
from glico_augment.model.codes import SphereCodes
from glico_augment.model.model import GLICOModel


def save_model(path: str | Path, fitted: Fitted, swap: SwapConfig) -> None:
    """Write a fitted model, on any device, to one safetensors file, as ``docs/files.md`` describes it.

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
        "losses": record.losses,
        **with_prefix("generator.", model.generator.state_dict()),
        **with_prefix("classifier.", model.classifier.state_dict()),
    }
    tensors = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    quality = None if record.quality is None else record.quality.to_json()
    info = {**record.identity(), "restarts": record.restarts, "quality": quality, "swap": swap.to_json()}
    try:
        _build(tensors, info)
    except WRONG as error:
        raise ValueError(f"{path} is not written, as it could not be read again: {reason(error)}") from error
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
    except WRONG as error:
        raise FileFormatError(f"{path} is damaged: {reason(error)}") from error


def _build(tensors: dict[str, Tensor], info: dict[str, Any]) -> tuple[Fitted, SwapConfig]:
    """What :func:`load_model` returns, of the content of a file; raises one of ``WRONG`` if its parts do not fit."""
    codes = SphereCodes.read(tensors)
    record = _read_record(tensors, info, codes)
    swap = SwapConfig.from_json(info["swap"])
    with torch.inference_mode(False), cpu_by_default():  # whatever context and default the caller has
        # Without storage until the tensors are known to fit: the sizes in a header may be any.
        model = GLICOModel(codes, record.config, record.image_shape, device="meta")
        expected = {
            "codes": codes.codes,
            "labels": codes.labels,
            "images": torch.empty(codes.n_labeled, *record.image_shape, dtype=torch.uint8, device="meta"),
            "digests": torch.empty(len(codes), dtype=torch.int64),
            "losses": torch.empty((*record.losses.shape[:1], len(LOSS_PARTS)), dtype=torch.float32),
            **with_prefix("generator.", model.generator.state_dict()),
            **with_prefix("classifier.", model.classifier.state_dict()),
        }
        check_tensors(tensors, expected)
        for prefix, network in (("generator.", model.generator), ("classifier.", model.classifier)):
            network.to_empty(device="cpu").load_state_dict(without_prefix(prefix, tensors))
    return Fitted(model, tensors["images"], record), swap


def _read_record(tensors: dict[str, Tensor], info: dict[str, Any], codes: SphereCodes) -> FitRecord:
    names = info["class_names"]
    if not (isinstance(names, list) and all(name is None or isinstance(name, str) for name in names)):
        raise TypeError("class_names must be a list of strings and nulls")
    shape = checks.sequence_of(checks.integer(1), "three positive integers", 3)("image_shape", info["image_shape"])
    seed, restarts = (checks.integer(0)(name, info[name]) for name in ("seed", "restarts"))
    is_labeled = checks.boolean("is_labeled", info["is_labeled"])
    if not is_labeled and bool(codes.labels.any()):
        raise ValueError("its images have no labels, as it says, and labels")
    config = FitConfig.from_json(info["config"])
    if codes.latent_dim != config.latent_dim or len(codes.classes) != len(names):
        raise ValueError("its codes and its header do not fit together")
    if fingerprint(tensors["digests"], codes.labels) != info["fingerprint"]:
        raise ValueError("its fingerprint is not that of its labels and digests")
    return FitRecord(
        config,
        tuple(names),
        (shape[0], shape[1], shape[2]),
        tensors["digests"],
        fingerprint=info["fingerprint"],
        seed=seed,
        is_labeled=is_labeled,
        restarts=restarts,
        quality=FitQuality.from_json(info["quality"], n_classes=len(names), n_images=codes.n_labeled),
        losses=tensors["losses"],
    )
