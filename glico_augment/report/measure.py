"""What the page says of a fit, measured: distances in pixels, angles between codes. No draw differs from run to run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from glico_augment.images.values import to_unit
from glico_augment.model.sphere import geodesic_distance
from glico_augment.synthesis.synthesizer import Synthesizer

_PAIRS = 4000
_LOOKED_AT = 256
_CHUNK = 256


@dataclass(frozen=True)
class Neighbours:
    """Some images and the training image nearest to each.

    Attributes:
        indices: ``(k,)`` int64 of the nearest labelled images.
        distances: ``(k,)`` root mean squared difference of their values in ``[0, 1]``.
    """

    indices: Tensor
    distances: Tensor


def nearest(images: Tensor, training: Tensor, *, excluded: Tensor | None = None) -> Neighbours:
    """The nearest of the training images to each of some images, pixel by pixel.

    Args:
        images: ``(k, channels, height, width)`` float in ``[0, 1]``.
        training: ``(m, channels, height, width)`` uint8.
        excluded: ``(k,)`` of a training image each that does not count; None for none.
    """
    flat = images.flatten(1)
    best = torch.full((len(images),), torch.inf)
    indices = torch.zeros(len(images), dtype=torch.int64)
    for start in range(0, len(training), _CHUNK):
        chunk = to_unit(training[start : start + _CHUNK]).flatten(1)
        distances = torch.cdist(flat, chunk, compute_mode="donot_use_mm_for_euclid_dist")
        if excluded is not None:
            rows = ((excluded >= start) & (excluded < start + len(chunk))).nonzero().flatten()
            distances[rows, excluded[rows] - start] = torch.inf
        found = distances.min(dim=1)
        is_nearer = found.values < best
        best = torch.where(is_nearer, found.values, best)
        indices = torch.where(is_nearer, found.indices + start, indices)
    return Neighbours(indices, best / flat.shape[1] ** 0.5)


def usual_distance(training: Tensor) -> float:
    """The median distance of a training image from the nearest other one, over at most 256 of them."""
    looked_at = torch.arange(0, len(training), -(-len(training) // _LOOKED_AT))
    return float(nearest(to_unit(training[looked_at]), training, excluded=looked_at).distances.median())


def angles(augment: Synthesizer) -> tuple[Tensor, Tensor]:
    """Angles in degrees between two random codes of one class, and between two of different classes.

    Returns:
        Two tensors of at most 4000 angles each; the first is empty where no class has two images.
    """
    codes = augment.codes
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(codes.n_labeled, (_PAIRS,), generator=generator)
    partners = codes.sample_partners(first, generator=generator)
    others = torch.randint(codes.n_labeled, (_PAIRS,), generator=generator)
    is_pair = partners != first
    is_between = codes.class_indices[first] != codes.class_indices[others]
    within = geodesic_distance(codes(first[is_pair]), codes(partners[is_pair]))
    between = geodesic_distance(codes(first[is_between]), codes(others[is_between]))
    return torch.rad2deg(within.detach()), torch.rad2deg(between.detach())
