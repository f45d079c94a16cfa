"""What wrap says of a dataset that is not the fitted one, and an augmentation of a part of it."""

import warnings

import pytest
import torch
from conftest import LABELS, quick_fit, smooth_images
from torch.utils.data import Dataset, Subset, TensorDataset

from glico_augment import GLICOAugment, GLICODataset
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


WORTHLESS = "gives the label away: a validation or test score of such images is worth nothing"


@pytest.mark.parametrize("count", [1, 2, 8])
def test_of_images_that_were_not_fitted_it_is_said_what_a_score_is_worth(augment, images, count):
    strangers = smooth_images(3, seed=9)
    data = TensorDataset(torch.cat([strangers, images[:count]]), torch.cat([LABELS[:3], LABELS[:count]]))
    with pytest.warns(UserWarning, match=f"of {3 + count} images that were checked, {count} were fitted.*{WORTHLESS}"):
        augment.wrap(data)


def test_a_set_of_which_no_image_was_fitted_is_refused_and_what_to_give_is_said(augment, images):
    test_set = TensorDataset(smooth_images(8, seed=9), LABELS)
    refused = f"none of the 8 images that were checked was fitted.*{WORTHLESS}"
    message = rf"{refused}.*test set to its DataLoader as it is.*unfitted="
    with pytest.raises(ValueError, match=message):
        augment.wrap(test_set)
    with pytest.raises(ValueError, match=message):
        GLICODataset(test_set, augment)
    flipped = [(image.flip(-1), int(label)) for image, label in zip(images, LABELS, strict=True)]
    with pytest.raises(ValueError, match=r"give their transforms to wrap\(\)"):
        augment.wrap(flipped)


def test_images_that_were_fitted_without_labels_are_a_test_set_as_well(dataset):
    others = TensorDataset(smooth_images(4, seed=9), LABELS[:4])
    with pytest.raises(ValueError, match=WORTHLESS):
        quick_fit(dataset, unlabeled=others, epochs=1).wrap(others)


def test_those_who_mean_it_swap_images_that_were_not_fitted_without_a_word(augment, images):
    augment.p = 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrapped = augment.wrap(TensorDataset(smooth_images(8, seed=9), LABELS), unfitted="swap")
        augment.wrap(
            TensorDataset(torch.cat([images, smooth_images(1, seed=9)]), LABELS[[*range(8), 0]]), unfitted="swap"
        )
    assert not torch.equal(wrapped[0][0], smooth_images(8, seed=9)[0])
    with pytest.raises(ValueError, match="unfitted must be one of 'raise', 'swap'; got 'ignore'"):
        augment.wrap(TensorDataset(images, LABELS), unfitted="ignore")


@pytest.mark.parametrize("numbers", [LABELS.roll(3), LABELS + 1, LABELS.where(LABELS != 40, 3)], ids=str)
def test_labels_that_are_numbered_otherwise_than_at_the_fit_are_refused(augment, images, numbers):
    renumbered = TensorDataset(images, numbers)
    message = r"image \d of the dataset has label -?\d+ and was fitted under label -?\d+: .*target_transform"
    for call in (augment.wrap, augment.restrict, lambda data: augment.wrap(data, unfitted="swap")):
        with pytest.raises(ValueError, match=message):
            call(renumbered)
    with pytest.raises(ValueError, match=message):
        augment.extend(TensorDataset(images, LABELS.roll(3)), progress=False)


def test_an_image_that_was_fitted_under_two_labels_is_found_under_both(images):
    twins = TensorDataset(images[[0, 0, 1, 1]], torch.tensor([5, 6, 6, 5]))
    augment = quick_fit(twins, epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        augment.wrap(twins)


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
