import math

import pytest
import torch
import torch.nn.functional as F

from glico_augment.losses import LaplacianLoss

SHAPES = [(3, 100, 100), (1, 28, 28), (4, 96, 64), (13, 33, 20), (3, 64, 64), (1, 8, 200), (3, 5, 5), (1, 1, 1)]


def draw(shape, count=2, seed=0):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))


def pyramid_sizes(height, width):
    """Halve, rounding up, as long as the shorter side stays at 4 pixels or more."""
    sizes = [(height, width)]
    while min((side + 1) // 2 for side in sizes[-1]) >= 4:
        sizes.append(tuple((side + 1) // 2 for side in sizes[-1]))
    return sizes


@pytest.mark.parametrize("shape", SHAPES)
def test_levels_are_added_until_the_residual_would_fall_below_4_pixels(shape):
    levels = LaplacianLoss().features(draw(shape))
    assert [tuple(level.shape) for level in levels] == [(2, shape[0], *size) for size in pyramid_sizes(*shape[1:])]


def reference_pyramid(images, n_levels):
    """Burt & Adelson's pyramid: the binomial filter with stride 2 and repeated borders, bilinear interpolation back."""
    levels, filters = [], torch.tensor([1.0, 3.0, 3.0, 1.0]).outer(torch.tensor([1.0, 3.0, 3.0, 1.0])) / 64
    for _ in range(n_levels - 1):
        height, width = images.shape[-2:]
        padded = F.pad(images, (1, 2, 1, 2), mode="replicate")
        coarser = F.conv2d(padded.flatten(0, 1)[:, None], filters[None, None], stride=2)[:, 0]
        coarser = coarser.unflatten(0, images.shape[:2])
        doubled = F.interpolate(coarser, scale_factor=2, mode="bilinear", align_corners=False)
        levels.append(images - doubled[..., :height, :width])
        images = coarser
    return [*levels, images]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_levels_are_those_of_the_binomial_pyramid(shape):
    levels = LaplacianLoss().features(draw(shape))
    torch.testing.assert_close(levels, reference_pyramid(draw(shape), len(levels)))


@pytest.mark.parametrize("frequency", [0.2, 1.0, 2.0, 3.0])
def test_a_wave_is_damped_by_the_cube_of_the_cosine_of_half_its_frequency(frequency):
    """The response of (1, 3, 3, 1) / 8, by which the residual has no aliases."""
    wave = torch.cos(frequency * torch.arange(400.0)).expand(1, 1, 8, 400)
    _, residual = LaplacianLoss().features(wave)
    between = 2 * torch.arange(200.0) + 0.5  # a pixel of the residual lies between two of the image
    expected = math.cos(frequency / 2) ** 3 * torch.cos(frequency * between)
    torch.testing.assert_close(residual[0, 0, :, 1:-1], expected[1:-1].expand(4, -1), atol=1e-4, rtol=0)


def test_an_even_colour_is_all_in_the_residual():
    *bands, residual = LaplacianLoss().features(torch.full((1, 3, 40, 30), 0.7))
    assert all(band.abs().max() < 1e-6 for band in bands)
    torch.testing.assert_close(residual, torch.full_like(residual, 0.7))


def test_fine_texture_is_in_the_finest_level_and_broad_shading_in_the_residual():
    loss = LaplacianLoss()
    checkerboard = (torch.arange(32)[:, None] + torch.arange(32)) % 2 - 0.5
    shading = torch.linspace(-0.5, 0.5, 32).expand(32, 32)
    for image, strongest in ((checkerboard, 0), (shading, -1)):
        magnitudes = [level.abs().mean().item() for level in loss.features(image.expand(1, 1, 32, 32))]
        assert magnitudes[strongest] == max(magnitudes)
        assert magnitudes[strongest] > 3 * sorted(magnitudes)[-2]


def test_channels_do_not_mix():
    loss, images = LaplacianLoss(), draw((3, 20, 20))
    for level, alone in zip(loss.features(images), loss.features(images[:, 1:2]), strict=True):
        torch.testing.assert_close(level[:, 1:2], alone)


def test_weights_select_levels():
    images = draw((3, 32, 32))
    brighter = images + 0.25
    assert LaplacianLoss((1, 1, 1, 0))(brighter, images) < 1e-6
    torch.testing.assert_close(LaplacianLoss((0, 0, 0, 2))(brighter, images), torch.tensor(0.5))


def test_the_gradient_reaches_every_pixel_of_the_outputs_and_no_target():
    outputs, targets = draw((3, 28, 28)).requires_grad_(), draw((3, 28, 28), seed=1).requires_grad_()
    LaplacianLoss()(outputs, targets).backward()
    assert outputs.grad.isfinite().all()
    assert (outputs.grad != 0).float().mean() > 0.99
    assert targets.grad is None


@pytest.mark.parametrize("side", [32, 63, 64, 65, 100])
def test_a_ramp_has_no_detail_inside(side):
    ramp = torch.arange(side).float().expand(1, 1, side, side)
    inside = LaplacianLoss().features(ramp)[0][..., 3:-3, 3:-3]
    torch.testing.assert_close(inside, torch.zeros_like(inside), atol=1e-4, rtol=0)
