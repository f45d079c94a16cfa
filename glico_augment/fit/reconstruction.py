"""What generated images are compared with: the real images, their features, and distances of pixels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glico_augment.config import FitConfig
from glico_augment.fit.quality import ROUNDING, mean_image
from glico_augment.images.values import to_unit
from glico_augment.losses import FeatureLoss

CACHE_BYTES = 4 * 2**30  # features of the real images are kept up to this size
_FEATURE_CHUNK = 64
_PIXEL_CHUNK = 256


class Targets:
    """Real images ``(n, channels, height, width)``, held as uint8, with the features a loss takes of them.

    Features are computed once if they are costly and fit into ``cache_bytes``, and batch by batch otherwise. The loss
    is calibrated on the first ``n_calibration`` images, which a fit keeps; on all if None.
    """

    def __init__(
        self, images: Tensor, loss: nn.Module, *, n_calibration: int | None = None, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self.images = images
        self.loss = loss
        self._cache: list[Tensor] | None = None
        if isinstance(loss, FeatureLoss):
            loss.calibrate(_UnitBatches(images[:n_calibration]))
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
        one_image = loss.features(to_unit(self.images[:1]))
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
    """uint8 images as batches of floats in ``[0, 1]``, which can be iterated over again and again."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __iter__(self) -> Iterator[Tensor]:
        return (to_unit(chunk) for chunk in self.images.split(_FEATURE_CHUNK))


class PixelLoss:
    """The absolute and the squared distance of pixels, in units of what predicting the mean image costs.

    ``images`` are the labelled ones of the fit, uint8 ``(m, channels, height, width)``.
    """

    def __init__(self, images: Tensor, config: FitConfig) -> None:
        self.config = config
        self.mean_image = mean_image(images)
        squares = entropy = 0.0
        for chunk in images.split(_PIXEL_CHUNK):
            real = to_unit(chunk)
            squares += float((real - self.mean_image).square().sum(dtype=torch.float64))
            mean = self.mean_image.expand_as(real)
            entropy += float(cross_entropy_of_pixels(mean, real) - cross_entropy_of_pixels(real, real)) * len(chunk)
        self._spread = max(squares / images.numel(), ROUNDING)
        self._excess_entropy = max(entropy / len(images), ROUNDING)

    def __call__(self, outputs: Tensor, targets: Tensor, *, restarts: int) -> Tensor:
        """The loss, a scalar, of images ``(k, channels, height, width)`` in ``[0, 1]`` against real ones.

        Once a fit has started again, the cross-entropy of pixels replaces the squared distance.
        """
        loss = outputs.new_zeros(())
        if self.config.pixel_weight:
            loss = loss + self.config.pixel_weight * F.l1_loss(outputs, targets)
        if self.config.squared_weight and restarts == 0:
            loss = loss + self.config.squared_weight / self._spread * F.mse_loss(outputs, targets)
        elif self.config.squared_weight:
            entropy = cross_entropy_of_pixels(outputs, targets)
            loss = loss + self.config.squared_weight / self._excess_entropy * entropy
        return loss


def cross_entropy_of_pixels(outputs: Tensor, targets: Tensor) -> Tensor:
    """``−mean(t·ln o + (1 − t)·ln(1 − o))``, a scalar, of images ``(k, channels, height, width)`` in ``[0, 1]``."""
    with torch.autocast(outputs.device.type, enabled=False):  # which refuses it
        return F.binary_cross_entropy(outputs.float(), targets)
