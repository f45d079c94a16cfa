import dataclasses
import math

import pytest
import torch
from conftest import LABELS, quick_fit, smooth_images
from torch.utils.data import DataLoader, TensorDataset

from glico_augment import FitQuality, SyntheticTasks, geodesic_distance
from glico_augment.config import SAMPLERS

GOOD = FitQuality(0.9, (0.9, 0.9, 0.9), (0,))


@pytest.fixture(scope="module")
def learned():
    """A fit that says that it has learned its images."""
    augment = quick_fit(TensorDataset(smooth_images(8), LABELS))
    augment.record = dataclasses.replace(augment.record, quality=GOOD)
    return augment


def make(augment, n_way=3, n_shot=2, n_query=4, **settings):
    return SyntheticTasks(augment, n_way, n_shot, n_query, **{"min_angle": 0.3, "n_tasks": 20, **settings})


def test_a_task_has_the_form_of_easyfsl(learned):
    tasks = list(make(learned))
    assert len(tasks) == len(make(learned)) == 20
    for support_images, support_labels, query_images, query_labels, class_ids in tasks:
        assert (support_images.shape, query_images.shape) == ((6, 3, 12, 10), (12, 3, 12, 10))
        assert support_images.dtype == query_images.dtype == torch.uint8
        assert support_labels.tolist() == [0, 0, 1, 1, 2, 2]
        assert query_labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
        assert len(set(class_ids)) == 3


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_images_of_a_class_lie_about_its_anchor(learned, sampler):
    """With no way to go they are the anchor's reconstruction."""
    still = quick_fit(TensorDataset(smooth_images(8), LABELS), max_ratio=0.0, sampler_std=0.0)
    still.record = dataclasses.replace(still.record, quality=GOOD)
    still.noise_std = 0.0
    own = still.reconstruct()
    for task in make(still, sampler=sampler):
        for images, labels in ((task.support_images, task.support_labels), (task.query_images, task.query_labels)):
            expected = own[torch.tensor(task.class_ids)[labels]]
            torch.testing.assert_close(images / 255, expected, atol=0.51 / 255, rtol=0)
    different = next(iter(make(learned, sampler=sampler, n_query=9)))
    assert len(different.query_images[:9].unique(dim=0)) > 1


@pytest.mark.parametrize("min_angle", [0.3, 1.0, 1.4])
def test_anchors_are_as_far_apart_as_asked_for(learned, min_angle):
    codes = learned.codes.codes
    for task in make(learned, 2, min_angle=min_angle):
        assert geodesic_distance(codes[task.class_ids[0]], codes[task.class_ids[1]]) >= min_angle
    assert {index for task in make(learned, 2, n_tasks=60) for index in task.class_ids} == set(range(8))


def test_same_class_takes_anchors_of_different_classes(learned):
    for task in make(learned, sampler="same-class", min_angle=0.0):
        assert len(LABELS[task.class_ids].unique()) == 3


