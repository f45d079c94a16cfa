import json

import pytest
import torch
from conftest import LABELS, quick_fit
from torch.utils.data import TensorDataset

from glico_augment import GLICOAugment
from glico_augment.fit.quality import FitQuality, mean_image, measure


class Drawn:
    """A model whose reconstructions are given."""

    def __init__(self, images, codes):
        self.images, self.codes = images, codes

    def reconstruct(self, indices):
        return self.images[indices]


@pytest.fixture
def real(images):
    return images / 255


def test_perfect_reconstructions_have_1_and_the_mean_image_0(augment, images, real):
    assert measure(Drawn(real, augment.codes), images).r2 == pytest.approx(1, abs=1e-9)
    mean = real.mean(dim=0).expand_as(real)
    assert measure(Drawn(mean, augment.codes), images).r2 == pytest.approx(0, abs=1e-5)
    torch.testing.assert_close(mean_image(images), real.mean(dim=0))
    assert measure(Drawn(1 - real, augment.codes), images).r2 < 0


def test_each_class_has_its_own_and_the_worst_images_come_first(augment, images, real):
    made = real.clone()
    made[4] += 0.2  # of class -1, the first
    made[7] += 0.1  # of class 40, the last
    quality = measure(Drawn(made, augment.codes), images)
    distances = (real - real.mean(dim=0)).square().flatten(1).sum(dim=1)
    errors = torch.zeros(8).index_put((torch.tensor([4, 7]),), torch.tensor([0.04, 0.01]) * 360)
    expected = [1 - errors[label == LABELS].sum() / distances[label == LABELS].sum() for label in (-1, 3, 40)]
    assert quality.per_class == pytest.approx([float(value) for value in expected], abs=1e-4)
    assert quality.r2 == pytest.approx(float(1 - errors.sum() / distances.sum()), abs=1e-4)
    assert quality.worst[:2] == (4, 7)


def test_images_that_are_all_alike_are_judged_by_the_rounding_of_bytes(augment, images):
    same = images[:1].expand_as(images)
    assert measure(Drawn(same / 255, augment.codes), same).r2 == 1
    off = measure(Drawn(same / 255 + 1 / 255, augment.codes), same)
    assert off.r2 == pytest.approx(1 - 4, abs=0.01)  # an error of a whole step, against half a one


def test_a_part_of_the_images_can_be_looked_at(augment, images, real):
    made = real.clone()
    made[5] = 0
    part = measure(Drawn(made, augment.codes), images, limit=3)  # images 0, 3 and 6
    assert part.r2 == pytest.approx(1, abs=1e-6)
    assert set(part.worst) == {0, 3, 6}


def test_it_survives_json_and_other_json_is_refused():
    quality = FitQuality(0.5, (0.25, -1.5), (3, 0))
    values = json.loads(json.dumps(quality.to_json()))
    assert FitQuality.from_json(values, n_classes=2, n_images=4) == quality
    refused = {
        "r2": (1.5, "0.5", float("nan"), float("-inf")),
        "per_class": ([0.5], [0.5, float("-inf")]),
        "worst": ([4], [0.5]),
    }
    for change in ({name: value} for name, wrong in refused.items() for value in wrong):
        with pytest.raises(ValueError, match="quality must"):
            FitQuality.from_json(values | change, n_classes=2, n_images=4)
    with pytest.raises((KeyError, TypeError)):
        FitQuality.from_json(None, n_classes=2, n_images=4)


def test_a_fit_keeps_its_quality_in_its_file_and_shows_it(learned, tmp_path, images):
    augment = learned
    error = (augment.reconstruct() - images / 255).square().sum()
    distance = (images / 255 - (images / 255).mean(dim=0)).square().sum()
    assert augment.quality.r2 == pytest.approx(float(1 - error / distance), abs=1e-5)
    augment.save(tmp_path / "a.safetensors")
    assert GLICOAugment.load(tmp_path / "a.safetensors").quality == augment.quality
    assert f"R²={augment.quality.r2:.3f}" in repr(augment)


def test_a_poor_fit_warns_with_what_to_do(dataset):
    with pytest.warns(UserWarning, match=r"has not learned its images: R² is .* lower lr \(now 0.01\)"):
        quick_fit(dataset, epochs=1)


def test_unlabelled_images_do_not_count(dataset, images):
    others = TensorDataset(torch.zeros(4, 3, 12, 10, dtype=torch.uint8))
    augment = quick_fit(dataset, unlabeled=others)
    assert augment.quality == measure(augment.model, images)
