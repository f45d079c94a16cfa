import warnings

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import torch
from torchvision import tv_tensors

from glico_augment.images import values
from glico_augment.images.convert import as_array, channels_of, check_image, like, plain, to_float, to_uint8
from glico_augment.images.values import promote_channels, resize, to_unit

# torch warns of a read-only array once a process; one test alone asks about it.
pytestmark = pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")

HEIGHT, WIDTH = 12, 10

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
DTYPES = (torch.uint8, torch.uint16, *FLOATS)
SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
# The largest difference, of 255, that a mode's own arithmetic or palette may make in a round trip.
PIL_MODES = {
    **dict.fromkeys(("1", "L", "P", "LA", "RGB", "RGBX", "RGBA", "CMYK", "I", "F", *SIXTEEN_BIT), 1),
    "La": 8,
    "RGBa": 8,
    "YCbCr": 4,
    "HSV": 8,
    "PA": 26,
}


def picture(channels, height=HEIGHT, width=WIDTH):
    """A smooth uint8 picture ``(C, H, W)``, from black to white, another in each channel; never transparent."""
    rows, columns = np.mgrid[0:height, 0:width]
    planes = [columns / (width - 1), rows / (height - 1), (rows + columns) / (height + width - 2), 0.5 + rows / 40]
    return np.round(np.stack([planes[channel % 4] for channel in range(channels)]) * 255).astype(np.uint8)


def pil(mode):
    rgb, rgba = (PIL.Image.fromarray(np.ascontiguousarray(picture(n).transpose(1, 2, 0))) for n in (3, 4))
    if mode in SIXTEEN_BIT:
        values = picture(1)[0].astype(np.uint16) * 257
        return PIL.Image.frombytes(mode, (WIDTH, HEIGHT), values.astype(">u2" if mode == "I;16B" else "<u2").tobytes())
    if mode == "I":
        return PIL.Image.fromarray(picture(1)[0].astype(np.int32) * 257)
    if mode == "F":
        return PIL.Image.fromarray(picture(1)[0].astype(np.float32) / 255)
    if mode == "P":
        return rgb.quantize(256)
    if mode == "PA":
        return rgb.quantize(256).convert("PA")
    if mode == "La":
        return rgba.convert("LA").convert("La")
    return (rgba if mode in ("LA", "RGBA", "RGBa") else rgb).convert(mode)


def difference(first, second):
    assert first.shape == second.shape
    return (first.int() - second.int()).abs().max().item()


def scaled(values, dtype):
    """uint8 values in the range of another dtype."""
    unit = torch.from_numpy(values.copy()).double() / 255
    return unit.to(dtype) if dtype.is_floating_point else (unit * torch.iinfo(dtype).max).round().int().to(dtype)


@pytest.mark.parametrize("mode", PIL_MODES)
def test_a_pil_image_becomes_uint8_and_returns_in_its_mode_and_size_as_the_same_picture(mode):
    template = pil(mode)
    assert template.mode == mode
    check_image(template)
    canonical = to_uint8(template)
    assert canonical.dtype == torch.uint8
    assert canonical.shape[1:] == (HEIGHT, WIDTH)
    returned = like(to_unit(canonical), template)
    assert isinstance(returned, PIL.Image.Image)
    assert (returned.mode, returned.size) == (template.mode, template.size)
    assert difference(to_uint8(returned), canonical) <= PIL_MODES[mode]


@pytest.mark.parametrize("mode", sorted(set(PIL_MODES) - {"I", "F", "La", *SIXTEEN_BIT}))
def test_the_canonical_form_of_a_byte_image_is_what_pil_shows(mode):
    canonical = to_uint8(pil(mode))
    shown = pil(mode).convert({1: "L", 3: "RGB", 4: "RGBA"}[len(canonical)])
    assert difference(canonical, torch.tensor(np.array(shown)).reshape(HEIGHT, WIDTH, -1).permute(2, 0, 1)) == 0


@pytest.mark.parametrize("mode", ["I", "F", *SIXTEEN_BIT])
def test_the_canonical_form_of_16_bit_and_float_grey_is_scaled_to_bytes(mode):
    assert difference(to_uint8(pil(mode)), torch.from_numpy(picture(1))) == 0


