"""The report of the accuracy: intervals, which rows stand where, what is missing."""

import math
from pathlib import Path

import pytest

for name in ("matplotlib", "scipy"):
    pytest.importorskip(name)

import report
from accuracy.paired import Interval, average_gain, gains, scores
from accuracy.rows import identity, read_rows
from accuracy.settings import find_setting
from report_plots import plot_accuracy, plot_gains

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


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


def test_the_page_says_how_well_the_fits_behind_its_rows_learned():
    made = [row | {"r2": 0.9 - row["seed"] / 10} for row in rows("signs-5", "published", {0: 60.0, 1: 70.0, 2: 80.0})]
    lines = report.fits_section(NONE + made).splitlines()
    assert "| Signs, 5 a class | not yet run | 0.70 to 0.90 (3) |" in lines
    page = (BENCHMARKS / "REPORT.md").read_text()
    assert page.endswith(report.fits_section(read_rows(BENCHMARKS / "results" / "accuracy.jsonl")))
