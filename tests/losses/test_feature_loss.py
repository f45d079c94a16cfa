import pytest
import torch
from torch import nn

from glico_augment.config import LOSS_NAMES, FitConfig
from glico_augment.losses import FeatureLoss, build_loss


class Taps(FeatureLoss):
    """Two taps of very different scale: the pixels, and their mean a thousandfold."""

    gain = 1000.0

    def features(self, images):
        return [images, images.mean(dim=(2, 3)) * self.gain]


def draw(count=4, seed=0):
    return torch.rand(count, 3, 6, 5, generator=torch.Generator().manual_seed(seed))


def test_the_loss_is_zero_for_equal_images_and_positive_and_symmetric_otherwise():
    loss, first, second = Taps(), draw(), draw(seed=1)
    assert loss(first, first) == 0
    assert loss(first, second) > 0
    assert loss(first, second) == loss(second, first)
    assert loss(first, second).shape == ()


def test_the_loss_is_the_weighted_sum_of_mean_absolute_differences():
    first, second = draw(), draw(seed=1)
    parts = [(first - second).abs().mean(), 1000 * (first - second).mean(dim=(2, 3)).abs().mean()]
    torch.testing.assert_close(Taps()(first, second), parts[0] + parts[1])
    torch.testing.assert_close(Taps((2, 0.5))(first, second), 2 * parts[0] + 0.5 * parts[1])


@pytest.mark.parametrize("sizes", [[10], [1, 9], [4, 4, 2]])
def test_calibration_takes_the_mean_absolute_deviation_of_each_tap_however_the_images_are_batched(sizes):
    loss, real = Taps(), draw(10) - 0.3
    loss.calibrate(real.split(sizes))
    taps = [real, 1000 * real.mean(dim=(2, 3))]
    expected = torch.stack([(tap - tap.mean(dim=0)).abs().mean() for tap in taps])
    torch.testing.assert_close(loss.scales, expected)
    first, second = draw(), draw(seed=1)
    parts = torch.stack([(first - second).abs().mean(), 1000 * (first - second).mean(dim=(2, 3)).abs().mean()])
    torch.testing.assert_close(loss(first, second), (parts / expected).sum())


@pytest.mark.parametrize("gain", [1e-3, 1.0, 1e6])
def test_calibration_makes_the_loss_independent_of_the_scale_of_a_tap(gain):
    losses = []
    for loss in (Taps(), Taps()):
        loss.gain = gain if losses else 1.0
        loss.calibrate([draw(8, seed=2)])
        losses.append(loss(draw(), draw(seed=1)))
    torch.testing.assert_close(*losses)


def test_taps_that_are_zero_on_the_real_images_do_not_divide_by_zero():
    loss = Taps()
    loss.calibrate([torch.zeros(2, 3, 6, 5)])
    assert loss.scales.tolist() == [1, 1]
    assert loss(draw(), draw(seed=1)).isfinite()


def test_predicting_the_mean_image_costs_one_per_linear_tap():
    loss, real = Taps(), draw(10)
    loss.calibrate([real])
    average = real.mean(dim=0, keepdim=True).expand_as(real)
    torch.testing.assert_close(loss(average, real), torch.tensor(2.0))


@pytest.mark.parametrize("count", [1, 3])
def test_real_images_that_are_all_alike_are_scaled_by_their_magnitude(count):
    loss, real = Taps(), draw(1)
    loss.calibrate([real.expand(count, -1, -1, -1)])
    expected = torch.stack([real.abs().mean(), 1000 * real.mean(dim=(2, 3)).abs().mean()])
    torch.testing.assert_close(loss.scales, expected)


def test_without_normalisation_calibration_changes_nothing():
    loss, reference = Taps(normalize=False), Taps()
    loss.calibrate([draw()])
    assert loss(draw(), draw(seed=1)) == reference(draw(), draw(seed=1))


def test_the_gradient_flows_to_the_outputs_and_not_to_the_targets():
    outputs, targets = draw().requires_grad_(), draw(seed=1).requires_grad_()
    Taps()(outputs, targets).backward()
    assert outputs.grad.all()
    assert targets.grad is None


def test_a_tap_of_weight_zero_is_left_out():
    outputs = draw()
    outputs[0] = float("inf")  # the difference of the second tap would be infinite, and 0 · ∞ is NaN

    class Broken(Taps):
        def features(self, images):
            return [torch.zeros(len(images), 1), images]

    assert Broken((1, 0))(outputs, draw()) == 0


def test_half_precision_taps_are_compared_in_float32():
    loss = Taps()(draw().bfloat16(), draw(seed=1).bfloat16())
    assert loss.dtype == torch.float32


@pytest.mark.parametrize("weights", [(), (0, 0), (1, -1), (1, float("nan"))])
def test_weights_must_be_non_negative_and_not_all_zero(weights):
    with pytest.raises(ValueError, match="non-negative and not all 0"):
        Taps(weights)


@pytest.mark.parametrize("weights", [(1,), (1, 1, 1)])
def test_a_wrong_number_of_weights_is_refused(weights):
    with pytest.raises(ValueError, match=f"2 taps here, got {len(weights)} loss weights"):
        Taps(weights)(draw(), draw())


def test_a_loss_must_define_its_features():
    with pytest.raises(NotImplementedError, match="FeatureLoss must define features"):
        FeatureLoss()(draw(), draw())


@pytest.mark.parametrize("name", [name for name in LOSS_NAMES if name != "vgg16"])
def test_a_loss_is_built_by_its_name_with_its_weights(name):
    config = FitConfig(loss=name, loss_weights=(1, 0, 0, 0, 2), loss_normalize=False)
    loss = build_loss(config, (3, 64, 64))
    assert isinstance(loss, FeatureLoss)
    assert loss(torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)) > 0
    assert (loss.weights, loss.normalize) == ((1, 0, 0, 0, 2), False)


def test_vgg16_is_built_of_the_file_that_is_named():
    with pytest.raises(FileNotFoundError, match=r"no VGG-16 weights at mine\.pth"):
        build_loss(FitConfig(loss="vgg16", vgg_weights="mine.pth"), (3, 32, 32))


def test_a_module_is_its_own_loss_and_its_mere_name_is_none():
    module = nn.L1Loss()
    built = build_loss(FitConfig(loss=module), (3, 8, 8))
    assert isinstance(built, nn.L1Loss)
    assert built is not module  # a fit moves and calibrates its own
    with pytest.raises(ValueError, match="<L1Loss> was a module"):
        build_loss(FitConfig(loss="<L1Loss>"), (3, 8, 8))


def test_images_that_the_named_loss_cannot_compare_are_refused():
    with pytest.raises(ValueError, match="got 2 channels: use loss='laplacian'"):
        build_loss(FitConfig(loss="random-vgg16"), (2, 32, 32))
