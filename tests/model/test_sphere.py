import math

import pytest
import torch

from glico_augment.model import sphere
from glico_augment.model.sphere import (
    geodesic_distance,
    lerp,
    normalize,
    sample_around,
    sample_away,
    sample_uniform,
    slerp,
)

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")
given, settings = hypothesis.given, hypothesis.settings

quick = settings(max_examples=60, deadline=None, derandomize=True)

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
dtypes = st.sampled_from(DTYPES)
ratios = st.floats(0, 1)
seeds = st.integers(0, 2**31)
dims = st.integers(2, 9)


def eps(dtype):
    return torch.finfo(dtype).eps


def exact(vectors):
    """The directions of vectors in float64, where the rounding of the tested dtype can be measured."""
    return torch.nn.functional.normalize(vectors.detach().double(), dim=-1)


def angle(first, second):
    """Angle in float64 by the cross product, an independent formula: atan2(|a ∧ b|, a · b)."""
    a, b = exact(first), exact(second)
    dot = (a * b).sum(-1)
    wedge = (b - dot.unsqueeze(-1) * a).norm(dim=-1)
    return torch.atan2(wedge, dot)


def uniform(seed, *shape, dtype=torch.float64):
    gaussian = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return exact(gaussian).to(dtype)


@st.composite
def pairs(draw, kinds=("apart", "near", "far", "equal", "opposite")):
    """Four pairs of unit vectors: at any angle, a few roundings from equal or from opposite, or exactly so."""
    dtype, dim, seed, kind = draw(dtypes), draw(dims), draw(seeds), draw(st.sampled_from(kinds))
    start = uniform(seed, 4, dim, dtype=dtype)
    if kind == "apart":
        return start, rotated(start, draw(st.floats(0.1, 3.0)), seed)
    if kind in ("near", "far"):
        tiny = eps(dtype) * draw(st.floats(1, 1000))
        return start, rotated(start, tiny if kind == "near" else math.pi - tiny, seed)
    return start, start.clone() if kind == "equal" else -start


def rotated(start, radians, seed):
    """Unit vectors at an angle from ``start``, each in a random direction."""
    wide = exact(start)
    other = uniform(seed + 1, *start.shape)
    tangent = exact(other - (other * wide).sum(-1, keepdim=True) * wide)
    return exact(math.cos(radians) * wide + math.sin(radians) * tangent).to(start.dtype)


@st.composite
def any_vectors(draw):
    dtype = draw(dtypes)
    numbers = st.floats(-torch.finfo(dtype).max, torch.finfo(dtype).max)
    return torch.tensor(draw(st.lists(numbers, min_size=2, max_size=9)), dtype=torch.float64).to(dtype)


