"""Photographs larger than the fit: swapped at their own size, with partners read from the dataset."""

import collections
import logging
import pickle

import numpy as np
import PIL.Image
import pytest
import torch
from conftest import LABELS, QUICK, quick_fit, smooth_images
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from glico_augment import GLICOAugment, SwapConfig, SyntheticBank
from glico_augment.images.values import to_unit
from glico_augment.swap import partners
from glico_augment.synthesis import recognition

CARRIED = {"cells": 3, "carry": True, "max_ratio": 1.0}


@pytest.fixture(scope="module")
def photographs():
    """Of 40 × 30 pixels, with fine detail."""
    smooth = smooth_images(8, height=40, width=30).float()
    noise = 60 * torch.randn(smooth.shape, generator=torch.Generator().manual_seed(0))
    return TensorDataset((smooth + noise).clamp(0, 255).to(torch.uint8), LABELS)


@pytest.fixture
def augment(photographs):
    return quick_fit(photographs, image_size=(12, 10), p=1.0, **CARRIED)


def is_blend_of_fine_detail(image, photographs, label):
    """Whether the fine detail of an image is that of photographs of its class and not of the others."""
    images, labels = photographs.tensors
    fine = to_unit(torch.cat([image[None], images]))
    blurred = torch.nn.functional.avg_pool2d(fine, 3, stride=1, padding=1, count_include_pad=False)
    detail = torch.nn.functional.normalize((fine - blurred).flatten(1))
    alike = detail[1:] @ detail[0]
    return alike[labels == label].max() > 0.5 and alike[labels != label].max() < 0.2


@pytest.mark.parametrize("has_bank", [False, True])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_photographs_are_swapped_at_their_own_size_with_the_detail_of_their_class(
    augment, photographs, has_bank, num_workers
):
    bank = SyntheticBank(augment, device="cpu") if has_bank else None
    loader = DataLoader(augment.wrap(photographs, bank=bank), batch_size=4, num_workers=num_workers)
    for images, labels in loader:
        assert images.shape[1:] == (3, 40, 30)
        for image, label in zip(images, labels, strict=True):
            assert is_blend_of_fine_detail(image, photographs, label)


@pytest.mark.parametrize("has_bank", [False, True])
def test_both_ends_are_the_photographs_of_the_dataset(augment, photographs, has_bank):
    augment.noise_std = augment.max_ratio = 0.0
    bank = SyntheticBank(augment, device="cpu") if has_bank else None
    wrapped = augment.wrap(photographs, bank=bank)
    for index in range(8):
        difference = wrapped[index][0].int() - photographs[index][0].int()
        assert difference.abs().max() <= 1


def test_partners_are_read_where_they_stand_and_sizes_may_differ(augment, photographs):
    read = []

    class Counted(torch.utils.data.Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, index):
            read.append(index)
            image, label = photographs[7 - index]
            return (image if index % 2 else image[:, :38, :29]), int(label)

    fitted = quick_fit(Counted(), image_size=(12, 10), p=1.0, **CARRIED)
    wrapped = fitted.wrap(Counted())
    read.clear()
    shapes = [tuple(image.shape) for image, _ in wrapped.__getitems__(range(8))]
    assert shapes == [(3, 38, 29), (3, 40, 30)] * 4
    assert len(read) > 8
    labels = LABELS.flip(0)
    assert {int(labels[index]) for index in read} == set(LABELS.tolist())


def test_a_partner_that_is_not_in_the_dataset_is_taken_from_the_fit(augment, photographs):
    with pytest.warns(UserWarning, match="are not in this dataset"):
        wrapped = augment.wrap(Subset(photographs, [0, 3]))
    assert wrapped[0][0].shape == (3, 40, 30)


class Counted(Dataset):
    """A dataset that counts how often each image is read."""

    def __init__(self, data):
        self.data, self.reads = data, collections.Counter()

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        self.reads[index] += 1
        return self.data[index]


