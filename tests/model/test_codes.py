import math

import pytest
import torch

from glico_augment.model.codes import SphereCodes

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")
given, settings = hypothesis.given, hypothesis.settings

quick = settings(max_examples=50, deadline=None, derandomize=True)
labels_lists = st.lists(st.sampled_from([-(2**40), -7, 0, 3, 4, 10**12]), min_size=1, max_size=20)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def make(labels, n_unlabeled=0, latent_dim=4):
    return SphereCodes.random(torch.tensor(labels), latent_dim, n_unlabeled=n_unlabeled, generator=rng())


@quick
@given(labels_lists, st.integers(0, 3), st.integers(0, 1000))
def test_a_partner_is_another_image_of_the_class_or_itself_if_alone(labels, n_unlabeled, seed):
    codes = make(labels, n_unlabeled)
    anchors = torch.arange(len(labels)).repeat(20)
    partners = codes.sample_partners(anchors, generator=rng(seed))
    assert partners.shape == anchors.shape
    assert partners.dtype == torch.int64
    assert torch.equal(codes.labels[partners], codes.labels[anchors])
    is_alone = torch.tensor([labels.count(label) == 1 for label in labels]).repeat(20)
    assert torch.equal(partners == anchors, is_alone)


@quick
@given(labels_lists, st.integers(0, 3), st.integers(0, 1000))
def test_an_anchor_is_a_labelled_image_of_the_class_asked_for(labels, n_unlabeled, seed):
    codes = make(labels, n_unlabeled)
    positions = torch.arange(len(codes.classes)).repeat(20)
    anchors = codes.sample_anchors(positions, generator=rng(seed))
    assert (anchors < len(labels)).all()
    assert torch.equal(codes.labels[anchors], codes.classes[positions])


def chi_square(counts):
    expected = counts.sum() / len(counts)
    return ((counts - expected).square() / expected).sum().item()


@pytest.mark.parametrize("anchor", [1, 3, 6, 8])
def test_every_partner_is_equally_likely(anchor):
    codes = make([5, -2, 5, -2, 5, 9, -2, 5, -2, -2])
    drawn = codes.sample_partners(torch.full((40_000,), anchor), generator=rng(1))
    others = [index for index in (1, 3, 6, 8, 9) if index != anchor]
    counts = torch.bincount(drawn, minlength=10)[others].double()
    assert counts.sum() == 40_000
    assert chi_square(counts) < 30  # 3 degrees of freedom: exceeded once in a million


def test_every_anchor_is_equally_likely():
    codes = make([5, -2, 5, -2, 5, 9, -2, 5, -2, -2], n_unlabeled=2)
    drawn = codes.sample_anchors(torch.zeros(40_000, dtype=torch.int64), generator=rng(1))
    counts = torch.bincount(drawn, minlength=12)[[1, 3, 6, 8, 9]].double()
    assert counts.sum() == 40_000
    assert chi_square(counts) < 33  # 4 degrees of freedom


@quick
@given(labels_lists)
def test_classes_are_the_distinct_labels_in_order_and_indices_point_at_them(labels):
    codes = make(labels, 2)
    assert codes.classes.tolist() == sorted(set(labels))
    assert codes.classes[codes.class_indices].tolist() == labels == codes.labels.tolist()
    positions, is_known = codes.index_of(codes.labels)
    assert torch.equal(positions, codes.class_indices)
    assert is_known.all()


def test_labels_that_were_not_fitted_are_unknown_at_position_zero():
    codes = make([7, -3, 7, 40])
    positions, is_known = codes.index_of(torch.tensor([40, 8, -3, -4, 41, 7]))
    assert positions.tolist() == [2, 0, 0, 0, 0, 1]
    assert is_known.tolist() == [True, False, True, False, False, True]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_labels_are_looked_up_in_any_integer_type(dtype):
    positions, is_known = make([7, 3]).index_of(torch.tensor([3, 7, 8], dtype=dtype))
    assert positions.tolist() == [0, 1, 0]
    assert is_known.tolist() == [True, True, False]


def test_labels_are_looked_up_in_a_column_of_a_table_without_a_warning():
    was = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        _, is_known = make([7, 3]).index_of(torch.tensor([[3, 0], [8, 0]])[:, 0])
    finally:
        torch.set_warn_always(was)
    assert is_known.tolist() == [True, False]


