import pytest
import torch
from conftest import LABELS

from glico_augment.images.values import to_unit
from glico_augment.report import measure


def brute_force(images, training):
    return (images[:, None] - to_unit(training)[None]).square().flatten(2).mean(dim=2).sqrt()


def test_the_nearest_image_is_that_of_least_distance(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    training = torch.randint(256, (11, 3, 4, 5), generator=generator, dtype=torch.uint8)
    images = torch.rand(7, 3, 4, 5, generator=generator)
    expected = brute_force(images, training)
    for chunk in (3, 100):
        monkeypatch.setattr(measure, "_CHUNK", chunk)
        found = measure.nearest(images, training)
        assert torch.equal(found.indices, expected.argmin(dim=1))
        torch.testing.assert_close(found.distances, expected.min(dim=1).values)


def test_a_training_image_is_nearest_to_itself_unless_it_is_left_out(images, monkeypatch):
    monkeypatch.setattr(measure, "_CHUNK", 3)
    itself = measure.nearest(to_unit(images), images)
    assert torch.equal(itself.indices, torch.arange(8))
    assert (itself.distances == 0).all()
    other = measure.nearest(to_unit(images), images, excluded=torch.arange(8))
    expected = brute_force(to_unit(images), images).fill_diagonal_(torch.inf)
    assert torch.equal(other.indices, expected.argmin(dim=1))
    assert measure.usual_distance(images) == pytest.approx(expected.min(dim=1).values.median().item())


def test_angles_are_of_pairs_of_one_class_and_of_two(augment):
    codes = augment.codes.codes.detach().double()
    all_angles = torch.rad2deg((codes @ codes.T).clamp(-1, 1).acos())
    is_same = LABELS[:, None] == LABELS
    within, between = measure.angles(augment)
    expected_within = all_angles[is_same & ~torch.eye(8, dtype=torch.bool)]
    for found, expected in ((within, expected_within), (between, all_angles[~is_same])):
        assert len(found) > 1000
        distance = (found.double()[:, None] - expected).abs().min(dim=1).values
        assert distance.max() < 0.05
        assert len(found.round(decimals=2).unique()) == len(expected.round(decimals=2).unique())
