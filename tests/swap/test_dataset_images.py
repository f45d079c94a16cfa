"""What a wrapped dataset reads and hands on: whatever its images are, what the fit read."""

import collections

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import torch
from conftest import LABELS, quick_fit, save_photos, smooth_images
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from glico_augment import GLICODataset, LocalStyle, load_image
from glico_augment.images.convert import to_float, to_uint8

TO_TENSOR = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
IMAGES = smooth_images(len(LABELS), height=12, width=12)


def as_pil(image):
    return PIL.Image.fromarray(image.permute(1, 2, 0).numpy())


class OneBuffer(Dataset):
    """Fills one image, one label and one container again and again, as decoders and cameras do."""

    def __init__(self, kind, is_mapping=False):
        self.is_mapping = is_mapping
        self.label = np.zeros((), np.int64)
        self.image = {"tensor": torch.empty(3, 12, 12, dtype=torch.uint8), "PIL": PIL.Image.new("RGB", (12, 12))}.get(
            kind, np.empty((12, 12, 3), np.uint8)
        )
        self.sample = {"image": self.image, "label": self.label}

    def __len__(self):
        return len(LABELS)

    def __getitem__(self, index):
        self.label[...] = LABELS[index]
        if isinstance(self.image, torch.Tensor):
            self.image.copy_(IMAGES[index])
        elif isinstance(self.image, PIL.Image.Image):
            self.image.paste(as_pil(IMAGES[index]))
        else:
            np.copyto(self.image, IMAGES[index].permute(1, 2, 0).numpy())
        self.sample["index"] = index
        return self.sample if self.is_mapping else (self.image, self.label)


@pytest.mark.parametrize("kind", ["tensor", "PIL", "array"])
@pytest.mark.parametrize("is_mapping", [False, True])
def test_a_dataset_with_one_buffer_gives_every_image_with_its_own_label(kind, is_mapping):
    dataset = OneBuffer(kind, is_mapping)
    augment = quick_fit(dataset, epochs=1, p=0.0, unlabeled=dataset)
    assert torch.equal(augment.images, IMAGES)
    for transform in (None, to_uint8):
        samples = augment.wrap(dataset, transform=transform).__getitems__(range(8))
        for index, sample in enumerate(samples):
            image, label = (sample["image"], sample["label"]) if is_mapping else sample
            assert torch.equal(to_uint8(image), IMAGES[index])
            assert int(label) == LABELS[index]
            assert not is_mapping or sample["index"] == index
    assert augment.restrict(dataset).record.digests.tolist() == augment.record.digests[:8].tolist()
    codes = augment.encode(dataset, steps=0, starts=1, progress=False).codes
    assert torch.equal(codes, augment.encode(list(IMAGES), steps=0, starts=1, progress=False).codes)
    assert torch.equal(LocalStyle(dataset).styles, LocalStyle(list(IMAGES)).styles)


@pytest.mark.parametrize("kind", ["tensor", "PIL", "array"])
def test_reading_a_partner_does_not_change_the_image_that_is_read(kind):
    dataset = OneBuffer(kind)
    augment = quick_fit(dataset, epochs=1, p=1.0, max_ratio=0.0, carry=True, image_size=6)
    augment.noise_std = 0.0
    for index, (image, _) in enumerate(augment.wrap(dataset).__getitems__(range(8))):
        assert (to_uint8(image).int() - IMAGES[index].int()).abs().max() <= 1  # r = 0 is the photograph itself


class Renumbered(TensorDataset):
    """Its own labels over __getitems__ of another class, by inheritance."""

    def __getitem__(self, index):
        image, label = self.tensors[0][index], self.tensors[1][index]
        return image, label + 100

    def __getitems__(self, indices):
        return [(self.tensors[0][index], self.tensors[1][index]) for index in indices]


