"""The benchmarks of speed and growth and their report."""

import sys
from pathlib import Path

import pytest

for name in ("matplotlib", "scipy"):
    pytest.importorskip(name)

import measure_growth
import measure_speed
import report_speed
import torch
from accuracy.rows import read_rows
from speed.plain_fit import PlainFit
from speed.samples import random_images
from torch.utils.data import TensorDataset

from glico_augment import FitConfig
from glico_augment.data.image_set import read_image_set
from glico_augment.fit.loop import Fit

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CPU = torch.device("cpu")


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
