"""The detail of photographs in synthetic images: what the generator misses of both is carried along the path.

At the size of the fit ``x̂ = G(z_r) + (1 − r)·e_i + r·e_j`` with ``e = x − G([z, 0])``. At another size it is the
blend of both photographs, whose own detail stays, and the difference of ``x̂`` from that blend at the size of the fit,
enlarged.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from glico_augment.images.values import round_to, to_unit
from glico_augment.model.model import GLICOModel
from glico_augment.synthesis.draw import SwapParams

_CHUNK = 1024


def residuals(model: GLICOModel, images: Tensor) -> Tensor:
    """What a model misses of its images, ``e = x − G([z, 0])``: float16 on its device, of uint8 images on any."""
    rows = torch.arange(len(images), device=model.device).split(_CHUNK)
    chunks = images.to(model.device).split(_CHUNK)
    missed = [to_unit(chunk) - model.reconstruct(indices) for indices, chunk in zip(rows, chunks, strict=True)]
    return torch.cat([each.half() for each in missed])


def carry(made: Tensor, params: SwapParams, missed: Tensor) -> Tensor:
    """Generated images ``G([z_r, ε])``, ``(k, channels, height, width)``, with what is missed of both photographs."""
    first, second = (missed[each].float() for each in (params.anchors, params.partners))
    return (made + _blend(first, second, share_of_partner(params))).clamp_(0, 1)


def share_of_partner(params: SwapParams) -> Tensor:
    """``(k, 1, h, w)``, the ratios; 0 where a path leads to no photograph (``"noise"``, ``"random-out"``)."""
    ratios = params.ratios[:, None] if params.ratios.ndim == 3 else params.ratios.view(-1, 1, 1, 1)
    return ratios if params.ends is None else torch.zeros_like(ratios)


class Swapped(NamedTuple):
    """``k`` synthetic images at the size of the fit, and what makes them at another size.

    Attributes:
        images: ``(k, channels, height, width)`` float32 in ``[0, 1]``, or uint8.
        anchors: ``(k,)`` the code indices of both photographs.
        partners: alike.
        ratios: of :func:`share_of_partner`.
    """

    images: Tensor
    anchors: Tensor
    partners: Tensor
    ratios: Tensor

    def deltas(self, fitted_images: Tensor) -> Tensor:
        """What differs from the blend of both photographs, of ``(m, channels, height, width)`` uint8 of the fit."""
        first, second = (to_unit(fitted_images[each]) for each in (self.anchors, self.partners))
        return to_unit(self.images) - _blend(first, second, self.ratios)


def at_own_size(first: Tensor, second: Tensor, ratios: Tensor, deltas: Tensor) -> Tensor:
    """``(1 − r)·x_i + r·x_j`` and the deltas of :class:`Swapped`: the carried images of photographs of any size.

    Args:
        first: ``(k, channels, height, width)`` uint8, or float32 in ``[0, 1]``.
        second: alike.
        ratios: of :class:`Swapped`.
        deltas: alike.

    Returns:
        Images in the shape and dtype of the photographs.
    """
    white = 255 if first.dtype == torch.uint8 else 1
    size = (first.shape[-2], first.shape[-1])
    made = first.to(torch.float32, copy=True).lerp_(second.float(), _enlarged(ratios, size))
    made.add_(_enlarged(white * deltas, size)).clamp_(0, white)
    return made if white == 1 else round_to(made, torch.uint8)


def _blend(first: Tensor, second: Tensor, ratios: Tensor) -> Tensor:
    return torch.lerp(first, second, _enlarged(ratios, (first.shape[-2], first.shape[-1])))


def _enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear interpolation, several times as fast on a CPU as torch's."""
    if maps.shape[-2:] in ((1, 1), size):
        return maps
    above, below, share = _neighbours(maps.shape[-2], size[0], maps.device)
    with torch.autocast(maps.device.type, enabled=False):
        rows = maps @ _linear(maps.shape[-1], size[1], maps.device)
    return torch.lerp(rows.index_select(-2, above), rows.index_select(-2, below), share[:, None])


@lru_cache(maxsize=64)  # what a CUDA graph captures is made when it warms up
def _linear(length: int, longer: int, device: torch.device) -> Tensor:
    """The matrix ``(length, longer)`` of linear interpolation."""
    above, below, share = _neighbours(length, longer, device)
    identity = torch.eye(length, device=device, dtype=torch.float32)
    return torch.lerp(identity[:, above], identity[:, below], share)


@lru_cache(maxsize=64)
def _neighbours(length: int, longer: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Between which two of ``length`` places each of ``longer`` lies, int64, and the share of the second of them."""
    places = (torch.arange(longer, device=device, dtype=torch.float32) + 0.5) * (length / longer) - 0.5
    places.clamp_(0, length - 1)
    above = places.long()
    return above, (above + 1).clamp_(max=length - 1), places - above
