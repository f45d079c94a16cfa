"""The benchmarks of the latent space: new images, tasks, samplers, and their report."""

import sys
from pathlib import Path

import pytest

for name in ("matplotlib", "scipy"):
    pytest.importorskip(name)

import measure_encode
import plot_samplers
import report_latent
import torch
from accuracy.paired import scores
from accuracy.rows import read_rows
from conftest import smooth_images
from latent.episodes import augment as augment_images
from latent.episodes import augmented, draw_rows
from PIL import Image

from glico_augment import FitQuality

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CPU = torch.device("cpu")


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
    same = (images[:, None] / 255 == support).flatten(2).all(dim=2)
    assert same[:, ::2].sum() == 3
    assert not same[:, 1::2].any()
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_samplers_are_shown_for_every_setting(photos, tmp_path, monkeypatch):
    arguments = ["--data", photos.parent, "--out", tmp_path, "--fits", tmp_path, "--settings", f"{photos.name}-4"]
    arguments += ["--set", 'fit={"min_steps":2,"epochs":1}', "--samples", 3]
    monkeypatch.setattr(sys, "argv", ["plot_samplers.py", *map(str, arguments)])
    plot_samplers.main()
    with Image.open(tmp_path / f"samplers-{photos.name}-4.png") as picture:
        assert picture.size == (2 * (5 * 17 + 1), 2 * (4 * 17 + 1))


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