@pytest.mark.parametrize("transparency", [0, bytes(range(255, -1, -1))])
def test_a_palette_with_transparency_keeps_its_colours_and_its_alpha(transparency):
    template = pil("P")
    template.info["transparency"] = transparency
    canonical = to_uint8(template)
    assert len(canonical) == 4
    returned = like(to_unit(canonical), template)
    assert (returned.mode, returned.size) == ("P", template.size)
    again = to_uint8(returned)
    assert len(again) == 4
    assert difference(again[3], canonical[3]) <= 26
    assert difference(again[:3] * (again[3] > 26), canonical[:3] * (canonical[3] > 26)) <= 26


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1,), (2,), (3,), (4,), (13,), ()], ids=str)
@pytest.mark.parametrize("kind", [torch.Tensor, tv_tensors.Image])
def test_a_tensor_becomes_uint8_and_returns_in_its_type_dtype_and_shape_as_the_same_picture(dtype, shape, kind):
    values = picture(*(shape or (1,)))
    template = scaled(values, dtype).reshape(*shape, HEIGHT, WIDTH)
    template = tv_tensors.Image(template) if kind is tv_tensors.Image else template
    canonical = to_uint8(template)
    assert type(canonical) is torch.Tensor
    assert difference(canonical, torch.from_numpy(values)) <= 1
    returned = like(to_unit(canonical), template)
    assert type(returned) is kind
    assert (returned.dtype, returned.shape) == (template.dtype, template.shape)
    assert difference(to_uint8(returned), canonical) <= 1
    span = 1.0 if dtype.is_floating_point else torch.iinfo(dtype).max
    assert (returned.double() - template.double()).abs().max() <= span / 128


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("layout", ["HWC", "CHW", "HW", "HW1"])
def test_an_array_becomes_uint8_and_returns_in_its_dtype_and_layout_as_the_same_picture(dtype, layout):
    values = picture(3 if "C" in layout else 1)
    template = scaled(values, torch.from_numpy(np.zeros(1, dtype)).dtype).numpy()
    template = {"HWC": template.transpose(1, 2, 0), "CHW": template, "HW": template[0], "HW1": template[0][..., None]}[
        layout
    ]
    canonical = to_uint8(template)
    assert difference(canonical, torch.from_numpy(values)) <= 1
    returned = like(to_unit(canonical), template)
    assert type(returned) is np.ndarray
    assert (returned.dtype, returned.shape) == (template.dtype, template.shape)
    assert difference(to_uint8(returned), canonical) <= 1
    assert returned.flags.writeable


def test_arrays_are_read_through_any_strides():
    array = np.ascontiguousarray(picture(3).transpose(1, 2, 0))
    for view in (array[::-1, ::-1], array[::2, 1::3], array[..., ::-1], array.transpose(1, 0, 2)):
        assert difference(to_uint8(view), torch.from_numpy(view.transpose(2, 0, 1).copy())) == 0
        assert like(to_unit(to_uint8(view)), view).tolist() == view.tolist()


def read_only(array):
    array.setflags(write=False)
    return array


@pytest.mark.parametrize(
    "image",
    [*(pil(mode) for mode in PIL_MODES if mode != "La"), read_only(picture(3)), read_only(picture(1)[0] / 255)],
    ids=lambda image: getattr(image, "mode", "read-only array"),
)
def test_reading_an_image_warns_of_nothing_and_lends_none_of_its_pixels(image):
    was = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            canonical = to_uint8(image)
    finally:
        torch.set_warn_always(was)
    before = np.array(image)
    canonical.zero_()
    assert np.array_equal(np.array(image), before)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("found", [1, 2, 3, 4])
def test_a_synthetic_image_takes_the_size_and_channels_of_its_template(found, channels):
    unit = to_unit(torch.from_numpy(picture(found)))
    returned = like(unit, torch.zeros(channels, 7, 9))
    assert returned.shape == (channels, 7, 9)
    assert ((returned >= 0) & (returned <= 1)).all()
    assert like(unit, np.zeros((7, 9, channels), np.uint8)).shape == (7, 9, channels)
    assert like(unit, PIL.Image.new("RGB", (9, 7))).size == (9, 7)


def test_grey_becomes_rgb_of_equal_channels_and_rgb_becomes_luma_and_alpha_is_opaque():
    grey = torch.full((1, 4, 4), 0.25)
    torch.testing.assert_close(like(grey, torch.zeros(3, 4, 4)), torch.full((3, 4, 4), 0.25))
    torch.testing.assert_close(like(grey, torch.zeros(4, 4, 4))[3], torch.ones(4, 4))
    rgb = torch.tensor([1.0, 0, 0])[:, None, None].expand(3, 4, 4)
    torch.testing.assert_close(like(rgb, torch.zeros(1, 4, 4)), torch.full((1, 4, 4), 0.299))
    colours = torch.from_numpy(picture(3))
    luma = PIL.Image.fromarray(np.ascontiguousarray(picture(3).transpose(1, 2, 0))).convert("L")
    assert difference(promote_channels(colours[None], 1)[0, 0], torch.tensor(np.array(luma))) <= 1


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_resizing_keeps_dtype_and_brightness_without_moire(dtype):
    torch.testing.assert_close(
        resize(torch.full((1, 2, 9, 9), 1, dtype=dtype), (5, 3)), torch.ones(1, 2, 5, 3).to(dtype)
    )
    stripes = torch.tensor([252, 0, 0, 0], dtype=dtype).repeat(16).expand(1, 1, 64, 64)
    small = resize(stripes, (16, 16))
    assert small.dtype == dtype
    assert small[..., 2:-2].float().sub(63).abs().max() < 3


