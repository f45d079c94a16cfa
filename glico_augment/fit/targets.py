"""The real images of a fit, compared with generated ones without recomputing what never changes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from glico_augment.images.values import to_unit
from glico_augment.losses import FeatureLoss

CACHE_BYTES = 4 * 2**30  # features of the real images are kept up to this size
_CHUNK = 64


class Targets:
    """Real images, held as uint8, with the features a loss takes of them.

    Features are computed once if they are costly and fit into ``cache_bytes``, and batch by batch otherwise.

    Args:
        images: ``(n, channels, height, width)`` uint8, on the device of the fit.
        loss: a :class:`FeatureLoss`, which is calibrated on the images, or a module ``loss(output, target)``.
        cache_bytes: most memory to keep features in.
    """

    def __init__(self, images: Tensor, loss: nn.Module, *, cache_bytes: int = CACHE_BYTES) -> None:
        self.images = images
        self.loss = loss
        self._cache: list[Tensor] | None = None
        if isinstance(loss, FeatureLoss):
            loss.calibrate(_UnitBatches(images))
            if not loss.is_cheap:
                self._cache = self._features(loss, cache_bytes)

    def unit(self, indices: Tensor) -> Tensor:
        """The images ``indices`` as float32 ``(k, channels, height, width)`` in ``[0, 1]``."""
        return to_unit(self.images[indices])

    def compare(self, outputs: Tensor, indices: Tensor) -> Tensor:
        """The loss, a scalar, of generated images against the real images ``indices``."""
        if not isinstance(self.loss, FeatureLoss) or self._cache is None:
            return self.loss(outputs, self.unit(indices))
        return self.loss.compare(self.loss.features(outputs), [features[indices] for features in self._cache])

    @torch.no_grad()
    def _features(self, loss: FeatureLoss, cache_bytes: int) -> list[Tensor] | None:
        one_image = loss.features(self.unit(torch.zeros(1, dtype=torch.int64, device=self.images.device)))
        if len(self.images) * sum(tap.numel() * tap.element_size() for tap in one_image) > cache_bytes:
            return None
        cache = [tap.new_empty(len(self.images), *tap.shape[1:]) for tap in one_image]
        start = 0
        for images in _UnitBatches(self.images):
            for kept, tap in zip(cache, loss.features(images), strict=True):
                kept[start : start + len(images)] = tap
            start += len(images)
        return cache


class _UnitBatches:
    """uint8 images as batches of floats in ``[0, 1]``, as often as they are asked for."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __iter__(self) -> Iterator[Tensor]:
        return (to_unit(chunk) for chunk in self.images.split(_CHUNK))