@pytest.mark.parametrize("draw", ["sample_anchors", "sample_partners"])
def test_a_generator_repeats_a_draw_and_leaves_the_global_one_alone(draw):
    sample = getattr(make([0, 0, 0, 0, 1, 1, 1, 1]), draw)
    before = torch.get_rng_state()
    places = torch.zeros(50, dtype=torch.int64)
    first, second, other = (sample(places, generator=rng(seed)) for seed in (4, 4, 5))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_random_codes_repeat_with_their_generator():
    assert torch.equal(make([0, 1, 1], 2).codes, make([0, 1, 1], 2).codes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_codes_are_projected_onto_the_sphere_at_the_start_and_by_project(dtype):
    codes = SphereCodes(torch.randn(5, 6, generator=rng(), dtype=torch.float64).to(dtype) * 9, torch.tensor([0, 1]))
    tolerance = 4 * torch.finfo(dtype).eps
    assert (codes.codes.double().norm(dim=1) - 1).abs().max() <= tolerance
    directions = torch.nn.functional.normalize(codes.codes.detach().double(), dim=1)
    parameter = codes.codes
    with torch.no_grad():
        parameter.mul_(torch.tensor([[0.01], [0.5], [1], [3], [100]]))
    codes.project_()
    assert codes.codes is parameter
    assert codes.codes.dtype == dtype
    assert (codes.codes.double().norm(dim=1) - 1).abs().max() <= tolerance
    torch.testing.assert_close(codes.codes.detach().double(), directions, rtol=0, atol=8 * torch.finfo(dtype).eps)


def test_forward_gives_the_codes_asked_for_and_passes_their_gradient():
    codes = make([0, 1, 0])
    indices = torch.tensor([2, 0, 2])
    out = codes(indices)
    assert torch.equal(out, codes.codes[indices])
    out.sum().backward()
    assert codes.codes.grad.sum(1).tolist() == [4, 0, 8]


def test_sizes_count_the_unlabelled_too():
    codes = make([0, 1, 0], n_unlabeled=2, latent_dim=5)
    assert (len(codes), codes.n_labeled, codes.latent_dim) == (5, 3, 5)
    assert "n=5, classes=2, latent_dim=5, unlabeled=2" in repr(codes)


@pytest.mark.parametrize(
    ("codes", "labels", "error", "message"),
    [
        (torch.ones(3, 4), torch.ones(3), TypeError, r"labels must be integers, got torch\.float32"),
        (torch.ones(3, 4), torch.ones(3, dtype=torch.complex64), TypeError, r"integers, got torch\.complex64"),
        (torch.ones(3, 4, dtype=torch.int64), torch.zeros(3).long(), TypeError, r"floating point, got torch\.int64"),
        (torch.ones(3, 1), torch.zeros(3).long(), ValueError, r"latent_dim >= 2, got \(3, 1\)"),
        (torch.ones(3), torch.zeros(3).long(), ValueError, r"\(n, latent_dim\).*got \(3,\)"),
        (torch.ones(3, 4), torch.zeros(4).long(), ValueError, r"1 <= m <= 3 codes, got \(4,\)"),
        (torch.ones(3, 4), torch.zeros(0).long(), ValueError, r"1 <= m <= 3 codes, got \(0,\)"),
        (torch.ones(3, 4), torch.zeros(3, 1).long(), ValueError, r"shape \(m,\).*got \(3, 1\)"),
    ],
)
def test_codes_and_labels_that_do_not_fit_together_are_refused(codes, labels, error, message):
    with pytest.raises(error, match=message):
        SphereCodes(codes, labels)


def test_random_codes_on_a_line_are_refused():
    with pytest.raises(ValueError, match=">= 2, got 1"):
        make([0, 1], latent_dim=1)


def test_a_state_holds_what_was_learned_and_given_and_nothing_that_is_derived():
    assert set(SphereCodes.random(torch.tensor([3, 1]), 4).state_dict()) == {"codes", "labels"}


def test_others_are_drawn_uniformly_from_the_images_of_all_other_classes():
    codes = SphereCodes.random(torch.tensor([7, -1, 7, 3, -1, 7]), 4, n_unlabeled=2, generator=rng(0))
    for anchor, others in ((0, {1, 3, 4}), (4, {0, 2, 3, 5}), (3, {0, 1, 2, 4, 5})):
        drawn = codes.sample_others(torch.full((40_000,), anchor), generator=rng(1))
        counts = torch.bincount(drawn, minlength=8)
        assert set(counts.nonzero().flatten().tolist()) == others
        share = 1 / len(others)
        error = math.sqrt(40_000 * share * (1 - share))
        assert (counts[sorted(others)] - 40_000 * share).abs().max() < 5 * error


@pytest.mark.parametrize(
    ("draw", "of", "expected"),
    [
        ("sample_anchors", [0, 1, 2], [4, 3, 5]),
        ("sample_partners", [0, 2, 5, 1, 4], [5, 5, 2, 4, 1]),
        ("sample_others", [0, 1, 3], [3, 5, 5]),
    ],
)
def test_a_uniform_number_that_is_rounded_up_to_one_draws_the_last_image(draw, of, expected, monkeypatch):
    codes = make([7, -1, 7, 3, -1, 7], n_unlabeled=1)
    monkeypatch.setattr(torch, "rand", lambda shape, **options: torch.ones(shape))
    assert getattr(codes, draw)(torch.tensor(of)).tolist() == expected


def test_of_one_class_there_are_no_others():
    codes = SphereCodes.random(torch.tensor([7, 7]), 4, generator=rng(0))
    with pytest.raises(ValueError, match="one class only"):
        codes.sample_others(torch.tensor([0]))
