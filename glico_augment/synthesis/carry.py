"""The detail of photographs in synthetic images: what the generator misses of both is carried along the path.

``x̂ = G(z_r) + (1 − r)·e_i + r·e_j`` with ``e = x − G([z, 0])`` is the blend of the two photographs and a correction,
``x̂ = (1 − r)·x_i + r·x_j + Δ`` with ``Δ = G(z_r) − (1 − r)·G(z_i) − r·G(z_j)``. At another size than that of the fit
the ratio and the correction are enlarged to the photographs, whose own detail stays.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from glico_augment.images.values import to_unit
from glico_augment.model.model import GLICOModel
from glico_augment.synthesis.draw import SwapParams

_CHUNK = 1024


class Photographs(NamedTuple):
    """The labelled images of a fit, uint8, and what the generator makes of them, ``G([z_i, 0])``, float16."""

    images: Tensor
    reconstructions: Tensor

    @classmethod
    def of(cls, model: GLICOModel, images: Tensor) -> Photographs:
        """Those of a model, on its device."""
        indices = torch.arange(len(images), device=model.device)
        made = [model.reconstruct(chunk).half() for chunk in indices.split(_CHUNK)]
        return cls(images.to(model.device), torch.cat(made))


class Correction(NamedTuple):
    """What makes a synthetic image of two photographs, for ``k`` images, by the code indices of both.

    Attributes:
        ratios: ``(k, 1, h, w)`` the share of the partner's photograph; 0 where there is none (``"noise"``,
            ``"random-out"``).
        delta: ``(k, channels, height, width)`` the correction ``Δ`` at the fitted size; 0 at both ends of a path
            without noise.
    """

    anchors: Tensor
    partners: Tensor
    ratios: Tensor
    delta: Tensor

    @classmethod
    def of(cls, made: Tensor, params: SwapParams, photographs: Photographs) -> Correction:
        """That of generated images ``G([z_r, ε])``, ``(k, channels, height, width)``."""
        ratios = params.ratios[:, None] if params.ratios.ndim == 3 else params.ratios.view(-1, 1, 1, 1)
        ratios = ratios if params.ends is None else torch.zeros_like(ratios)
        first, second = (photographs.reconstructions[each].float() for each in (params.anchors, params.partners))
        return cls(params.anchors, params.partners, ratios, made - _blend(first, second, ratios))

    def at_fitted_size(self, photographs: Photographs) -> Tensor:
        """The synthetic images of the photographs of the fit, float32 ``(k, channels, height, width)``."""
        first, second = (to_unit(photographs.images[each]) for each in (self.anchors, self.partners))
        return carried(first, second, self.ratios, self.delta)


def carried(first: Tensor, second: Tensor, ratios: Tensor, delta: Tensor) -> Tensor:
    """``(1 − r)·x_i + r·x_j + Δ``, clamped to ``[0, 1]``, of photographs ``(k, channels, height, width)`` of any size,
    with ratios and delta of a :class:`Correction`.
    """
    size = (first.shape[-2], first.shape[-1])
    return (_blend(first, second, ratios) + _enlarged(delta, size)).clamp_(0, 1)


def _blend(first: Tensor, second: Tensor, ratios: Tensor) -> Tensor:
    return torch.lerp(first, second, _enlarged(ratios, (first.shape[-2], first.shape[-1])))


def _enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if maps.shape[-2:] in ((1, 1), size):
        return maps
    down, across = (_linear(*lengths).to(maps) for lengths in zip(maps.shape[-2:], size, strict=True))
    return down @ maps @ across.T


@lru_cache(maxsize=16)
def _linear(length: int, longer: int) -> Tensor:
    """The matrix of linear interpolation; two of them are bilinear interpolation, several times as fast on a CPU."""
    identity = torch.eye(length, device="cpu", dtype=torch.float32)
    return F.interpolate(identity[None], longer, mode="linear", align_corners=False)[0].T.contiguous()
