import pytest
import torch
from conftest import smooth_images
from torch.utils.data import TensorDataset

from glico_augment.comparison.compare import _in_folds, _with_few, compare, duration
from glico_augment.comparison.recipes import NONE, RECIPES
from glico_augment.comparison.training import Labelled

FIT = {"steps": 2, "latent_dim": 6, "generator_width": 4, "classifier_width": 4, "cells": 3, "carry": True}
QUICK = {"fit": FIT, "steps": 2, "image_size": 8, "device": "cpu", "progress": False}
TWO = {name: RECIPES[name] for name in (NONE, "GLICO + style + AutoAugment")}


def labelled(*counts):
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    return TensorDataset(smooth_images(len(labels)), labels)


@pytest.fixture
def found(photos, few_made):
    return compare(photos / "train", folds=2, draws=2, **QUICK)


def test_every_photograph_is_tested_once_at_each_draw_by_all_recipes(found):
    assert list(found.hits) == list(RECIPES)
    assert all(hits.shape == (2, 8) for hits in found.hits.values())
    assert found.runs.sort().values.tolist() == [[0] * 4 + [1] * 4, [2] * 4 + [3] * 4]
    assert len(found.r2) == 4
    assert found.size == (8, 8)


def test_one_seed_gives_one_comparison_and_leaves_the_global_random_numbers(found, photos):
    before = torch.get_rng_state()
    again = compare(photos / "train", folds=2, draws=2, **QUICK)
    assert torch.equal(torch.get_rng_state(), before)
    assert again.r2 == found.r2
    assert all(torch.equal(again.hits[name], hits) for name, hits in found.hits.items())
    other = compare(photos / "train", folds=2, draws=2, seed=5, **QUICK)
    assert not torch.equal(other.runs, found.runs)


@pytest.mark.usefixtures("few_made")
def test_with_test_images_every_draw_trains_on_all_and_tests_on_all(photos):
    found = compare(photos / "train", photos / "test", recipes=TWO, draws=2, **QUICK)
    assert found.runs.tolist() == [[0] * 8, [1] * 8]


def test_folds_are_stratified_and_each_trains_on_every_class_that_has_two_images():
    labels = torch.tensor([0] * 10 + [1] * 5 + [2] * 2)
    few = Labelled(torch.zeros(17, 1, 2, 2), labels, ("a", "b", "c"))
    splits = list(_in_folds(few, 5, 2, 0))
    assert [split.draw for split in splits] == [0] * 5 + [1] * 5
    for draw in range(2):
        tested = [split.test for split in splits if split.draw == draw]
        assert sorted(torch.cat(tested).tolist()) == list(range(17))
        assert all(torch.bincount(labels[each], minlength=3)[:2].tolist() == [2, 1] for each in tested)
    for split in splits:
        assert not set(split.train.tolist()) & set(split.test.tolist())
        assert len(split.train) + len(split.test) == 17
        assert labels[split.train].unique().tolist() == [0, 1, 2]
    assert splits[0].test.tolist() != splits[5].test.tolist()
    fewer = _with_few(splits[0], few, 1, 0)
    assert labels[fewer.train].tolist() == [0, 1, 2]
    assert set(fewer.train.tolist()) <= set(splits[0].train.tolist())


@pytest.mark.usefixtures("few_made")
def test_transparency_is_left_out():
    images = torch.cat([smooth_images(8), smooth_images(8)[:, :1]], dim=1)
    compare(TensorDataset(images, torch.arange(8) % 2), recipes=TWO, folds=2, **QUICK)


@pytest.mark.parametrize(
    ("train", "test", "options", "message"),
    [
        (labelled(4, 1), None, {}, "class 1 has 1 image, and folds need 2 of each class"),
        (labelled(4), None, {}, "two classes or more; these have one class, 0"),
        (smooth_images(4), None, {}, "two classes or more; these have no labels"),
        (labelled(4, 4), labelled(2, 2, 2), {}, "of the same classes; only the test part has 2"),
        (labelled(4, 4, 4), labelled(2, 2), {}, "of the same classes; only the training part has 2"),
        (labelled(4, 4), None, {"per_class": 4}, "4 images per class were asked for, but class '0' has"),
        (labelled(4, 4), None, {"folds": 9}, "folds must be an integer of at least 2 and at most 8"),
        (labelled(4, 4), None, {"image_size": 0}, "image_size must be"),
        (labelled(4, 4), None, {"image_size": 10**7}, "lower the image size"),
        (labelled(4, 4), None, {"steps": 10**10}, "steps must be"),
        (labelled(4, 4), None, {"recipes": {}}, "recipes must have 'no augmentation'"),
    ],
)
def test_a_wrong_input_is_refused_before_the_work(train, test, options, message, monkeypatch):
    monkeypatch.setattr("glico_augment.comparison.training.Experiment.pools", lambda *_, **__: pytest.fail("worked"))
    with pytest.raises(ValueError, match=message):
        compare(train, test, **{**QUICK, **options})


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "1 second"),
        (1.4, "1 second"),
        (20, "20 seconds"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (250, "4 minutes"),
        (7200, "2 hours"),
        (3 * 86400, "3 days"),
    ],
)
def test_a_time_is_told_in_its_largest_unit(seconds, words):
    assert duration(seconds) == words
