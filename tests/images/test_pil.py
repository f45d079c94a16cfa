import numpy as np
import PIL.Image
import pytest
import torch
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from glico_augment import load_image
from glico_augment.images.convert import to_float, to_uint8

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
    ("mode", "suffix", "read_as"),
    [
        ("L", ".png", "L"),
        ("1", ".png", "L"),
        ("RGB", ".png", "RGB"),
        ("P", ".png", "RGB"),
        ("P", ".gif", "RGB"),
        ("RGBA", ".png", "RGBA"),
        ("LA", ".png", "RGBA"),
        ("CMYK", ".tif", "RGB"),
        ("YCbCr", ".tif", "RGB"),
        ("I", ".tif", "I;16"),
        ("I;16B", ".tif", "I;16"),
        ("F", ".tif", "F"),
    ],
)
def test_a_file_is_loaded_in_the_mode_that_its_colours_have_in_a_fit(tmp_path, mode, suffix, read_as):
    if mode == "I;16B":
        picture = PIL.Image.frombytes(mode, (WIDTH, HEIGHT), (GREY * 2000).astype(">u2").tobytes())
    elif mode == "F":
        picture = PIL.Image.fromarray((GREY / 40).astype(np.float32))
    else:
        grey = PIL.Image.fromarray((GREY * 10).astype(np.uint8))
        picture = grey.convert("RGB" if mode in ("P", "YCbCr") else "L" if mode == "I" else mode).convert(mode)
    read = load_image(save(tmp_path, picture, suffix))
    assert read.mode == read_as
    assert torch.equal(to_uint8(read), to_uint8(picture))
    values = v2.functional.to_dtype(v2.functional.to_image(read), torch.float32, scale=True)  # as a pipeline does
    assert (values - to_float(picture)).abs().max() <= 1 / 255


def test_a_transparent_palette_is_loaded_as_rgba(tmp_path):
    picture = PIL.Image.new("P", (4, 3), 1)
    picture.putpalette([0, 0, 0, 250, 128, 3])
    picture.putpixel((2, 1), 0)
    read = load_image(save(tmp_path, picture, transparency=0))
    assert (read.mode, read.getpixel((0, 0)), read.getpixel((2, 1))[3]) == ("RGBA", (250, 128, 3, 255), 0)


@pytest.mark.parametrize(("mode", "is_kept"), [("P", True), ("CMYK", False)])
def test_a_colour_profile_goes_with_colours_that_it_is_of(tmp_path, mode, is_kept):
    picture = PIL.Image.new("RGB", (3, 2), (9, 8, 7)).convert(mode)
    read = load_image(save(tmp_path, picture, ".png" if mode == "P" else ".tif", icc_profile=b"a profile"))
    assert ("icc_profile" in read.info) == is_kept


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