def test_other_class_goes_towards_another_anchor_of_the_task(learned):
    tasks = make(learned, 3, 1, 1, sampler="other-class")
    anchors = torch.tensor([[0, 3, 7], [5, 1, 2]]).repeat(50, 1)
    params = tasks._draw(anchors.repeat_interleave(2, dim=1).flatten(), torch.Generator().manual_seed(0))
    for row, (anchor, partner) in enumerate(zip(params.anchors.tolist(), params.partners.tolist(), strict=True)):
        assert partner in set(anchors[row // 6].tolist()) - {anchor}
    assert {*zip(params.anchors.tolist(), params.partners.tolist(), strict=True)} >= {(0, 3), (0, 7), (3, 0), (7, 3)}
    assert 0.35 < params.ratios.max() <= 0.4


def images_of(tasks):
    return [task.query_images for task in tasks]


def are_equal(first, second):
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_seed_gives_the_same_tasks_at_every_pass_and_none_others(learned):
    tasks = make(learned, seed=1)
    first, again, other = images_of(tasks), images_of(tasks), images_of(make(learned, seed=2))
    assert are_equal(first, again)
    assert not are_equal(first, other)
    free, draws = make(learned), []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        draws.append(images_of(free))
    assert are_equal(draws[0], draws[1])
    assert not are_equal(draws[0], draws[2])
    assert not are_equal(images_of(free), images_of(free))


def test_without_a_number_there_is_no_end(learned):
    tasks = make(learned, n_tasks=None)
    drawn = [task.query_images for task, _ in zip(tasks, range(40), strict=False)]
    assert len({image.numpy().tobytes() for image in drawn}) == 40
    with pytest.raises(TypeError, match="endless and have no length: give n_tasks"):
        len(tasks)


def contents_of(tasks):
    return sorted(image.numpy().tobytes() for image in images_of(tasks))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("persistent", [False, True])
def test_workers_share_the_tasks_of_a_seed_in_every_pass(learned, persistent):
    tasks = make(learned, n_tasks=40, seed=0)
    loader = DataLoader(tasks, None, num_workers=2, persistent_workers=persistent)
    first, second = contents_of(loader), contents_of(loader)
    assert first == second == contents_of(tasks)
    assert len(set(first)) == 40


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("workers", "persistent"), [(2, False), (1, True), (2, True)])
def test_without_a_seed_workers_draw_other_tasks_in_every_pass(learned, workers, persistent):
    loader = DataLoader(make(learned, n_tasks=40), None, num_workers=workers, persistent_workers=persistent)
    torch.manual_seed(0)
    passes = [contents_of(loader) for _ in range(3)]
    assert len({content for each in passes for content in each}) == 3 * 40
    torch.manual_seed(0)
    assert contents_of(DataLoader(make(learned, n_tasks=40), None, num_workers=1)) == passes[0]


def test_a_transform_is_of_each_image(learned):
    seen = []

    def transform(image):
        seen.append(image.shape)
        return image.float() / 255

    task = next(iter(make(learned, transform=transform)))
    assert seen == [(3, 12, 10)] * 18
    assert task.support_images.dtype == torch.float32
    assert task.support_images.max() <= 1


def test_a_fit_without_labels_makes_tasks(images):
    alone = quick_fit(images)
    alone.record = dataclasses.replace(alone.record, quality=FitQuality(0.9, (0.9,), (0,)))
    for sampler in ("noise", "random-out", "other-class"):
        assert len(next(iter(make(alone, sampler=sampler))).class_ids) == 3
    with pytest.raises(ValueError, match="fitted without labels"):
        make(alone, sampler="same-class")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_way": 9}, "a task of 9 classes needs .* 0.3 apart, and among the 8 fitted ones no more than 8 were found"),
        ({"min_angle": 3.1}, "needs as many codes at least 3.1 apart.*no more than [12] were found: lower n_way"),
        ({"n_way": 4, "sampler": "same-class"}, "apart and of different classes.*no more than 3 were found"),
        ({"n_way": 1}, "n_way must be an integer of at least 2"),
        ({"n_shot": 0}, "n_shot must be"),
        ({"n_query": 0}, "n_query must be"),
        ({"sampler": "other"}, "sampler must be one of"),
        ({"n_tasks": 0}, "n_tasks must be"),
        ({"min_angle": math.pi}, "min_angle must be"),
        ({"seed": -1}, "seed must be"),
        ({"transform": 3}, "transform must be a function"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_refused_in_words(learned, settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make(learned, **settings)


def test_a_fit_that_has_not_learned_its_images_is_refused(augment):
    with pytest.raises(ValueError, match=f"has not learned its images, R² is {augment.quality.r2:.2f}"):
        make(augment)
    with pytest.raises(TypeError, match="tasks are made of a fitted augmentation"):
        make("fit.safetensors")


@pytest.mark.ecosystem("EasyFSL", needs="easyfsl", shows="a few-shot method on [`SyntheticTasks`](tasks.md)")
def test_a_prototypical_network_of_easyfsl_learns_from_them(learned):
    from easyfsl import methods

    network = methods.PrototypicalNetworks(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(360, 8)))
    task = next(iter(make(learned, transform=lambda image: image / 255, sampler="noise", seed=0)))
    network.process_support_set(task.support_images, task.support_labels)
    scores = network(task.query_images)
    assert scores.shape == (12, 3)
    torch.nn.functional.cross_entropy(scores, task.query_labels).backward()
