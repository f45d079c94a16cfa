"""Samples as users have them: mappings, longer tuples, lists of a batch, arrays."""

import collections
import warnings

import numpy as np
import PIL.Image
import pytest
import torch
from conftest import LABELS, QUICK, quick_fit
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors

from glico_augment import GLICOAugment


class Rows(Dataset):
    """Samples made of an image, a label and an index."""

    def __init__(self, images, make):
        self.rows = [
            make(image, int(label), index) for index, (image, label) in enumerate(zip(images, LABELS, strict=True))
        ]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def as_pil(image):
    return PIL.Image.fromarray(image.permute(1, 2, 0).numpy())


Triple = collections.namedtuple("Triple", ["picture", "target", "index"])
STRUCTURES = {
    "triple": (lambda i, y, n: (i, y, n), {}),
    "named": (Triple, {}),
    "list": (lambda i, y, n: [i, y], {}),
    "mapping": (lambda i, y, n: {"image": as_pil(i), "label": y, "id": n}, {}),
    "other keys": (lambda i, y, n: {"x": i, "y": y, "mask": i}, {"image_key": "x", "label_key": "y"}),
    "positions": (lambda i, y, n: (n, y, i), {"image_key": 2, "label_key": 1}),
    "getter": (lambda i, y, n: (i, {"deep": {"y": y}}), {"labels_getter": lambda sample: sample[1]["deep"]["y"]}),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_fit_wrap_and_call_take_the_same_samples_and_keep_their_structure(name, images, dataset):
    make, keys = STRUCTURES[name]
    rows = Rows(images, make)
    augment = quick_fit(rows, epochs=1, p=1.0, **keys)
    assert augment.record.digests.tolist() == quick_fit(dataset, epochs=1).record.digests.tolist()
    assert augment.codes.labels.tolist() == LABELS.tolist()
    for sample, changed in zip(rows, [augment.wrap(rows)[0], augment(rows[0])], strict=False):
        assert type(changed) is type(sample)
        image, new = augment.layout.image(sample), augment.layout.image(changed)
        assert type(new) is type(image)
        assert not np.array_equal(np.asarray(new), np.asarray(image))
        assert augment.layout.labels(changed) == augment.layout.labels(sample)


def test_keys_given_to_load_and_to_wrap_count(images, augment, tmp_path):
    rows = Rows(images, lambda i, y, n: {"x": i, "y": y})
    augment.save(tmp_path / "a.safetensors")
    loaded = GLICOAugment.load(tmp_path / "a.safetensors", image_key="x", label_key="y", p=1.0)
    assert loaded.p == 1.0
    assert not torch.equal(loaded.wrap(rows)[0]["x"], images[0])
    augment.p = 1.0
    assert not torch.equal(augment.wrap(rows, image_key="x", label_key="y")[0]["x"], images[0])


def test_the_target_transform_puts_its_label_where_the_label_was(augment, images):
    rows = Rows(images, lambda i, y, n: {"image": i, "label": y, "id": n})
    wrapped = augment.wrap(rows, target_transform=lambda label: label + 100)
    assert [wrapped[index]["label"] for index in range(8)] == (LABELS + 100).tolist()
    assert [wrapped[index]["id"] for index in range(8)] == list(range(8))
    with pytest.raises(ValueError, match="give label_key instead"):
        augment.wrap(rows, target_transform=int, labels_getter=lambda sample: sample["label"])


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_sample_says_whether_its_image_was_swapped(name, images, dataset):
    make, keys = STRUCTURES[name]
    rows = Rows(images, make)
    augment = quick_fit(rows, epochs=1, **keys)
    torch.manual_seed(0)
    wrapped = augment.wrap(rows, return_swapped=True)
    told = []
    for index in [*range(8)] * 4:
        sample, was_swapped = wrapped[index], None
        *_, was_swapped = sample.values() if isinstance(sample, dict) else sample
        assert not isinstance(sample, dict) or sample["swapped"] is was_swapped
        told.append(was_swapped)
        image, real = augment.layout.image(sample), augment.layout.image(rows[index])
        assert was_swapped is not np.array_equal(np.asarray(image), np.asarray(real))
        assert augment.layout.labels(sample) == augment.layout.labels(rows[index])
    assert set(told) == {True, False}
    assert len(wrapped[:2][0]) == len(rows[0]) + 1


def test_images_alone_say_it_too_and_a_name_that_is_taken_is_refused(augment, images):
    alone = quick_fit(images, epochs=1, p=1.0)
    assert alone.wrap(images, return_swapped=True)[0][1] is True
    rows = Rows(images, lambda i, y, n: {"image": i, "label": y, "swapped": n})
    with pytest.raises(ValueError, match="the samples have an entry 'swapped' already: rename it"):
        augment.wrap(rows, return_swapped=True)
    batch = next(iter(DataLoader(augment.wrap(Rows(images, lambda i, y, n: (i, y)), return_swapped=True), 8)))
    assert batch[2].dtype == torch.bool


def test_a_mapping_of_lists_is_swapped_image_by_image(augment, images):
    augment.p = 1.0
    batch = {"image": [as_pil(image) for image in images], "label": LABELS.tolist(), "id": [[1, 2]] * 8}
    swapped = augment(batch)
    assert swapped["label"] == LABELS.tolist()
    assert swapped["id"] == batch["id"]
    assert all(image.size == (10, 12) and image.mode == "RGB" for image in swapped["image"])
    assert not any(new.tobytes() == old.tobytes() for new, old in zip(swapped["image"], batch["image"], strict=True))
    augment.p = 0.5
    torch.manual_seed(0)
    batch = {"image": list(images) * 40, "label": LABELS.tolist() * 40}
    changed = [not torch.equal(new, old) for new, old in zip(augment(batch)["image"], batch["image"], strict=True)]
    assert 0.4 < sum(changed) / len(changed) < 0.6
    with pytest.raises(ValueError, match="got 8 images but 7 labels"):
        augment({"image": list(images), "label": [3] * 7})


@pytest.mark.parametrize("kind", [lambda x: x, lambda x: x.numpy(), lambda x: x.permute(0, 2, 3, 1).numpy(), list])
@pytest.mark.parametrize("labels", [LABELS, LABELS.numpy().copy(), LABELS.tolist()], ids=["tensor", "array", "list"])
def test_fit_takes_images_and_labels(kind, labels, images, dataset):
    augment = GLICOAugment.fit(kind(images), labels, config=QUICK, epochs=1, progress=False, device="cpu")
    assert augment.record.fingerprint == quick_fit(dataset, epochs=1).record.fingerprint


def test_masks_and_boxes_in_a_dataset_are_refused(augment, images):
    rows = Rows(images, lambda i, y, n: {"image": i, "label": y, "mask": tv_tensors.Mask(i[:1])})
    with pytest.raises(ValueError, match="does not support Mask"):
        augment.wrap(rows)
    with pytest.raises(ValueError, match=r"image 0 could not be read.*does not support Mask"):
        quick_fit(rows)


@pytest.mark.parametrize("mask", [np.zeros((12, 10)), torch.zeros(1, 12, 10), PIL.Image.new("1", (10, 12))], ids=type)
def test_a_mask_of_no_type_of_its_own_is_warned_of(augment, images, mask):
    beside = [{"image": image, "label": int(label), "of": [mask]} for image, label in zip(images, LABELS, strict=True)]
    with pytest.warns(UserWarning, match="another array of the size of the image"):
        augment.wrap(beside)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        augment.wrap([(image, int(label), torch.zeros(10, 12)) for image, label in zip(images, LABELS, strict=True)])


def test_the_wrapper_has_what_the_dataset_has(augment, images):
    rows = Rows(images, lambda i, y, n: (i, y))
    rows.targets, rows.classes, rows.samples = LABELS.tolist(), [str(n) for n in range(41)], [("a.png", 0)]
    rows.class_to_idx = {}
    wrapped = augment.wrap(rows)
    assert (wrapped.targets, wrapped.classes, wrapped.samples) == (rows.targets, rows.classes, rows.samples)
    assert not hasattr(augment.wrap(list(rows)), "targets")
    with pytest.raises(AttributeError, match="no attribute 'tragets'"):
        _ = wrapped.tragets


def test_a_slice_is_a_dataset_of_its_images(augment, dataset):
    augment.p = 0.0
    wrapped = augment.wrap(dataset, transform=lambda image: -image.float())
    part = wrapped[2:7:2]
    assert len(part) == 3
    for position, index in enumerate((2, 4, 6)):
        assert torch.equal(part[position][0], -dataset[index][0].float())
        assert part[position][1] == dataset[index][1]
    assert torch.equal(wrapped[-1:][0][0], -dataset[7][0].float())
    augment.p, augment.max_ratio, augment.noise_std = 1.0, 0.0, 0.0
    expected = -(augment.reconstruct()[4] * 255).round()
    assert (wrapped[4:5][0][0] - expected).abs().max() <= 1


def test_a_transform_set_later_is_used(augment, dataset):
    augment.p = 0.0
    wrapped = augment.wrap(dataset)
    wrapped.transform = lambda image: image.float()
    assert wrapped[0][0].dtype == torch.float32
