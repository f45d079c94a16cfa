import numpy as np
import PIL.Image
import pytest
import torch
from torchvision.datasets import ImageFolder

from glico_augment import load_image
from glico_augment.images.convert import to_uint8

HEIGHT, WIDTH = 6, 4
GREY = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH)


def save(tmp_path, image, suffix=".png", **options):
    path = tmp_path / f"image{suffix}"
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_keep_their_scale(tmp_path, suffix):
    sixteen = PIL.Image.fromarray((GREY * (65535 // GREY.max())).astype(np.uint16))
    read = to_uint8(load_image(save(tmp_path, sixteen, suffix)))
    assert read.shape == (1, HEIGHT, WIDTH)
    expected = torch.from_numpy(GREY / GREY.max() * 255)
    assert (read[0] - expected).abs().max() <= 1


@pytest.mark.parametrize(
    ("mode", "suffix", "channels"),
    [
        ("L", ".png", 1),
        ("1", ".png", 1),
        ("RGB", ".png", 3),
        ("P", ".png", 3),
        ("RGBA", ".png", 4),
        ("LA", ".png", 4),
        ("CMYK", ".tif", 3),
    ],
)
def test_a_file_keeps_its_mode_and_is_read_as_the_picture_itself(tmp_path, mode, suffix, channels):
    picture = PIL.Image.fromarray((GREY * 10).astype(np.uint8)).convert("RGB" if mode == "P" else mode).convert(mode)
    read = load_image(save(tmp_path, picture, suffix))
    assert read.mode == mode
    assert torch.equal(to_uint8(read), to_uint8(picture))
    assert to_uint8(read).shape == (channels, HEIGHT, WIDTH)


@pytest.mark.parametrize("value", [0, 1, 6, 200])
def test_a_photograph_stands_upright(tmp_path, value):
    exif = PIL.Image.Exif()
    exif[0x0112] = value  # orientation; 6 is a camera turned to the right, 0 and 200 mean nothing
    lying = PIL.Image.fromarray((GREY * 10).astype(np.uint8))
    read = load_image(save(tmp_path, lying, exif=exif))
    expected = np.rot90(np.asarray(lying), -1) if value == 6 else np.asarray(lying)
    assert np.array_equal(np.asarray(read), expected)


def test_the_file_is_closed_and_the_image_stays(tmp_path):
    path = save(tmp_path, PIL.Image.new("RGB", (3, 2), (9, 8, 7)))
    image = load_image(path)
    path.unlink()
    assert image.getpixel((2, 1)) == (9, 8, 7)


def test_it_is_a_loader_of_torchvision(tmp_path):
    (tmp_path / "cat").mkdir()
    save(tmp_path / "cat", PIL.Image.new("L", (3, 2), 7))
    image, label = ImageFolder(tmp_path, loader=load_image)[0]
    assert (image.mode, label) == ("L", 0)


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_what_is_no_image_is_an_os_error(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(OSError, match=r"a\.png"):
        load_image(tmp_path / "a.png")