@pytest.mark.parametrize("size", [(64, 48), (21, 23), (7, 90)])
def test_bytes_are_resized_as_floats_are(size):
    images = torch.randint(256, (2, 3, 32, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for layout in (images, images.contiguous(memory_format=torch.channels_last)):
        assert (resize(layout, size).float() - resize(images.float(), size)).abs().max() <= 1


def test_a_tensor_that_needs_a_gradient_is_an_image():
    assert to_uint8(torch.full((1, 2, 2), 0.2, requires_grad=True)).tolist() == [[[51, 51], [51, 51]]]


def test_values_a_little_outside_the_range_are_clipped():
    assert to_uint8(torch.tensor([[-0.03, 1.04]])).tolist() == [[[0, 255]]]


IMAGE = torch.zeros(3, 4, 5)


@pytest.mark.parametrize("check", [to_uint8, check_image])
@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (IMAGE + torch.nan, ValueError, "NaN or infinite"),
        (IMAGE + torch.inf, ValueError, "NaN or infinite"),
        (IMAGE.half() - torch.inf, ValueError, "NaN or infinite"),
        (IMAGE - 2.12, ValueError, r"must lie in \[0, 1\]; got values from -2.12.*put normalisation after it"),
        (IMAGE.double() + 254, ValueError, r"must lie in \[0, 1\]; got values from 254 to 254.*\[0, 255\]"),
        (np.full((4, 5, 3), 255.0), ValueError, r"got values from 255 to 255.*\[0, 255\]"),
        (np.full((4, 5), np.nan), ValueError, "NaN or infinite"),
        (IMAGE.int(), TypeError, r"uint8, uint16 or floating point in \[0, 1\]; got torch\.int32"),
        (IMAGE.long(), TypeError, r"got torch\.int64"),
        (IMAGE.bool(), TypeError, r"got torch\.bool"),
        (IMAGE.to(torch.complex64), TypeError, r"got torch\.complex64"),
        (np.zeros((4, 5, 3), np.int64), TypeError, "got torch.int64|got an array of int64"),
        (np.zeros((4, 5), bool), TypeError, "got torch.bool|got an array of bool"),
        (np.array([["a", "b"]]), TypeError, "got an array of <U1"),
        (np.array([[None]]), TypeError, "got an array of object"),
        (torch.zeros(3, 0, 5), ValueError, r"shape \(C, H, W\) or \(H, W\); got \(3, 0, 5\)"),
        (np.zeros((0, 5), np.uint8), ValueError, r"got \(0, 5\)"),
        (torch.zeros(5), ValueError, r"got \(5,\)"),
        (torch.tensor(0.5), ValueError, r"got \(\)"),
        (IMAGE[None], ValueError, r"got \(1, 3, 4, 5\)"),
        (np.zeros((2, 4, 5, 3)), ValueError, r"got \(2, 4, 5, 3\)"),
        (
            np.zeros((16, 16, 5)),
            ValueError,
            r"\(16, 16, 5\) may be \(H, W, C\) or .*from_numpy\(image\)\.permute\(2, 0, 1\)",
        ),
        (np.zeros((5, 16, 17)), ValueError, r"\(5, 16, 17\) may be \(H, W, C\) or .*torch\.from_numpy\(image\) of the"),
        ("photo.png", TypeError, "PIL image, a tensor or an array; got str"),
        ([[0.0, 1.0]], TypeError, "got list"),
        (None, TypeError, "got NoneType"),
        (PIL.Image.new("LAB", (3, 3)), TypeError, "mode LAB are not supported; convert them to RGB first"),
    ],
    ids=lambda value: None if callable(value) else "" if not isinstance(value, str) else value[:20],
)
def test_what_is_no_image_is_refused_with_what_came_and_what_to_do(image, error, message, check):
    with pytest.raises(error, match=message):
        check(image)


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "I", "I;16", "F"])
@pytest.mark.parametrize("size", [(0, 0), (5, 0)])
def test_an_empty_pil_image_is_refused_as_empty(mode, size):
    with pytest.raises(ValueError, match=r"empty|must have shape .* got \(0,"):
        to_uint8(PIL.Image.new(mode, size))


