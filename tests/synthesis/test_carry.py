"""The field of ratios and the carried detail: the swap x̂ = G(z_r) + (1 − r)·e_i + r·e_j."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from conftest import LABELS, quick_fit, smooth_images
from torch.utils.data import TensorDataset

from glico_augment import GLICOAugment, SwapConfig
from glico_augment.images.values import to_unit
from glico_augment.synthesis.carry import at_own_size

CARRIED = SwapConfig(max_ratio=1.0, cells=3, carry=True)


@pytest.fixture
def augment(augment):
    """With a field of ratios and carried detail."""
    augment.swap = CARRIED
    return augment


def with_ratio(params, ratio):
    """The parameters with one ratio everywhere and without noise."""
    return dataclasses.replace(params, ratios=torch.full_like(params.ratios, ratio), noise=None)


@pytest.mark.parametrize("noise_dim", [0, 3])
def test_a_constant_field_of_codes_is_a_code(augment, noise_dim):
    generator = quick_fit(TensorDataset(augment.images, LABELS), epochs=1, noise_dim=noise_dim).generator
    codes = augment.codes.codes.detach()
    noise = torch.randn(len(codes), noise_dim) if noise_dim else None
    field = codes[:, None, None].expand(-1, *generator.sizes[0], -1)
    torch.testing.assert_close(generator(field, noise), generator(codes, noise), atol=1e-5, rtol=0)


def test_each_cell_of_a_field_has_its_own_part_of_the_first_feature_map(augment):
    generator, codes = augment.generator, augment.codes.codes.detach()
    height, width = generator.sizes[0]
    field = codes[0].expand(1, height, width, -1).clone()
    field[0, 0, 1] = codes[5]
    first, changed, other = (next(generator.layers(each)) for each in (codes[:1], field, codes[5:6]))
    maps = [generator._first_map(each, None) for each in (codes[:1], field, codes[5:6])]
    assert torch.allclose(maps[1][0, :, 0, 1], maps[2][0, :, 0, 1], atol=1e-5)
    is_same = (maps[1] - maps[0]).abs().amax(dim=1)[0] < 1e-5
    assert is_same.sum() == height * width - 1
    assert not torch.allclose(first, changed)
    assert first.shape == other.shape


@pytest.mark.parametrize("cells", [1, 2, 3])
def test_ratios_are_uniform_up_to_the_largest_and_vary_over_the_image_if_there_are_cells(augment, seeded, cells):
    augment.cells, augment.max_ratio = cells, 0.8
    ratios = augment.make_params(LABELS.repeat(500)).ratios
    assert ratios.shape == ((4000,) if cells == 1 else (4000, *augment.generator.sizes[0]))
    assert 0 <= ratios.min() < 0.01
    assert 0.79 < ratios.max() <= 0.8
    assert ratios.mean() == pytest.approx(0.4, abs=0.01)
    assert cells == 1 or ratios.flatten(1).std(dim=1).mean() > 0.05


@pytest.mark.parametrize("sampler", ["same-class", "other-class"])
@pytest.mark.parametrize("interpolation", ["slerp", "lerp"])
def test_both_ends_of_a_path_are_the_photographs(augment, sampler, interpolation):
    augment.sampler, augment.interpolation = sampler, interpolation
    params = augment.make_params(LABELS)
    for ratio, ends in ((0.0, params.anchors), (1.0, params.partners)):
        made = augment.transform(with_ratio(params, ratio))
        torch.testing.assert_close(made, to_unit(augment.images[ends]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("size", [(12, 10), (31, 25)])
def test_both_ends_are_the_photographs_at_any_size(augment, size):
    params = augment.make_params(LABELS)
    photographs = torch.randint(256, (len(LABELS), 3, *size), dtype=torch.uint8)
    for ratio, ends in ((0.0, params.anchors), (1.0, params.partners)):
        end = with_ratio(params, ratio)
        assert torch.equal(augment.transform_photographs(end, photographs), photographs[ends])
        swapped, floats = augment.make_swapped(end), photographs / 255
        first, second = floats[params.anchors], floats[params.partners]
        before = first.clone()
        made = at_own_size(first, second, swapped.ratios, swapped.deltas(augment.images))
        torch.testing.assert_close(made, floats[ends], atol=1e-3, rtol=0)
        assert torch.equal(first, before)  # it may be of the dataset


def test_the_carried_image_is_that_of_the_formula(augment):
    augment.noise_std = 0.3
    params = augment.make_params(LABELS)
    made = augment.transform(params)
    augment.carry = False
    plain = augment.transform(params)
    missed = to_unit(augment.images) - augment.reconstruct(range(len(LABELS)))
    size = augment.images.shape[-2:]
    ratios = F.interpolate(params.ratios[:, None], size, mode="bilinear", align_corners=False)
    expected = plain + (1 - ratios) * missed[params.anchors] + ratios * missed[params.partners]
    torch.testing.assert_close(made, expected.clamp(0, 1), atol=1e-3, rtol=0)


@pytest.mark.parametrize("sampler", ["noise", "random-out"])
def test_a_path_that_leads_to_no_photograph_carries_what_is_missed_of_its_own(augment, sampler):
    augment.sampler, augment.noise_std = sampler, 0.0
    params = augment.make_params(LABELS)
    made = augment.transform(params)
    augment.carry = False
    missed = to_unit(augment.images[params.anchors]) - augment.reconstruct(params.anchors)
    torch.testing.assert_close(made, (augment.transform(params) + missed).clamp(0, 1), atol=1e-3, rtol=0)


def gradient_energy(images):
    return sum(images.diff(dim=dim).square().mean() for dim in (-1, -2))


def test_photographs_of_128_pixels_fitted_at_32_stay_sharp():
    own, shared = torch.randn(2, 8, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    shared = shared[LABELS.unique(return_inverse=True)[1]]  # detail that the photographs of a class have in common
    fine = (smooth_images(8, height=128, width=128) / 255 + 0.1 * own + 0.1 * shared).clamp(0, 1)
    augment = quick_fit(TensorDataset(fine, LABELS), image_size=32, swap=CARRIED)
    params = with_ratio(augment.make_params(LABELS, anchors=torch.arange(8)), 0.5)
    made = augment.transform_photographs(params, (255 * fine).to(torch.uint8)) / 255
    augment.carry = False
    plain = F.interpolate(augment.transform(params), (128, 128), mode="bilinear", align_corners=False)
    assert gradient_energy(made) > 0.5 * gradient_energy(fine)
    assert gradient_energy(plain) < 0.05 * gradient_energy(fine)


def test_the_generator_makes_one_row_for_each_swapped_image_and_none_for_the_photographs(augment, images):
    augment.transform(augment.make_params(LABELS))  # the reconstructions are made once
    rows = []
    augment.generator.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    torch.manual_seed(0)
    swapped, _ = augment(images, LABELS)
    n_swapped = int((swapped != images).flatten(1).any(dim=1).sum())
    assert 0 < n_swapped < len(images)
    assert sum(rows) == n_swapped


def test_more_cells_than_the_first_feature_map_has_are_refused_where_they_are_set(augment, tmp_path):
    side = min(augment.generator.sizes[0])
    augment.cells = side
    augment.make_params(LABELS)
    too_many = pytest.raises(ValueError, match=rf"cells must be at most {side}.*of 12 × 10 pixels; got {side + 1}")
    with too_many:
        augment.cells = side + 1
    assert augment.cells == side
    with too_many:
        augment.wrap(TensorDataset(augment.images, LABELS)).cells = side + 1
    augment.save(tmp_path / "a.safetensors")
    with too_many:
        GLICOAugment.load(tmp_path / "a.safetensors", cells=side + 1)


@pytest.mark.parametrize("image_size", [None, (6, 4)])
def test_a_fit_refuses_more_cells_before_its_first_step_and_before_reading_if_the_size_is_known(image_size):
    read = []

    class Counted(torch.utils.data.Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, index):
            read.append(index)
            return torch.zeros(3, 6, 4), int(LABELS[index])

    def no_step(progress):
        raise AssertionError("a step was made")

    with pytest.raises(ValueError, match=r"cells must be at most 4.*of 6 × 4 pixels; got 5"):
        quick_fit(Counted(), cells=5, image_size=image_size, callback=no_step)
    assert bool(read) == (image_size is None)


@pytest.mark.parametrize("cells", [0, -1, 2.5, True, None])
def test_cells_that_are_no_positive_integer_are_refused(cells):
    with pytest.raises((TypeError, ValueError), match="cells must be an integer of at least 1"):
        SwapConfig(cells=cells)


def test_the_published_swap_is_plain_with_one_ratio():
    swap = SwapConfig.published()
    assert (swap.cells, swap.carry, swap.max_ratio) == (1, False, 0.4)
    assert SwapConfig(cells=1, carry=False, max_ratio=0.4) == swap.replace(noise_std=None)


def test_the_default_is_a_field_up_to_the_partner_with_carried_detail_and_stays_short_of_another_class():
    assert (SwapConfig().cells, SwapConfig().carry, SwapConfig().largest_ratio) == (3, True, 1.0)
    assert {SwapConfig(sampler=name).largest_ratio for name in ("noise", "random-out", "other-class")} == {0.4}
    assert SwapConfig(sampler="other-class", max_ratio=0.9).largest_ratio == 0.9


def test_the_default_field_has_no_more_cells_than_the_first_feature_map(images):
    thin = TensorDataset(images[:, :, :3], LABELS)
    options = {"epochs": 1, "generator_width": 4, "progress": False, "device": "cpu"}
    assert GLICOAugment.fit(thin, **options).cells == 2
    with pytest.raises(ValueError, match="cells must be at most 2"):
        GLICOAugment.fit(thin, cells=3, **options)
