"""The verdict on a fit, in one sentence."""

import dataclasses

import pytest
import torch
from conftest import LABELS, quick_fit, smooth_images


def verdict(fitted, r2):
    """Of a fit with another R²."""
    quality = dataclasses.replace(fitted.record.quality, r2=r2)
    return fitted._replace(record=dataclasses.replace(fitted.record, quality=quality)).verdict


@pytest.mark.parametrize(
    ("r2", "begins", "says"),
    [
        (0.49, "Not to be used yet", "R² 0.49, and under 0.5 a swap costs accuracy); fit longer"),
        (0.5, "Usable, and better after a longer fit", "R² is 0.50, and 0.9 is good"),
        (0.93, "Good to use: the generator has learned its images", "R² 0.93"),
    ],
)
def test_the_verdict_is_of_r2_where_nothing_else_is_wrong(r2, begins, says, augment):
    said = verdict(augment.fitted, r2)
    assert said.startswith(begins)
    assert says in said
    assert "\n" not in said


def test_duplicates_and_single_images_are_named_before_a_moderate_r2():
    images = smooth_images(8)
    images[1] = images[0]
    repeated = quick_fit(list(zip(images, LABELS.tolist(), strict=True)), epochs=1).fitted
    assert "1 of 8 images are duplicates of another" in verdict(repeated, 0.95)
    assert "fit longer" in verdict(repeated, 0.3)
    labels = LABELS.clone()
    labels[7] = 9
    alone = quick_fit(list(zip(images, labels.tolist(), strict=True)), epochs=1).fitted
    assert verdict(alone, 0.95).startswith("Too few images: 2 of 4 classes have a single image")


def test_unlabelled_images_and_a_fit_without_labels_are_no_reason_to_complain():
    images = smooth_images(8)
    pairs = list(zip(images, LABELS.tolist(), strict=True))
    more = torch.cat([images[:2], smooth_images(2, seed=3)])
    assert verdict(quick_fit(pairs, epochs=1, unlabeled=more).fitted, 0.95).startswith("Good to use: ")
    assert verdict(quick_fit(images, epochs=1).fitted, 0.95).startswith("Good to use: ")