class Delegating(Dataset):
    """The same by delegation."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getattr__(self, name):
        if name == "dataset":
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __getitem__(self, index):
        image, label = self.dataset[index]
        return image, label + 100


@pytest.mark.parametrize(
    "make",
    [
        lambda: Renumbered(IMAGES, LABELS),
        lambda: Subset(Renumbered(IMAGES, LABELS), range(8)),
        lambda: Delegating(Subset(TensorDataset(IMAGES, LABELS), range(8))),
    ],
    ids=["inherited", "in a subset", "delegated"],
)
def test_fit_and_wrap_read_the_same_labels(make):
    augment = quick_fit(make(), epochs=1, p=1.0, max_ratio=0.0)
    assert augment.codes.labels.tolist() == (LABELS + 100).tolist()
    _, labels = next(iter(DataLoader(augment.wrap(make()), batch_size=8)))
    assert labels.tolist() == (LABELS + 100).tolist()


def test_a_loader_reads_the_own_getitem_of_a_wrapped_dataset(augment, images, dataset):
    class Shifted(GLICODataset):
        def __getitem__(self, index):
            image, label = super().__getitem__(index)
            return image, label + 100

    class Batched(Shifted):
        def __getitems__(self, indices):
            return [(torch.zeros(1), -1) for _ in indices]

    _, labels = next(iter(DataLoader(Shifted(dataset, augment), batch_size=8)))
    assert labels.tolist() == (LABELS + 100).tolist()
    assert next(iter(DataLoader(Batched(dataset, augment), batch_size=8)))[1].tolist() == [-1] * 8


MODES = ("1", "L", "P", "PA", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I")


def in_mode(image, mode):
    picture = as_pil(image)
    return PIL.Image.fromarray(image[0].numpy().astype(np.int32) * 257) if mode == "I" else picture.convert(mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("p", [0.0, 1.0])
def test_a_transform_sees_the_colours_that_the_fit_read(mode, p):
    data = [(in_mode(image, mode), int(label)) for image, label in zip(IMAGES, LABELS, strict=True)]
    augment = quick_fit(data, epochs=1, p=p)
    channels = augment.record.image_shape[0]
    for index, (image, _) in enumerate(augment.wrap(data, transform=TO_TENSOR).__getitems__(range(8))):
        assert image.shape == (channels, 12, 12)
        assert p or (image - to_float(data[index][0])).abs().max() < 1e-6
        assert 0.02 < image.max() <= 1


@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize("kind", [*(mode for mode in MODES if mode != "I"), "CHW", "HWC", "tensor"])
def test_albumentations_gets_the_colours_that_the_fit_read(kind, p):
    albumentations = pytest.importorskip("albumentations")
    make = {"CHW": lambda x: x.numpy(), "HWC": lambda x: x.permute(1, 2, 0).numpy(), "tensor": lambda x: x}.get(
        kind, lambda image: in_mode(image, kind)
    )
    data = [(make(image), int(label)) for image, label in zip(IMAGES, LABELS, strict=True)]
    augment = quick_fit(data, epochs=1, p=p)
    same = albumentations.Compose([albumentations.RandomBrightnessContrast((0, 0), (0, 0), p=1.0)])
    for index, (image, _) in enumerate(augment.wrap(data, transform=same).__getitems__(range(8))):
        channels = augment.record.image_shape[0]
        assert image.reshape(12, 12, -1).shape == (12, 12, channels)
        expected = to_uint8(data[index][0]).permute(1, 2, 0).numpy()
        assert p or np.array_equal(image.reshape(12, 12, channels), expected)


def mixed(kind):
    """Images of which some have one channel, some three and some four."""
    grey, colour, alpha = IMAGES[:, :1], IMAGES, torch.cat([IMAGES, IMAGES[:, :1]], dim=1)
    images = [(grey, colour, alpha)[index % 3][index] for index in range(8)]
    if kind == "PIL":
        return [PIL.Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy()) for image in images]
    return [image if kind == "tensor" else image.permute(1, 2, 0).squeeze(2).numpy() for image in images]


@pytest.mark.parametrize("kind", ["PIL", "array", "tensor"])
@pytest.mark.parametrize("p", [0.0, 1.0])
def test_a_set_with_different_channels_is_handed_on_as_rgb(kind, p):
    data = list(zip(mixed(kind), LABELS.tolist(), strict=True))
    with pytest.warns(UserWarning, match="all are read as RGB"):
        augment = quick_fit(data, epochs=1, p=p)
    assert augment.record.image_shape[0] == 3
    images, _ = next(iter(DataLoader(augment.wrap(data, transform=TO_TENSOR), batch_size=8)))
    assert images.shape == (8, 3, 12, 12)
    if not p:
        assert torch.equal((images[1::3] * 255).round().to(torch.uint8), IMAGES[1::3])
        assert torch.equal((images[2::3] * 255).round().to(torch.uint8), IMAGES[2::3])
        assert (images[::3] == images[::3, :1]).all()


@pytest.mark.parametrize("is_path", [True, False])
def test_a_folder_with_different_channels_is_handed_on_as_rgb(is_path, tmp_path):
    modes = iter(["L", "RGBA", "RGB", "P"] * 2)
    root = save_photos(tmp_path / "photos", suffix="png", change=lambda picture: picture.convert(next(modes)))
    data = root if is_path else ImageFolder(root, loader=load_image)
    with pytest.warns(UserWarning, match="all are read as RGB"):
        augment = quick_fit(data, epochs=1)
    images, _ = next(iter(DataLoader(augment.wrap(data, transform=TO_TENSOR), batch_size=8)))
    assert images.shape == (8, 3, 16, 16)


def test_grey_images_stay_grey_in_a_fit_of_colour(augment):
    grey = [(image[:1], int(label)) for image, label in zip(smooth_images(8), LABELS, strict=True)]
    colour = [(image.expand(3, -1, -1), label) for image, label in grey]
    augment = quick_fit(colour, epochs=1, p=1.0)
    assert augment.wrap(grey)[0][0].shape == (1, 12, 10)


def lying(image):
    """A photograph of a camera that lay on its side."""
    picture = as_pil(image[:, :8])
    picture.getexif()[0x0112] = 6
    return picture


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_a_transform_that_makes_images_upright_does_it_to_all(p):
    data = [(lying(image), int(label)) for image, label in zip(IMAGES, LABELS, strict=True)]
    augment = quick_fit(data, epochs=1, p=p)
    wrapped = augment.wrap(data, transform=PIL.ImageOps.exif_transpose)
    assert {image.size for image, _ in wrapped.__getitems__(range(8))} == {(8, 12)}


class Photo(torch.Tensor):
    """A tensor as libraries have them."""


class Label(torch.Tensor):
    """A label as libraries have them."""


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_a_batch_keeps_its_type_and_takes_none_of_its_labels(augment, images, p):
    augment.p = p
    for labels in (LABELS, LABELS.as_subclass(Label)):
        swapped, same = augment(images.as_subclass(Photo), labels)
        assert type(swapped) is Photo
        assert same is labels
        assert type(augment(images, labels)[0]) is torch.Tensor
    assert type(LocalStyle(images, p=p)(images.as_subclass(Photo))) is Photo
    assert type(augment.synthesize(LABELS.as_subclass(Label))[0]) is torch.Tensor


@pytest.mark.parametrize("kind", [dict, collections.UserDict])
def test_a_mapping_of_any_type_is_fitted_wrapped_called_and_styled(kind):
    rows = [kind(image=image, label=int(label)) for image, label in zip(IMAGES, LABELS, strict=True)]
    others = [kind(image=image, label=0) for image in smooth_images(8, seed=9)]
    augment = quick_fit(rows, epochs=1, p=1.0)
    torch.manual_seed(0)
    for changed in (augment.wrap(rows)[0], augment(rows[0]), LocalStyle(others, p=1.0)(rows[0])):
        assert type(changed) is kind
        assert not torch.equal(changed["image"], IMAGES[0])
        assert changed["label"] == LABELS[0]
    assert torch.equal(rows[0]["image"], IMAGES[0])
