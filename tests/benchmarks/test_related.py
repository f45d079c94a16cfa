"""The benchmarks of other uses of the sphere: new images, tasks, features, images of new classes."""

import math

import measure_encode
import pytest
import torch
from latent.tasks import augment, augmented, draw_rows
from toys import called, root

from glico_augment import FitConfig, FitQuality

for name in ("sklearn", "torchmetrics"):
    pytest.importorskip(name)

import measure_features
import measure_metacgan
from features import heads
from features.models import VQVAE
from features.pools import load_pool
from features.spaces import SPACES, effort_of
from rivals import metacgan

from glico_augment.sklearn import GLICOFeatures

CPU = torch.device("cpu")
WITHOUT_EXTRAS = [*measure_features.BASELINES, *(each for each in SPACES if each != "diffusion")]
QUICK = {"vae_steps": 2, "vqvae_steps": 2, "dcgan_steps": 2, "dcgan_width": 4, "diffusion_steps": 2}
QUICK |= {"diffusion_width": 8, "diffusion_times": (10, 100), "glico_steps": 60, "glico_width": 4}  # fewer are refused
QUICK |= {"glico_encode_steps": 1, "scratch_steps": 2, "batch_size": 8}


def test_codes_of_new_images_are_measured_once_and_shown(called, tmp_path):
    options = ["--sets", "omniglot", "--counts", 4, 50, "--fit-steps", 2, "--images", 3, "--steps", 1, "--starts", 2]
    options += ["--seeds", 0, "--plots", tmp_path / "plots"]
    made = called(measure_encode, *options)
    assert [(row["what"], row["count"]) for row in made] == [("r2", 4), ("r2", 48), ("cost", 4)]
    assert all(row["r2_new"] >= row["r2_of_starts"] - 0.1 for row in made[:2])
    assert made[0]["fit_steps"] == 2
    assert made[2]["ratio"] > 0
    pictures = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert pictures == ["encode-omniglot-4.png", "encode-omniglot-48.png"]
    assert called(measure_encode, *options) == made


def test_networks_that_learn_from_tasks_are_scored_once(called, monkeypatch):
    pytest.importorskip("easyfsl")
    import measure_tasks

    monkeypatch.setattr(FitQuality, "is_poor", False)  # tasks of a fit that has not learned are refused
    methods = ["untrained", "augmentations", "lasium-oc:max_ratio=0.1", "lasium-n+augmentations", "supervised"]
    options = ["--sets", "omniglot", "--count", 20, "--fit-steps", 2, "--query", 3, "--tasks", 5, "--episodes", 2]
    options += ["--train-query", 2, "--width", 4, "--seeds", 0, "--methods"]
    made = called(measure_tasks, *options, *methods)
    assert [(row["method"], row["n_shot"]) for row in made] == [(name, shots) for name in methods for shots in (1, 5)]
    assert all(0 <= row["accuracy"] <= 100 and row["half_width"] >= 0 for row in made)
    swaps = [row["swap"] for row in made[4:8:2]]
    assert [(swap["sampler"], swap["max_ratio"]) for swap in swaps] == [("other-class", 0.1), ("noise", 0.4)]
    assert called(measure_tasks, *options, *methods) == made
    with pytest.raises(ValueError, match="method must be one of untrained"):
        called(measure_tasks, *options, "lasium")


def test_a_task_of_real_images_shares_no_image_between_support_and_query():
    labels = torch.arange(6).repeat(4)
    support, query = draw_rows(labels, 5, 1, 3, torch.Generator().manual_seed(0))
    assert len({*support.tolist(), *query.tolist()}) == 20
    assert torch.equal(labels[query], labels[support].repeat_interleave(3))
    assert len(labels[support].unique()) == 5
    with pytest.raises(ValueError, match=r"needs 5 classes of 5 images; there are 6 of at least 4"):
        draw_rows(labels, 5, 1, 4, torch.Generator())


