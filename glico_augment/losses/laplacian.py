"""The Laplacian-pyramid L1 loss of GLO, which needs no network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from glico_augment.losses.feature_loss import FeatureLoss

_COARSEST_SIDE = 4
_BINOMIAL = (1.0, 3.0, 3.0, 1.0)  # even, so that a coarse pixel lies between the two it stands for


class LaplacianLoss(FeatureLoss):
    """L1 distance between the levels of two Laplacian pyramids (Bojanowski et al. 2018, GLO; Burt & Adelson 1983).

    Works for any number of channels and any size. Levels are added until the shorter side of the residual would
    fall below 4 pixels.

    Args:
        weights: one weight a level, finest first, the low-pass residual last; all 1 if None.
        normalize: whether to divide each level by its scale on the real images, so that faint edges count as much as
            broad areas of colour.
    """

    kernel: Tensor
    is_cheap = True

    def __init__(self, weights: Sequence[float] | None = None, *, normalize: bool = True) -> None:
        super().__init__(weights, normalize=normalize)
        line = torch.tensor(_BINOMIAL, dtype=torch.float32) / sum(_BINOMIAL)
        self.register_buffer("kernel", torch.outer(line, line)[None, None], persistent=False)

    def features(self, images: Tensor) -> list[Tensor]:
        """The levels of the pyramid, finest first, then the low-pass residual."""
        levels = []
        current = images.float()
        with torch.autocast(images.device.type, enabled=False):  # a level is a small difference of large numbers
            while (min(current.shape[-2:]) + 1) // 2 >= _COARSEST_SIDE:
                coarser = self._halve(current)
                levels.append(current - _double(coarser)[..., : current.shape[-2], : current.shape[-1]])
                current = coarser
        return [*levels, current]

    def _halve(self, images: Tensor) -> Tensor:
        channels = images.shape[1]
        padded = F.pad(images, (1, 1 + images.shape[-1] % 2, 1, 1 + images.shape[-2] % 2), mode="replicate")
        return F.conv2d(padded, self.kernel.expand(channels, 1, -1, -1), stride=2, groups=channels)


def _double(images: Tensor) -> Tensor:
    return F.interpolate(images, scale_factor=2, mode="bilinear", align_corners=False)
