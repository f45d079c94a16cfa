"""What wrap says of a dataset that is not the fitted one, and an augmentation of a part of it."""

import warnings

import pytest
import torch
from conftest import LABELS, quick_fit, smooth_images
from torch.utils.data import Dataset, Subset, TensorDataset

from glico_augment import GLICOAugment
from glico_augment.synthesis import recognition


class Named(Dataset):
    """Pairs with names of classes."""

    def __init__(self, images, labels, classes):
        self.images, self.labels, self.classes = images, labels, classes

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], int(self.labels[index])


PART = [0, 1, 3, 4, 6]  # of the labels 3, -1 and 40


def test_the_fitted_set_is_wrapped_without_a_word(augment, dataset):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        augment.wrap(dataset)


@pytest.mark.parametrize(("count", "is_said"), [(4, True), (5, False)])
def test_less_than_half_of_the_images_recognised_is_said(augment, images, count, is_said):
    mixed = torch.cat([smooth_images(8 - count, seed=9), images[:count]])
    data = TensorDataset(
        torch.cat([mixed, smooth_images(1, seed=10)]), torch.cat([LABELS[: 8 - count], LABELS[:count], LABELS[:1]])
    )
    message = rf"of 9 images looked at, {count} were fitted" if is_said else "are not in this dataset"
    with pytest.warns(UserWarning, match=message):
        augment.wrap(data)


def test_a_random_transform_of_the_dataset_is_said(augment, images):
    flipping = [(image.flip(-1), int(label)) for image, label in zip(images, LABELS, strict=True)]
    with pytest.warns(UserWarning, match=r"8 images looked at, 0 were fitted.*give the transform to wrap\(\)"):
        augment.wrap(flipping)


def test_fitted_images_that_are_absent_are_counted(augment, dataset):
    with pytest.warns(UserWarning, match=r"3 of the 8 fitted images \(38%\) are not .*augment\.restrict\(dataset\)"):
        augment.wrap(Subset(dataset, PART))


def test_of_a_large_dataset_some_images_are_looked_at(augment, dataset, monkeypatch):
    monkeypatch.setattr(recognition, "_LOOK_AT_ALL", 7)
    monkeypatch.setattr(recognition, "_LOOK_AT_SOME", 4)
    read = []

    class Counted(TensorDataset):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        augment.wrap(Counted(*dataset.tensors))
    assert sorted(set(read)) == [0, 2, 4, 7]


def test_an_image_that_cannot_be_swapped_is_named_when_wrapping(augment, dataset):
    broken = [*dataset, (torch.zeros(3, 12, 10), "cat")]
    with pytest.raises(TypeError, match="image 8 could not be read: labels must be integers"):
        augment.wrap(broken)


@pytest.mark.parametrize(
    ("classes", "options"),
    [
        (["dog", "cat"], {}),
        ([*"abcdefg", "cat"], {}),
        (None, {"class_names": ["dog", "cat"]}),
        (None, {"class_names": {0: "cat", 1: "bird"}}),
    ],
)
def test_another_numbering_of_the_classes_is_refused_with_both_names(images, classes, options):
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    augment = quick_fit(Named(images, labels, ["cat", "dog"]), epochs=1)
    with pytest.raises(ValueError, match=r"numbered differently: .*'(cat|dog)'.*class_names="):
        augment.wrap(Named(images, labels, classes), **options)
    augment.wrap(Named(images, labels, ["cat", "dog", "bird"]))
    augment.wrap(Named(images, labels, None), class_names=["cat", "dog"])
    augment.wrap(Named(images, labels, None))


def test_names_given_to_fit_are_kept_in_the_file(images, tmp_path):
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    augment = quick_fit(TensorDataset(images, labels), epochs=1, class_names={1: "dog"})
    assert augment.classes == ("0", "dog")
    augment.save(tmp_path / "a.safetensors")
    loaded = GLICOAugment.load(tmp_path / "a.safetensors")
    assert loaded.classes == ("0", "dog")
    with pytest.raises(ValueError, match="label 1 is 'dog' in one and 'cat' in the other"):
        loaded.wrap(Named(images, labels, ["x", "cat"]))
    loaded.wrap(Named(images, labels, ["x", "dog"]))  # label 0 had no name


@pytest.fixture
def part(augment, dataset):
    return augment.restrict(Subset(dataset, PART))


def test_a_restricted_augmentation_draws_from_the_images_of_the_dataset_alone(augment, part, dataset):
    assert torch.equal(part.codes.codes, augment.codes.codes[PART])
    assert torch.equal(part.codes.labels, LABELS[PART])
    assert torch.equal(part.images, augment.images[PART])
    assert torch.equal(part.reconstruct(), augment.reconstruct(PART))
    params = part.make_params(LABELS[PART].repeat(50))
    assert set(params.partners.tolist()) == set(range(len(PART)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        part.wrap(Subset(dataset, PART))


def test_a_restricted_augmentation_starts_from_the_own_code(part, dataset):
    part.p, part.max_ratio, part.noise_std = 1.0, 0.0, 0.0
    wrapped = part.wrap(Subset(dataset, PART))
    expected = (part.reconstruct() * 255).round()
    for index in range(len(PART)):
        assert (wrapped[index][0] - expected[index]).abs().max() <= 1


def test_a_class_of_which_no_image_is_left_goes(augment, dataset, images):
    left = [3, 4, 6]
    part = augment.restrict(Subset(dataset, left))
    assert part.classes == ("-1", "40")
    kept = [index for index, label in enumerate(augment.codes.classes.tolist()) if label in (-1, 40)]
    made = images[:2] / 255
    torch.testing.assert_close(part.classifier(made), augment.classifier(made)[:, kept])
    assert len(part.quality.per_class) == 2
    with pytest.raises(ValueError, match="label 3 was not fitted"):
        part.synthesize([3])


def test_a_restricted_augmentation_is_saved_and_loaded(part, tmp_path):
    part.save(tmp_path / "part.safetensors")
    loaded = GLICOAugment.load(tmp_path / "part.safetensors")
    assert torch.equal(loaded.reconstruct(), part.reconstruct())
    assert loaded.quality == part.quality
    assert loaded.record.fingerprint == part.record.fingerprint


def test_restrict_keeps_settings_and_ignores_strangers(augment, dataset, images):
    augment.p = 0.25
    strangers = [(image, 3) for image in smooth_images(2, seed=8)]
    part = augment.restrict([*strangers, *Subset(dataset, PART)])
    assert part.p == 0.25
    assert torch.equal(part.codes.labels, LABELS[PART])
    assert augment.codes.n_labeled == 8
    with pytest.raises(ValueError, match="none of the 2 images was fitted under its label"):
        augment.restrict(strangers)