def test_an_augmented_image_is_its_own_shifted_and_dotted_and_the_first_of_a_class_is_as_it_was():
    point = torch.zeros(1, 1, 20, 20)
    point[0, 0, 10, 10] = 1
    made = augment(point.expand(2000, -1, -1, -1), torch.Generator().manual_seed(0))
    _, _, rows, columns = made.nonzero().T
    assert 0.88 < len(rows) / 2000 < 0.92  # a tenth is hidden
    assert all(places.unique().tolist() == list(range(4, 17)) for places in (rows, columns))
    images = torch.randint(0, 256, (8, 3, 12, 10), generator=torch.Generator().manual_seed(0))
    support, _, query, labels = next(augmented(images, 3, 2, 4, seed=0))
    assert (support.shape[0], query.shape[0]) == (6, 12)
    same = (images[:, None] / 255 == support).flatten(2).all(dim=2)
    assert same[:, ::2].sum() == 3
    assert not same[:, 1::2].any()
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.filterwarnings("ignore:the generator has not learned")
@pytest.mark.parametrize("spaces", [WITHOUT_EXTRAS, ["diffusion"]], ids=["bench", "rivals"])
def test_every_space_has_a_row_for_each_head_and_count_and_none_twice(called, monkeypatch, spaces):
    if spaces == ["diffusion"]:
        pytest.importorskip("diffusers")
    monkeypatch.setattr(heads, "HIDDEN_STEPS", 3)
    monkeypatch.setattr(heads, "INVERSE_PENALTIES", (1.0,))
    effort = [f"{name}={list(value) if isinstance(value, tuple) else value}" for name, value in QUICK.items()]
    options = ["--sets", "mnist", "--per-class", 1, 4, "--seeds", 0, "--validation", 3, "--spaces", *spaces]
    rows = called(measure_features, *options, "--effort", *effort)
    tested = [row for row in rows if row["part"] == "test"]
    units = [(row["space"], row["head"], row["per_class"]) for row in tested]
    of = {space: [measure_features.NETWORK] if space in measure_features.BASELINES else heads.HEADS for space in spaces}
    assert sorted(units) == sorted((space, head, count) for space in spaces for head in of[space] for count in (1, 4))
    assert all(row["unlabelled"] == 36 and row["n_test"] == 16 for row in tested)
    variants = {"codes", "layer 0", "layer 1"} if len(spaces) > 1 else {"t=10", "t=100"}
    chosen = [row for row in rows if row["part"] == "validation"]
    assert {row["variant"] for row in chosen} == variants
    best = max(chosen, key=lambda row: row["accuracy"])["variant"]
    assert {row["variant"] for row in tested if row["space"] == spaces[-1]} == {best}
    assert called(measure_features, *options, "--effort", *effort) == rows


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
    images, effort = load_pool(root, "mnist", 3, 2).train[0], effort_of("glico", QUICK)
    described = SPACES["glico"](images, effort, 0, CPU)[0](images[:5])
    config = FitConfig(generator_width=QUICK["glico_width"], steps=QUICK["glico_steps"], batch_size=8)
    expected = GLICOFeatures(config=config, layer=1, device="cpu").fit(images).transform(images[:5])
    assert torch.allclose(described["layer 1"], torch.from_numpy(expected), atol=1e-5)


@pytest.mark.parametrize("head", heads.HEADS)
def test_a_head_learns_what_is_linear_and_is_chosen_by_the_validation_images(head, monkeypatch):
    monkeypatch.setattr(heads, "HIDDEN_STEPS", 60)
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
    alone = [metacgan.deconvolve(features[index : index + 1], weights[index])[0] for index in range(3)]
    assert torch.allclose(made, torch.stack(alone), atol=1e-5)


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
    shown = torch.rand(2, 1, 8, 8)
    first, second = metacgan.MetaNet((1, 8, 8), [(8, 4), (4, 1)], size)(shown, shown[:, None].expand(-1, 5, -1, -1, -1))
    assert (first.shape, second.shape) == ((2, 8, 4, 4, 4), (2, 4, 1, 4, 4))
    assert not torch.allclose(first[0], first[1])


def test_every_method_is_scored_once_on_images_of_its_own(called, tmp_path):
    options = [
        "--seeds",
        0,
        "--n-base",
        2,
        "--per-class",
        3,
        "--made",
        4,
        "--gan",
        "steps=2",
        "batch_size=4",
        "width=4",
    ]
    options += ["--fit", "steps=2", "batch_size=4", "generator_width=4", "--fit-alone-steps", 2]
    options += ["--classifier-steps", 2, "--judge-steps", 2, "--pictures", tmp_path]
    rows = called(measure_metacgan, *options)
    assert [row["method"] for row in rows] == list(measure_metacgan.ALL)
    assert all(0 <= row["accuracy"] <= 100 for row in rows)
    assert all({"inception_score", "fid", "kid", "right_class"} <= row.keys() for row in rows[1:])
    assert (tmp_path / "metacgan.png").stat().st_size > 1000
    assert called(measure_metacgan, *options) == rows


def test_no_image_plays_two_parts_among_those_shown_those_judged_by_and_those_tested(root):
    world = measure_metacgan.load_world(root, 2, 3, 0)
    parts = [world.base, world.new, world.reference, world.judged_by, world.test]
    assert world.new[1].bincount().tolist() == [0, 0, 3, 3]
    assert world.judged_by[1].unique().tolist() == [0, 1, 2, 3]
    assert sum(len(images) for images, _ in parts) == 64
    assert len(torch.cat([images for images, _ in parts]).unique(dim=0)) == 64


def test_the_inception_score_counts_the_classes_that_are_told_apart():
    assert math.isclose(measure_metacgan.inception_score(torch.eye(5).repeat(3, 1)), 5, rel_tol=1e-6)
    assert math.isclose(measure_metacgan.inception_score(torch.full((7, 5), 0.2)), 1, rel_tol=1e-6)
    assert math.isclose(measure_metacgan.inception_score(torch.eye(5)[:1].repeat(4, 1)), 1, rel_tol=1e-6)
