"""The benchmarks of speed, growth, fits and the share of the machine."""

import measure_fit
import measure_growth
import measure_roofline
import measure_speed
import pytest
import torch
from speed.fits import start_fit, start_plain_fit
from speed.timing import random_images
from torch.utils.data import TensorDataset
from toys import called, root

from glico_augment import FitConfig

CPU = torch.device("cpu")


@pytest.mark.parametrize("gradient_norm", [None, 0.1])
def test_the_plain_way_makes_the_steps_of_the_fit_where_every_batch_is_the_whole_set(gradient_norm):
    dataset = TensorDataset(*random_images(12, 10))
    settings = {"steps": 8, "generator_width": 4, "max_grad_norm": gradient_norm, "seed": 3}
    ours, plain = (start(dataset, CPU, **settings) for start in (start_fit, start_plain_fit))
    losses = []
    for _ in range(8):
        ours.step()
        losses.append(plain.step())
    assert torch.allclose(ours.history[:, 0], torch.stack(losses), rtol=1e-4)
    assert (ours.model.codes.codes - plain.model.codes.codes).abs().max() < 1e-3


@pytest.fixture
def small_fits(monkeypatch):
    """The networks of all fits are narrow."""
    resolved = FitConfig.resolved
    monkeypatch.setattr(FitConfig, "resolved", lambda self, *args: resolved(self.replace(generator_width=4), *args))


def test_every_figure_of_speed_is_measured_once(called, small_fits):
    toy = ["--sides", 10, "--batches", 4, "--workers", 0, "--images", 12, "--rounds", 2, "--fit-steps", 2]
    toy += ["--samples", "JPEG", "--parts", "batch", "fit", "loader"]
    made = called(measure_speed, *toy, data=None)
    assert all(row["ratio"] > 0 and row["low"] <= row["ratio"] <= row["high"] for row in made)
    assert [(row["transform"], row["against"]) for row in made if row["part"] == "batch"] == list(measure_speed.PAIRS)
    assert [{"r2", "plain_r2"} <= row.keys() for row in made if row["part"] == "fit"] == [True]
    assert [row["way"] for row in made if row["part"] == "loader"] == list(measure_speed.WAYS)
    assert called(measure_speed, *toy, data=None) == made


WAYS = {
    "bank": {"bank"},
    "bank and refresh": {"bank", "refresh", "generator"},
    "fresh": {"generator"},
    "style": {"style"},
}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_timed_in_a_loader_is_what_its_row_says(way, monkeypatch):
    unit = {"side": 10, "samples": "tensor", "workers": 0, "batch": 4, "images": 12, "way": way, "fit_side": 10}
    found = set()

    def watch(name, owner, method):
        plain = getattr(owner, method)
        monkeypatch.setattr(owner, method, lambda *args, **options: found.add(name) or plain(*args, **options))

    changed, unchanged = measure_speed.loader_pair(unit, CPU)
    for method in ("transform", "make_swapped"):
        watch("generator", measure_speed.GLICOAugment, method)
    watch("bank", measure_speed.SyntheticBank, "take")
    watch("refresh", measure_speed.SyntheticBank, "refresh")
    watch("style", measure_speed.LocalStyle, "forward")
    changed()  # what is made once
    found.clear()
    unchanged()
    assert not found
    for _ in range(5):
        changed()
    assert found == WAYS[way]


def test_what_grows_is_measured_on_a_fit_that_can_be_read_again(called, monkeypatch, tmp_path, small_fits):
    monkeypatch.setattr(measure_growth, "STEPS", 1)
    monkeypatch.setattr(measure_growth, "BASE", (12, 2))
    (row,) = called(measure_growth, "--sizes", "20,4", data=None)
    assert all(row[name]["ratio"] > 0 for name in ("step", "draw", "save", "load", "load_over_read"))
    world = measure_growth.World(20, 4, tmp_path, CPU)
    assert len(measure_growth.GLICOAugment.load(world.path).codes) == 20


def test_a_roofline_counts_a_matrix_product_exactly_and_is_measured_of_a_swap_and_of_a_step(called):
    left, right = torch.randn(8, 16), torch.randn(16, 32)
    row = measure_roofline.roofline(lambda: (left @ right).view(-1), CPU, 3, peak_flops=1e9, peak_bytes=1e9)
    assert row["gflop"] == 2 * 8 * 16 * 32 / 1e9
    assert row["megabytes"] == 4 * (8 * 16 + 16 * 32 + 8 * 32) / 1e6
    assert row["arithmetic"] * row["milliseconds"] / 1000 == pytest.approx(row["gflop"])
    assert row["bandwidth"] * row["milliseconds"] / 1000 == pytest.approx(row["megabytes"] / 1000)
    rows = called(measure_roofline, "--side", 10, "--batch", 4, "--rounds", 1, "--size", 64, data=None)
    assert [(row["what"], row["precision"]) for row in rows] == [("swap", "float32"), ("fit step", "float32")]


def test_fits_of_real_and_made_up_images_are_measured(called, monkeypatch):
    fit, toy = measure_fit.GLICOAugment.fit, {"steps": 2, "generator_width": 4}
    monkeypatch.setattr(measure_fit.GLICOAugment, "fit", lambda data, **more: fit(data, **toy, **more))
    monkeypatch.setattr(measure_fit, "COUNTS", (2,))
    rows = called(measure_fit, "--seeds", 0, 1, "--only", "MNIST", "one bright")
    assert [(row["count"], row["seed"]) for row in rows] == [(None, 0), (None, 1), (2, 0)]
    for kind in measure_fit.KINDS:
        images, labels = measure_fit.extreme(kind, 20)
        assert (images.dtype, images.shape[2:], len(labels)) == (torch.uint8, (32, 32), 20)


def test_a_style_changes_what_a_judge_got_right(called):
    (row,) = called(measure_fit, "--style", "--settings", "mnist-10", "--steps", 2, "--seeds", 0)
    assert all(0 <= row[f"changed_{share:g}"] <= 100 for share in measure_fit.SHARES)
