"""The ways to new images of a class: GLICO's, and the three of LASIUM."""

import math

import pytest
import torch
from conftest import LABELS, quick_fit
from torch.utils.data import TensorDataset

from glico_augment import GLICOAugment, SyntheticBank, geodesic_distance, slerp
from glico_augment.config import SAMPLERS

DRAWN = LABELS.repeat(50)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(augment, sampler, labels=DRAWN, **settings):
    augment.sampler = sampler
    for name, value in settings.items():
        setattr(augment, name, value)
    params = augment.make_params(labels, generator=rng())
    codes = augment.codes.codes
    starts = codes[params.anchors]
    return params, starts, codes[params.partners] if params.ends is None else params.ends


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_image_is_made_on_the_way_from_its_anchor_and_keeps_its_label(augment, sampler):
    params, starts, ends = draw(augment, sampler)
    assert torch.equal(augment.codes.labels[params.anchors], DRAWN)
    torch.testing.assert_close(ends.norm(dim=1), torch.ones(len(DRAWN)))
    expected = augment.model.generate(slerp(starts, ends, params.ratios), params.noise)
    assert torch.equal(augment.transform(params), expected)
    _, labels = augment.synthesize(DRAWN)
    assert torch.equal(labels, DRAWN)


def test_same_class_goes_towards_another_code_of_the_class(augment):
    params, *_ = draw(augment, "same-class")
    assert torch.equal(augment.codes.labels[params.partners], DRAWN)
    assert (params.partners != params.anchors).all()


def test_other_class_goes_part_of_the_way_to_a_code_of_another_class(augment):
    params, starts, ends = draw(augment, "other-class", max_ratio=0.3)
    assert (augment.codes.labels[params.partners] != DRAWN).all()
    assert set(params.partners.tolist()) == set(range(8))
    gone = geodesic_distance(starts, slerp(starts, ends, params.ratios))
    torch.testing.assert_close(gone, params.ratios * geodesic_distance(starts, ends), atol=1e-4, rtol=1e-4)
    assert 0.25 < params.ratios.max() <= 0.3


def test_random_out_goes_part_of_the_way_to_a_point_at_least_an_angle_away(augment):
    params, starts, ends = draw(augment, "random-out", min_angle=1.5, max_ratio=0.3)
    angles = geodesic_distance(starts, ends)
    assert angles.min() >= 1.5 - 1e-5
    assert angles.max() > 2
    assert len(ends.unique(dim=0)) == len(ends)
    assert 0.25 < params.ratios.max() <= 0.3
    _, starts, ends = draw(augment, "random-out", min_angle=0.0)
    assert geodesic_distance(starts, ends).min() < 1


def test_noise_moves_by_its_standard_deviation_and_by_no_ratio(augment):
    params, starts, ends = draw(augment, "noise", sampler_std=0.1, max_ratio=0.0)
    assert torch.equal(params.ratios, torch.ones(len(DRAWN)))
    angles = geodesic_distance(starts, ends)
    assert angles.square().mean().sqrt().item() == pytest.approx(0.1 * math.sqrt(5 / 6), rel=0.1)  # 5 of 6 dimensions
    _, starts, ends = draw(augment, "noise", sampler_std=0.0)
    torch.testing.assert_close(starts, ends)


@pytest.mark.parametrize(("sampler", "moves"), [("same-class", False), ("noise", True), ("random-out", True)])
def test_the_image_of_a_class_of_one_moves_with_a_sampler_that_needs_no_other(images, sampler, moves):
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1])
    augment = quick_fit(TensorDataset(images, labels), sampler=sampler, noise_std=0.0, epochs=1)
    made = augment.synthesize(torch.tensor([1]).repeat(5))[0]
    own = augment.reconstruct([7])
    assert ((made - own).abs().amax(dim=(1, 2, 3)) > 1e-4).tolist() == [moves] * 5


def test_other_class_is_refused_where_there_is_one_class(augment, images):
    one = augment.restrict(TensorDataset(images[:3], LABELS[:3]))
    one.sampler = "other-class"
    with pytest.raises(ValueError, match="one class only"):
        one.synthesize(n_per_class=1)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_dataset_batch_and_bank_honour_it(augment, images, sampler):
    """All but noise stay at the anchor where the ratio is 0."""
    augment.p, augment.max_ratio, augment.noise_std, augment.sampler = 1.0, 0.0, 0.0, sampler
    own = augment.reconstruct()
    bank = SyntheticBank(augment, per_image=1, device="cpu")
    dataset = TensorDataset(images, LABELS)
    for made in (
        torch.stack([image for image, _ in augment.wrap(dataset)]) / 255,
        torch.stack([image for image, _ in augment.wrap(dataset, bank=bank)]) / 255,
        augment.transform(augment.make_params(LABELS, anchors=torch.arange(8))),
    ):
        is_own = ((made - own).abs().amax(dim=(1, 2, 3)) < 0.6 / 255).tolist()
        assert all(is_own) if sampler != "noise" else not any(is_own)
    swapped = augment(images / 255, LABELS)[0]
    nearest = (swapped[:, None] - own).abs().amax(dim=(2, 3, 4)).amin(dim=1)
    assert (nearest < 1e-4).all() if sampler != "noise" else (nearest > 1e-4).all()


def test_a_file_keeps_it_and_the_repr_shows_it(augment, tmp_path):
    assert "sampler" not in repr(augment)
    augment.sampler, augment.sampler_std, augment.min_angle = "noise", 0.5, 0.7
    augment.save(tmp_path / "noisy.safetensors")
    loaded = GLICOAugment.load(tmp_path / "noisy.safetensors")
    assert (loaded.sampler, loaded.sampler_std, loaded.min_angle) == ("noise", 0.5, 0.7)
    assert "sampler='noise'" in repr(loaded)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_words_for_it_name_the_setting_that_counts(augment, sampler):
    augment.sampler, augment.sampler_std, augment.max_ratio, augment.min_angle = sampler, 0.125, 0.375, 0.625
    counts = {"noise": ["0.125"], "random-out": ["0.375", "0.625"]}.get(sampler, ["0.375"])
    assert [number for number in ("0.125", "0.375", "0.625") if number in augment.swap.description] == counts
