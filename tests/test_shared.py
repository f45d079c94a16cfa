"""Settings that workers see change, and what else they are not shared with."""

import copy
import multiprocessing
import pickle

import pytest
import torch
from conftest import LABELS, smooth_images
from torch.utils.data import DataLoader, TensorDataset

from glico_augment import GLICODataset, LocalStyle, SwapConfig
from glico_augment.shared import SharedNumbers

IMAGES = smooth_images(8)


def set_and_tell(numbers, queue):
    before = numbers.read()
    numbers.write([7.0, 8.0])
    queue.put((before, numbers.read()))


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_a_process_sees_what_it_was_started_with_change_and_changes_nothing(context):
    numbers = SharedNumbers([0.0, float("inf")])
    numbers.write([1.0, 2.0])
    processes = multiprocessing.get_context(context)
    queue = processes.Queue()
    process = processes.Process(target=set_and_tell, args=(numbers, queue))
    process.start()
    assert queue.get(timeout=60) == ((1.0, 2.0), (7.0, 8.0))
    process.join()
    assert numbers.read() == (1.0, 2.0)


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_a_copy_has_its_own(clone, augment, style):
    for each in (augment, style):
        twin = clone(each)
        each.p, twin.max_ratio = 0.25, 0.75
        assert (each.p, twin.max_ratio) == (0.25, 0.75)
        assert twin.p != 0.25
        assert each.max_ratio != 0.75


def test_every_setting_of_a_swap_is_a_number_and_back():
    for swap in (
        SwapConfig(),
        SwapConfig.published(p=1, cells=3, carry=True, interpolation="lerp"),
        SwapConfig(sampler="random-out", noise_std=0.0, min_angle=0.1),
    ):
        back = SwapConfig.from_numbers(swap.to_numbers())
        assert back == swap
        assert [type(getattr(back, name)) for name in swap.names()] == [
            type(getattr(swap, name)) for name in swap.names()
        ]


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_that_persist_see_a_setting_change(context, augment):
    data = TensorDataset(IMAGES, LABELS)
    augment.p, augment.max_ratio, augment.noise_std = 0.0, 0.0, 0.0
    style = LocalStyle(255 - IMAGES, p=0.0)
    loader = DataLoader(
        augment.wrap(data, transform=style),
        batch_size=8,
        num_workers=1,
        persistent_workers=True,
        multiprocessing_context=context,
    )

    def an_epoch():
        return next(iter(loader))[0]

    assert torch.equal(an_epoch(), IMAGES)
    augment.p = 1.0
    swapped = an_epoch()
    torch.testing.assert_close(swapped / 255, augment.reconstruct(), atol=0.51 / 255, rtol=0)
    augment.interpolation, augment.max_ratio = "lerp", 1.0
    assert not torch.equal(an_epoch(), swapped)
    augment.p, style.p = 0.0, 1.0
    assert not torch.equal(an_epoch(), IMAGES)
    style.p = 0.0
    assert torch.equal(an_epoch(), IMAGES)


def test_a_setting_of_the_swap_that_is_set_on_the_wrapped_dataset_is_that_of_the_augmentation(augment, dataset):
    wrapped = augment.wrap(dataset)
    part = wrapped[2:5]
    wrapped.p = 0
    assert (wrapped.p, part.p, augment.p) == (0, 0, 0)
    assert all(torch.equal(wrapped[index][0], dataset[index][0]) for index in range(8))
    part.p, wrapped.noise_std, wrapped.sampler = 1.0, 0.0, "other-class"
    assert (augment.p, augment.noise_std, augment.sampler) == (1.0, 0.0, "other-class")
    assert not torch.equal(wrapped[0][0], dataset[0][0])
    with pytest.raises(ValueError, match=r"p must be a number in \[0, 1\]; got 2"):
        wrapped.p = 2
    assert isinstance(wrapped, GLICODataset)