@pytest.mark.parametrize("value", [-1, 65536])
def test_a_32_bit_image_beyond_16_bits_is_refused(value):
    with pytest.raises(ValueError, match=f"mode I must hold values from 0 to 65535; got {value} to {value}"):
        to_uint8(PIL.Image.new("I", (2, 2), value))


@pytest.mark.parametrize("values", [3.0, -1.5, float("nan")])
def test_a_float_pil_image_out_of_range_is_refused(values):
    with pytest.raises(ValueError, match=r"in \[0, 1\]|NaN"):
        to_uint8(PIL.Image.new("F", (2, 2), values))


def test_channels_that_cannot_be_converted_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match="5 channels but GLICO was fitted on 3: fit on images like those"):
        like(torch.zeros(3, 4, 4), torch.zeros(5, 4, 4))


@pytest.mark.parametrize("mode", ["I", "F", *SIXTEEN_BIT])
def test_a_synthetic_image_keeps_the_precision_of_16_bit_and_float_grey(mode):
    unit = torch.linspace(0, 1, HEIGHT * WIDTH).view(1, HEIGHT, WIDTH)
    returned = np.array(like(unit, pil(mode))).astype(np.float64) / (1 if mode == "F" else 65535)
    assert np.abs(returned - unit[0].numpy()).max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16], ids=str)
def test_values_between_two_levels_take_the_nearest(dtype):
    levels = torch.iinfo(dtype).max
    unit = torch.tensor([0.4, 0.6, 100.4, 100.6, levels - 0.6]) / levels
    assert values.from_unit(unit, dtype).tolist() == [0, 1, 100, 101, levels - 1]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_black_and_white_are_the_ends_of_every_range(dtype):
    white = 1.0 if dtype.is_floating_point else torch.iinfo(dtype).max
    ends = values.from_unit(torch.tensor([0.0, 1.0]), dtype)
    assert ends.dtype == dtype
    assert ends.tolist() == [0, white]
    assert to_unit(ends).tolist() == [0, 1]
    assert to_unit(ends).dtype == torch.float32


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (7, 1), (1, 7)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_are_resized_to_a_single_row_or_column_as_pil_does(size, channels):
    images = torch.randint(256, (2, channels, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    planes = [PIL.Image.fromarray(plane.numpy()) for plane in images.float().flatten(0, 1)]
    expected = [np.array(plane.resize(size[::-1], PIL.Image.Resampling.BILINEAR)) for plane in planes]
    expected = torch.from_numpy(np.stack(expected)).view(2, channels, *size)
    for layout in (images, images.contiguous(memory_format=torch.channels_last)):
        for kind in (layout, layout.float()):
            assert (resize(kind, size).float() - expected).abs().max() <= 1


class Photo(torch.Tensor):
    """A tensor as libraries have them, that knows its file."""


class Plane(np.ndarray):
    """An array that knows its file."""

    def __array_finalize__(self, other):
        self.file = getattr(other, "file", None)


class Picture(PIL.Image.Image):
    """A PIL image that knows its file."""


def typed(kind, channels=3):
    pixels = picture(channels)
    if kind is Photo:
        image = torch.from_numpy(pixels).as_subclass(Photo)
    elif kind is Plane:
        image = np.ascontiguousarray(pixels.transpose(1, 2, 0)).view(Plane)
    else:
        image = Picture()
        image.__dict__ = PIL.Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).__dict__
    image.file = ["a.png"]
    return image


@pytest.mark.parametrize("kind", [Photo, Plane, Picture])
def test_a_synthetic_image_has_the_subclass_and_the_attributes_of_its_template(kind):
    template = typed(kind)
    returned = like(torch.rand(3, 5, 4), template)
    assert type(returned) is kind
    assert returned.file == ["a.png"]
    assert np.asarray(returned).shape == np.asarray(template).shape
    assert type(to_uint8(template)) is torch.Tensor


@pytest.mark.parametrize("kind", [Photo, Picture])
def test_what_is_noted_on_a_synthetic_image_is_not_noted_on_the_real_one(kind):
    template = typed(kind)
    like(torch.rand(3, 5, 4), template).file.append("swapped")
    assert template.file == ["a.png"]


def test_an_open_file_is_the_template_of_an_image_without_one(tmp_path):
    PIL.Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    with PIL.Image.open(tmp_path / "a.png") as file:
        assert type(like(torch.rand(3, 3, 4), file)) is PIL.Image.Image


def with_exif(mode, tmp_path, suffix=".png"):
    """A photograph that lies on its side, with a profile, as it is read from a file."""
    exif = PIL.Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    path = tmp_path / f"lying{suffix}"
    pil(mode).save(path, exif=exif, icc_profile=b"a profile")
    with PIL.Image.open(path) as file:
        file.load()
        return file if suffix == ".tif" else file.copy()


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "RGBA", "I;16"])
def test_a_synthetic_image_has_the_orientation_and_profile_of_its_template(mode, tmp_path):
    template = with_exif(mode, tmp_path)
    returned = like(torch.rand(3, 5, 4), template)
    assert returned.mode == mode
    assert dict(returned.getexif()) == dict(template.getexif())
    assert returned.info["icc_profile"] == b"a profile"
    turned = PIL.ImageOps.exif_transpose(returned)
    assert (turned.size, 0x0112 in turned.getexif()) == ((HEIGHT, WIDTH), False)
    assert template.getexif()[0x0112] == 6


