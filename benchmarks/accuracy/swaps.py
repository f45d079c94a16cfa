"""The two swaps: GLICO's, and the control that averages pixels."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

import glico_augment
from accuracy.data import Split
from glico_augment import FitConfig, GLICOAugment
from glico_augment.images.values import from_unit
from glico_augment.swap.draw import SwapSettings, draw_rows


class PixelAveraging:
    """The control: ``(1 − r)·x_i + r·x_j`` of two real images of the class, with the swap's ``p`` and ``r``.

    Args:
        split: the training images.
        p: probability of a swap.
        max_ratio: ``r ~ U[0, max_ratio]``.
    """

    def __init__(self, split: Split, p: float = SwapSettings.p, max_ratio: float = SwapSettings.max_ratio) -> None:
        self.images, self.p, self.max_ratio = split.images, p, max_ratio
        self.partners = split.labels[:, None] == split.labels[None]
        self.partners.fill_diagonal_(False)

    def __call__(self, images: Tensor, labels: Tensor, indices: Tensor) -> Tensor:
        partners = self.images[torch.multinomial(self.partners[indices].float(), 1).flatten()]
        ratios = self.max_ratio * torch.rand(len(images), 1, 1, 1, device=images.device)
        mixed = (1 - ratios) * images + ratios * partners
        coins = torch.rand(len(images), 1, 1, 1, device=images.device) < self.p
        return torch.where(coins, mixed.round().to(images.dtype), images)


class GLICOSwap:
    """The library's swap with every image's own code as anchor, as ``augment.wrap(dataset)`` does it.

    Args:
        augment: a fit on the images to be swapped.
    """

    def __init__(self, augment: GLICOAugment) -> None:
        self.augment = augment

    def __call__(self, images: Tensor, labels: Tensor, indices: Tensor) -> Tensor:
        rows = draw_rows(len(images), self.augment.p).to(images.device)
        params = self.augment.make_params(labels[rows], anchors=indices[rows])
        images = images.clone()
        images[rows] = from_unit(self.augment.transform(params), images.dtype)
        return images


def fitted(split: Split, seed: int, fit: dict[str, Any], folder: Path) -> tuple[GLICOAugment, dict[str, Any]]:
    """A fit on the training images, kept in ``folder`` for the methods that share it, and what to record of it."""
    fields = dict(fit)
    preset = fields.pop("preset", None)
    side = split.images.shape[-1]
    config = FitConfig.published(image_size=side, n_images=len(split.images)) if preset else FitConfig()
    if preset:
        # Its perceptual loss needs weights that cannot always be had; the row says which loss was used.
        fields = {"loss": "random-vgg16"} | fields
    config = config.replace(precision="bfloat16", **fields)
    identity = json.dumps([glico_augment.__version__, config.to_json(), seed, _digest(split)], sort_keys=True)
    path = folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.safetensors"
    if not path.exists():
        device = split.images.device
        dataset = TensorDataset(split.images.cpu(), split.labels.cpu())
        folder.mkdir(parents=True, exist_ok=True)
        GLICOAugment.fit(dataset, config, device=device, seed=seed, progress=False).save(path)
    augment = GLICOAugment.load(path)
    augment.swap_settings = SwapSettings(noise_std=config.noise_std)  # today's defaults, not those of the file
    final = {f"final_{name}": values[-1] for name, values in augment.history.items()}
    return augment, {"config": config.to_json()} | final


def _digest(split: Split) -> str:
    return hashlib.sha256(split.images.cpu().numpy().tobytes() + split.labels.cpu().numpy().tobytes()).hexdigest()
