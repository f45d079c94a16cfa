import numpy as np
import PIL.Image
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset
from torchvision import tv_tensors

from glico_augment import LocalStyle

pytestmark = pytest.mark.usefixtures("seeded")


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.zeros(3, 8, 8)


GOOD = torch.rand(3, 8, 8)


@pytest.mark.parametrize(
    ("dataset", "error", "message"),
    [
        ([], ValueError, "is empty: it must hold at least one image"),
        (Stream(), TypeError, "must be a map-style dataset .* got Stream.*list"),
        (iter([GOOD]), TypeError, "must be a map-style dataset .*list"),
        (PIL.Image.new("RGB", (8, 8)), TypeError, r"got one PIL image: give it in a list, \[image\]"),
        ("no/such/folder", FileNotFoundError, "no such folder: no/such/folder"),
        ([GOOD, (3, GOOD)], TypeError, "image 1 could not be read: an image must be .* got int"),
        (
            [GOOD, ()],
            ValueError,
            "image 1 could not be read: image_key=0 is not in the sample, tuple of 0 items",
        ),
        ([GOOD, {"a": GOOD, "b": GOOD}], ValueError, "image 1 could not be read: .*found 2 among .*pass image_key="),
        ([GOOD, OSError("disk on fire")], TypeError, "image 1 could not be read: an image must be .* got OSError"),
        ([GOOD, GOOD - 2], ValueError, "image 1 could not be read: float images must lie .*put normalisation after it"),
        ([GOOD, GOOD * float("nan")], ValueError, "image 1 could not be read: image has NaN"),
        ([GOOD, GOOD[None]], ValueError, "image 1 could not be read: an image must have shape"),
        ([GOOD, GOOD.long()], TypeError, "image 1 could not be read: image values must be uint8"),
        (
            [GOOD, GOOD[:, :2]],
            ValueError,
            "image 1 could not be read: it is 2 × 8 pixels, too small .* 3 × 3 cells: .*lower grid",
        ),
        ([torch.rand(7, 8, 8), GOOD], ValueError, "image 1 has 3 channels, another has 7"),
    ],
)
def test_a_set_that_has_no_styles_is_refused(dataset, error, message):
    with pytest.raises(error, match=message):
        LocalStyle(dataset)


def test_a_damaged_image_file_is_named_by_its_index(tmp_path):
    path = tmp_path / "cut.png"
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with PIL.Image.open(path) as cut, pytest.raises(ValueError, match=r"image 1 could not be read: .*truncated"):
        LocalStyle([GOOD, cut])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"p": 1.1}, ValueError, r"p must be a number in \[0, 1\]; got 1.1"),
        ({"p": None}, TypeError, r"p must be a number in \[0, 1\]; got None"),
        ({"p": True}, TypeError, r"p must be a number"),
        ({"max_ratio": -0.1}, ValueError, r"max_ratio must be a number in \[0, 1\]; got -0.1"),
        ({"max_ratio": float("nan")}, ValueError, "max_ratio must be a number"),
        ({"grid": 0}, ValueError, "grid must be an integer of at least 1; got 0"),
        ({"grid": 2.0}, TypeError, "grid must be an integer of at least 1; got 2.0"),
        ({"probability": 0.5}, TypeError, "unexpected keyword argument 'probability'"),
    ],
)
def test_wrong_settings_are_refused_before_an_image_is_read(settings, error, message):
    class Unreadable(Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            pytest.fail("an image was read")

    with pytest.raises(error, match=message):
        LocalStyle(Unreadable(), **settings)


def test_settings_are_given_by_name(images):
    with pytest.raises(TypeError, match="positional"):
        LocalStyle(images, 0.5)


@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ((), ValueError, "expected an image .* found 0"),
        (("photo.png", 3), ValueError, "expected an image .* found 0"),
        ((3, [4, 5]), ValueError, "expected an image .* found 0"),
        ((tv_tensors.Mask(GOOD),), ValueError, "expected an image .* found 0"),
        ((tv_tensors.Image(GOOD), tv_tensors.Image(GOOD)), ValueError, "expected one image .* found 2"),
        ((GOOD - 2, 3), ValueError, "float images must lie .*put normalisation after it"),
        ((GOOD[None] * 255,), ValueError, "float images must lie .*put normalisation after it"),
        ((GOOD[None] * float("nan"),), ValueError, "image has NaN"),
        ((GOOD.long(),), TypeError, "image values must be uint8"),
        ((GOOD[None].long(),), TypeError, "image values must be uint8"),
        ((GOOD[None, None],), ValueError, "an image must have shape"),
        ((GOOD[None, :, :0],), ValueError, r"must have shape \(k, C, H, W\); got \(1, 3, 0, 8\)"),
        ((PIL.Image.new("LAB", (8, 8)),), TypeError, "mode LAB"),
    ],
)
def test_what_is_no_image_is_refused_whatever_the_coin(style, p, inputs, error, message):
    style.p = p
    with pytest.raises(error, match=message):
        style(*inputs)


@pytest.mark.parametrize(("of_set", "channels"), [(7, 3), (3, 7), (7, 6)])
def test_channels_that_are_no_colours_must_be_those_of_the_set(of_set, channels):
    style = LocalStyle(torch.rand(2, of_set, 8, 8), p=1.0)
    assert not torch.equal(style(image := torch.rand(of_set, 8, 8)), image)
    for image in (torch.rand(channels, 8, 8), torch.rand(2, channels, 8, 8)):
        with pytest.raises(ValueError, match=f"has {channels} channels, and those .* have {of_set}: make LocalStyle"):
            style(image)
