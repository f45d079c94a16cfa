"""The reports: intervals, what stands where, and that pages and README have the figures of the committed rows."""

import math
import re
from pathlib import Path

import pytest

for name in ("matplotlib", "scipy", "sklearn"):
    pytest.importorskip(name)

import measure_reliability
import measure_tuning
import report_accuracy
import report_related
import report_speed
from measure_accuracy import identity
from shared.runner import read_rows
from shared.settings import find_setting
from shared.tables import Interval, accuracy, average, average_gain, comparison, difference, fill, gains, scores

from glico_augment import FitConfig

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
ROWS = {path.stem: read_rows(path) for path in (BENCHMARKS / "results").glob("*.jsonl")}


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
    interval, count = average_gain(results, results, "glico", "none")  # of 5, 3 and 2, the seeds that both have
    assert (count, interval.count) == (2, 3)
    assert math.isclose(interval.mean, 10 / 3)
    assert average_gain(results, ["a"], "glico", "none")[1] == 1
    assert average_gain(results, results, "glico", "pixel") == (None, 0)


def rows(name, method, accuracies, **changes):
    """Rows as ``measure_accuracy.py`` makes them, of a setting called ``name``."""
    fields = identity(find_setting(name, []), method, 0, "test") | changes
    return [fields | {"seed": seed, "accuracy": value} for seed, value in accuracies.items()]


NONE = rows("signs-5", "none", {0: 60.0, 1: 70.0, 2: 80.0, 3: 90.0})
STYLE = rows("signs-5", "style", {0: 62.0, 2: 84.0, 3: 93.0, 8: 1.0})


def test_gains_are_paired_by_seed():
    table = scores(NONE + STYLE)["signs-5"]
    assert gains(table, "style", "none") == {0: 2, 2: 4, 3: 3}  # seeds 1 and 8 have no pair
    assert gains(table, "none", "style") == {0: -2, 2: -4, 3: -3}
    assert gains(table, "glico", "none") == {}


def test_settings_are_told_apart_by_data_count_and_network():
    names = ("signs-5", "cifar10-10-wrn16-8", "cifar10-10", "cifar100-50-wrn28-10")
    assert list(scores(row for name in names for row in rows(name, "none", {0: 1.0}))) == list(names)


def test_two_rows_of_one_run_and_settings_trained_in_two_ways_are_refused():
    with pytest.raises(ValueError, match="signs-5, none: two rows of seed 3"):
        scores(NONE + NONE[-1:])
    with pytest.raises(ValueError, match=r"signs-5, style: .*steps"):
        scores(NONE + rows("signs-5", "style", {0: 1.0}, steps=7))


def test_a_table_marks_gains_and_losses_counts_seeds_and_leaves_out_what_was_not_run():
    results = scores(
        NONE
        + STYLE
        + rows("signs-5", "pixel", {0: 58.0, 1: 67.0, 2: 76.0, 3: 87.0})
        + rows("signs-5", "glico", {0: 61.0})
        + rows("mnist-5", "style", {0: 1.0})
    )
    table = results["signs-5"]
    # Differences of 2, 4 and 3: 3 ± 4.303·1/√3. The mean of style is of seeds 0, 2 and 3.
    assert accuracy(table, "style") == "79.7, +3.0 [+0.5, +5.5] (3)"
    assert difference(table, "style", "none") == "**+3.0 [+0.5, +5.5]** (3)"
    # Differences of −2, −3, −4 and −3: −3 ± 3.182·0.816/√4.
    assert difference(table, "pixel", "none") == "**-3.0 [-4.3, -1.7]**"
    assert [accuracy(table, each) for each in ("glico", "none", "fda")] == ["61.0, +1.0 (1)", "75.0", "–"]
    assert average(results, ["signs-5"], "style", "none") == "**+3.0 [+0.5, +5.5]** (1 settings, 3 seeds)"
    pairs = [("style", "none"), ("glico", "none")]  # one draw of glico makes no column, and mnist-5 no line
    options = {"device": {"signs-5": "GPU"}, "averages": {"average": ["signs-5"]}}
    assert comparison(results, ["signs-5", "mnist-5"], ("none", "style", "glico"), pairs, **options).splitlines() == [
        "|  | device | seeds | no augmentation | style | style − no augmentation |",
        "|---|---|---|---|---|---|",
        "| Signs, 5 per class | GPU | 4 | 75.0 | 79.7, +3.0 [+0.5, +5.5] (3) | **+3.0 [+0.5, +5.5]** (3) |",
        "| average |  |  |  |" + " **+3.0 [+0.5, +5.5]** (1 settings, 3 seeds) |" * 2,
    ]


