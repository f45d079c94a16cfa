import pytest
import torch
from conftest import mid_grey_images

from glico_augment.images.values import with_channels
from glico_augment.style import match_channels, style_of, transfer_style

pytestmark = pytest.mark.usefixtures("seeded")


def test_a_style_is_the_mean_and_standard_deviation_of_each_cell():
    images = torch.rand(2, 3, 12, 9)
    styles = style_of(images)
    assert styles.shape == (2, 2, 3, 3, 3)
    cell = images[1, 2, 4:8, 6:9]
    assert styles[1, 0, 2, 1, 2].item() == pytest.approx(cell.mean().item(), abs=1e-5)
    assert styles[1, 1, 2, 1, 2].item() == pytest.approx(cell.std(correction=0).item(), abs=1e-5)


@pytest.mark.parametrize("grid", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (3, 3), (7, 8), (32, 100), (64, 64)])
def test_cells_are_those_of_adaptive_pooling(size, grid):
    images = torch.rand(2, 3, *size)
    styles = style_of(images, grid)
    means, squares = (torch.nn.functional.adaptive_avg_pool2d(x.double(), grid) for x in (images, images.square()))
    torch.testing.assert_close(styles[:, 0], means.float())
    stds = (squares - means.square()).clamp(min=0).sqrt()
    torch.testing.assert_close(styles[:, 1], stds.float(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("channels", [2, 4])
def test_transparency_stays(channels):
    images = torch.rand(2, channels, 12, 12)
    made = transfer_style(images, style_of(torch.rand(2, channels, 12, 12)), torch.ones(2))
    assert torch.equal(made[:, -1], images[:, -1])
    assert not torch.isclose(made[:, :-1], images[:, :-1]).all()


def test_at_ratio_0_nothing_changes():
    images = torch.rand(3, 3, 16, 16)
    same = transfer_style(images, style_of(torch.rand(3, 3, 16, 16)), torch.zeros(3))
    torch.testing.assert_close(same, images)


def test_an_image_given_its_own_style_stays_as_it_is():
    images = torch.rand(3, 1, 10, 14)
    torch.testing.assert_close(transfer_style(images, style_of(images), torch.rand(3)), images)


@pytest.mark.parametrize("contrast", [0.0, 0.001, 0.01, 0.1])
def test_an_image_of_little_contrast_given_its_own_style_stays_as_it_is(contrast):
    images = 0.5 + contrast * torch.randn(2, 3, 24, 24)
    torch.testing.assert_close(transfer_style(images, style_of(images), torch.ones(2)), images, atol=2e-5, rtol=0)


def test_noise_is_not_amplified_to_contrast():
    faint = 0.5 + 0.001 * torch.randn(1, 1, 30, 30)
    made = transfer_style(faint, style_of(torch.rand(1, 1, 30, 30), 1), torch.ones(1))
    assert style_of(made, 1)[0, 1].item() < 0.02


@pytest.mark.parametrize("grid", [1, 2, 3])
def test_at_ratio_1_the_style_is_exactly_the_others_where_it_is_the_same_everywhere(grid):
    pattern = mid_grey_images(2, 3, 1, 1) + 0.2 * (torch.rand(2, 3, 4, 4) - 0.5)
    images = pattern.repeat(1, 1, 6, 6)  # every cell holds the same pixels
    others = style_of(mid_grey_images(2, 3, 24, 24), 1).expand(-1, -1, -1, grid, grid)
    made = transfer_style(images, others, torch.ones(2))
    assert 0 < made.min() <= made.max() < 1
    torch.testing.assert_close(style_of(made, grid), others, atol=1e-4, rtol=0)


def test_at_ratio_1_the_style_is_the_others():
    images = mid_grey_images(4, 3, 48, 48)
    others = 0.3 + 0.1 * torch.rand(4, 3, 48, 48)
    others[:, :, 24:] += 0.2
    wanted = style_of(others)
    before, after = style_of(images) - wanted, style_of(transfer_style(images, wanted, torch.ones(4))) - wanted
    # Between the centres of cells style is interpolated, so a cell comes near and not to the very values.
    assert after[:, 0].abs().mean() < 0.2 * before[:, 0].abs().mean()
    assert after[:, 1].abs().mean() < 0.5 * before[:, 1].abs().mean()


def test_a_gain_and_a_shift_of_the_whole_image_are_undone_exactly():
    images = mid_grey_images(2, 3, 21, 30)
    faded = 0.5 * images + 0.1
    torch.testing.assert_close(transfer_style(faded, style_of(images), torch.ones(2)), images)


def test_halfway_is_halfway():
    images = mid_grey_images(2, 3, 20, 20)
    halfway = transfer_style(images, style_of(images + 0.2), torch.full((2,), 0.5))
    torch.testing.assert_close(halfway, images + 0.1)


def test_each_image_has_its_own_style_and_ratio():
    images, styles, ratios = mid_grey_images(5, 3, 12, 12), style_of(torch.rand(5, 3, 12, 12)), torch.rand(5)
    whole = transfer_style(images, styles, ratios)
    alone = torch.cat([transfer_style(*(x[i : i + 1] for x in (images, styles, ratios))) for i in range(5)])
    torch.testing.assert_close(whole, alone)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (2, 7), (3, 3), (100, 37)])
