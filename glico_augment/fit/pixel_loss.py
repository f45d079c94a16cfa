"""What a fit adds to its reconstruction loss: distances of pixels, in units of what the mean image costs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from glico_augment.config import FitConfig
from glico_augment.fit.quality import ROUNDING, mean_image
from glico_augment.images.values import to_unit

_CHUNK = 256


class PixelLoss:
    """The absolute and the squared distance of pixels, weighed as :class:`FitConfig` says.

    Args:
        images: ``(m, channels, height, width)`` uint8, the labelled images of the fit, on its device.
        config: its ``pixel_weight`` and ``squared_weight`` are read.

    Attributes:
        mean_image: of the images, float32 ``(channels, height, width)`` in ``[0, 1]``.
    """

    def __init__(self, images: Tensor, config: FitConfig) -> None:
        self.config = config
        self.mean_image = mean_image(images)
        chunks = images.split(_CHUNK)
        total = sum(float((to_unit(chunk) - self.mean_image).square().sum(dtype=torch.float64)) for chunk in chunks)
        self._spread = max(total / images.numel(), ROUNDING)
        self._surprise = max(sum(self._surprise_of_mean(chunk) for chunk in chunks) / len(images), ROUNDING)

    def __call__(self, outputs: Tensor, targets: Tensor, *, restarts: int) -> Tensor:
        """The loss, a scalar, of images ``(k, channels, height, width)`` in ``[0, 1]`` against real ones.

        Args:
            outputs: generated images.
            targets: real images.
            restarts: how often the fit started again, after which the cross-entropy stands for the squared distance.
        """
        loss = outputs.new_zeros(())
        if self.config.pixel_weight:
            loss = loss + self.config.pixel_weight * F.l1_loss(outputs, targets)
        if self.config.squared_weight and restarts == 0:
            loss = loss + self.config.squared_weight / self._spread * F.mse_loss(outputs, targets)
        elif self.config.squared_weight:
            entropy = cross_entropy_of_pixels(outputs, targets)
            loss = loss + self.config.squared_weight / self._surprise * entropy
        return loss

    def _surprise_of_mean(self, images: Tensor) -> float:
        """What the mean image has above the images themselves of the cross-entropy of pixels, added over images."""
        real = to_unit(images)
        mean = self.mean_image.expand_as(real)
        return float(cross_entropy_of_pixels(mean, real) - cross_entropy_of_pixels(real, real)) * len(images)


def cross_entropy_of_pixels(outputs: Tensor, targets: Tensor) -> Tensor:
    """``−mean(t·ln o + (1 − t)·ln(1 − o))``, a scalar, of images ``(k, channels, height, width)`` in ``[0, 1]``."""
    with torch.autocast(outputs.device.type, enabled=False):  # which refuses it
        return F.binary_cross_entropy(outputs.float(), targets)