def test_a_setting_is_of_the_device_with_more_draws_of_all_methods_and_the_other_stands_apart():
    def of(seeds, methods=report_accuracy.EVERYWHERE):
        return scores(row for method in methods for row in rows("signs-5", method, dict.fromkeys(seeds, 1.0)))

    both = of(range(3)), of(range(4), report_accuracy.EVERYWHERE[1:])
    fuller, others, devices = report_accuracy.by_draws(*both)  # four draws of all methods but one are fewer than three
    assert (fuller, others, devices["signs-5"]) == (*both, "CPU")
    both = of(range(3)), of(range(4))
    fuller, others, devices = report_accuracy.by_draws(*both)
    assert (others, fuller, devices["signs-5"]) == (*both, "GPU")
    assert report_accuracy.by_draws({}, both[1])[0] == both[1]
    assert report_accuracy.by_draws(both[0], {})[0] == both[0]


def test_the_readme_has_a_line_per_method_with_certain_gains_in_bold():
    name = "signs-5-wrn16-4"
    none = rows(name, "none", {0: 60.0, 1: 70.0, 2: 80.0})
    some = rows(name, "style", {0: 62.0, 1: 73.0, 2: 84.0}) + rows(name, "field", {0: 1.0, 1: 99.0, 2: 80.0})
    lines = report_accuracy.readme_table(scores(none + some + rows(name, "glico", {0: 1.0}))).splitlines()
    assert lines[0] == "|  | Signs, 5 per class, 3 draws |"
    assert lines[2:6] == [
        "| no augmentation | 70.0 |",
        "| GLICO | – |",
        "| the same field on pixels, no fit | 60.0 |",
        "| `LocalStyle` | **73.0** |",
    ]


def test_the_training_and_the_fit_of_the_main_table_are_those_that_the_rule_chose():
    chosen = measure_tuning.choose_trainings(ROWS["tuning"])
    fit = measure_tuning.choose_fit(ROWS["tuning"])
    defaults = {
        name: FitConfig().resolved(setting.per_class * (136 if "omniglot" in name else 10), (3, 32, 32))
        for name, setting in chosen.items()
    }
    for name, setting in chosen.items():
        whole = measure_tuning.with_fit(setting, fit)
        assert find_setting(name, []) == whole
        assert (whole.fit["steps"], whole.fit["generator_width"]) == (
            defaults[name].steps,
            defaults[name].generator_width,
        )


def test_a_page_is_filled_between_its_markers_twice_to_the_same(tmp_path):
    page = tmp_path / "PAGE.md"
    page.write_text("before\n<!-- a -->\nold\n<!-- end a -->\nafter\n")
    for _ in range(2):
        fill(page, {"a": "new\n"})
        assert page.read_text() == "before\n<!-- a -->\nnew\n<!-- end a -->\nafter\n"
    for wrong in ({"b": ""}, {"a": "", "b": ""}, {}):
        with pytest.raises(ValueError, match="has the blocks"):
            fill(page, wrong)


def page_blocks():
    yield BENCHMARKS / "REPORT.md", report_accuracy.blocks(ROWS) | report_accuracy.fit_blocks(ROWS)
    yield ROOT / "README.md", {"accuracy": report_accuracy.readme_table(scores(ROWS["wide"]))}
    yield BENCHMARKS / "SPEED.md", report_speed.blocks(ROWS["speed"], ROWS["growth"], ROWS["roofline"])
    yield BENCHMARKS / "RELATED.md", report_related.blocks(ROWS)
    yield BENCHMARKS / "RELIABILITY.md", {"reliability": measure_reliability.table(ROWS["reliability"])}