def test_any_size_gives_values_in_range(size):
    images = torch.rand(3, 3, *size)
    images[0] = 0.0
    images[1] = 1.0
    made = transfer_style(images, style_of(torch.rand(3, 3, *size).round()), torch.ones(3))
    assert made.shape == images.shape
    assert made.min() >= 0
    assert made.max() <= 1


def test_a_flat_image_stays_flat():
    flat = torch.full((1, 3, 9, 9), 0.5)
    made = transfer_style(flat, style_of((torch.rand(1, 3, 9, 9) > 0.5).float()), torch.ones(1))
    assert made.var(dim=(2, 3)).max() < 0.05  # the means of cells remain, no contrast within them


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("found", [1, 2, 3, 4])
def test_styles_of_other_channels_are_those_of_the_converted_images(found, channels):
    grey = mid_grey_images(2, 1, 12, 12)
    colour = grey * torch.tensor([0.5, 0.9, 1.2]).view(3, 1, 1)  # the channels rise and fall together
    images = torch.cat(
        [grey if found < 3 else colour, *([mid_grey_images(2, 1, 12, 12)] if found in (2, 4) else [])], dim=1
    )
    matched = match_channels(style_of(images), channels)
    assert matched.shape == (2, 2, channels, 3, 3)
    torch.testing.assert_close(matched, style_of(with_channels(images, channels)), atol=1e-5, rtol=1e-3)


def test_styles_of_channels_that_are_no_colours_cannot_be_matched():
    assert match_channels(torch.rand(2, 2, 7, 3, 3), 7).shape == (2, 2, 7, 3, 3)
    with pytest.raises(ValueError, match="3 channels"):
        match_channels(torch.rand(2, 2, 7, 3, 3), 3)


def test_the_images_passed_in_are_left_alone():
    images = torch.rand(2, 3, 8, 8)
    before = images.clone()
    transfer_style(images, style_of(images.flip(0)), torch.ones(2))
    assert torch.equal(images, before)


def test_gradients_reach_the_images_with_their_style_as_a_constant():
    images = mid_grey_images(2, 3, 15, 15).requires_grad_()
    styles, ratios = style_of(mid_grey_images(2, 3, 15, 15)), torch.tensor([0.3, 0.9])
    transfer_style(images, styles, ratios).sum().backward()
    # The gradient of a pixel is its gain, 1 + s (std' - std) / std at the centres of cells, whatever its value.
    stds = style_of(images.detach())[:, 1]
    gains = 1 + ratios.view(-1, 1, 1, 1) * (styles[:, 1] - stds) / stds
    maps = torch.nn.functional.interpolate(gains, (15, 15), mode="bilinear", align_corners=False)
    torch.testing.assert_close(images.grad, maps)
