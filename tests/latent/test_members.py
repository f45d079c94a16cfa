import pytest
import torch
from conftest import LABELS, quick_fit, smooth_images
from torch.utils.data import TensorDataset

from glico_augment import FitQuality, GLICOAugment
from glico_augment.fit.quality import measure

QUIET = {"steps": 3, "progress": False, "device": "cpu"}
NEW = smooth_images(4, seed=5)
NEW_LABELS = torch.tensor([40, 3, 40, -1])


@pytest.fixture
def fitted(dataset):
    """A fit with unlabelled images."""
    return quick_fit(dataset, unlabeled=TensorDataset(smooth_images(2, seed=7)), p=0.7)


@pytest.fixture
def extended(fitted):
    return fitted.extend(TensorDataset(NEW, NEW_LABELS), **QUIET)


def test_new_images_are_anchors_and_partners_of_their_classes(extended):
    labels = torch.cat([LABELS, NEW_LABELS])
    assert torch.equal(extended.codes.labels, labels)
    params = extended.make_params(torch.tensor([3, -1, 40]).repeat(100))
    for indices in (params.anchors, params.partners):
        assert set(indices.tolist()) == set(range(12))
        assert torch.equal(labels[indices], torch.tensor([3, -1, 40]).repeat(100))


def test_they_have_the_codes_that_encode_finds_and_all_else_stays(fitted, extended):
    found = fitted.encode(NEW, **QUIET)
    before, after = fitted.codes.codes, extended.codes.codes
    assert torch.equal(after[8:12], found.codes)
    assert torch.equal(torch.cat([after[:8], after[12:]]), before)
    for mine, theirs in ((fitted.generator, extended.generator), (fitted.classifier, extended.classifier)):
        assert all(torch.equal(mine.state_dict()[name], value) for name, value in theirs.state_dict().items())
    assert torch.equal(extended.images, torch.cat([fitted.images, NEW]))
    assert extended.quality == measure(extended.model, extended.images)
    assert (extended.swap, extended.layout, extended.classes) == (fitted.swap, fitted.layout, fitted.classes)
    assert len(fitted.codes) == 10


def test_they_are_recognised_in_a_dataset(extended):
    extended.p, extended.max_ratio, extended.noise_std = 1.0, 0.0, 0.0
    swapped = extended.wrap(TensorDataset(torch.cat([smooth_images(8), NEW]), torch.cat([LABELS, NEW_LABELS])))
    made = torch.stack([image for image, _ in swapped])
    torch.testing.assert_close(made / 255, extended.reconstruct(range(12)), atol=0.51 / 255, rtol=0)


def test_a_file_brings_them_back(extended, tmp_path):
    extended.save(tmp_path / "more.safetensors")
    loaded = GLICOAugment.load(tmp_path / "more.safetensors")
    assert torch.equal(loaded.codes.codes, extended.codes.codes)
    assert torch.equal(loaded.record.digests, extended.record.digests)
    assert loaded.quality == extended.quality


def test_fitted_images_are_left_out(fitted, images):
    both = TensorDataset(torch.cat([images[:3], NEW[:1]]), torch.cat([LABELS[:3], NEW_LABELS[:1]]))
    assert fitted.extend(both, **QUIET).codes.n_labeled == 9
    with pytest.raises(ValueError, match="all 3 images were fitted under their labels already"):
        fitted.extend(TensorDataset(images[:3], LABELS[:3]), **QUIET)


def test_a_label_that_was_not_fitted_is_refused(augment):
    with pytest.raises(ValueError, match=r"label 41 was not fitted; fitted: -1, 3, 40"):
        augment.extend(TensorDataset(NEW, NEW_LABELS + torch.tensor([0, 0, 1, 0])), **QUIET)


def test_classes_numbered_otherwise_are_refused(images):
    class Named(TensorDataset):
        classes = ("cat", "dog")

    augment = quick_fit(Named(images, torch.arange(8) % 2), epochs=1)
    other = Named(NEW, torch.arange(4) % 2)
    other.classes = ("dog", "cat")
    with pytest.raises(ValueError, match="numbered differently"):
        augment.extend(other, **QUIET)


def test_images_that_the_generator_does_not_draw_are_warned_of(images):
    augment = quick_fit(TensorDataset(images, LABELS), epochs=1)
    augment.record.__dict__["quality"] = FitQuality(0.9, (0.9, 0.9, 0.9), (0,))
    noise = (torch.rand(4, 3, 12, 10) > 0.5).float()
    with pytest.warns(UserWarning, match="the generator does not draw the new images: R² is"):
        augment.extend(TensorDataset(noise, NEW_LABELS), **QUIET)


@pytest.mark.parametrize("bad", [TensorDataset(NEW), TensorDataset(NEW, torch.rand(4)), 3], ids=["none", "float", "3"])
def test_what_is_no_labelled_dataset_is_refused(augment, bad):
    with pytest.raises((TypeError, ValueError), match=r"labels|map-style"):
        augment.extend(bad, **QUIET)


def test_an_image_that_cannot_be_read_is_left_out_of_a_restriction_on_demand(fitted, dataset):
    samples = [*list(dataset)[:4], ("no image", torch.tensor(3))]
    with pytest.raises(TypeError, match=r"^image 4 could not be read"):
        fitted.restrict(samples)
    with pytest.warns(UserWarning, match="1 of 5 images were skipped:\n  image 4 could not be read"):
        assert fitted.restrict(samples, on_error="skip").codes.n_labeled == 4
    with pytest.raises(ValueError, match="on_error must be one of 'raise', 'skip'; got 'ignore'"):
        fitted.restrict(samples, on_error="ignore")
