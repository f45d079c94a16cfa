import dataclasses
import math

import numpy as np
import PIL.Image
import pytest
import torch
from conftest import quick_fit, smooth_images
from torch.utils.data import TensorDataset

from glico_augment import Encoding
from glico_augment.data.image_set import read_image_set
from glico_augment.fit.code_adam import CodeAdam
from glico_augment.fit.loop import Fit
from glico_augment.images.values import to_unit
from glico_augment.latent.encode import Comparison
from glico_augment.model.sphere import sample_uniform

QUIET = {"progress": False, "device": "cpu"}


@pytest.fixture
def others():
    """Images that were not fitted."""
    return smooth_images(5, seed=9)


def test_the_image_of_a_point_of_the_sphere_is_found_again(augment):
    codes = sample_uniform(6, augment.codes.latent_dim, generator=torch.Generator().manual_seed(0))
    found = augment.encode(augment.model.generate(codes), steps=80, starts=4, **QUIET)
    assert isinstance(found, Encoding)
    assert found.r2 > 0.95
    assert (found.codes.norm(dim=1) - 1).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("loss", "restarts", "has_unlabeled"),
    [("laplacian", 0, False), ("random-vgg16", 0, False), ("laplacian", 1, False), ("laplacian", 0, True)],
)
def test_what_is_minimised_is_the_loss_of_the_fit(dataset, loss, restarts, has_unlabeled):
    unlabeled = TensorDataset(smooth_images(9, seed=3) // 4) if has_unlabeled else None
    augment = quick_fit(dataset, loss=loss, pixel_weight=0.4, image_size=16, epochs=1, unlabeled=unlabeled)
    image_set = read_image_set(dataset, unlabeled=unlabeled, image_size=16)
    run = Fit(image_set, augment.config, device=torch.device("cpu"), seed=0)
    run.restarts = restarts
    rows, outputs = torch.tensor([4, 1]), torch.rand(2, 3, 16, 16)
    record = dataclasses.replace(augment.record, restarts=restarts)
    compare = Comparison(augment.images, record).with_targets(to_unit(augment.images))
    assert compare(outputs, rows).item() == pytest.approx(run._reconstruction_loss(outputs, rows).item(), rel=1e-5)


def test_the_learning_rate_falls_to_0_as_a_cosine(augment, others, monkeypatch):
    rates = []

    class Recorded(CodeAdam):
        def step(self, indices, gradients, lr):
            rates.append(lr)
            super().step(indices, gradients, lr)

    monkeypatch.setattr("glico_augment.latent.encode.CodeAdam", Recorded)
    augment.encode(others[:1], steps=4, lr=0.2, **QUIET)
    assert rates == pytest.approx([0.1 * (1 + math.cos(math.pi * step / 4)) for step in range(4)])


def test_without_steps_the_code_is_that_of_the_fitted_image_that_looks_most_alike(augment, images, others):
    assert torch.equal(augment.encode(images, steps=0, starts=1, **QUIET).codes, augment.codes.codes)
    found = augment.encode(others, steps=0, starts=1, **QUIET).codes
    distances = (others[:, None].float() - images.float()).square().sum(dim=(2, 3, 4))
    assert torch.equal(found, augment.codes.codes[distances.argmin(dim=1)])


def test_of_several_starts_the_best_is_taken_and_no_step_makes_it_worse(augment, others):
    compare = Comparison(augment.images, augment.record).with_targets(to_unit(others))

    def losses(codes):
        made = augment.model.generate(codes)
        return torch.stack([compare(made[row : row + 1], torch.tensor([row])) for row in range(len(codes))])

    one = augment.encode(others, steps=0, starts=1, **QUIET).codes
    many = augment.encode(others, steps=0, starts=12, **QUIET).codes
    thrown = augment.encode(others, steps=1, starts=12, lr=1e6, **QUIET).codes
    moved = augment.encode(others, steps=40, starts=12, **QUIET).codes
    assert (losses(many) <= losses(one)).all()
    assert (losses(many) < losses(one)).any()
    assert (losses(thrown) <= losses(many)).all()
    assert (losses(moved) < losses(many)).all()


def test_r2_is_that_of_the_squared_distances_from_the_fitted_mean(augment, images, others):
    found = augment.encode(others, steps=3, **QUIET)
    assert torch.equal(found.reconstructions, augment.model.generate(found.codes))
    real, mean = others.double() / 255, (images.double() / 255).mean(dim=0)
    error = (found.reconstructions - real).square().sum(dim=(1, 2, 3))
    distance = (mean - real).square().sum(dim=(1, 2, 3))
    torch.testing.assert_close(found.per_image, (1 - error / distance).float())
    assert found.r2 == pytest.approx(float(1 - error.sum() / distance.sum()), rel=1e-5)


def test_one_seed_gives_one_result_whatever_stands_beside_an_image(augment, others):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, again, other = (augment.encode(others, steps=4, seed=seed, **QUIET).codes for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    alone = torch.cat([augment.encode(image[None], steps=4, seed=1, **QUIET).codes for image in others])
    torch.testing.assert_close(alone, first, atol=1e-3, rtol=0)


def test_the_fit_is_left_as_it_was(augment, others):
    before = {name: value.clone() for name, value in augment.model.state_dict().items()}
    augment.encode(others, steps=3, **QUIET)
    assert all(torch.equal(value, before[name]) for name, value in augment.model.state_dict().items())
    assert all(parameter.grad is None for parameter in augment.model.parameters())


@pytest.mark.parametrize(
    "context", [torch.inference_mode, torch.no_grad, lambda: torch.autocast("cpu", torch.bfloat16)]
)
def test_the_context_of_the_caller_makes_no_difference(augment, others, context):
    expected = augment.encode(others, steps=3, **QUIET).codes
    with context():
        found = augment.encode(others, steps=3, **QUIET).codes
    assert torch.equal(found, expected)


def test_images_come_in_every_form(augment, others, tmp_path):
    expected = augment.encode(others, steps=0, **QUIET).codes
    arrays = others.permute(0, 2, 3, 1).numpy()
    folder = tmp_path / "others"
    folder.mkdir()
    for index, array in enumerate(arrays):
        PIL.Image.fromarray(array).save(folder / f"{index}.png")
    for form in (
        others / 255,
        arrays,
        arrays.astype(np.float64) / 255,
        [PIL.Image.fromarray(array) for array in arrays],
        list(others),
        TensorDataset(others),
        TensorDataset(others, torch.zeros(5)),
        [{"image": image, "name": "x"} for image in arrays],
        folder,
        str(folder),
    ):
        assert torch.equal(augment.encode(form, steps=0, **QUIET).codes, expected)


def test_size_and_channels_are_brought_to_those_of_the_fit(augment):
    grey = smooth_images(5, channels=1, height=24, width=30)
    expected = torch.nn.functional.interpolate(grey, (12, 10), mode="bilinear", antialias=True).expand(-1, 3, -1, -1)
    found, same = (augment.encode(each, steps=2, **QUIET) for each in (grey, expected.contiguous()))
    assert torch.equal(found.codes, same.codes)
    assert found.reconstructions.shape == (5, 3, 12, 10)
    assert torch.equal(augment.encode(grey[:, 0], steps=2, **QUIET).codes, found.codes)


@pytest.mark.parametrize(
    ("bad", "kind", "message"),
    [
        (torch.full((2, 3, 12, 10), torch.nan), ValueError, "image 0 could not be read: image has NaN"),
        (torch.rand(2, 3, 12, 10) * 9, ValueError, "float images must lie in"),
        (torch.zeros(0, 3, 12, 10), ValueError, "images is empty"),
        ([], ValueError, "images is empty"),
        (torch.rand(3, 12, 10), ValueError, r"one image alone is images\[None\]"),
        (np.zeros((12, 10, 3), np.uint8), ValueError, r"one image alone is images\[None\]"),
        (torch.rand(12), ValueError, r"expected images \(n, C, H, W\)"),
        (torch.rand(2, 7, 12, 10), ValueError, "image 0 has 7 channels, which cannot be brought to the 3 of the fit"),
        (PIL.Image.new("RGB", (10, 12)), TypeError, "give it in a list"),
        (3, TypeError, "images must be a map-style dataset"),
        (["a"], TypeError, "image 0 could not be read: an image must be a PIL image"),
        ("no/such/folder", FileNotFoundError, "no such folder"),
    ],
    ids=range(12),
)
def test_what_is_no_image_is_refused(augment, bad, kind, message):
    with pytest.raises(kind, match=message):
        augment.encode(bad, **QUIET)


@pytest.mark.parametrize(
    "setting", [{"steps": -1}, {"starts": 0}, {"lr": 0.0}, {"seed": -1}, {"steps": 2.5}, {"device": "abacus"}], ids=str
)
def test_a_wrong_setting_is_named(augment, others, setting):
    with pytest.raises((TypeError, ValueError), match=f"^{next(iter(setting))} must be"):
        augment.encode(others, **{**QUIET, **setting})


def test_a_fit_that_has_not_learned_its_images_says_so(augment, others):
    assert augment.quality.is_poor
    with pytest.warns(UserWarning, match="has not learned its images: R² is .* codes it finds for others say little"):
        augment.encode(others, steps=0, **QUIET)


def test_a_module_that_was_the_loss_is_asked_for(dataset, others):
    augment = quick_fit(dataset, loss=torch.nn.L1Loss(), epochs=1)
    with pytest.raises(ValueError, match="pass that module as loss= again"):
        augment.encode(others, **QUIET)
    assert len(augment.encode(others, steps=2, loss=torch.nn.L1Loss(), **QUIET)) == 5


def test_a_bar_is_shown_where_one_is_asked_for(augment, others, capsys):
    augment.encode(others, steps=3, device="cpu")
    assert "GLICO encode" in capsys.readouterr().err
    augment.encode(others, steps=3, **QUIET)
    assert capsys.readouterr().err == ""


def test_a_path_leads_from_code_to_code(augment, others):
    own = augment.codes.codes
    torch.testing.assert_close(augment.interpolate(own[1], own[4], 5), augment.interpolate(1, 4, 5))
    codes = augment.encode(others, steps=2, **QUIET).codes
    path = augment.interpolate(codes[0], 3, 4)
    augment.interpolation = "lerp"
    middle = augment.interpolate(1, 4, 3)[1:2]
    torch.testing.assert_close(middle, augment.model.generate((own[1:2] + own[4:5]) / 2))
    torch.testing.assert_close(path[[0, -1]], augment.model.generate(torch.stack([codes[0], own[3]])))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (torch.ones(6), "a vector of length 1"),
        (torch.ones(5) / 5**0.5, r"has shape \(6,\)"),
        (torch.full((6,), torch.nan), "a vector of length 1"),
    ],
    ids=str,
)
def test_what_is_no_code_has_no_path(augment, code, message):
    with pytest.raises(ValueError, match=message):
        augment.interpolate(code, 0)
