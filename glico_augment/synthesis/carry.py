"""The detail of photographs in synthetic images: what the generator misses of both is carried along the path."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from glico_augment.images.values import to_unit
from glico_augment.model.model import GLICOModel
from glico_augment.synthesis.draw import SwapParams


class Photographs(NamedTuple):
    """The labelled images of a fit and what the generator makes of them, ``G([z_i, 0])``, on one device.

    Attributes:
        images: ``(m, channels, height, width)`` uint8.
        reconstructions: of the same shape, float16 in ``[0, 1]``.
    """

    images: Tensor
    reconstructions: Tensor

    @classmethod
    def of(cls, model: GLICOModel, images: Tensor) -> Photographs:
        """Those of a model, made once."""
        indices = torch.arange(len(images), device=model.device)
        made = [model.reconstruct(chunk).half() for chunk in indices.split(_CHUNK)]
        return cls(images.to(model.device), torch.cat(made))


_CHUNK = 1024


def correction(made: Tensor, params: SwapParams, photographs: Photographs) -> Tensor:
    """What a path adds to the blend of its two photographs, ``Δ = G(z_r) − (1 − r)·G(z_i) − r·G(z_j)``.

    Args:
        made: ``G([z_r, ε])``, ``(k, channels, height, width)``.
        params: of the ``k`` images.
        photographs: of the fit.

    Returns:
        ``(k, channels, height, width)``, 0 at both ends of a path without noise.
    """
    first, second = (photographs.reconstructions[each].float() for each in (params.anchors, params.partners))
    return made - blend(first, second, blend_ratios(params))


def blend_ratios(params: SwapParams) -> Tensor:
    """The share of the partner's photograph, ``(k, 1, h, w)``; 0 where there is none (``noise``, ``random-out``)."""
    ratios = params.ratios[:, None] if params.ratios.ndim == 3 else params.ratios.view(-1, 1, 1, 1)
    return ratios if params.ends is None else torch.zeros_like(ratios)


def blend(first: Tensor, second: Tensor, ratios: Tensor) -> Tensor:
    """``(1 − r)·x_i + r·x_j`` of images ``(k, channels, height, width)``, ``r`` enlarged to them bilinearly."""
    size = (first.shape[-2], first.shape[-1])
    if ratios.shape[-2:] != (1, 1) and ratios.shape[-2:] != size:
        ratios = F.interpolate(ratios, size, mode="bilinear", align_corners=False)
    return torch.lerp(first, second, ratios.expand(-1, 1, -1, -1))


def carried(first: Tensor, second: Tensor, ratios: Tensor, delta: Tensor) -> Tensor:
    """``x̂ = (1 − r)·x_i + r·x_j + Δ``, clamped: with :func:`correction` the same as ``G(z_r) + (1 − r)·e_i + r·e_j``,
    ``e = x − G([z, 0])``, at the size of the fit. At any other, ratio and correction are enlarged to the photographs,
    whose own detail stays.

    Args:
        first: photographs of the anchors, ``(k, channels, height, width)`` in ``[0, 1]``.
        second: those of the partners, of the same shape.
        ratios: ``(k, 1, h, w)``, those of :func:`blend_ratios`.
        delta: ``(k, channels, h, w)``, the correction.
    """
    size = (first.shape[-2], first.shape[-1])
    if delta.shape[-2:] != size:
        delta = F.interpolate(delta, size, mode="bilinear", align_corners=False)
    return (blend(first, second, ratios) + delta).clamp_(0, 1)


def carried_at_fitted_size(made: Tensor, params: SwapParams, photographs: Photographs) -> Tensor:
    """The images of :func:`carried` of the photographs of the fit, at its size."""
    first, second = (to_unit(photographs.images[each]) for each in (params.anchors, params.partners))
    return carried(first, second, blend_ratios(params), correction(made, params, photographs))