@pytest.mark.parametrize(
    ("page", "blocks"), list(page_blocks()), ids=lambda each: each.name if isinstance(each, Path) else ""
)
def test_a_page_has_the_figures_of_the_rows_that_are_here(page, blocks, tmp_path):
    copy = tmp_path / page.name
    copy.write_text(page.read_text())
    fill(copy, blocks)
    assert copy.read_text() == page.read_text()


def test_every_plot_is_shown_and_every_row_is_of_the_test_part():
    shown = {name for page in BENCHMARKS.glob("*.md") for name in re.findall(r"plots/(\S+?\.png)", page.read_text())}
    assert shown == {path.name for path in (BENCHMARKS / "plots").iterdir()}
    assert {row["part"] for row in ROWS["accuracy"] + ROWS["accuracy_gpu"] + ROWS["wide"]} == {"test"}


def test_the_plot_of_gains_is_made_of_what_there_is(tmp_path):
    report_accuracy.plot_gains(scores(NONE + STYLE), ["style", "glico"], tmp_path / "gains.png")
    assert (tmp_path / "gains.png").stat().st_size > 1000


def test_speed_in_short_is_the_range_of_the_medians_of_a_device():
    fields = {"part": "loader", "side": 32, "way": "bank", "device": "cpu"}
    text = report_speed.in_short([fields | {"ratio": value} for value in (0.95, 0.85)], [])
    assert "| loader at 32 px, images made ahead (`SyntheticBank`), rate | 0.85 to 0.95 |  |" in text.splitlines()


def feature_rows(space, head, by_count):
    fields = {"data": "mnist", "space": space, "head": head, "part": "test"}
    counts = [(count, seed, value) for count, values in by_count.items() for seed, value in enumerate(values)]
    return [fields | {"per_class": count, "seed": seed, "accuracy": value} for count, seed, value in counts]


def test_a_space_leads_up_to_the_first_count_at_which_the_network_is_level():
    made = feature_rows("scratch", "network", {1: [10, 20, 30], 2: [40, 50, 60], 4: [70, 80, 90], 8: [80, 80, 80]})
    made += feature_rows("vae", "linear", {1: [20, 30, 40], 2: [39, 52, 63], 4: [70, 80, 90], 8: [99, 99, 99]})
    table = report_related.table_of(made, "mnist", "linear")
    assert [report_related.lead(table, "vae", is_certain=each) for each in (False, True)] == [2, 1]
    shown = "**30.0** ± 10.0 | **51.3** ± 12.0 | 80.0 ± 10.0 | **99.0** ± 0.0"
    assert f"| VAE | {shown} |" + " – |" * 3 in report_related.accuracy_table(table).splitlines()
    with pytest.raises(ValueError, match="two rows of scratch, linear, 1 per class, seed 0"):
        report_related.table_of([*made, *made], "mnist", "linear")


def test_tasks_have_means_intervals_and_what_is_missing():
    fields = {"set": "omniglot", "part": "test", "n_shot": 1}
    made = [fields | {"method": "untrained", "accuracy": 40.0 + seed, "half_width": 0.6} for seed in (0, 2)]
    swap = {"sampler": "random-out", "sampler_std": 0.25, "max_ratio": 0.7}
    made.append(fields | {"method": "lasium-ro:max_ratio=0.7", "accuracy": 50, "half_width": 1.0, "swap": swap})
    lines = report_related.tasks_table(made).splitlines()
    assert "| untrained | 41.0 ± 0.4 (40.0 to 42.0) | – | – | – |  |  |" in lines
    assert any(line.startswith("| lasium-ro, α ≤ 0.7 | 50.0 ± 1.0 (50.0 to 50.0) |") for line in lines)


def test_every_accuracy_in_the_prose_of_the_readme_stands_in_its_table():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    before, table, after = re.split("<!-- (?:end )?accuracy -->", text)
    summary = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    quoted = re.findall(r"\b\d\d\.\d\b", before + after + summary)
    assert len(quoted) > 30
    assert set(quoted) <= set(re.findall(r"\d\d\.\d", table))
    assert not re.search(r"\[[+-]\d", before + after), "intervals stand in the report"
