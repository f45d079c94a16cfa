import pytest
import torch

from glico_augment.style import style_of, transfer_style


def smooth(count, channels, height, width):
    """Images whose cells keep away from 0 and 1, so that nothing is clamped."""
    return 0.4 + 0.2 * torch.rand(count, channels, height, width)


def test_a_style_is_the_mean_and_standard_deviation_of_each_cell():
    images = torch.rand(2, 3, 12, 9)
    styles = style_of(images)
    assert styles.shape == (2, 2, 3, 3, 3)
    cell = images[1, 2, 4:8, 6:9]
    assert styles[1, 0, 2, 1, 2].item() == pytest.approx(cell.mean().item(), abs=1e-5)
    assert styles[1, 1, 2, 1, 2].item() == pytest.approx(cell.std(correction=0).item(), abs=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (3, 3), (7, 8), (32, 100), (64, 64)])
def test_cells_are_those_of_adaptive_pooling(size):
    images = torch.rand(2, 3, *size)
    grid = min(3, size[0]), min(3, size[1])
    torch.testing.assert_close(style_of(images)[:, 0], torch.nn.functional.adaptive_avg_pool2d(images, grid))


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


def test_at_ratio_1_the_style_is_the_others():
    images = smooth(4, 3, 48, 48)
    others = 0.3 + 0.1 * torch.rand(4, 3, 48, 48)
    others[:, :, 24:] += 0.2
    wanted = style_of(others)
    before, after = style_of(images) - wanted, style_of(transfer_style(images, wanted, torch.ones(4))) - wanted
    # Between the centres of cells style is interpolated, so a cell comes near and not to the very values.
    assert after[:, 0].abs().mean() < 0.2 * before[:, 0].abs().mean()
    assert after[:, 1].abs().mean() < 0.5 * before[:, 1].abs().mean()


def test_a_gain_and_a_shift_of_the_whole_image_are_undone_exactly():
    images = smooth(2, 3, 21, 30)
    faded = 0.5 * images + 0.1
    torch.testing.assert_close(transfer_style(faded, style_of(images), torch.ones(2)), images)


def test_halfway_is_halfway():
    images = smooth(2, 3, 20, 20)
    halfway = transfer_style(images, style_of(images + 0.2), torch.full((2,), 0.5))
    torch.testing.assert_close(halfway, images + 0.1)


def test_each_image_has_its_own_style_and_ratio():
    images, styles, ratios = smooth(5, 3, 12, 12), style_of(torch.rand(5, 3, 12, 12)), torch.rand(5)
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


def test_the_images_passed_in_are_left_alone():
    images = torch.rand(2, 3, 8, 8)
    before = images.clone()
    transfer_style(images, style_of(images.flip(0)), torch.ones(2))
    assert torch.equal(images, before)
