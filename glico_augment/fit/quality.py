"""How well a fit rebuilds its images."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor

from glico_augment.images.values import to_unit
from glico_augment.model.model import GLICOModel

MIN_R2 = 0.5
"""Under it a fit has not learned its images, and says so."""

ROUNDING = (0.5 / 255) ** 2
"""Squared distance a pixel below which 8-bit images do not differ."""

_N_WORST = 8
_CHUNK = 256


@dataclass(frozen=True)
class FitQuality:
    """How much of the images' variation the generator rebuilds from their codes, without noise.

    Attributes:
        r2: ``1 − Σ‖G([z_i, 0]) − x_i‖² / Σ‖x̄ − x_i‖²`` over the labelled images, ``x̄`` their mean image: 1 for perfect
            reconstructions, 0 for a generator that draws the mean image whatever the code.
        per_class: the same over the images of each class, against the mean of all, in ascending order of labels.
        worst: indices of the images of largest squared error, worst first, at most 8.
    """

    r2: float
    per_class: tuple[float, ...]
    worst: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """The attributes as JSON values."""
        return {"r2": self.r2, "per_class": list(self.per_class), "worst": list(self.worst)}

    @classmethod
    def from_json(cls, values: Any, *, n_classes: int, n_images: int) -> FitQuality:
        """The inverse of :meth:`to_json`; KeyError, TypeError or ValueError for what that makes of no such set."""
        r2, per_class, worst = values["r2"], values["per_class"], values["worst"]
        numbers = [r2, *per_class]
        if len(per_class) != n_classes or not all(isinstance(each, float) and -inf < each <= 1 for each in numbers):
            raise ValueError("quality must have a finite r2 of at most 1, and one per class")
        if not all(isinstance(index, int) and 0 <= index < n_images for index in worst):
            raise ValueError("quality must name the worst images by their indices")
        return cls(r2, tuple(per_class), tuple(worst))

    @property
    def is_poor(self) -> bool:
        """Whether the generator has not learned its images."""
        return self.r2 < MIN_R2


@torch.no_grad()
def measure(model: GLICOModel, images: Tensor, *, limit: int | None = None) -> FitQuality:
    """The quality of a model on its labelled images, uint8 at the fitted size: all, or ``limit`` over the set."""
    mean = mean_image(images)
    errors, distances = [], []
    looked_at = torch.arange(0, len(images), 1 if limit is None else -(-len(images) // limit), device=images.device)
    for indices in looked_at.split(_CHUNK):
        real = to_unit(images[indices])
        errors.append((model.reconstruct(indices) - real).square().flatten(1).sum(dim=1).double().cpu())
        distances.append((mean - real).square().flatten(1).sum(dim=1).double().cpu())
    error, distance = torch.cat(errors), torch.cat(distances)
    distance = distance.clamp(min=ROUNDING * images[0].numel())
    classes = model.codes.class_indices[looked_at].cpu()
    n_classes = len(model.codes.classes)
    error_of, distance_of = (torch.zeros(n_classes).double().index_add(0, classes, each) for each in (error, distance))
    worst = error.argsort(descending=True, stable=True)[:_N_WORST]
    return FitQuality(
        r2=float(1 - error.sum() / distance.sum()),
        per_class=tuple((1 - error_of / distance_of.clamp(min=ROUNDING)).tolist()),
        worst=tuple(looked_at.cpu()[worst].tolist()),
    )


def mean_image(images: Tensor) -> Tensor:
    """The average of uint8 images ``(m, channels, height, width)``, float32 ``(channels, height, width)`` in [0, 1]."""
    total = sum(to_unit(chunk).sum(dim=0) for chunk in images.split(_CHUNK))
    return torch.as_tensor(total) / len(images)
