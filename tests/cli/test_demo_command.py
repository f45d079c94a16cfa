import re
import sys

import pytest
import torch
from torchvision.transforms import v2

from glico_augment import LocalStyle
from glico_augment.cli import demo, demo_data
from glico_augment.cli.demo_training import accuracy, random_shift


def test_demo_on_a_folder_compares_and_draws(glico, photos, tmp_path):
    pytest.importorskip("tqdm")
    options = ["--data", photos, "--per-class", 3, "--seeds", 2, "--steps", 2, "--fit-steps", 3, "--device", "cpu"]
    code, out, _ = glico("demo", *options, "--image-size", "12x8", "-o", tmp_path / "grid.png")
    assert code == 0
    assert (
        "3 training images of each of 2 classes, 8 test images, 12 × 8 pixels, 2 steps with shifts of up to 0 pixels"
        in out
    )
    draw = r"of 2: none .* %, glico .* %, style .* %, both .* %; R² of the fit -?[\d.]+"
    assert re.search(rf"^draw 1 {draw}; about \d+ \w+ to go$", out, re.MULTILINE)
    assert re.search(rf"^draw 2 {draw}$", out, re.MULTILINE)
    assert re.search(r"^none +[\d.]+ %$", out, re.MULTILINE)
    for name in ("glico", "style", "both"):
        assert re.search(rf"^{name} +[\d.]+ % +[+-][\d.]+ ± [\d.]+$", out, re.MULTILINE)
    assert re.search(r"R² of the fits: -?[\d.]+ on average, -?[\d.]+ at worst", out)
    assert "against none, by 95 % intervals (±) over 2 draws: " in out
    assert (tmp_path / "grid.png").exists()


def test_demo_on_digits(glico, tmp_path):
    pytest.importorskip("sklearn")
    options = ["--seeds", 1, "--steps", 2, "--fit-steps", 3, "--device", "cpu"]
    code, out, _ = glico("demo", *options, "-o", tmp_path / "grid.png")
    assert code == 0
    assert "5 training images of each of 10 classes, 898 test images, 8 × 8 pixels" in out
    assert "one draw says nothing about the noise" in out


@pytest.mark.usefixtures("seeded")
def test_demo_rows_are_what_is_done_to_a_batch(dataset, augment):
    few = demo_data.Images(*dataset.tensors)
    rows = demo.rows(few, augment)
    assert list(rows) == ["none", "glico", "style", "both"]
    assert rows["glico"] is augment
    assert isinstance(rows["style"], LocalStyle)
    assert rows["both"].transforms == [augment, rows["style"]]
    for name, change in rows.items():
        images, labels = change(few.images, few.labels)
        assert torch.equal(labels, few.labels)
        assert torch.equal(images, few.images) == (name == "none")


def test_demo_draws_as_many_of_each_class_and_others_for_another_seed():
    pytest.importorskip("sklearn")
    splits = demo_data.digits((12, 10))
    assert splits.train.images.shape[1:] == (1, 12, 10)
    few = demo_data.draw_few(splits, 3, seed=0)
    assert few.labels.bincount().tolist() == [3] * 10
    assert torch.equal(few.images, demo_data.draw_few(splits, 3, seed=0).images)
    assert not torch.equal(few.images, demo_data.draw_few(splits, 3, seed=1).images)


def test_demo_training_is_paired_whatever_a_row_draws():
    pytest.importorskip("sklearn")
    splits = demo_data.digits((16, 16))  # large enough to be shifted
    few = demo_data.draw_few(splits, 2, seed=0)
    seen = []

    def draws(images, labels):
        torch.rand(17)
        seen.append(images)
        return images, labels

    options = {"n_classes": 10, "steps": 8, "device": torch.device("cpu")}
    first = accuracy(few, v2.Identity(), splits.test, seed=0, **options)
    again, other = (accuracy(few, draws, splits.test, seed=seed, **options) for seed in (0, 1))
    assert 0 <= first <= 100
    assert first == again != other
    assert not torch.equal(seen[0], seen[8])
    assert not torch.equal(seen[0], seen[1])


def test_demo_shifts_each_image_on_its_own_and_repeats_its_edge():
    images = torch.rand(40, 2, 5, 7)
    shifted = random_shift(images, at_most=1)
    padded = torch.nn.functional.pad(images, [1] * 4, mode="replicate")
    crops = torch.stack([padded[..., y : y + 5, x : x + 7] for y in range(3) for x in range(3)])
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
    said = demo.verdict(accuracies)
    assert said.startswith("against none, by 95 % intervals (±) over 3 draws: ")
    assert said.endswith("better beyond the noise: up; worse beyond the noise: down; within the noise: same")
    assert "better" not in demo.verdict({"none": none, "same": accuracies["same"]})
    assert "±" not in demo.table({name: values[:1] for name, values in accuracies.items()})


def test_demo_without_scikit_learn_names_the_extra(glico, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    code, _, err = glico("demo", "-o", tmp_path / "grid.png")
    assert code == 1
    assert "pip install 'glico-augment[demo]', or --data FOLDER" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "{tmp}/grid.jpg"], "a grid is written as PNG"),
        (["-o", "{tmp}/no/grid.png"], "there is no folder"),
        (["-o", "{tmp}"], "ends in .png"),
        (["--data", "{photos}", "-o", "{photos}/test/cat/grid.png"], "would be read as one of its images"),
        (["--data", "{tmp}", "-o", "{tmp}/a.png"], "expected .* to hold train/ and test/"),
        (["--data", "{photos}", "--per-class", "9", "-o", "{tmp}/a.png"], "has 4 training images"),
        (["--image-size", "1000000", "-o", "{tmp}/a.png"], "1797 images needs at least .*lower --image-size"),
        (["--data", "{photos}", "--image-size", "10000000", "-o", "{tmp}/a.png"], "16 images needs at least"),
        (["--steps", "10000000000", "-o", "{tmp}/a.png"], "--steps must be at most"),
        (["--fit-steps", "10000000000", "-o", "{tmp}/a.png"], "--fit-steps must be at most"),
    ],
)
def test_demo_refuses_before_it_works(glico, arguments, message, photos, tmp_path):
    if "1797" in message:
        pytest.importorskip("sklearn")
    code, out, err = glico("demo", *(argument.format(tmp=tmp_path, photos=photos) for argument in arguments))
    assert code == 1
    assert "draw 1" not in out
    assert err.count("\n") == 1
    assert re.search(message, err)
