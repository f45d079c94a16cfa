"""What the benchmark of accuracy promises: honest splits, paired runs, resumption."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accuracy.data import Split, make_split
from accuracy.methods import METHODS, find_method
from accuracy.settings import CPU_SETTINGS, Setting, find_setting
from accuracy.swaps import GLICOSwap, PixelAveraging, fitted
from accuracy.training import Batches, train
from conftest import LABELS
from PIL import Image

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder ``photos`` with two classes of 8 training and 2 test images, no two alike."""
    root = tmp_path_factory.mktemp("data")
    for part, count in (("train", 8), ("test", 2)):
        for label in ("a", "b"):
            folder = root / "photos" / part / label
            folder.mkdir(parents=True)
            for number in range(count):
                seed = len(part) * 1000 + ord(label) * 10 + number
                pixels = torch.randint(0, 256, (12, 12, 3), generator=torch.Generator().manual_seed(seed))
                Image.fromarray(pixels.to(torch.uint8).numpy()).save(folder / f"{number}.png")
    return root


def contains(images, others):
    return (images[:, None] == others[None]).flatten(2).all(dim=2).any(dim=1)


def test_a_validation_part_shares_no_image_with_the_training_images_drawn(root):
    split = make_split(root, "photos", None, 5, 0, "validation")
    assert split.labels.bincount().tolist() == [5, 5]
    assert split.eval_labels.bincount().tolist() == [3, 3]
    assert not contains(split.images, split.eval_images).any()


def test_the_draw_depends_on_the_seed_alone(root):
    first, again, other = (make_split(root, "photos", None, 5, seed, "test") for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert torch.equal(first.eval_images, other.eval_images)


def test_more_images_a_class_than_there_are_is_an_error(root):
    with pytest.raises(ValueError, match="8 training images of class 0, fewer than 9"):
        make_split(root, "photos", None, 9, 0, "test")


def test_the_digits_are_split_in_halves_that_share_none():
    pytest.importorskip("sklearn")
    split = make_split(Path("nowhere"), "digits", 16, 5, 0, "test")
    assert split.images.shape == (50, 3, 16, 16)
    assert split.labels.bincount().tolist() == [5] * 10
    assert len(split.eval_images) == 898
    assert not contains(split.images, split.eval_images).any()
    assert split.eval_images.float().std() > 60  # white on black, not 0 to 16


def test_a_swap_that_draws_random_numbers_leaves_shifts_and_flips_as_they_were(root):
    split = make_split(root, "photos", None, 5, 0, "test")

    def draws(images, labels, indices):
        torch.rand(17)
        return images

    made = []
    for swap in (None, draws):
        batches = Batches(split, True, swap)
        torch.manual_seed(3)
        made.append(torch.stack([batches(torch.arange(10)) for _ in range(3)]))
    assert torch.equal(*made)
    assert not torch.equal(made[0][0], made[0][1])


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.swap is None])
def test_every_rival_takes_training_steps(root, name):
    split = make_split(root, "photos", None, 5, 0, "test")
    method = find_method(name)
    setting = Setting("photos", 5, batch_size=4)
    policy, erase = method.policy and method.policy(), method.erase and method.erase()
    batches = Batches(split, True, policy=policy, erase=erase)
    trained = [
        train(split, replace(setting, steps=steps), batches, method.objective, 0, lr=0.1, weight_decay=0)
        for steps in (1, 2)
    ]
    weights = [network.head.weight for network in trained]
    stems = [network.stem.weight for network in trained]
    assert all(weight.isfinite().all() for weight in weights)
    assert not torch.equal(*weights)
    assert not torch.equal(*stems)


def test_a_policy_of_glico_and_autoaugment_sees_real_images_alone(root):
    assert find_method("glico+style+autoaugment:p=0.25").spare
    split = make_split(root, "photos", None, 5, 0, "test")
    seen = []

    def swap(images, labels, indices):
        return torch.where((indices % 2 == 0).view(-1, 1, 1, 1), 255 - images, images)

    def policy(image):
        seen.append(image)
        return image

    batches = Batches(split, False, swap, policy=policy, spare=True)
    batches.basic = torch.nn.Identity()
    batches(torch.arange(10))
    assert torch.equal(torch.stack(seen), split.images[1::2])


def test_the_control_averages_with_another_image_of_the_class():
    values = torch.tensor([0, 100, 10, 210], dtype=torch.uint8)
    images = values[:, None, None, None].expand(-1, 3, 4, 4)
    labels = torch.tensor([0, 0, 1, 1])
    swap = PixelAveraging(Split(images, labels, images, labels), p=1, max_ratio=0.4)
    order = torch.arange(4).repeat(500)
    made = swap(images[order], labels[order], order)[:, 0, 0, 0].float()
    partner = values[torch.tensor([1, 0, 3, 2])][order].float()
    ratio = (made - values[order]) / (partner - values[order])
    assert ratio.min() >= -0.01
    assert 0.38 < ratio.max() <= 0.41
    assert abs(ratio.mean() - 0.2) < 0.01