@pytest.mark.parametrize("room", [8, 2])
def test_partners_are_read_once_as_far_as_there_is_room(augment, photographs, room, monkeypatch):
    monkeypatch.setattr(partners, "CACHED_BYTES", room * photographs.tensors[0][0].nbytes)
    counted = Counted(photographs)
    wrapped = augment.wrap(counted)
    counted.reads.clear()
    sizes = []
    for _ in range(20):
        wrapped.__getitems__(range(8))
        sizes.append(sum(each.nbytes for each in wrapped._partners._cached.values()))
    assert max(sizes) == partners.CACHED_BYTES
    n_partner_reads = sum(counted.reads.values()) - 20 * 8
    assert n_partner_reads == 8 or (room < 8 and n_partner_reads > 20)
    assert not pickle.loads(pickle.dumps(wrapped))._partners._cached


def test_an_image_that_has_changed_since_is_said_once(augment, photographs):
    images = photographs.tensors[0].clone()
    wrapped = augment.wrap(TensorDataset(images, LABELS))
    images[6:] = smooth_images(2, height=40, width=30, seed=8)
    with pytest.warns(UserWarning, match=r"image [67] of the dataset is no longer the one that was fitted") as caught:
        wrapped.__getitems__([6, 7] * 4)
    assert len(caught) == 1


def test_a_partner_that_cannot_be_read_is_named(augment, tmp_path, photographs):
    for index, (image, label) in enumerate(photographs):
        path = tmp_path / f"{int(label):03d}" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        PIL.Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    folder = ImageFolder(tmp_path)
    wrapped = quick_fit(folder, image_size=(12, 10), p=1.0, **CARRIED).wrap(folder)
    (tmp_path / "-01" / "4.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"partner image 1 \(.*4\.png\) could not be read"):
        wrapped.__getitems__([0] * 20)


def test_in_a_large_set_partners_stand_where_they_were_fitted_or_are_looked_for(
    augment, photographs, monkeypatch, caplog
):
    monkeypatch.setattr(recognition, "_LOOK_AT_ALL", 4)
    monkeypatch.setattr(recognition, "_LOOK_AT_SOME", 3)
    augment.noise_std = 0.0
    caplog.set_level(logging.INFO, "glico_augment")
    assert is_blend_of_fine_detail(augment.wrap(photographs)[7][0], photographs, LABELS[7])
    assert not caplog.records
    order = list(range(8))[::-1]
    assert is_blend_of_fine_detail(augment.wrap(Subset(photographs, order))[0][0], photographs, LABELS[7])
    assert "in another order than they were fitted in" in caplog.text
    caplog.clear()
    augment.carry = False
    augment.wrap(Subset(photographs, order))
    assert not caplog.records  # no pass over the set for what is not needed


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16"])
def test_modes_and_depths_of_photographs_are_kept(photographs, mode):
    arrays = [image.permute(1, 2, 0).numpy() for image, _ in photographs]
    deep = mode == "I;16"
    files = [
        PIL.Image.fromarray(array[:, :, 0].astype(np.uint16) * 257)
        if deep
        else PIL.Image.fromarray(array).convert(mode)
        for array in arrays
    ]
    samples = list(zip(files, LABELS.tolist(), strict=True))
    augment = quick_fit(samples, image_size=(12, 10), p=1.0, **CARRIED)
    made, _ = augment.wrap(samples)[0]
    assert (made.mode, made.size) == (mode, (30, 40))
    if deep:
        assert (np.asarray(made) % 257 != 0).any()  # more than 8 bits


def test_the_transform_sees_one_size_whatever_was_swapped(photographs):
    augment = GLICOAugment.fit(photographs, config=QUICK, progress=False, device="cpu", image_size=12, **CARRIED)
    wrapped = augment.wrap(photographs, transform=v2.ToDtype(torch.float32, scale=True))
    batch, _ = next(iter(DataLoader(wrapped, batch_size=8)))
    assert batch.shape == (8, 3, 40, 30)
    assert 0 <= batch.min() <= batch.max() <= 1


def test_photographs_at_their_own_size_cost_one_row_of_the_generator_for_each_swapped_image(photographs):
    augment = quick_fit(photographs, image_size=(12, 10), swap=SwapConfig())
    wrapped = augment.wrap(photographs, return_swapped=True)
    rows = []
    augment.generator.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    n_swapped = sum(is_swapped for _, _, is_swapped in wrapped.__getitems__(list(range(8)) * 3))
    assert 0 < n_swapped < 24
    assert sum(rows) == n_swapped