@pytest.mark.parametrize("orientation", [None, 3])
def test_exif_that_was_changed_in_memory_goes_with_the_image_as_it_is_now(orientation, tmp_path):
    template = with_exif("RGB", tmp_path)
    del template.getexif()[0x0112]
    if orientation is not None:
        template.getexif()[0x0112] = orientation
    assert like(torch.rand(3, 5, 4), template).getexif().get(0x0112) == orientation


@pytest.mark.parametrize("suffix", [".tif", ".jpg", ".png"])
def test_every_kind_of_file_is_a_template_once_it_is_closed(suffix, tmp_path):
    template = with_exif("RGB", tmp_path, suffix)
    assert like(torch.rand(3, 5, 4), template).size == template.size


def test_a_transparent_colour_of_a_palette_is_not_one_of_another_palette():
    template = pil("P")
    template.info["transparency"] = 0
    opaque = like(torch.ones(4, 5, 4), template)
    assert opaque.convert("RGBA").getextrema()[3] == (255, 255)


@pytest.mark.parametrize("mode", PIL_MODES)
def test_what_is_handed_on_has_the_colours_that_are_read(mode):
    image = pil(mode)
    handed_on = plain(image, channels_of(image))
    assert handed_on.mode in ("L", "RGB", "RGBA", "I;16", "F")
    assert difference(to_uint8(handed_on), to_uint8(image)) == 0
    largest = {"I;16": 65535, "F": 1}.get(handed_on.mode, 255)
    shown = torch.from_numpy(as_array(handed_on) / largest).reshape(HEIGHT, WIDTH, -1).permute(2, 0, 1)
    assert (shown - to_float(image)).abs().max() < 1e-6
    assert (handed_on is image) == (image.mode == handed_on.mode)


@pytest.mark.parametrize("found", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", ["tensor", "CHW", "HWC", "PIL", "deep PIL", Photo, Plane, Picture])
def test_an_image_is_brought_to_the_channels_of_its_set_in_its_own_type(found, channels, kind):
    if (
        (kind in ("PIL", Picture) and found == 2)
        or (kind is Picture and found == 1)
        or (kind == "deep PIL" and found != 1)
    ):
        pytest.skip("there is no such image")
    pixels = picture(found)
    if isinstance(kind, type):
        image = typed(kind, found)
    elif "PIL" in kind:
        image = pil("I;16" if kind == "deep PIL" else {1: "L", 3: "RGB", 4: "RGBA"}[found])
    else:
        image = {"tensor": torch.from_numpy(pixels), "CHW": pixels, "HWC": pixels.transpose(1, 2, 0)}[kind]
    handed_on = plain(image, channels)
    assert type(handed_on) is type(image)
    assert channels_of(handed_on) == channels
    assert difference(to_uint8(handed_on), promote_channels(to_uint8(image)[None], channels)[0]) <= 1
    assert (handed_on is image) == (found == channels)


def test_an_image_of_other_bands_is_handed_on_as_it_is():
    bands = torch.rand(7, 4, 5)
    assert plain(bands, 3) is bands


@pytest.mark.parametrize("image", [torch.zeros(3, 12, 10), np.zeros((3, 12, 10)), np.zeros((12, 10, 3))])
def test_an_array_of_an_image_has_its_channels_last(image):
    assert as_array(image).shape == (12, 10, 3)
    assert as_array(image[..., 0] if image.shape[-1] == 3 else image[0]).shape == (12, 10)
