"""Geometry of the unit sphere in ``R^d``, on which the codes lie.

Pure functions of tensors whose last dimension is the ambient one. Half-precision input is computed in float32 and
returned in its own dtype; every function is differentiable and finite everywhere, also at equal and opposite points.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def normalize(vectors: Tensor) -> Tensor:
    """Project vectors radially onto the unit sphere.

    Args:
        vectors: ``(..., d)`` floating point, any finite values. A zero vector, which has no direction, becomes the
            first basis vector.

    Returns:
        ``(..., d)`` of unit Euclidean norm, in the dtype of ``vectors``.
    """
    wide = _at_least_float32(vectors)
    largest = wide.detach().abs().amax(dim=-1, keepdim=True)
    scaled = wide / torch.where(largest > 0, largest, 1.0)
    is_zero = largest == 0
    basis = torch.zeros_like(wide)
    basis[..., 0] = 1.0
    scaled = torch.where(is_zero, basis, scaled)
    return (scaled / scaled.square().sum(dim=-1, keepdim=True).sqrt()).to(vectors.dtype)


def geodesic_distance(start: Tensor, end: Tensor) -> Tensor:
    """Angle between unit vectors, the length of the shorter great-circle arc.

    Computed as ``2·atan2(|a − b|, |a + b|)``, which keeps full precision for nearly equal and nearly opposite
    vectors, where the arc cosine of a dot product loses it or gives NaN.

    Args:
        start: ``(..., d)`` unit vectors.
        end: ``(..., d)`` unit vectors, broadcast against ``start``.

    Returns:
        ``(...)`` radians in ``[0, π]``.
    """
    first, second = _at_least_float32(start), _at_least_float32(end)
    return _angle(first, second).to(torch.promote_types(start.dtype, end.dtype))


def slerp(start: Tensor, end: Tensor, ratio: Tensor | float) -> Tensor:
    """Spherical linear interpolation: along the great circle from ``start`` to ``end`` at constant angular speed.

    The path of GLICO's synthetic images (Azuri & Weinshall 2020, "Image classification using GLICO"). Between opposite
    points, where every great circle is a shortest one, a fixed one is taken.

    Args:
        start: ``(..., d)`` unit vectors, reached at ratio 0. ``d`` is at least 2.
        end: ``(..., d)`` unit vectors, reached at ratio 1.
        ratio: share of the arc in ``[0, 1]``: a number, or a tensor that broadcasts against ``(...)``.

    Returns:
        ``(..., d)`` unit vectors.
    """
    dtype = torch.promote_types(start.dtype, end.dtype)
    # Half-precision ends are unit vectors up to 1e-3, which is too rough for the direction between opposite ones.
    first, second = torch.broadcast_tensors(normalize(_at_least_float32(start)), normalize(_at_least_float32(end)))
    arc = _angle(first, second) * torch.as_tensor(ratio, dtype=first.dtype, device=first.device)
    arc = arc.unsqueeze(-1)
    return normalize(arc.cos() * first + arc.sin() * _direction(first, second)).to(dtype)


def lerp(start: Tensor, end: Tensor, ratio: Tensor | float) -> Tensor:
    """Linear interpolation along the chord, which leaves the sphere: the paper's ablation of :func:`slerp`.

    Args:
        start: ``(..., d)``, reached at ratio 0.
        end: ``(..., d)``, reached at ratio 1.
        ratio: in ``[0, 1]``: a number, or a tensor that broadcasts against ``(...)``.

    Returns:
        ``(..., d)``, inside the unit ball for unit input.
    """
    dtype = torch.promote_types(start.dtype, end.dtype)
    first, second = _at_least_float32(start), _at_least_float32(end)
    share = torch.as_tensor(ratio, dtype=first.dtype, device=first.device).unsqueeze(-1)
    return (first * (1 - share) + second * share).to(dtype)


def sample_uniform(
    count: int,
    dim: int,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw points uniformly from the unit sphere in ``R^dim``.

    Args:
        count: number of points.
        dim: ambient dimension, at least 2.
        generator: source of randomness; torch's global one if None.
        device: where to draw, the generator's device.
        dtype: floating-point type of the result.

    Returns:
        ``(count, dim)`` unit vectors.

    Raises:
        ValueError: for ``dim < 2``: the unit sphere of a line is two points, with no path between them.
    """
    if dim < 2:
        raise ValueError(f"a sphere to interpolate on needs dim >= 2, got {dim}")
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return normalize(torch.randn(count, dim, generator=generator, device=device, dtype=wide)).to(dtype)


