import PIL.Image
import pytest
import torch
from torchvision import tv_tensors

from glico_augment.images.convert import to_uint8
from glico_augment.images.identity import digest, digests


def pixels(*shape, seed=0):
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def as_pil(image):
    array = image.permute(1, 2, 0).numpy()
    return PIL.Image.fromarray(array[:, :, 0] if len(image) == 1 else array)


FORMS = {
    "tensor": lambda image: image,
    "floats": lambda image: image / 255,
    "tv_tensor": tv_tensors.Image,
    "array": lambda image: image.permute(1, 2, 0).numpy(),
    "PIL": as_pil,
    "strided": lambda image: image.permute(1, 2, 0).contiguous().permute(2, 0, 1),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(1, 20, 12), (3, 20, 12), (4, 20, 12), (3, 65, 200)])
def test_an_image_has_one_digest_in_any_form_and_no_other_has_it(form, shape):
    image = pixels(*shape)
    for channels, expected in digests(image).items():
        assert digest(FORMS[form](image), channels) == expected
    others = (image.transpose(1, 2), 255 - image, image[:, 1:], image.flip(2))
    assert digest(image, shape[0]) not in [digest(other, shape[0]) for other in others]
    assert -(2**63) <= digest(image, shape[0]) < 2**63


@pytest.mark.parametrize("form", ["tensor", "array", "PIL"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_grey_read_as_one_channel_or_as_three_equal_ones_has_one_digest(form, channels):
    grey = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)  # every level, none of which may be rounded away
    assert digest(FORMS[form](grey.expand(3, -1, -1)), channels) == digest(grey, channels)
    assert digest(as_pil(grey).convert("RGB"), channels) == digest(as_pil(grey), channels)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16", "CMYK"])
def test_a_picture_of_every_mode_has_the_digest_of_its_pixels(mode):
    picture = as_pil(pixels(3, 20, 12))
    picture = picture.convert("L").convert("I").convert("I;16") if mode == "I;16" else picture.convert(mode)
    assert digests(picture) == digests(to_uint8(picture))


@pytest.mark.parametrize("side", [1, 2, 63, 64, 65, 127, 128, 130, 223, 224, 1000, 1023])
def test_the_pixels_of_a_picture_that_are_looked_at_are_those_of_a_tensor(side):
    image = pixels(3, side, 81, seed=side)
    for turned in (image, image.transpose(1, 2).contiguous()):
        assert digest(as_pil(turned), 3) == digest(turned, 3)


def test_every_pixel_of_an_image_of_up_to_64_pixels_a_side_counts():
    image = torch.zeros(1, 64, 9, dtype=torch.uint8)
    seen = {digest(image, 3)}
    for pixel in range(image.numel()):
        edited = image.clone()
        edited.view(-1)[pixel] = 1
        seen.add(digest(edited, 3))
    assert len(seen) == image.numel() + 1


def test_channels_that_are_no_colours_are_hashed_as_they_are():
    image = pixels(7, 9, 9)
    assert digest(image, 7) == digest(image, 3) != digest(image[:3], 3)
    assert set(digests(image)) == {1, 2, 3, 4, 7}
