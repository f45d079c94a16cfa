import base64
import io

import numpy as np
import PIL.Image
import pytest
import torch

from glico_augment.pictures.grids import data_uri, make_pixels, save_grid, to_png, visible


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_images_of_any_number_of_channels_are_visible(channels):
    images = torch.rand(5, channels, 4, 6)
    shown = visible(images)
    assert shown.shape == (5, 3, 4, 6)
    assert 0 <= shown.min() <= shown.max() <= 1
    if channels == 1:
        assert torch.equal(shown, images.expand(-1, 3, -1, -1))
    if channels in (3, 7):
        assert torch.equal(shown, images[:, :3])


@pytest.mark.parametrize("channels", [2, 4])
def test_transparent_pixels_are_white_and_opaque_ones_as_they_are(channels):
    images = torch.rand(2, channels, 4, 6)
    images[0, -1], images[1, -1] = 0, 1
    shown = visible(images)
    assert torch.equal(shown[0], torch.ones(3, 4, 6))
    torch.testing.assert_close(shown[1], images[1, :-1].expand(3, -1, -1))


def test_a_grid_has_the_images_in_rows_with_white_between(images):
    pixels = make_pixels(images[:6], columns=3, scale=2)
    height, width = (2 * side for side in images.shape[-2:])
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (3, 2 * (height + 2) + 2, 3 * (width + 2) + 2)
    for index, image in enumerate(images[:6]):
        top, left = 2 + index // 3 * (height + 2), 2 + index % 3 * (width + 2)
        tile = pixels[:, top : top + height, left : left + width]
        assert torch.equal(tile, image.repeat_interleave(2, 1).repeat_interleave(2, 2))
        pixels[:, top : top + height, left : left + width] = 255
    assert (pixels == 255).all()


def test_a_data_uri_is_the_png(images):
    pixels = make_pixels(images, columns=4)
    start, encoded = data_uri(to_png(pixels)).split(",")
    assert start == "data:image/png;base64"
    with PIL.Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        assert image.size == (pixels.shape[2], pixels.shape[1])


def test_each_row_has_its_name_on_its_left_and_the_images_stay_as_they_are(images, tmp_path):
    plain = make_pixels(images[:6], columns=2, scale=2)
    written = []
    for names in (("cat", "", ""), ("", "", "cat"), ("x" * 200, "\x1b[2J\n", "caf\udce9")):
        save_grid(images[:6], tmp_path / "grid.png", columns=2, scale=2, names=names)
        with PIL.Image.open(tmp_path / "grid.png") as picture:
            written.append(torch.from_numpy(np.array(picture)).permute(2, 0, 1))
    for grid in written:
        assert torch.equal(grid[:, :, -plain.shape[2] :], plain)
    height = plain.shape[1] // 3
    for grid, named in zip(written, ([0], [2], [0, 1, 2]), strict=False):
        names = grid[:, :, : -plain.shape[2]]
        assert [row for row in range(3) if (names[:, row * height : (row + 1) * height] < 128).any()] == named
    assert written[2].shape[2] - plain.shape[2] < 200  # cut short


def test_a_grid_is_written_whole_or_not_at_all(images, tmp_path):
    save_grid(images, tmp_path / "grid.png", columns=4)
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]
    with pytest.raises(ValueError, match=r"ends in \.png, not grid\.jpg"):
        save_grid(images, tmp_path / "grid.jpg", columns=4)
    with pytest.raises(OSError, match="there is no folder"):
        save_grid(images, tmp_path / "nothing" / "grid.png", columns=4)