def sample_around(points: Tensor, std: float, *, generator: torch.Generator | None = None) -> Tensor:
    """Add Gaussian noise to points ``(k, d)`` and return to the sphere: LASIUM-N (Khodadadeh et al., ICLR 2021).

    ``std`` is ``σ`` in units in which the entries of a point have variance one, ``σ / √d`` on the unit sphere.
    """
    wide = _at_least_float32(points)
    noise = torch.randn(wide.shape, dtype=wide.dtype, device=wide.device, generator=generator)
    return normalize(wide + std / points.shape[-1] ** 0.5 * noise).to(points.dtype)


def sample_away(points: Tensor, min_angle: float, *, generator: torch.Generator | None = None) -> Tensor:
    """For each of ``(k, d)`` points draw one uniformly from all at least ``min_angle``, in ``[0, π)``, away: LASIUM-RO.

    Source: Khodadadeh et al., ICLR 2021.
    """
    wide = _at_least_float32(points)
    # An angle has density sin^(d−2), drawn by inversion on a grid: no rejection sampling, however small the cap.
    angles = torch.linspace(min_angle, math.pi, _ANGLES, dtype=torch.float64, device="cpu")
    logs = (points.shape[-1] - 2) * ((angles[1:] + angles[:-1]) / 2).sin().log()
    shares = F.pad((logs - logs.max()).exp().cumsum(0), (1, 0))
    angles, shares = (each.to(wide.device, wide.dtype) for each in (angles, shares / shares[-1]))
    uniform = torch.rand(len(wide), 1, dtype=wide.dtype, device=wide.device, generator=generator)
    above = torch.searchsorted(shares, uniform, right=True)  # from 1, since shares begin at 0 and end at 1
    share = (uniform - shares[above - 1]) / (shares[above] - shares[above - 1])
    angle = torch.lerp(angles[above - 1], angles[above], share)
    drawn = torch.randn(wide.shape, dtype=wide.dtype, device=wide.device, generator=generator)
    return normalize(angle.cos() * wide + angle.sin() * normalize(_reject(drawn, wide))).to(points.dtype)


_ANGLES = 4097  # of the grid: in 10,000 dimensions fifty of them lie within two standard deviations


def _at_least_float32(vectors: Tensor) -> Tensor:
    return vectors if vectors.dtype == torch.float64 else vectors.float()


def _norm(vectors: Tensor) -> Tensor:
    """Euclidean norm whose gradient at zero is zero instead of NaN."""
    squared = vectors.square().sum(dim=-1)
    is_zero = squared == 0
    return torch.where(is_zero, 0.0, torch.where(is_zero, 1.0, squared).sqrt())


def _angle(first: Tensor, second: Tensor) -> Tensor:
    return 2 * torch.atan2(_norm(first - second), _norm(first + second))


def _direction(start: Tensor, end: Tensor) -> Tensor:
    """Unit tangent at ``start`` towards ``end``; a fixed tangent where the two are too close to (anti)parallel."""
    tangent = _reject(end, start)
    length = tangent.detach().square().sum(dim=-1, keepdim=True).sqrt()
    is_degenerate = length < 16 * torch.finfo(start.dtype).eps
    tangent = torch.where(is_degenerate, _any_tangent(start), tangent)
    # Where the tangent is short it is mostly rounding error; rejecting again makes it orthogonal once more.
    return normalize(_reject(normalize(tangent), start))


def _any_tangent(point: Tensor) -> Tensor:
    """The basis vector least aligned with ``point``, made orthogonal to it."""
    axis = point.detach().abs().argmin(dim=-1, keepdim=True)
    basis = torch.zeros_like(point).scatter_(-1, axis, 1.0)
    return _reject(basis, point).detach()


def _reject(vectors: Tensor, normal: Tensor) -> Tensor:
    return vectors - (vectors * normal).sum(dim=-1, keepdim=True) * normal
