"""What is done to the images of a batch: GLICO's swap, the control that averages pixels, and styles."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from glico_augment.swap.draw import draw_rows
from torch import Tensor
from torch.utils.data import TensorDataset

import glico_augment
from accuracy.data import Split
from glico_augment import FitConfig, GLICOAugment, LocalStyle, SwapConfig
from glico_augment.images.values import from_unit


class PixelAveraging:
    """The control: ``(1 − r)·x_i + r·x_j`` of two real images of the class, with the swap's ``p`` and ``r``.

    Args:
        split: the training images.
        p: probability of a swap.
        max_ratio: ``r ~ U[0, max_ratio]``.
        other_class: whether ``x_j`` is of another class instead; the label stays that of ``x_i``.

    Raises:
        ValueError: if an image has no partner.
    """

    def __init__(
        self, split: Split, p: float = SwapConfig.p, max_ratio: float = 1.0, *, other_class: bool = False
    ) -> None:
        self.images, self.p, self.max_ratio = split.images, p, max_ratio
        self.partners = (split.labels[:, None] == split.labels[None]) != other_class
        self.partners.fill_diagonal_(False)
        if not bool(self.partners.any(dim=1).all()):
            raise ValueError("there is nothing to average with: an image is the only one of its class")

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
        made, _ = self.augment.make(labels[rows], anchors=indices[rows])
        images = images.clone()
        images[rows] = from_unit(made, images.dtype)
        return images


class StyleChange:
    """The library's ``LocalStyle`` of the training images, on a batch.

    Args:
        split: the training images.
        options: of the transform.
    """

    def __init__(self, split: Split, **options: Any) -> None:
        self.style = LocalStyle(TensorDataset(split.images.cpu(), split.labels.cpu()), **options)

    def __call__(self, images: Tensor) -> Tensor:
        return self.style(images)


def fitted(
    split: Split, seed: int, fit: dict[str, Any], folder: Path, unlabeled: Tensor | None = None
) -> tuple[GLICOAugment, dict[str, Any]]:
    """A fit on the training images, kept in ``folder`` for the methods that share it, and what to record of it.

    Args:
        split: the training images.
        seed: of the fit.
        fit: fields of the fit, and ``preset``.
        folder: where fits are kept.
        unlabeled: further images ``(n, 3, side, side)``, for the transductive mode.
    """
    fields = dict(fit)
    preset = fields.pop("preset", "default")
    if preset == "published":
        # Its perceptual loss needs weights that cannot always be had; the row says which loss was used.
        fields = {"loss": "random-vgg16"} | fields
    extra = None if unlabeled is None else hashlib.sha256(unlabeled.cpu().numpy().tobytes()).hexdigest()
    defaults = FitConfig().to_json()
    identity = json.dumps([glico_augment.__version__, defaults, preset, fields, seed, _digest(split), extra])
    path = folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.safetensors"
    if not path.exists():
        dataset = TensorDataset(split.images.cpu(), split.labels.cpu())
        further = None if unlabeled is None else TensorDataset(unlabeled.cpu())
        folder.mkdir(parents=True, exist_ok=True)
        GLICOAugment.fit(
            dataset, preset=preset, unlabeled=further, device=split.images.device, seed=seed, progress=False, **fields
        ).save(path)
    augment = GLICOAugment.load(path)
    augment.swap = SwapConfig()  # the defaults of today, not those of the file
    final = {f"final_{name}": values[-1] for name, values in augment.history.items()}
    kept = {"config": augment.config.to_json(), "r2": augment.quality.r2, "restarts": augment.record.restarts}
    return augment, kept | final


def _digest(split: Split) -> str:
    return hashlib.sha256(split.images.cpu().numpy().tobytes() + split.labels.cpu().numpy().tobytes()).hexdigest()
