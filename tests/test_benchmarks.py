"""The benchmarks' promises: paired runs, honest splits, resumption, intervals."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import LABELS, smooth_images
from PIL import Image

CPU = torch.device("cpu")
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
for name in ("matplotlib", "scipy"):
    pytest.importorskip(name)

import measure_encode  # noqa: E402
import measure_growth  # noqa: E402
import measure_speed  # noqa: E402
import plot_samplers  # noqa: E402
import report  # noqa: E402
import report_latent  # noqa: E402
import report_speed  # noqa: E402
from accuracy.data import Split, make_split  # noqa: E402
from accuracy.methods import METHODS, find_method  # noqa: E402
from accuracy.paired import Interval, average_gain, gains, scores  # noqa: E402
from accuracy.rows import identity, read_rows  # noqa: E402
from accuracy.settings import CPU_SETTINGS, Setting, find_setting  # noqa: E402
from accuracy.swaps import GLICOSwap, PixelAveraging, fitted  # noqa: E402
from accuracy.training import Batches, train  # noqa: E402
from latent.episodes import augment as augment_images  # noqa: E402
from latent.episodes import augmented, draw_rows  # noqa: E402
from report_plots import plot_accuracy, plot_gains  # noqa: E402
from speed.plain_fit import PlainFit  # noqa: E402
from speed.samples import random_images  # noqa: E402
from torch.utils.data import TensorDataset  # noqa: E402

from glico_augment import FitConfig, FitQuality  # noqa: E402
from glico_augment.data.image_set import read_image_set  # noqa: E402
from glico_augment.fit.loop import Fit  # noqa: E402


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


def test_an_interval_is_students():
    interval = Interval.of([1.0, 2.0, 3.0, 4.0, 5.0])  # t of 4 degrees of freedom at 97.5 %: 2.776
    assert interval.mean == 3
    assert math.isclose(interval.half_width, 2.776 * math.sqrt(2.5 / 5), rel_tol=1e-3)
    assert interval.excludes_zero
    assert not Interval.of([-1.0, 2.0, 0.5]).excludes_zero


def test_an_average_over_settings_is_taken_seed_by_seed():
    results = {
        "a": {"glico": {0: 3.0, 1: 5.0, 2: 4.0, 7: 90.0}, "none": {0: 1.0, 1: 1.0, 2: 1.0, 7: 1.0}},
        "b": {"glico": {0: 9.0, 1: 9.0, 2: 8.0}, "none": {0: 1.0, 1: 7.0, 2: 7.0}},
        "too few seeds": {"glico": {0: 99.0}, "none": {0: 1.0}},
    }
    interval, averaged = average_gain(results, "glico", "none")  # of 5, 3 and 2, the seeds that both settings have
    assert (averaged, interval.count) == (["a", "b"], 3)
    assert math.isclose(interval.mean, 10 / 3)
    assert average_gain(results, "glico", "pixel") == (None, [])


def rows(name, method, accuracies, **changes):
    """Rows as ``measure_accuracy.py`` makes them, of a setting called ``name``."""
    setting = find_setting(name, [])
    fields = identity(setting, method, 0, "test", setting.lr, setting.weight_decay) | changes
    return [fields | {"seed": seed, "accuracy": accuracy} for seed, accuracy in accuracies.items()]


NONE = rows("signs-5", "none", {0: 60.0, 1: 70.0, 2: 80.0, 3: 90.0})


def test_gains_are_paired_by_seed():
    table = scores(NONE + rows("signs-5", "style", {0: 62.0, 2: 84.0, 3: 93.0, 8: 1.0}))["signs-5"]
    assert gains(table, "style", "none") == {0: 2, 2: 4, 3: 3}  # seeds 1 and 8 have no pair
    assert gains(table, "none", "style") == {0: -2, 2: -4, 3: -3}
    assert gains(table, "glico", "none") == {}


def test_settings_are_told_apart_by_data_count_and_network():
    wide = rows("cifar10-10-wrn16-8", "none", {0: 50.0})
    results = scores(
        NONE + wide + rows("cifar10-10", "none", {0: 40.0}) + rows("cifar100-50-wrn28-10", "none", {0: 3.0})
    )
    assert list(results) == ["signs-5", "cifar10-10-wrn16-8", "cifar10-10", "cifar100-50-wrn28-10"]


def test_two_rows_of_one_run_and_settings_trained_in_two_ways_are_refused():
    with pytest.raises(ValueError, match="signs-5, none: two rows of seed 3"):
        scores(NONE + NONE[-1:])
    with pytest.raises(ValueError, match=r"signs-5, style: .*steps"):
        scores(NONE + rows("signs-5", "style", {0: 1.0}, steps=7))


def test_the_report_marks_gains_and_losses_and_counts_the_seeds_that_both_have():
    results = scores(
        NONE
        + rows("signs-5", "style", {0: 62.0, 2: 84.0, 3: 93.0, 8: 1.0})
        + rows("signs-5", "pixel", {0: 58.0, 1: 67.0, 2: 76.0, 3: 87.0})
        + rows("signs-5", "glico", {0: 61.0})
    )
    # Differences of 2, 4 and 3: 3 ± 4.303·1/√3. The mean of style is of seeds 0, 2 and 3.
    assert report.accuracy(results, "signs-5", "style") == "79.7, +3.0 [+0.5, +5.5] (3)"
    assert report.difference(results, "signs-5", "style", "none") == "**+3.0 [+0.5, +5.5]** (3)"
    # Differences of −2, −3, −4 and −3: −3 ± 3.182·0.816/√4.
    assert report.difference(results, "signs-5", "pixel", "none") == "**-3.0 [-4.3, -1.7]**"
    assert report.accuracy(results, "signs-5", "glico") == "61.0, +1.0 (1)"
    assert report.accuracy(results, "signs-5", "none") == "75.0"
    assert [report.tally(results, method, "none") for method in ("style", "pixel")] == ["1, 1, 0", "1, 0, 1"]
    assert report.average(results, report.MAIN, "style", "none") == "**+3.0 [+0.5, +5.5]** (1 settings, 3 seeds)"


def test_the_report_says_what_has_not_been_run():
    text = report.report(scores(NONE), {})
    assert len(text.splitlines()) < 200
    line = next(line for line in text.splitlines() if line.startswith("| Signs, 5 a class |"))
    assert line == "| Signs, 5 a class | CPU | 4 | 75.0 |" + " not yet run |" * 8
    line = next(line for line in text.splitlines() if line.startswith("| Omniglot, 1 a class |"))
    assert line == "| Omniglot, 1 a class |  | 0 | not yet run | – |" + " not yet run |" * 4 + " – |" * 3
    assert text.count("| glico-transductive-") == 2
    assert "Other methods of these files: none." in text
    more = scores(NONE + rows("signs-5", "mixup", {0: 1.0}))
    assert "Other methods of these files: mixup." in report.report(more, {})


def test_a_setting_is_of_the_device_with_more_draws_of_all_methods_and_the_other_stands_apart():
    def of(seeds, value, methods=report.EVERYWHERE):
        return [row for method in methods for row in rows("signs-5", method, dict.fromkeys(seeds, value))]

    both = [scores(of(range(3), 40.0)), scores(of(range(4), 50.0, report.EVERYWHERE[1:]))]
    fuller, others, devices = report.by_draws(*both)  # four draws of all methods but one are fewer than three of all
    assert (fuller, others, devices["signs-5"]) == (*both, "CPU")
    both[1] = scores(of(range(4), 50.0))
    fuller, others, devices = report.by_draws(*both)
    assert (others, fuller, devices["signs-5"]) == (*both, "GPU")
    assert report.by_draws({}, both[1])[0] == both[1]
    assert report.by_draws(both[0], {})[0] == both[0]
    first, _, second = report.report(*both).partition("## The same on the other device")
    assert "| Signs, 5 a class | GPU | 4 | 50.0 | 50.0, +0.0 [+0.0, +0.0] |" in first
    assert "| Signs, 5 a class | CPU | 3 | 40.0 | 40.0, +0.0 [+0.0, +0.0] |" in second
    assert "| Signs, 5 a class, 4 seeds | 50.0 |" in report.readme_table(both[1], {"signs-5": "GPU"})


def test_the_report_of_a_gpu_has_its_rows_beside_those_of_others_and_says_what_is_missing():
    wide = rows("cifar10-50-wrn28-10", "none", {0: 60.0}) + rows("cifar10-50-wrn28-10", "style", {0: 63.0})
    text = report.report(scores(NONE + wide), {})
    before, _, section = text.partition("## Wider networks, on a GPU")
    assert "wrn28-10" not in before
    lines = section.splitlines()
    name = "| CIFAR-10 (JPEG), 50 a class, wrn28-10 |"
    assert f"{name} 1 | 60.0 | not yet run | 63.0, +3.0 |" + " not yet run |" * 5 in lines
    assert f"{name} not yet run | +3.0 |" + " not yet run |" * 5 in lines
    assert "| CIFAR-10 (JPEG), 10 a class, wrn16-8 | 0 |" + " not yet run |" * 8 in lines
    assert "| GLICO (Azuri & Weinshall 2020) |  | 56.2 |" in lines
    assert "| ChimeraMix and AutoAugment, ciFAIR-10 | 49.8 | 70.1 |" in lines


def test_the_readme_has_settings_of_three_seeds_and_is_not_changed_twice(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("before\n<!-- accuracy -->\nold\n<!-- end accuracy -->\nafter\n")
    results = scores(NONE + rows("signs-10", "none", {0: 1.0, 1: 2.0}))
    table = report.readme_table(results, dict.fromkeys(results, "CPU"))
    texts = []
    for _ in range(2):
        report.replace_block(path, "accuracy", table)
        texts.append(path.read_text())
    assert texts[0] == texts[1]
    before, *lines, end, after = texts[0].splitlines()
    assert (before, end, after) == ("before", "<!-- end accuracy -->", "after")
    assert lines[1] == "|  | none | pixel | style | glico | glico+style | autoaugment | glico+style+autoaugment |"
    assert lines[3:] == ["| Signs, 5 a class, 4 seeds, CPU | 75.0 |" + " not yet run |" * 6]
    with pytest.raises(ValueError, match="no block between <!-- speed -->"):
        report.replace_block(path, "speed", table)


def test_every_result_is_of_the_test_part_and_of_no_earlier_default():
    kept = read_rows(BENCHMARKS / "results" / "accuracy.jsonl")
    assert scores(kept)
    assert {row["part"] for row in kept} == {"test"}
    assert not any({"pixel_share", "max_style_ratio"} & row.get("swap", {}).keys() for row in kept)


def test_plots_are_made_of_what_there_is(tmp_path):
    results = scores(NONE + rows("signs-5", "style", {0: 62.0, 2: 84.0}) + rows("mnist-5", "none", {0: 1.0}))
    plot_gains(
        {report.title(name): table for name, table in results.items()}, ["style", "glico"], tmp_path / "gains.png"
    )
    plot_accuracy(report.by_data(results), tmp_path / "accuracy.png")
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("gains.png", "accuracy.png"))


@pytest.mark.parametrize("gradient_norm", [None, 0.1])
def test_the_plain_way_makes_the_steps_of_the_fit_where_every_batch_is_the_whole_set(gradient_norm):
    image_set = read_image_set(TensorDataset(*random_images(12, 10)))
    config = FitConfig(steps=8, generator_width=4, max_grad_norm=gradient_norm).resolved(12, (3, 10, 10))
    ours, plain = Fit(image_set, config, device=CPU, seed=3), PlainFit(image_set, config, CPU, seed=3)
    losses = []
    for _ in range(config.steps):
        ours.step()
        losses.append(plain.step())
    assert torch.allclose(ours.history[:, 0], torch.stack(losses), rtol=1e-4)
    assert (ours.model.codes.codes - plain.model.codes.codes).abs().max() < 1e-3


def measured(out, monkeypatch, *more):
    """The rows of a run of measure_speed.py on as little as it takes."""
    toy = {"sides": 10, "batches": 4, "workers": 0, "images": 12, "rounds": 2, "fit-steps": 2, "threads": 1}
    options = [f"--{name}={value}" for name, value in toy.items()]
    monkeypatch.setattr(sys, "argv", ["measure_speed.py", f"--out={out}", "--device=cpu", *options, *more])
    measure_speed.main()
    return read_rows(out)


def test_every_figure_of_speed_is_measured_once(tmp_path, monkeypatch):
    kinds = ["--samples", "JPEG", "--parts", "batch", "fit", "loader"]
    made = measured(tmp_path / "rows.jsonl", monkeypatch, *kinds)
    assert all(row["ratio"] > 0 and row["low"] <= row["ratio"] <= row["high"] for row in made)
    assert [(row["transform"], row["against"]) for row in made if row["part"] == "batch"] == [
        ("swap", "generator"),
        ("swap", "cutmix"),
        ("style", "color jitter"),
        ("style", "cutmix"),
    ]
    assert [{"r2", "plain_r2"} <= row.keys() for row in made if row["part"] == "fit"] == [True]
    assert [row["way"] for row in made if row["part"] == "loader"] == list(measure_speed.WAYS)
    assert measured(tmp_path / "rows.jsonl", monkeypatch, *kinds) == made


@pytest.mark.parametrize("way", measure_speed.WAYS)
def test_what_is_timed_in_a_loader_is_what_its_row_says(way, monkeypatch):
    identity = {"side": 10, "samples": "tensor", "workers": 0, "batch": 4, "images": 12, "way": way, "fit_side": 10}
    counts = dict.fromkeys(("generator", "bank", "refresh", "style"), 0)

    def counted(name, owner, method):
        plain = getattr(owner, method)

        def call(*arguments, **options):
            counts[name] += 1
            return plain(*arguments, **options)

        monkeypatch.setattr(owner, method, call)

    changed, unchanged = measure_speed.loader_pair(identity, CPU)
    counted("generator", measure_speed.GLICOAugment, "transform")
    counted("bank", measure_speed.SyntheticBank, "take")
    counted("refresh", measure_speed.SyntheticBank, "refresh")
    counted("style", measure_speed.LocalStyle, "forward")
    unchanged()
    assert not any(counts.values())
    for _ in range(5):
        changed()
    wanted = {
        "bank": {"bank"},
        "bank and refresh": {"bank", "refresh", "generator"},
        "fresh": {"generator"},
        "style": {"style"},
    }
    assert {name for name, count in counts.items() if count} == wanted[way]


def test_what_grows_is_measured_on_a_fit_that_can_be_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(measure_growth, "STEPS", 1)
    world = measure_growth.World(20, 4, tmp_path, CPU)
    world.save()
    assert len(measure_growth.GLICOAugment.load(world.path).codes) == 20
    for run in (world.steps, world.draw, world.load, world.read):
        figure = measure_growth.ratio(run, run, 2, scale=0.5)
        assert figure["ratio"] > 0
        assert figure["low"] <= figure["ratio"] <= figure["high"]
    assert world.fit.steps_done > 0


HERE = {"device": "cpu", "machine": "one", "threads": 2, "torch": "2", "torchvision": "0", "rounds": 5}


def loader_row(side, ratio, **changes):
    figure = {"ratio": ratio, "low": 0.9 * ratio, "high": 1.1 * ratio}
    fields = {"side": side, "samples": "PIL", "workers": 0, "batch": 128, "images": 9, "way": "bank", "fit_side": side}
    return {"part": "loader", **fields, **HERE, **figure, **changes}


def test_the_report_of_speed_counts_the_medians_that_meet_a_target():
    speed = [loader_row(32, 0.95), loader_row(32, 0.85, samples="tensor"), loader_row(32, 0.4, way="fresh")]
    speed.append(loader_row(32, 0.7, workers=2, device="cuda"))
    lines = report_speed.report(speed, [], []).splitlines()
    assert "| loader, 32 px, bank, rate | cpu | 0.85 to 0.95 | at least 0.9 | 1 of 2 |" in lines
    assert "| loader, 32 px, fresh, rate | cpu | 0.40 | at least 0.5 | 0 of 1 |" in lines
    assert "| loader, 32 px, bank, rate | cuda | 0.70 | at least 0.9 | 0 of 1 |" in lines
    assert "| batch, 100 px, swap, time over the generator's | cuda | not yet run | at most 1.2 | |" in lines
    assert any(line.startswith("| Data loader | see above |") for line in lines)
    assert any(line.startswith("| Fit | not yet run |") for line in lines)
    line = report_speed.Line("", {}, at_most=1.2)
    assert [line.meets(ratio) for ratio in (1.0, 1.2, 1.21)] == [True, True, False]


def test_the_report_of_speed_has_targets_of_a_gpu_in_milliseconds_and_shares_of_the_machine():
    batch = {"part": "batch", "side": 32, "batch": 128, "transform": "swap", "against": "generator", **HERE}
    figures = {"ratio": 1.1, "low": 1.0, "high": 1.2, "milliseconds": 0.8, "device": "cuda"}
    share = {"what": "swap", "precision": "float32", "side": 32, "batch": 128, "milliseconds": 0.8, "gflop": 3.66}
    share |= {"megabytes": 99.8, "peak_tflops": 400.0, "peak_gb_a_second": 3000.0, "arithmetic": 0.011}
    lines = report_speed.report([batch | figures], [], [HERE | share | {"bandwidth": 0.042, "device": "cuda"}])
    assert "| batch of 128, 32 px, swap, milliseconds | cuda | 0.80 | at most 1 | 1 of 1 |" in lines
    assert "batch of 128, 32 px, swap, milliseconds | cpu" not in lines
    assert "| fit, rate over the plain way's | cuda | not yet run | at least 5 | |" in lines
    shown = "| swap | cuda | float32 | 128 | 32 | 0.80 | 3.7 | 100 | 1.1% of 400 TFLOP/s | 4.2% of 3000 GB/s |"
    assert shown in lines.splitlines()


def test_the_report_of_speed_says_how_far_growth_was_measured():
    figure = {"ratio": 1.5, "low": 1.0, "high": 2.0}
    row = {**HERE, **dict.fromkeys([*report_speed.GROWTH, "load_over_read"], figure), "classes": 10}
    row |= dict.fromkeys(["peak_mib", "images_mib", "codes_mib"], 1.0)
    some, more = ({**row, "images": count} for count in (500, 5_000))
    line = "| growth: fit step, from 500 images to {} | cpu | {} | | |"
    assert line.format("50,000", "not yet run") in report_speed.report([], [some], [])
    assert line.format("5,000", "1.50") in report_speed.report([], [some, more], [])


def test_plots_of_speed_are_made_of_three_sides_or_not_at_all(tmp_path):
    sides = [loader_row(side, 0.9) for side in (32, 100, 224)]
    report_speed.plot_loader(sides[:2], tmp_path / "loader.png")
    report_speed.plot_growth([], tmp_path / "growth.png")
    assert not list(tmp_path.iterdir())
    report_speed.plot_loader(sides, tmp_path / "loader.png")
    assert (tmp_path / "loader.png").stat().st_size > 1000
    plot = "![Data loader](plots/loader.png)"
    assert [plot in report_speed.report(rows, [], []) for rows in (sides[:2], sides)] == [False, True]


def test_the_report_of_speed_is_of_the_rows_that_are_here_and_of_no_earlier_default():
    speed, *others = (read_rows(BENCHMARKS / "results" / f"{name}.jsonl") for name in report_speed.RESULTS)
    assert report_speed.report(speed, *others) == (BENCHMARKS / "SPEED.md").read_text()
    assert not any("pixel_share" in row for row in speed)


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    """``omniglot`` and ``mnist`` of five classes of training and of test images, 8 drawings each."""
    root = tmp_path_factory.mktemp("drawings")
    for folder in ("omniglot/background", "omniglot/evaluation", "mnist/train", "mnist/test"):
        for label in range(5):
            path = root / folder / f"class{label}"
            path.mkdir(parents=True)
            for number, image in enumerate(smooth_images(8, channels=1, height=28, width=28, seed=len(folder) + label)):
                Image.fromarray(image[0].numpy()).save(path / f"{number}.png")
    return root


def called(script, monkeypatch, out, *options):
    """The rows of a script after a run on the CPU."""
    arguments = [f"{script.__name__}.py", f"--out={out}", "--device=cpu", *map(str, options)]
    monkeypatch.setattr(sys, "argv", arguments)
    script.main()
    return read_rows(out)


def test_codes_of_new_images_are_measured_once_and_shown(drawings, tmp_path, monkeypatch):
    options = ["--data", drawings, "--fits", tmp_path, "--plots", tmp_path / "plots", "--sets", "omniglot"]
    options += ["--counts", 4, 50, "--fit-steps", 2, "--images", 3, "--steps", 1, "--starts", 2]
    out = tmp_path / "rows.jsonl"
    made = called(measure_encode, monkeypatch, out, *options)
    assert [(row["what"], row["count"]) for row in made] == [("r2", 4), ("r2", 40), ("cost", 4)]
    assert all(row["r2_new"] >= row["r2_of_starts"] - 0.1 for row in made[:2])
    assert made[0]["fit_steps"] == 2
    assert made[2]["ratio"] > 0
    assert [path.name for path in sorted((tmp_path / "plots").iterdir())] == [
        "encode-omniglot-4.png",
        "encode-omniglot-40.png",
    ]
    assert called(measure_encode, monkeypatch, out, *options) == made


def test_networks_that_learn_from_tasks_are_scored_once(drawings, tmp_path, monkeypatch):
    pytest.importorskip("easyfsl")
    import measure_tasks

    monkeypatch.setattr(FitQuality, "is_poor", False)  # tasks of a fit that has not learned are refused
    methods = ["untrained", "augmentations", "lasium-oc:max_ratio=0.1", "lasium-n+augmentations", "supervised"]
    options = ["--data", drawings, "--fits", tmp_path, "--sets", "omniglot", "--count", 20, "--fit-steps", 2]
    options += ["--query", 3, "--tasks", 5, "--episodes", 2, "--train-query", 2, "--width", 4, "--seeds", 0]
    out = tmp_path / "rows.jsonl"
    made = called(measure_tasks, monkeypatch, out, *options, "--methods", *methods)
    assert [(row["method"], row["n_shot"]) for row in made] == [(name, shots) for name in methods for shots in (1, 5)]
    assert all(0 <= row["accuracy"] <= 100 and row["half_width"] >= 0 for row in made)
    swaps = [row["swap"] for row in made[4:8:2]]
    assert [(swap["sampler"], swap["max_ratio"]) for swap in swaps] == [("other-class", 0.1), ("noise", 0.4)]
    assert called(measure_tasks, monkeypatch, out, *options, "--methods", *methods) == made
    with pytest.raises(ValueError, match="method must be one of untrained"):
        called(measure_tasks, monkeypatch, out, *options, "--methods", "lasium")


def test_a_task_of_real_images_shares_no_image_between_support_and_query():
    labels = torch.arange(6).repeat(4)
    support, query = draw_rows(labels, 5, 1, 3, torch.Generator().manual_seed(0))
    assert len({*support.tolist(), *query.tolist()}) == 20
    assert torch.equal(labels[query], labels[support].repeat_interleave(3))
    assert len(labels[support].unique()) == 5
    with pytest.raises(ValueError, match=r"needs 5 classes of 5 images; there are 6 of at least 4"):
        draw_rows(labels, 5, 1, 4, torch.Generator())


def test_an_augmented_image_is_its_own_shifted_and_dotted():
    point = torch.zeros(1, 1, 20, 20)
    point[0, 0, 10, 10] = 1
    made = augment_images(point.expand(2000, -1, -1, -1), torch.Generator().manual_seed(0))
    _, _, rows, columns = made.nonzero().T
    assert 0.88 < len(rows) / 2000 < 0.92  # a tenth is hidden
    for places in (rows, columns):
        assert places.unique().tolist() == list(range(4, 17))


def test_the_first_image_of_a_class_of_augmentations_is_as_it_was():
    images = smooth_images(8)
    support, _, query, labels = next(augmented(images, 3, 2, 4, seed=0))
    assert (support.shape[0], query.shape[0]) == (6, 12)
    assert contains(images / 255, support[::2]).sum() == 3
    assert not contains(images / 255, support[1::2]).any()
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_samplers_are_shown_for_every_setting(root, tmp_path, monkeypatch):
    arguments = ["--data", root, "--out", tmp_path / "plots", "--fits", tmp_path, "--settings", "photos-4"]
    arguments += ["--set", 'fit={"min_steps":2,"epochs":1}', "--samples", 3]
    monkeypatch.setattr(sys, "argv", ["plot_samplers.py", *map(str, arguments)])
    plot_samplers.main()
    with Image.open(tmp_path / "plots" / "samplers-photos-4.png") as picture:
        assert picture.size == (2 * (5 * 13 + 1), 2 * (4 * 13 + 1))


def test_the_tables_of_the_sphere_have_means_intervals_and_what_is_missing():
    fields = {"set": "omniglot", "part": "test", "n_shot": 1}
    tasks = [fields | {"method": "untrained", "accuracy": 40.0 + seed, "half_width": 0.6} for seed in (0, 2)]
    swap = {"sampler": "random-out", "sampler_std": 0.25, "max_ratio": 0.7}
    tasks.append(fields | {"method": "lasium-ro:max_ratio=0.7", "accuracy": 50, "half_width": 1.0, "swap": swap})
    tasks[-1]["pixel_accuracy"] = 98
    lines = report_latent.tasks_table(tasks).splitlines()
    missing = " not yet run | not yet run | not yet run |"
    assert f"| untrained | 41.0 ± 0.4 (40.0 to 42.0) |{missing}  |  |" in lines
    assert f"| lasium-ro, α ≤ 0.7 | 50.0 ± 1.0 (1 seed) |{missing} 98.0 |  |" in lines
    figures = {"r2_fitted": 0.9, "r2_new": 0.5, "r2_of_starts": 0.1, "quantiles_new": [0.2, 0.5, 0.7]}
    lines = report_latent.encode_table([{"what": "r2", "set": "mnist", "count": 50} | figures]).splitlines()
    assert lines[2:4] == [
        "| MNIST, 28 px | 50 | 0.90 | 0.50 | 0.10 | 0.20 |",
        "| Omniglot, 28 px | not yet run |  |  |  |  |",
    ]
    cost = {"what": "cost", "set": "signs", "ratio": 0.5, "fit_milliseconds": 4.0, "encode_milliseconds": 2.0}
    assert "| signs, 32 px | 4.00 ms | 2.00 ms | 0.50 |" in report_latent.cost_table([cost]).splitlines()
    table = {"none": {0: 40.0, 1: 41.0}, "glico": {0: 39.0, 1: 40.0}, "glico-noise": {1: 42.0}}
    lines = report_latent.sampler_table({"mnist-5": table}).splitlines()
    assert lines[2] == "| MNIST, 5 a class | 1 | 41.0 | 40.0, -1.0 | 42.0, +1.0 | – | – |"
    assert lines[3] == "| Omniglot, 1 a class | 0 |" + " not yet run |" * 5


def test_the_page_of_the_sphere_is_of_the_rows_that_are_here():
    text = (BENCHMARKS / "LATENT.md").read_text()
    encoded, tasks = (read_rows(BENCHMARKS / "results" / f"{name}.jsonl") for name in ("encode", "tasks"))
    results = scores(read_rows(BENCHMARKS / "results" / "accuracy.jsonl"))
    tables = (
        report_latent.encode_table(encoded),
        report_latent.sampler_table(results),
        report_latent.tasks_table(tasks),
    )
    assert all(table in text for table in tables)
