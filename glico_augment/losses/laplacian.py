"""The Laplacian-pyramid L1 loss of GLO, which needs no network."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from glico_augment.losses.feature_loss import FeatureLoss

_MIN_SIDE = 4
_BINOMIAL = (1.0, 3.0, 3.0, 1.0)  # even, so that a coarse pixel lies halfway between two fine ones


class LaplacianLoss(FeatureLoss):
    """L1 distance between the levels of two Laplacian pyramids (Bojanowski et al. 2018, GLO; Burt & Adelson 1983).

    Works for any number of channels and any size. Levels are added until the shorter side of the residual would
    fall below 4 pixels.

    Args:
        weights: one per level, finest first, the low-pass residual last; all 1 if None.
        normalize: whether to divide each level by its scale on the real images.
    """

    is_cheap = True

    def features(self, images: Tensor) -> list[Tensor]:
        """The levels of the pyramid, finest first, then the low-pass residual."""
        levels = []
        current, device = images.float(), images.device
        with torch.autocast(device.type, enabled=False):  # a level is a small difference of large numbers
            while (min(current.shape[-2:]) + 1) // 2 >= _MIN_SIDE:
                height, width = current.shape[-2:]
                # At these sizes products of matrices are faster than strided filters, on any device.
                coarser = _halving(height, device) @ (current @ _halving(width, device).T)
                levels.append(current - _doubling(height, device) @ (coarser @ _doubling(width, device).T))
                current = coarser
        return [*levels, current]


@lru_cache
@torch.inference_mode(False)  # a cached inference tensor would break the gradients of a later fit
def _halving(side: int, device: torch.device) -> Tensor:
    """The matrix from ``side`` pixels to half as many, rounded up: the binomial filter, borders repeated."""
    coarse = torch.arange((side + 1) // 2)[:, None]
    weights = torch.tensor(_BINOMIAL, dtype=torch.float32) / sum(_BINOMIAL)
    return _filters(2 * coarse + torch.arange(-1, 3), weights.expand(len(coarse), 4), side).to(device)


@lru_cache
@torch.inference_mode(False)
def _doubling(side: int, device: torch.device) -> Tensor:
    """The matrix from half of ``side`` pixels, rounded up, to ``side``: linear interpolation, borders repeated."""
    fine = torch.arange(side)
    nearest = fine // 2
    beside = nearest + torch.where(fine % 2 == 0, -1, 1)
    weights = torch.tensor([0.75, 0.25], dtype=torch.float32).expand(side, 2)
    return _filters(torch.stack([nearest, beside], dim=1), weights, (side + 1) // 2).to(device)


def _filters(places: Tensor, weights: Tensor, side: int) -> Tensor:
    """The matrix whose row ``i`` weights the pixels ``places[i]`` of ``side``, clamped to the border."""
    return torch.zeros(len(places), side, dtype=torch.float32).scatter_add_(1, places.clamp(0, side - 1), weights)
