"""Fits that are made once and kept for everything that is measured on them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

import glico_augment
from glico_augment import FitConfig, GLICOAugment, SwapConfig


def fitted(
    images: Tensor,
    labels: Tensor | None,
    folder: Path,
    *,
    seed: int,
    unlabeled: Tensor | None = None,
    preset: str = "default",
    device: str | torch.device = "cpu",
    **settings: Any,
) -> tuple[GLICOAugment, dict[str, Any]]:
    """A fit of uint8 images, kept in ``folder``, and what to record of it.

    Without labels all images are fitted so, else those of ``unlabeled``. ``settings`` are fields of the fit. A second
    process that wants the same fit waits for the first.
    """
    if preset == "published":
        # Its perceptual loss needs weights that cannot always be had; the row says which loss was used.
        settings = {"loss": "random-vgg16"} | settings
    parts = [None if part is None else digest(part) for part in (images, labels, unlabeled)]
    identity = [glico_augment.__version__, FitConfig().to_json(), preset, settings, seed, *parts]
    path = folder / f"{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]}.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    seconds = None
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            start = time.perf_counter()
            data = images.cpu() if labels is None else TensorDataset(images.cpu(), labels.cpu())
            further = None if unlabeled is None else TensorDataset(unlabeled.cpu())
            options = {"unlabeled": further, "device": device, "seed": seed, "progress": False}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of a fit that has not learned: its R² is in the row
                GLICOAugment.fit(data, preset=preset, **options, **settings).save(path)
            seconds = time.perf_counter() - start
    augment = GLICOAugment.load(path)
    augment.swap = SwapConfig()  # the defaults of today, not those of the file
    record = {"config": augment.config.to_json(), "r2": augment.quality.r2, "restarts": augment.record.restarts}
    record |= {f"final_{name}": values[-1] for name, values in augment.history.items()}
    return augment, record | {"fit_seconds": seconds}


def fitted_without_labels(
    images: Tensor, max_steps: int, folder: Path, *, seed: int, device: str
) -> tuple[GLICOAugment, dict[str, Any]]:
    """A default fit of images alone, of at most ``max_steps``."""
    steps = min(FitConfig().resolved(len(images), tuple(images.shape[1:])).steps, max_steps)
    augment, record = fitted(images, None, folder, seed=seed, device=device, steps=steps)
    figures = {"fit_steps": steps, "r2_fitted": record["r2"]}
    return augment, figures | {name: record[name] for name in ("restarts", "fit_seconds")}


def digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.cpu().numpy().tobytes()).hexdigest()


def to_bytes(unit: Tensor) -> Tensor:
    """Images in ``[0, 1]`` as uint8."""
    return (255 * unit).round().clamp(0, 255).to(torch.uint8)


def kept(folder: Path, name: str, identity: Any, make: Callable[[], Any]) -> Any:
    """What ``make`` returns, of tensors and plain values, from a file of ``folder`` if it is there."""
    path = folder / f"{name}-{hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]}.pt"
    if not path.exists():
        made = make()
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(made, path)
    return torch.load(path, weights_only=True)