def test_the_other_control_averages_with_images_of_other_classes_alone():
    labels = torch.tensor([0, 0, 1, 1])
    images = (200 * labels).to(torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4)
    swap = PixelAveraging(Split(images, labels, images, labels), p=1, max_ratio=0.4, other_class=True)
    order = torch.arange(4).repeat(500)
    shares = (swap(images[order], labels[order], order)[:, 0, 0, 0].float() - images[order][:, 0, 0, 0]).abs() / 200
    assert abs(shares.mean() - 0.2) < 0.01  # of the way to the other value: no partner had its own


@pytest.fixture
def split(images):
    return Split(images, LABELS, images, LABELS)


def test_a_swap_starts_from_each_images_own_code(augment, split):
    augment.p, augment.max_ratio, augment.noise_std = 1.0, 0.0, 0.0
    order = torch.tensor([3, 1, 1, 6])
    swapped = GLICOSwap(augment)(split.images[order], LABELS[order], order)
    assert (swapped / 255 - augment.reconstruct(order)).abs().max() < 0.01


def test_a_kept_fit_swaps_with_the_defaults_of_today(split, tmp_path):
    settings = (split, 0, {"min_steps": 2, "epochs": 1, "generator_width": 4}, tmp_path)
    augment, _ = fitted(*settings)
    defaults = augment.swap
    augment.p, augment.max_ratio = 0.25, 0.9
    (path,) = tmp_path.iterdir()
    augment.save(path)
    again, _ = fitted(*settings)
    assert again.swap == defaults
    assert torch.equal(again.codes.codes, augment.codes.codes)  # kept, not made anew


def run(root, out, *more):
    command = [sys.executable, BENCHMARKS / "measure_accuracy.py", "--data", root, "--out", out, "--fits", out.parent]
    settings = [] if "--grid" in more else ["--settings", "photos-4"]
    command += [*settings, "--set", "steps=1", "batch_size=4", "--device", "cpu", *more]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_run_that_has_its_row_is_not_repeated(root, tmp_path):
    out = tmp_path / "rows.jsonl"
    methods = ["none", "pixel", "glico:min_steps=2,epochs=1,generator_width=4"]
    run(root, out, "--seeds", "0", "--methods", *methods[:1])
    run(root, out, "--seeds", "0", "1", "--methods", *methods)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert sorted((row["method"], row["seed"]) for row in rows) == sorted((m, s) for m in methods for s in (0, 1))
    assert {"accuracy", "machine", "torch", "command", "lr"} <= rows[0].keys()
    assert "0 runs to make" in run(root, out, "--seeds", "0", "1", "--methods", *methods)


def test_grids_are_made_one_after_the_other_each_with_its_own_methods_and_seeds(root, tmp_path):
    out = tmp_path / "rows.jsonl"
    run(root, out, "--jobs", "1", "--grid", "photos-4 / none pixel / 1", "--grid", "photos-3 / pixel / 0 1")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    made = [(row["per_class"], row["method"], row["seed"]) for row in rows]
    assert made == [(4, "none", 1), (4, "pixel", 1), (3, "pixel", 0), (3, "pixel", 1)]
    again = ["--jobs", "2", "--grid", "photos-4 / none pixel / 1 2", "--grid", "photos-4 / pixel none / 2"]
    assert "2 runs to make" in run(root, out, *again)  # none of them twice
    assert len(out.read_text().splitlines()) == 6
    with pytest.raises(AssertionError, match="expected 'SETTING… / METHOD… / SEED…', got 'photos-4 / none'"):
        run(root, out, "--grid", "photos-4 / none")
    with pytest.raises(AssertionError, match="leave --settings, --methods and --seeds out"):
        run(root, out, "--seeds", "0", "--grid", "photos-4 / none / 1")


def test_all_cpu_settings_exist_and_unknown_names_are_refused():
    assert [find_setting(name, []).per_class for name in CPU_SETTINGS] == [10, 50, 5, 10]
    assert find_setting("my-photos-7", ["side=48"]) == Setting("my-photos", 7, side=48)
    with pytest.raises(ValueError, match="FOLDER-COUNT"):
        find_setting("photos", [])
    with pytest.raises(ValueError, match="'sides'"):
        find_setting("photos-7", ["sides=48"])
    with pytest.raises(ValueError, match="none takes no fields"):
        find_method("none:p=1")
