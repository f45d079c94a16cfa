import logging

import pytest
import torch
from conftest import quick_fit, smooth_images
from torch.utils.data import TensorDataset


def lines_of(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "glico_augment"]


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, logger="glico_augment")
    return caplog


def test_a_fit_says_what_it_fits_how_far_it_is_and_how_good(dataset, log):
    augment = quick_fit(dataset, epochs=None, steps=60, unlabeled=TensorDataset(smooth_images(2, seed=3)))
    lines = lines_of(log)
    assert lines[0] == (
        "fitting 8 images of 3 classes and 2 unlabelled at 12 × 10 pixels, 3 channels: 60 steps of 4 images on cpu"
    )
    for step, line in zip(range(6, 61, 6), lines[1:-1], strict=True):
        assert line == f"step {step} of 60, loss {augment.history['loss'][step - 1]:.3f}"
    assert lines[-1] == f"fitted in 60 steps: R² {augment.quality.r2:.3f} of the reconstructions"


def test_a_bar_takes_the_place_of_these_lines(dataset, log):
    pytest.importorskip("tqdm")
    quick_fit(dataset, epochs=None, steps=60, progress=True)
    assert not any(line.startswith("step") for line in lines_of(log))


def test_a_continued_fit_counts_from_where_it_goes_on(dataset, log, tmp_path):
    def stop(progress):
        if progress.step == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick_fit(dataset, epochs=None, steps=60, checkpoint=tmp_path / "c", checkpoint_every=10, callback=stop)
    log.clear()
    quick_fit(dataset, epochs=None, steps=60, checkpoint=tmp_path / "c")
    lines = lines_of(log)
    assert lines[0].endswith("60 steps of 4 images on cpu, 30 of them made before")
    assert lines[1].startswith("step 36 of 60")


def test_images_that_are_all_the_same_are_warned_of():
    labels = torch.tensor([0, 0, 1, 1])
    white = TensorDataset(torch.full((4, 3, 8, 8), 255, dtype=torch.uint8), labels)
    with pytest.warns(UserWarning, match=r"all 4 images are of one colour, \(255, 255, 255\) of 255.*load_image"):
        quick_fit(white)
    same = TensorDataset(smooth_images(1).expand(4, -1, -1, -1), labels)
    with pytest.warns(UserWarning, match="all 4 images are the same picture"):
        quick_fit(same)


def test_images_of_which_one_differs_are_not_warned_of(recwarn):
    images = torch.full((4, 3, 8, 8), 255, dtype=torch.uint8)
    images[3, 0, 0, 0] = 254
    quick_fit(TensorDataset(images, torch.tensor([0, 0, 1, 1])))
    assert not any("all 4 images" in str(warning.message) for warning in recwarn)


def test_skipped_images_are_listed_and_the_others_keep_their_codes(dataset):
    images = [image for image, _ in dataset]
    labels = dataset.tensors[1].tolist()
    broken = torch.full((3, 12, 10), -2.0)
    spoiled = [
        (broken, 3),
        *zip(images[:4], labels[:4], strict=True),
        (broken, -1),
        *zip(images[4:], labels[4:], strict=True),
    ]
    with pytest.warns(UserWarning, match=r"2 of 10 images were skipped:\n  image 0 could.*\n  image 5 "):
        augment = quick_fit(spoiled, on_error="skip")
    assert torch.equal(augment.images, dataset.tensors[0])
    assert augment.codes.labels.tolist() == labels
    assert torch.equal(augment.reconstruct(), quick_fit(dataset).reconstruct())
    # In the set as it is, broken images left out by the reader, each image starts from its own code.
    readable = [sample for sample in spoiled if sample[0] is not broken]
    swapped = augment.wrap(torch.utils.data.Subset(spoiled, [1, 2, 3, 4, 6, 7, 8, 9]))
    augment.p, augment.max_ratio, augment.noise_std = 1.0, 0.0, 0.0
    for index in range(len(readable)):
        made, label = swapped[index]
        expected = (augment.reconstruct([index])[0] * 255).round()
        assert label == labels[index]
        assert (made.float() - expected).abs().max() <= 1
