import pytest
import torch
from torch import nn

from glico_augment.fit.reconstruction import Targets
from glico_augment.losses import FeatureLoss, LaplacianLoss

IMAGES = torch.randint(0, 256, (150, 2, 9, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
INDICES = torch.tensor([140, 3, 3, 77])
BYTES_AN_IMAGE = 4 * (2 * 9 * 8 + 2)


def outputs(seed=1):
    return torch.rand(4, 2, 9, 8, generator=torch.Generator().manual_seed(seed))


class Counting(FeatureLoss):
    """Pixels and means as taps; counts the images whose features are taken."""

    n_images = 0

    def features(self, images):
        self.n_images += len(images)
        return [images, images.mean(dim=(2, 3))]


def expected_loss():
    """The same comparison by hand, calibrated on all the images at once."""
    real = IMAGES.float() / 255
    loss = 0
    for tap in (lambda images: images, lambda images: images.mean(dim=(2, 3))):
        deviation = (tap(real) - tap(real).mean(dim=0)).abs().mean()
        loss = loss + (tap(outputs()) - tap(real[INDICES])).abs().mean() / deviation
    return loss


def test_images_come_back_as_floats_between_zero_and_one():
    unit = Targets(IMAGES, nn.L1Loss()).unit(INDICES)
    assert unit.dtype == torch.float32
    torch.testing.assert_close(unit, IMAGES[INDICES].float() / 255)


@pytest.mark.parametrize("cache_bytes", [0, 150 * BYTES_AN_IMAGE - 1, 150 * BYTES_AN_IMAGE, 2**30])
def test_the_loss_is_calibrated_and_the_same_with_and_without_the_cache(cache_bytes):
    targets = Targets(IMAGES, Counting(), cache_bytes=cache_bytes)
    torch.testing.assert_close(targets.compare(outputs(), INDICES), expected_loss())


@pytest.mark.parametrize(("cache_bytes", "per_step"), [(150 * BYTES_AN_IMAGE, 4), (150 * BYTES_AN_IMAGE - 1, 8)])
def test_features_of_real_images_are_computed_once_if_they_fit_and_batch_by_batch_otherwise(cache_bytes, per_step):
    loss = Counting()
    targets = Targets(IMAGES, loss, cache_bytes=cache_bytes)
    loss.n_images = 0
    for _ in range(3):
        targets.compare(outputs(), INDICES)
    assert loss.n_images == 3 * per_step


def test_features_that_cost_little_are_not_kept():
    loss = Counting()
    loss.is_cheap = True
    targets = Targets(IMAGES, loss)
    loss.n_images = 0
    torch.testing.assert_close(targets.compare(outputs(), INDICES), expected_loss())
    assert loss.n_images == 8
    assert LaplacianLoss.is_cheap


@pytest.mark.parametrize("cache_bytes", [0, 2**30])
def test_the_gradient_flows_to_the_outputs_alone(cache_bytes):
    targets = Targets(IMAGES, Counting(), cache_bytes=cache_bytes)
    for _ in range(2):
        generated = outputs().requires_grad_()
        loss = targets.compare(generated, INDICES)
        loss.backward()
        assert generated.grad.isfinite().all()
        assert generated.grad.any()


def test_real_images_compare_as_zero_with_themselves_and_positive_with_others():
    targets = Targets(IMAGES, LaplacianLoss())
    assert targets.compare(targets.unit(INDICES), INDICES) < 1e-5
    assert targets.compare(targets.unit(INDICES), INDICES.roll(1)) > 0.1


def test_any_module_is_called_with_outputs_and_real_images():
    torch.testing.assert_close(
        Targets(IMAGES, nn.MSELoss()).compare(outputs(), INDICES),
        (outputs() - IMAGES[INDICES].float() / 255).square().mean(),
    )


def test_black_images_do_not_divide_by_zero():
    targets = Targets(torch.zeros_like(IMAGES), LaplacianLoss())
    assert targets.compare(outputs(), INDICES).isfinite()