@quick
@given(any_vectors())
def test_normalize_keeps_the_direction_of_any_finite_vector_and_makes_it_unit(vector):
    unit = normalize(vector)
    assert unit.dtype == vector.dtype
    assert abs(unit.double().norm().item() - 1) <= 4 * eps(vector.dtype)
    if vector.any():
        wide = vector.double() / vector.double().abs().max()
        torch.testing.assert_close(unit.double(), wide / wide.norm(), rtol=0, atol=4 * eps(vector.dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_becomes_the_first_basis_vector_with_a_finite_gradient(dtype):
    vectors = torch.zeros(2, 3, dtype=dtype, requires_grad=True)
    unit = normalize(vectors)
    assert unit.tolist() == [[1, 0, 0], [1, 0, 0]]
    unit.sum().backward()
    assert vectors.grad.isfinite().all()


@quick
@given(pairs(), ratios)
def test_slerp_is_unit_and_keeps_the_dtype(pair, ratio):
    middle = slerp(*pair, ratio)
    assert middle.dtype == pair[0].dtype
    assert (middle.double().norm(dim=-1) - 1).abs().max() <= 4 * eps(middle.dtype)


@quick
@given(pairs())
def test_slerp_meets_both_ends(pair):
    start, end = pair
    # Nearly (anti)parallel codes are told apart from exactly so only beyond 16 roundings of the dtype computed in.
    tolerance = 8 * eps(start.dtype) + 32 * eps(torch.promote_types(start.dtype, torch.float32))
    torch.testing.assert_close(slerp(start, end, 0.0), start, rtol=0, atol=tolerance)
    torch.testing.assert_close(slerp(start, end, 1.0), end, rtol=0, atol=tolerance)


@quick
@given(pairs(), ratios)
def test_slerp_has_constant_angular_speed(pair, ratio):
    start, end = pair
    walked = angle(start, slerp(start, end, ratio))
    torch.testing.assert_close(walked, ratio * angle(start, end), rtol=0, atol=16 * eps(start.dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_half_way_between_opposite_points_is_a_quarter_turn_from_both(dtype):
    start = uniform(0, 100, 5, dtype=dtype)
    middle = slerp(start, -start, 0.5)
    for end in (start, -start):
        assert (angle(middle, end) - math.pi / 2).abs().max() <= 16 * eps(dtype)


@quick
@given(pairs(kinds=("apart",)), ratios)
def test_slerp_stays_on_the_shorter_arc_in_the_plane_of_its_ends(pair, ratio):
    start, end = pair
    middle = slerp(start, end, ratio)
    first = exact(start)
    second = exact(exact(end) - (exact(end) * first).sum(-1, keepdim=True) * first)
    inside = (exact(middle) * first).sum(-1, keepdim=True) * first
    inside = inside + (exact(middle) * second).sum(-1, keepdim=True) * second
    assert (exact(middle) - inside).norm(dim=-1).max() <= 64 * eps(start.dtype)
    total = angle(start, middle) + angle(middle, end)
    torch.testing.assert_close(total, angle(start, end), rtol=0, atol=64 * eps(start.dtype))


@quick
@given(pairs(), ratios)
def test_values_and_gradients_are_finite_everywhere(pair, ratio):
    start, end = (vectors.clone().requires_grad_() for vectors in pair)
    share = torch.full((4,), ratio, dtype=start.dtype, requires_grad=True)
    direction = uniform(5, *start.shape, dtype=start.dtype)
    middle = slerp(start, end, share)
    distance = geodesic_distance(start, end)
    assert middle.isfinite().all()
    assert distance.isfinite().all()
    gradients = torch.autograd.grad((middle * direction).sum(), (start, end, share))
    gradients += torch.autograd.grad(distance.sum(), (start, end))
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("radians", [0.3, 1.5, 3.0])
def test_gradients_are_those_of_the_formula(radians):
    start = uniform(1, 3, 4)
    end = rotated(start, radians, 2)
    ratio = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    inputs = [tensor.requires_grad_() for tensor in (start, end, ratio)]
    torch.autograd.gradcheck(slerp, inputs)
    torch.autograd.gradcheck(lerp, inputs)
    torch.autograd.gradcheck(geodesic_distance, inputs[:2])
    torch.autograd.gradcheck(normalize, [(start.detach() * 7).requires_grad_()])


@quick
@given(pairs())
def test_distance_is_symmetric_and_between_zero_and_pi(pair):
    start, end = pair
    distance = geodesic_distance(start, end)
    assert distance.dtype == start.dtype
    assert torch.equal(distance, geodesic_distance(end, start))
    assert (distance >= 0).all()
    assert (distance <= torch.tensor(math.pi, dtype=start.dtype)).all()
    torch.testing.assert_close(distance.double(), angle(start, end), rtol=0, atol=8 * eps(start.dtype))


@quick
@given(dtypes, dims, seeds)
def test_distance_obeys_the_triangle_inequality(dtype, dim, seed):
    a, b, c = uniform(seed, 3, 5, dim, dtype=dtype)
    slack = 16 * eps(dtype)
    assert (geodesic_distance(a, c) <= geodesic_distance(a, b) + geodesic_distance(b, c) + slack).all()


@quick
@given(st.floats(-15, -3.8).map(lambda exponent: 10.0**exponent), st.permutations(range(4)))
def test_distance_keeps_full_precision_for_tiny_angles_and_near_opposite_points(radians, order):
    points = torch.tensor([[1, 0, 0, 0], [math.cos(radians), math.sin(radians), 0, 0]], dtype=torch.float64)[:, order]
    first, second = points.float()
    assert geodesic_distance(first, second).item() == pytest.approx(radians, rel=1e-5)
    assert geodesic_distance(*points).item() == pytest.approx(radians, rel=1e-5, abs=1e-15)
    assert geodesic_distance(points[0], -points[1]).item() == pytest.approx(math.pi - radians, rel=0, abs=1e-15)


@quick
@given(pairs(), ratios)
def test_lerp_is_the_chord(pair, ratio):
    start, end = pair
    point = lerp(start, end, ratio)
    assert point.dtype == start.dtype
    chord = start.double() + ratio * (end.double() - start.double())
    torch.testing.assert_close(point.double(), chord, rtol=0, atol=4 * eps(start.dtype))
    assert (point.double().norm(dim=-1) <= 1 + 4 * eps(start.dtype)).all()


@pytest.mark.parametrize("path", [slerp, lerp])
def test_ends_and_ratios_broadcast_as_each_pair_alone(path):
    start, ends, shares = uniform(1, 5), uniform(2, 3, 4, 5), torch.rand(4, generator=torch.Generator().manual_seed(0))
    together = path(start, ends, shares)
    assert together.shape == (3, 4, 5)
    for row in range(3):
        for column in range(4):
            torch.testing.assert_close(together[row, column], path(start, ends[row, column], shares[column].item()))
    assert path(start, ends[0, 0], torch.tensor([0.0, 0.5, 1.0])).shape == (3, 5)
    assert path(start.float(), ends[0, 0], 0.5).dtype == torch.float64
    assert geodesic_distance(start, ends).shape == (3, 4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_uniform_samples_are_unit(dtype):
    points = sample_uniform(100, 7, generator=torch.Generator().manual_seed(0), dtype=dtype)
    assert points.shape == (100, 7)
    assert points.dtype == dtype
    assert (points.double().norm(dim=-1) - 1).abs().max() <= 4 * eps(dtype)


def test_uniform_samples_have_the_moments_of_the_sphere():
    points = sample_uniform(40_000, 3, generator=torch.Generator().manual_seed(0)).double()
    assert points.mean(0).abs().max() < 5 / math.sqrt(3 * 40_000)
    torch.testing.assert_close(points.T @ points / 40_000, torch.eye(3).double() / 3, rtol=0, atol=0.01)
    # Archimedes: each coordinate of a point of the two-sphere is uniform on [-1, 1].
    histogram = torch.stack([torch.histc(column, 10, -1, 1) for column in points.T])
    assert (histogram / 40_000 - 0.1).abs().max() < 5 * math.sqrt(0.1 * 0.9 / 40_000)


def test_uniform_samples_come_from_the_given_generator_alone():
    before = torch.get_rng_state()
    first, second, other = (sample_uniform(4, 5, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_uniform_samples_come_from_the_global_generator_when_none_is_given():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        first = sample_uniform(4, 5)
        torch.manual_seed(3)
        assert torch.equal(sample_uniform(4, 5), first)
        assert not torch.equal(sample_uniform(4, 5), first)


@pytest.mark.parametrize("dim", [1, 0, -1])
def test_a_sphere_without_a_path_is_refused(dim):
    with pytest.raises(ValueError, match=f"dim >= 2, got {dim}"):
        sphere.sample_uniform(3, dim)


@pytest.mark.parametrize("dim", [2, 3, 64])
@pytest.mark.parametrize("std", [0.0, 0.25, 3.0])
def test_noise_leaves_a_point_on_the_sphere_at_an_angle_that_does_not_depend_on_the_dimension(dim, std):
    points = sample_uniform(4000, dim, generator=torch.Generator().manual_seed(0))
    around = sample_around(points, std, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(around.norm(dim=1), torch.ones(4000))
    angles = geodesic_distance(points, around)
    if std == 0:
        torch.testing.assert_close(around, points)
    if dim == 64:
        assert angles.mean() == pytest.approx(math.atan(std), abs=0.01 if std < 1 else 0.05)
    # No direction is preferred: what is orthogonal to the point averages out.
    off = around - (around * points).sum(dim=1, keepdim=True) * points
    assert off.mean(dim=0).abs().max() < 5 / math.sqrt(4000 * dim)


@pytest.mark.parametrize("dim", [2, 3, 8, 64, 512])
@pytest.mark.parametrize("min_angle", [0.0, 1.0, 2.0, 3.1])
def test_points_away_keep_their_distance_on_the_sphere(dim, min_angle):
    points = sample_uniform(500, dim, generator=torch.Generator().manual_seed(0))
    away = sample_away(points, min_angle, generator=torch.Generator().manual_seed(1))
    assert away.isfinite().all()
    torch.testing.assert_close(away.norm(dim=1), torch.ones(500))
    assert geodesic_distance(points, away).min() >= min_angle - 1e-5


@pytest.mark.parametrize("dim", [2, 3, 16])
@pytest.mark.parametrize("min_angle", [0.0, 1.2])
def test_points_away_are_uniform_on_what_is_left_of_the_sphere(dim, min_angle):
    count = 20_000
    points = sample_uniform(1, dim, generator=torch.Generator().manual_seed(0)).expand(count, -1)
    away = sample_away(points, min_angle, generator=torch.Generator().manual_seed(1))
    uniform = sample_uniform(5 * count, dim, generator=torch.Generator().manual_seed(2))
    kept = uniform[geodesic_distance(points[:1], uniform) >= min_angle]
    # Angles, and one coordinate across: the largest distance of two distribution functions (Kolmogorov, Smirnov).
    axis = sample_uniform(1, dim, generator=torch.Generator().manual_seed(3))
    for mine, theirs in (
        (geodesic_distance(points, away), geodesic_distance(points[:1], kept)),
        ((away * axis).sum(dim=1), (kept * axis).sum(dim=1)),
    ):
        at = theirs.sort().values
        empirical = torch.searchsorted(mine.sort().values, at, right=True) / len(mine)
        expected = torch.arange(1, len(at) + 1) / len(at)
        assert (empirical - expected).abs().max() < 2 * math.sqrt(1 / len(mine) + 1 / len(at))
