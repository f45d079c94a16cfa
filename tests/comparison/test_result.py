import math

import pytest
import torch

from glico_augment.comparison.recipes import NONE
from glico_augment.comparison.result import Comparison, _student, half_interval


def comparison(*, draws=4, images=400, **gains):
    """Of each recipe so many images more right than of none, 200 of 400; all alike at every draw but for one image."""
    hits = {}
    for name, gain in {NONE: 0, **gains}.items():
        hits[name] = torch.zeros(draws, images, dtype=torch.bool)
        for draw in range(draws):
            hits[name][draw, : images // 2 + gain + (draw % 2 if gain else 0)] = True
    runs = torch.arange(draws)[:, None].repeat(1, images)
    return Comparison(hits, runs, [], (8, 8))


def test_the_interval_of_runs_is_that_of_student():
    stats = pytest.importorskip("scipy.stats")
    differences = [3.0, 1.0, 2.0, 2.5]
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert half_interval(differences) == pytest.approx((expected.high - expected.low) / 2, rel=2e-3)
    for degrees in range(1, 60):
        assert _student(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), abs=7e-3)
    assert half_interval([1.0]) == math.inf


def test_a_gain_is_paired_and_its_interval_holds_the_noise_of_runs_and_of_test_images():
    found = comparison(up=40)
    assert found.accuracies(NONE) == [50.0] * 4
    assert found.accuracies("up") == [60.0, 60.25, 60.0, 60.25]
    gain, half = found.gain("up")
    assert gain == pytest.approx(10.125)
    differences = torch.cat([torch.zeros(200), torch.ones(40), torch.tensor([0.5]), torch.zeros(159)])
    of_images = 1.96 * 100 * differences.std() / 20
    of_runs = half_interval([10.0, 10.25, 10.0, 10.25])
    assert half == pytest.approx(math.hypot(of_runs, of_images), rel=1e-4)
    assert found.gain(NONE) == (0.0, 0.0)


def test_accuracies_are_those_of_folds_whatever_their_sizes():
    hits = torch.tensor([[True, False, True, True, True]])
    found = Comparison({NONE: hits}, torch.tensor([[0, 0, 1, 1, 1]]), [], (8, 8))
    assert found.accuracies(NONE) == [50.0, 100.0]
    assert found.accuracy(NONE) == pytest.approx(80.0)


def test_the_best_is_ahead_beyond_the_noise_and_what_is_level_with_it_is_named():
    found = comparison(up=60, near=58, little=1, down=-40)
    assert found.best == "up"
    assert found.level == ["near"]
    assert "up is ahead of no augmentation beyond the noise, by 15." in found.verdict()
    assert found.verdict().endswith("Level with it, within the noise: near.")
    rows = found.table().splitlines()
    assert [row.split()[0] for row in rows[1:]] == ["no", "up", "near", "little", "down"]
    assert "-9.9  [-" in rows[-1]


def test_without_a_gain_beyond_the_noise_nothing_is_recommended():
    found = comparison(little=1, down=-40)
    assert found.best is None
    assert found.level == []
    assert found.verdict() == "None of them is better than no augmentation beyond the noise: use shifts alone."
    assert found.to_json()["best"] is None


def test_one_run_says_nothing_about_the_noise():
    found = comparison(draws=1, up=60)
    assert found.best is None
    assert "ask for more draws" in found.verdict()
    assert "unknown: one run" in found.table()
    assert found.to_json()["recipes"]["up"]["interval"] is None
