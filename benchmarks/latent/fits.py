"""Fits without labels, kept for all that is measured on them."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from pathlib import Path
from typing import Any

from torch import Tensor

import glico_augment
from glico_augment import FitConfig, GLICOAugment


def fitted(images: Tensor, seed: int, max_steps: int, folder: Path, device: str) -> tuple[GLICOAugment, dict[str, Any]]:
    """A default fit of images alone, of ``max_steps`` at most, and what to record of it.

    Args:
        images: ``(n, channels, height, width)`` uint8.
        seed: of the fit.
        max_steps: the defaults ask for 100 passes, and at least 600 steps.
        folder: where fits are kept.
        device: where to fit.
    """
    config = FitConfig()
    steps = config.resolved(len(images), (images.shape[1], images.shape[2], images.shape[3])).steps
    assert steps is not None
    steps = min(steps, max_steps)
    identity = json.dumps([glico_augment.__version__, config.to_json(), steps, seed, _digest(images)])
    path = folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.safetensors"
    start = time.perf_counter()
    is_kept = path.exists()
    if not is_kept:
        folder.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a fit that has not learned: its R² is in the row
            GLICOAugment.fit(images, steps=steps, seed=seed, device=device, progress=False).save(path)
    seconds = None if is_kept else time.perf_counter() - start
    augment = GLICOAugment.load(path)
    record = {"fit_steps": steps, "r2_fitted": augment.quality.r2, "restarts": augment.record.restarts}
    return augment, record | {"fit_seconds": seconds}


def _digest(images: Tensor) -> str:
    return hashlib.sha256(images.numpy().tobytes()).hexdigest()
