import re
import sys

import pytest
import torch
from conftest import smooth_images
from torch.utils.data import TensorDataset
from torchvision.transforms import v2

from glico_augment import GLICOAugment, LocalStyle
from glico_augment.cli import demo

LINE = r"of {}: none .* %, glico .* %, style .* %, both .* %; R² of the fit -?[\d.]+"


@pytest.fixture
def quick_fits(monkeypatch):
    """Fits of the fewest steps asked for; the list of those numbers."""
    fit, steps = GLICOAugment.fit, []

    def quick_fit(dataset, *, min_steps, **options):
        steps.append(min_steps)
        return fit(
            dataset, steps=min_steps, latent_dim=6, generator_width=4, classifier_width=4, progress=False, **options
        )

    monkeypatch.setattr(GLICOAugment, "fit", quick_fit)
    return steps


def test_demo_on_a_folder_compares_and_draws(glico, photos, tmp_path, quick_fits):
    options = ["--data", photos, "--per-class", 3, "--seeds", 2, "--steps", 2, "--fit-steps", 3, "--device", "cpu"]
    code, out, _ = glico("demo", *options, "--image-size", "12x8", "-o", tmp_path / "grid.png")
    assert code == 0
    assert (
        "3 training images of each of 2 classes, 8 test images, 12 × 8 pixels, 2 steps with shifts of up to 0 pixels"
        in out
    )
    assert re.search(rf"^draw 1 {LINE.format(2)}; about \d+ \w+ to go$", out, re.MULTILINE)
    assert re.search(rf"^draw 2 {LINE.format(2)}$", out, re.MULTILINE)
    assert re.search(r"^none +[\d.]+ %$", out, re.MULTILINE)
    for name in ("glico", "style", "both"):
        assert re.search(rf"^{name} +[\d.]+ % +[+-][\d.]+ ± [\d.]+$", out, re.MULTILINE)
    assert re.search(r"R² of the fits: -?[\d.]+ on average, -?[\d.]+ at worst", out)
    assert "against none, by 95 % intervals (±) over 2 draws: " in out
    assert (tmp_path / "grid.png").exists()
    assert quick_fits == [3, 3]


@pytest.mark.usefixtures("quick_fits")
def test_demo_on_digits(glico, tmp_path):
    pytest.importorskip("sklearn")
    options = ["--seeds", 1, "--steps", 1, "--fit-steps", 3, "--device", "cpu"]
    code, out, _ = glico("demo", *options, "-o", tmp_path / "grid.png")
    assert code == 0
    assert "5 training images of each of 10 classes, 898 test images, 8 × 8 pixels" in out
    assert "one draw says nothing about the noise" in out


@pytest.mark.usefixtures("seeded")
def test_demo_rows_are_what_is_done_to_a_batch(dataset, augment):
    rows = demo.rows(dataset, augment)
    assert list(rows) == ["none", "glico", "style", "both"]
    assert rows["glico"] is augment
    assert isinstance(rows["style"], LocalStyle)
    assert rows["both"].transforms == [augment, rows["style"]]
    images, labels = dataset.tensors
    for name, change in rows.items():
        changed, same = change(images, labels)
        assert torch.equal(same, labels)
        assert torch.equal(changed, images) == (name == "none")


def test_demo_training_is_paired_whatever_a_row_draws():
    images = smooth_images(200, channels=1, height=16, width=16)  # large enough to be shifted
    labels = images.flatten(1).float().mean(dim=1).gt(127).long()
    few, test = (TensorDataset(images[part], labels[part]) for part in (slice(20), slice(20, None)))
    splits = demo.Splits(few, test, ["dark", "bright"])
    seen = []

    def draws(images, labels):
        torch.rand(17)
        seen.append(images)
        return images, labels

    options = {"steps": 4, "device": torch.device("cpu")}
    first = demo.accuracy(few, v2.Identity(), splits, seed=0, **options)
    again, other = (demo.accuracy(few, draws, splits, seed=seed, **options) for seed in (0, 1))
    assert 0 <= first <= 100
    assert first == again != other
    assert not torch.equal(seen[0], seen[4])
    assert not torch.equal(seen[0], seen[1])


def test_demo_shifts_each_image_on_its_own_and_repeats_its_edge():
    images = torch.rand(40, 2, 5, 16)
    shifted = demo.random_shift(images)
    padded = torch.nn.functional.pad(images, [1] * 4, mode="replicate")
    crops = torch.stack([padded[..., y : y + 5, x : x + 16] for y in range(3) for x in range(3)])
    found = (crops == shifted).flatten(2).all(dim=2)
    assert found.any(dim=0).all()
    assert found.any(dim=1).sum() > 4


def test_demo_intervals_are_those_of_student():
    stats = pytest.importorskip("scipy.stats")
    before, after = [80.0, 84.0, 85.0, 81.0], [83.0, 85.0, 87.0, 83.0]
    gain, half = demo.gain_and_interval(before, after)
    expected = stats.ttest_rel(after, before).confidence_interval(0.95)
    assert gain == pytest.approx((expected.low + expected.high) / 2)
    assert half == pytest.approx((expected.high - expected.low) / 2, rel=2e-3)
    for degrees in range(1, 60):
        assert demo._student(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), abs=7e-3)


def test_demo_says_what_is_beyond_the_noise():
    none = [80.0, 84.0, 82.0]
    accuracies = {"none": none, "up": [x + 2 for x in none], "down": [78.0, 81.9, 80.1], "same": [85.0, 80.0, 83.0]}
    said = demo.summary(accuracies).splitlines()[-1]
    assert said.startswith("against none, by 95 % intervals (±) over 3 draws: ")
    assert said.endswith("better beyond the noise: up; worse beyond the noise: down; within the noise: same")
    assert "better" not in demo.summary({"none": none, "same": accuracies["same"]})
    assert "±" not in demo.summary({name: values[:1] for name, values in accuracies.items()})


def test_demo_without_scikit_learn_names_the_extra(glico, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    code, _, err = glico("demo", "-o", tmp_path / "grid.png")
    assert code == 1
    assert "pip install 'glico-augment[demo]', or --data FOLDER" in err
