"""What the benchmarks of features and of MetaCGAN promise, rehearsed on toys."""

import math
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

for name in ("matplotlib", "scipy", "sklearn", "torchmetrics"):
    pytest.importorskip(name)

import measure_features
import measure_metacgan
import report_features
from accuracy.rows import read_rows
from features import heads
from features.autoencoders import VQVAE
from features.pictures import plot_layouts
from features.pools import load_pool
from features.spaces import SPACES, Effort
from rivals import metacgan, new_classes

from glico_augment import FitConfig
from glico_augment.sklearn import GLICOFeatures

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CPU = torch.device("cpu")
QUICK = {
    "vae_steps": 2,
    "vqvae_steps": 2,
    "dcgan_steps": 2,
    "dcgan_width": 4,
    "diffusion_steps": 2,
    "diffusion_width": 8,
    "diffusion_times": (10, 100),
    "glico_steps": 60,  # fewer have not learned the images, and are refused
    "glico_width": 4,
    "glico_encode_steps": 1,
    "scratch_steps": 2,
    "batch_size": 8,
}
WITHOUT_EXTRAS = [*measure_features.BASELINES, *(space for space in SPACES if space != "diffusion")]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """``mnist/`` with four classes of 12 training and 4 test images, 16 × 16, each bright in a quarter of its own."""
    root = tmp_path_factory.mktemp("data")
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", 12), ("test", 4)):
        for label in range(4):
            folder = root / "mnist" / part / str(label)
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = torch.randint(0, 30, (16, 16), generator=generator)
                pixels[8 * (label // 2) :, 8 * (label % 2) :][:8, :8] += 150
                Image.fromarray(pixels.to(torch.uint8).numpy()).save(folder / f"{number}.png")
    return root


def run(module, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [f"{module.__name__}.py", *map(str, arguments)])
    module.main()


def as_options(fields):
    return [f"{name}={list(value) if isinstance(value, tuple) else value}" for name, value in fields.items()]


def measure_spaces(root, folder, monkeypatch, spaces):
    monkeypatch.setattr(heads, "HIDDEN_STEPS", 3)
    out = folder / "features.jsonl"
    options = ["--sets", "mnist", "--per-class", 1, 4, "--seeds", 0, "--validation", 3, "--spaces", *spaces]
    options += ["--fits", folder / "fits", "--effort", *as_options(QUICK)]
    run(measure_features, monkeypatch, "--data", root, "--out", out, *options)
    return read_rows(out)


@pytest.mark.filterwarnings("ignore:the generator has not learned")
def test_every_space_has_a_row_for_each_head_and_count_and_none_twice(root, tmp_path, monkeypatch):
    rows = measure_spaces(root, tmp_path, monkeypatch, WITHOUT_EXTRAS)
    tested = [row for row in rows if row["part"] == "test"]
    units = [(row["space"], row["head"], row["per_class"]) for row in tested]
    baselines = measure_features.BASELINES
    expected = {(space, measure_features.NETWORK, count) for space in baselines for count in (1, 4)}
    expected |= {
        (space, head, count) for space in SPACES.keys() - {"diffusion"} for head in heads.HEADS for count in (1, 4)
    }
    assert len(units) == len(expected)
    assert set(units) == expected
    assert all(row["unlabelled"] == 36 and row["n_test"] == 16 for row in rows)
    chosen = [row for row in rows if row["part"] == "validation"]
    assert {row["variant"] for row in chosen} == {"codes", "layer 0", "layer 1"}
    best = max(chosen, key=lambda row: row["accuracy"])["variant"]
    assert {row["variant"] for row in tested if row["space"] == "glico"} == {best}
    neighbours = {row["space"]: row["share"] for row in rows if row["part"] == measure_features.NEIGHBOURS}
    assert neighbours.keys() == SPACES.keys() - {"diffusion"}
    assert neighbours["pixels"] == pytest.approx(30)  # three others of the class among ten: the brightest quarter tells
    assert not any(str(root) in line for line in (tmp_path / "features.jsonl").read_text().splitlines())
    assert measure_spaces(root, tmp_path, monkeypatch, WITHOUT_EXTRAS) == rows


def test_a_diffusion_model_is_looked_into_at_every_time_step(root, tmp_path, monkeypatch):
    pytest.importorskip("diffusers")
    rows = measure_spaces(root, tmp_path, monkeypatch, ["diffusion"])
    assert {row["variant"] for row in rows if row["part"] == "validation"} == {"t=10", "t=100"}
    assert len([row for row in rows if row["part"] == "test"]) == 4


def test_no_image_is_in_two_parts_of_a_pool_and_more_labelled_images_hold_the_fewer(root):
    pool = load_pool(root, "mnist", 3, 2)
    parts = [pool.train, pool.validation, pool.test]
    assert [len(images) for images, _ in parts] == [36, 12, 8]
    assert len(torch.cat([images for images, _ in parts]).unique(dim=0)) == 56
    few, many = (pool.draw(1, count) for count in (2, 5))
    assert pool.train[1][few].bincount().tolist() == [2] * 4
    assert set(few.tolist()) < set(many.tolist())
    assert set(pool.draw(2, 2).tolist()) != set(few.tolist())
    with pytest.raises(ValueError, match="class 0 has 9 training images, fewer than 10"):
        pool.draw(0, 10)


@pytest.mark.filterwarnings("ignore:the generator has not learned")
def test_a_layer_is_what_the_transformer_gives_for_it(root):
    images, effort = load_pool(root, "mnist", 3, 2).train[0], Effort(**QUICK)
    described = SPACES["glico"](images, effort, 0, CPU).describe(images[:5])
    options = {"generator_width": QUICK["glico_width"], "steps": QUICK["glico_steps"], "batch_size": 8}
    config = FitConfig(**options)
    for layer in (0, 1):
        expected = GLICOFeatures(config=config, layer=layer, device="cpu").fit(images).transform(images[:5])
        assert torch.allclose(described[f"layer {layer}"], torch.from_numpy(expected), atol=1e-5)


@pytest.mark.parametrize("head", heads.HEADS)
def test_a_head_learns_what_is_linear_and_is_chosen_by_the_validation_images(head):
    generator = torch.Generator().manual_seed(0)

    def examples(count, wrong=False):
        features = torch.randn(count, 5, generator=generator)
        labels = (features[:, 0] > 0).long()
        return 100 * features + 7, 1 - labels if wrong else labels

    labelled, test = examples(60), examples(200)
    row = heads.score(head, labelled, examples(200), test, 0)
    assert row["accuracy"] > 80
    assert row["validation_accuracy"] > 80
    assert heads.score(head, labelled, examples(200, wrong=True), test, 0)["validation_accuracy"] < 50


def test_neighbours_are_those_of_the_smallest_distance_without_the_image_itself():
    groups = torch.tensor([0.0, 100.0, 200.0]).repeat_interleave(11)
    features = torch.stack([groups + torch.arange(33) / 33, torch.zeros(33)], dim=1)
    labels = torch.arange(3).repeat_interleave(11)
    assert heads.share_of_neighbours(features, labels) == 100
    labels[0] = 1  # none of the other ten has its label, and it is one of the ten of each
    assert heads.share_of_neighbours(features, labels) == pytest.approx(100 * (330 - 20) / 330)


def test_a_quantised_map_has_vectors_of_the_codebook_alone_and_passes_gradients_to_the_encoder():
    torch.manual_seed(0)
    model, images = VQVAE((1, 8, 8), n_codes=6, code_dim=3, width=4), torch.rand(5, 1, 8, 8)
    vectors = model.features(images).permute(0, 2, 3, 1).flatten(0, 2)
    assert torch.cdist(vectors, model.codebook.weight).min(dim=1).values.max() < 1e-5
    model.loss(images).backward()
    assert model.encode[0].weight.grad.abs().sum() > 0
    assert model.codebook.weight.grad.abs().sum() > 0


def test_every_image_is_deconvolved_with_its_own_weights():
    features, weights = torch.randn(3, 4, 5, 5), torch.randn(3, 4, 2, 4, 4)
    made = metacgan.deconvolve(features, weights)
    assert made.shape == (3, 2, 10, 10)
    for index in range(3):
        alone = metacgan.deconvolve(features[index : index + 1], weights[index])
        assert torch.allclose(made[index], alone[0], atol=1e-5)


def test_one_batch_in_four_is_of_the_base_classes_and_what_is_made_depends_on_the_images_of_the_class(monkeypatch):
    images = torch.randint(0, 256, (12, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels, seen, batch = torch.arange(12) % 2, [], metacgan.Shelf.batch

    def spied(shelf, count):
        shown, of_classes = batch(shelf, count)
        seen.append(int(of_classes.min()) >= 2)
        return shown, of_classes

    monkeypatch.setattr(metacgan.Shelf, "batch", spied)
    size = metacgan.Size(steps=8, batch_size=4, noise_dim=3, code_dim=4, width=4)
    torch.manual_seed(0)
    sample = metacgan.train((images, labels), (images[:4], labels[:4] + 2), has_meta_net=True, size=size, device=CPU)
    assert seen == [False, True, True, True] * 2
    made = sample(torch.tensor([2, 3, 3]))
    assert (made.shape, made.dtype) == ((3, 1, 8, 8), torch.uint8)
    meta_net = metacgan.MetaNet((1, 8, 8), [(8, 4), (4, 1)], size)
    shown = torch.rand(2, 1, 8, 8)
    first, second = meta_net(shown, shown[:, None].expand(-1, 5, -1, -1, -1))
    assert (first.shape, second.shape) == ((2, 8, 4, 4, 4), (2, 4, 1, 4, 4))
    assert not torch.allclose(first[0], first[1])


def measure_methods(root, folder, monkeypatch, methods):
    out = folder / "metacgan.jsonl"
    options = ["--seeds", 0, "--n-base", 2, "--per-class", 3, "--made", 4, "--methods", *methods]
    options += ["--gan", "steps=2", "batch_size=4", "width=4", "--fit", "steps=2", "batch_size=4", "generator_width=4"]
    options += ["--fit-alone-steps", 2, "--classifier-steps", 2, "--judge-steps", 2, "--pictures", folder]
    run(measure_metacgan, monkeypatch, "--data", root, "--out", out, "--fits", folder / "fits", *options)
    return read_rows(out)


def test_every_method_is_scored_once_on_images_of_its_own(root, tmp_path, monkeypatch):
    rows = measure_methods(root, tmp_path, monkeypatch, measure_metacgan.ALL)
    assert [row["method"] for row in rows] == list(measure_metacgan.ALL)
    assert all(0 <= row["accuracy"] <= 100 for row in rows)
    scored = [row for row in rows if row["method"] != "none"]
    assert all({"inception_score", "fid", "kid", "right_class"} <= row.keys() for row in scored)
    assert (tmp_path / "metacgan.png").stat().st_size > 1000
    assert measure_methods(root, tmp_path, monkeypatch, measure_metacgan.ALL) == rows


def test_no_image_plays_two_parts_among_those_shown_those_judged_by_and_those_tested(root):
    world = new_classes.load_world(root, 2, 3, 0)
    parts = [world.base, world.new, world.reference, world.judged_by, world.test]
    assert world.new[1].bincount().tolist() == [0, 0, 3, 3]
    assert world.judged_by[1].unique().tolist() == [0, 1, 2, 3]
    assert sum(len(images) for images, _ in parts) == 64
    assert len(torch.cat([images for images, _ in parts]).unique(dim=0)) == 64


def test_the_inception_score_counts_the_classes_that_are_told_apart():
    assert math.isclose(measure_metacgan.inception_score(torch.eye(5).repeat(3, 1)), 5, rel_tol=1e-6)
    assert math.isclose(measure_metacgan.inception_score(torch.full((7, 5), 0.2)), 1, rel_tol=1e-6)
    assert math.isclose(measure_metacgan.inception_score(torch.eye(5)[:1].repeat(4, 1)), 1, rel_tol=1e-6)


def feature_rows(space, head, by_count):
    fields = {"data": "mnist", "space": space, "head": head, "part": "test"}
    return [
        fields | {"per_class": count, "seed": seed, "accuracy": value}
        for count, values in by_count.items()
        for seed, value in enumerate(values)
    ]


def test_a_space_leads_up_to_the_first_count_at_which_the_network_is_level():
    rows = feature_rows("scratch", "network", {1: [10, 20, 30], 2: [40, 50, 60], 4: [70, 80, 90], 8: [80, 80, 80]})
    rows += feature_rows("vae", "linear", {1: [20, 30, 40], 2: [39, 52, 63], 4: [70, 80, 90], 8: [99, 99, 99]})
    table = report_features.table_of(rows, "mnist", "linear")
    assert report_features.lead(table, "vae", is_certain=False) == 2
    assert report_features.lead(table, "vae", is_certain=True) == 1
    lines = report_features.accuracy_table(table).splitlines()
    shown = "**30.0** ± 10.0 | **51.3** ± 12.0 | 80.0 ± 10.0 | **99.0** ± 0.0"
    assert f"| VAE | {shown} |" + " not yet run |" * 3 in lines
    ahead = report_features.ahead_table(rows, measure_features.BASELINE)
    assert "| VAE | 2 (1) | not yet run | not yet run | not yet run |" in ahead.splitlines()
    with pytest.raises(ValueError, match="two rows of scratch, linear, 1 a class, seed 0"):
        report_features.table_of([*rows, *rows], "mnist", "linear")


@pytest.mark.parametrize("page", ["FEATURES.md", "METACGAN.md"])
def test_the_pages_are_of_the_rows_that_are_here(page, tmp_path, monkeypatch):
    for name in ("FEATURES.md", "METACGAN.md"):
        (tmp_path / name).write_text((BENCHMARKS / name).read_text())
    (tmp_path / "plots").mkdir()
    (tmp_path / "results").symlink_to(BENCHMARKS / "results")
    monkeypatch.setattr(report_features, "HERE", tmp_path)
    report_features.main()
    assert (tmp_path / page).read_text() == (BENCHMARKS / page).read_text()
    assert (tmp_path / "plots" / "features.png").stat().st_size > 1000


def test_a_picture_has_a_panel_for_every_space(tmp_path):
    places = {name: torch.randn(20, 2) for name in "abcde"}
    plot_layouts(places, torch.arange(20) % 3, tmp_path / "plots" / "layouts.png")
    assert (tmp_path / "plots" / "layouts.png").stat().st_size > 1000
