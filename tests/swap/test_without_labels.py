"""A fit of images alone."""

import logging

import numpy as np
import PIL.Image
import pytest
import torch
from conftest import LABELS, quick_fit, smooth_images
from torch.utils.data import TensorDataset

from glico_augment import GLICOAugment, SyntheticBank


@pytest.fixture(scope="module")
def fitted():
    return quick_fit(smooth_images(8))


@pytest.fixture
def alone(fitted, tmp_path):
    """One that a test may change."""
    fitted.save(tmp_path / "alone.safetensors")
    return GLICOAugment.load(tmp_path / "alone.safetensors")


def test_images_alone_come_in_every_form(fitted, images):
    arrays = images.permute(0, 2, 3, 1).numpy()
    for form in (arrays, [PIL.Image.fromarray(array) for array in arrays], list(images), TensorDataset(images)):
        assert torch.equal(quick_fit(form).codes.codes, fitted.codes.codes)


def test_nothing_is_classified(fitted, images, caplog):
    with caplog.at_level(logging.INFO, "glico_augment"):
        other = quick_fit(images, classifier_weight=0.7, class_cosine=0.4)
    assert "fitting 8 images without labels" in caplog.text
    assert torch.equal(other.codes.codes, fitted.codes.codes)
    assert (fitted.config.classifier_weight, fitted.config.class_cosine) == (0.0, 0.0)
    assert not any(fitted.history["classification"])
    assert fitted.history["loss"] == fitted.history["reconstruction"]
    assert fitted.history["loss"][-1] < fitted.history["loss"][0]


def test_the_bar_says_that_there_are_no_labels(images, dataset, capsys):
    pytest.importorskip("tqdm")
    for samples, is_said in ((images, True), (dataset, False)):
        quick_fit(samples, epochs=1, progress=True)
        assert ("GLICO fit without labels:" in capsys.readouterr().err) == is_said


def test_it_says_what_it_is(fitted):
    assert "images=8, no labels" in repr(fitted)
    assert fitted.classes == ("all images",)
    assert fitted.codes.labels.tolist() == [0] * 8
    assert fitted.encode(smooth_images(2, seed=4), steps=1, progress=False, device="cpu").codes.shape == (2, 6)


def test_a_swap_moves_about_an_images_own_code(alone, images):
    assert alone.sampler == "noise"
    alone.p, alone.noise_std, alone.sampler_std = 1.0, 0.0, 0.0
    own = alone.reconstruct()
    for samples in (images, TensorDataset(images), TensorDataset(images, LABELS)):
        dataset = alone.wrap(samples)
        made = [sample if isinstance(sample, torch.Tensor) else sample[0] for sample in dataset]
        torch.testing.assert_close(torch.stack(made) / 255, own, atol=0.51 / 255, rtol=0)
    assert [label for _, label in dataset] == LABELS.tolist()
    banked = alone.wrap(images, bank=SyntheticBank(alone, per_image=1, device="cpu"))
    torch.testing.assert_close(torch.stack(list(banked)) / 255, own, atol=0.51 / 255, rtol=0)


def test_it_is_called_with_images_alone(alone, images):
    alone.p = 1.0
    image = PIL.Image.fromarray(images[0].permute(1, 2, 0).numpy())
    made = alone(image)
    assert isinstance(made, PIL.Image.Image)
    assert not np.array_equal(np.asarray(made), np.asarray(image))
    assert alone(images).shape == images.shape
    assert (alone(images / 255) != images / 255).flatten(1).any(dim=1).all()
    swapped, label = alone(images[0], 77)
    assert label == 77
    assert not torch.equal(swapped, images[0])
    assert len(alone({"image": [image, image]})["image"]) == 2
    assert alone.synthesize(n_per_class=3)[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("sampler", ["same-class", "other-class"])
def test_a_sampler_that_needs_classes_is_refused_in_words(alone, images, sampler):
    alone.sampler = sampler
    for use in (lambda: alone.wrap(images), lambda: alone.synthesize(n_per_class=1), lambda: SyntheticBank(alone)):
        with pytest.raises(ValueError, match=f"without labels .* the sampler '{sampler}' needs: set sampler='noise'"):
            use()
    alone.sampler = "random-out"
    alone.wrap(images)


def test_a_sampler_that_was_asked_for_is_kept(images):
    assert quick_fit(images, sampler="random-out", epochs=1).sampler == "random-out"


def test_a_target_transform_has_nothing_to_change(alone, images):
    with pytest.raises(ValueError, match="fitted without labels"):
        alone.wrap(TensorDataset(images, LABELS), target_transform=str)


def test_it_is_extended_and_restricted(alone, images):
    more = alone.extend(smooth_images(2, seed=4), steps=1, progress=False, device="cpu")
    assert more.codes.n_labeled == 10
    part = more.restrict(images[:3])
    assert torch.equal(part.codes.codes, alone.codes.codes[:3])
    assert "no labels" in repr(part)
    assert part.sampler == "noise"


def test_labelled_fits_are_not_extended_by_images_alone(augment):
    with pytest.raises(ValueError, match="the images have no labels, and those of the fit have"):
        augment.extend(smooth_images(2, seed=4), progress=False)


def test_a_checkpoint_goes_on(images, fitted, tmp_path):
    stopped = {"callback": lambda progress: progress.step == 5, "checkpoint": tmp_path / "fit.checkpoint"}
    quick_fit(images, **stopped)
    again = quick_fit(images, checkpoint=tmp_path / "fit.checkpoint")
    assert torch.equal(again.codes.codes, quick_fit(images, **stopped).codes.codes)


@pytest.mark.parametrize(
    ("dataset", "settings", "message"),
    [
        (smooth_images(1), {}, "at least two images, got one"),
        (smooth_images(3), {"unlabeled": smooth_images(2)}, "give all in one set"),
        (smooth_images(3), {"class_names": ["a"]}, "class_names were given, but the images have no labels"),
        (smooth_images(1)[0], {}, r"one image alone is images\[None\]"),
        ([], {}, "dataset is empty"),
    ],
    ids=["one", "unlabelled", "names", "image", "none"],
)
def test_what_cannot_be_fitted_without_labels_is_refused(dataset, settings, message):
    with pytest.raises(ValueError, match=message):
        quick_fit(dataset, batch_size=None, **settings)


def test_samples_that_lack_a_label_by_mistake_are_refused(images):
    with pytest.raises((TypeError, ValueError), match="label"):
        quick_fit([{"image": image} for image in images])
    with pytest.raises(TypeError, match=r"a sample must be \(image, label\).*got tuple of 1"):
        quick_fit(TensorDataset(images), label_key=1)
