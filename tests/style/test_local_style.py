import copy
import dataclasses
import pickle
import random
import textwrap

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import torch
from conftest import LABELS, TENSOR_KINDS, mid_grey_images, smooth_images
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision import tv_tensors
from torchvision.datasets import FakeData
from torchvision.transforms import v2

from glico_augment import LocalStyle
from glico_augment.data.image_set import read_image_set
from glico_augment.data.samples import SampleLayout
from glico_augment.images import convert
from glico_augment.style import style_of

pytestmark = pytest.mark.usefixtures("seeded")


def wholly(style, images):
    """``images`` with all of the way gone to the styles drawn."""
    params = style.make_params(len(images))
    return style.transform(images, dataclasses.replace(params, ratios=torch.ones_like(params.ratios)))


def test_at_ratio_1_an_image_takes_on_the_style_of_a_set_of_one():
    other = mid_grey_images(1, 3, 40, 30)
    style = LocalStyle(other, p=1.0, grid=1)
    made = wholly(style, mid_grey_images(5, 3, 20, 25))
    assert 0 < made.min() <= made.max() < 1  # nothing was clamped
    torch.testing.assert_close(style_of(made, 1), style_of(other, 1).expand(5, -1, -1, -1, -1), atol=1e-5, rtol=0)


def test_at_ratio_1_a_faded_image_becomes_that_of_the_set_in_every_cell():
    other = mid_grey_images(1, 3, 21, 30)
    torch.testing.assert_close(wholly(LocalStyle(other, p=1.0), 0.5 * other + 0.1), other)


def test_a_share_of_the_way_is_gone():
    image = mid_grey_images(1, 1, 16, 16)
    style = LocalStyle(image + 0.2, p=1.0, max_ratio=0.5)
    torch.manual_seed(3)
    ratio = style.make_params(1).ratios
    torch.manual_seed(3)
    torch.testing.assert_close(style(image), image + 0.2 * ratio)
    assert 0.01 < ratio < 0.5


def test_with_p_0_nothing_changes(style, images):
    style.p = 0.0
    assert style(images) is images
    for image in (images[0], images[0].numpy(), as_pil(images[0]), tv_tensors.Image(images[0])):
        assert style(image, 3)[0] is image


def test_an_image_given_the_style_of_a_set_of_itself_stays_as_it_is(images):
    for image in images:
        assert torch.equal(wholly(LocalStyle([image]), image[None]), image[None])


def test_each_image_of_a_batch_has_its_own_coin_style_and_share(style, images):
    batch = images[:1].repeat(200, 1, 1, 1)
    style.p = 0.5
    made = style(batch)
    is_changed = (made != batch).flatten(1).any(dim=1)
    assert 60 < is_changed.sum() < 140
    assert len(made[is_changed].flatten(1).unique(dim=0)) > 0.9 * is_changed.sum()


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_share_p_of_the_images_is_changed_and_all_styles_and_shares_are_drawn(images, p):
    count = 20000
    params = LocalStyle(images, p=p, max_ratio=0.6).make_params(count)
    assert abs(len(params.rows) - p * count) < 5 * (count * p * (1 - p)) ** 0.5
    assert (params.rows.diff() > 0).all()
    assert params.rows.max() < count
    shares = params.styles.bincount(minlength=len(images)) / len(params.rows)
    assert shares.shape == (len(images),)
    torch.testing.assert_close(shares, torch.full((8,), 1 / 8), atol=0.05, rtol=0)
    assert params.ratios.min() >= 0
    assert 0.59 < params.ratios.max() <= 0.6
    assert params.ratios.mean().item() == pytest.approx(0.3, abs=0.02)


def test_the_images_drawn_take_on_the_styles_drawn_and_the_others_stay():
    levels = torch.tensor([0.2, 0.5, 0.8])
    style = LocalStyle([torch.full((1, 9, 9), level.item()) for level in levels], p=0.5)
    batch = torch.full((60, 1, 9, 9), 0.4)
    params = style.make_params(60)
    assert set(params.styles.tolist()) == {0, 1, 2}
    expected = batch.clone()
    expected[params.rows] = (
        torch.lerp(torch.tensor(0.4), levels[params.styles], params.ratios).view(-1, 1, 1, 1).expand(-1, 1, 9, 9)
    )
    torch.testing.assert_close(style.transform(batch, params), expected)


def as_pil(image):
    return PIL.Image.fromarray(image.permute(1, 2, 0).numpy())


def as_pil_mode(mode):
    return lambda image: as_pil(image).convert(mode)


def as_deep_pil(image):
    return PIL.Image.fromarray(image[0].numpy().astype(np.uint16) * 257)


class Photo(torch.Tensor):
    """A tensor as libraries have them."""


class Plane(np.ndarray):
    """An array as libraries have them."""


TENSORS = {
    **TENSOR_KINDS,
    "a subclass": lambda image: image.as_subclass(Photo),
    "grey": lambda image: image[:1],
    "grey and alpha": lambda image: image[:2],
    "RGBA": lambda image: torch.cat([image, image[:1]]),
    "tv_tensor": tv_tensors.Image,
    "not contiguous": lambda image: image.transpose(1, 2),
}
KINDS = {
    **{
        f"PIL {mode}": as_pil_mode(mode)
        for mode in ("L", "P", "PA", "LA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV")
    },
    "PIL 1": lambda image: PIL.Image.fromarray(np.indices((12, 10)).sum(0) > 10),
    "PIL F": lambda image: PIL.Image.fromarray(image[0].numpy().astype(np.float32) / 255),
    "PIL I": lambda image: PIL.Image.fromarray(image[0].numpy().astype(np.int32) * 257),
    "PIL I;16": as_deep_pil,
    **TENSORS,
    "grey matrix": lambda image: image[0],
    "array HWC": lambda image: image.permute(1, 2, 0).numpy(),
    "array of a subclass": lambda image: image.permute(1, 2, 0).numpy().view(Plane),
    "array HW1": lambda image: image[:1].permute(1, 2, 0).numpy(),
    "array HW": lambda image: image[0].numpy(),
    "array CHW float64": lambda image: image.numpy() / 255,
    "array uint16": lambda image: image.permute(1, 2, 0).numpy().astype(np.uint16) * 257,
}


def form(image):
    """All that stays when an image is changed."""
    if isinstance(image, PIL.Image.Image):
        return type(image), image.mode, image.size
    return type(image), image.dtype, tuple(image.shape)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_of_any_kind_is_changed_and_keeps_its_form(kind, images):
    image = KINDS[kind](images[0])
    before = convert.to_float(image).clone()
    style = LocalStyle(images[5:6], p=1.0)
    torch.manual_seed(1)  # a share of 0.76
    made = style(image)
    assert form(made) == form(image)
    assert convert.to_uint8(made).float().sub(convert.to_uint8(image).float()).abs().mean() > 4
    assert torch.equal(convert.to_float(image), before)  # the input was not written to


def test_a_photograph_keeps_its_orientation_and_profile(style, images):
    photo = PIL.Image.fromarray(images[0].permute(1, 2, 0).numpy())
    photo.info["icc_profile"] = b"a profile"
    photo.getexif()[0x0112] = 6
    made = style(photo)
    assert made.tobytes() != photo.tobytes()
    assert dict(made.getexif()) == {0x0112: 6}
    assert made.info == photo.info
    assert PIL.ImageOps.exif_transpose(made).size == (12, 10)


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"PIL P", "PIL PA", "PIL YCbCr", "PIL HSV"}))
def test_at_max_ratio_0_an_image_of_any_kind_stays_as_it_is(kind, images):
    image = KINDS[kind](images[0])
    made = LocalStyle(images, p=1.0, max_ratio=0.0)(image)
    assert form(made) == form(image)
    torch.testing.assert_close(convert.to_float(made), convert.to_float(image), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", TENSORS)
def test_a_batch_of_any_kind_is_changed_and_keeps_its_form(kind, style, images):
    batch = torch.stack([TENSORS[kind](image) for image in images])
    batch = tv_tensors.Image(batch) if kind == "tv_tensor" else batch
    before = batch.clone()
    made = style(batch)
    assert form(made) == form(batch)
    assert all(not torch.equal(a.float(), b.float()) for a, b in zip(made, batch, strict=True))
    assert torch.equal(batch.float(), before.float())
    style.max_ratio = 0.0
    torch.testing.assert_close(style(batch).double(), batch.double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_one_image_and_a_batch_of_it_are_changed_alike(kind, style, images):
    image = TENSORS[kind](images[0])
    torch.manual_seed(7)
    alone = style(image)
    torch.manual_seed(7)
    torch.testing.assert_close(style(image[None])[0].double(), alone.double())


def test_sixteen_bits_are_kept():
    values = np.random.default_rng(0).integers(20000, 21000, (12, 12)).astype(np.uint16)
    for image in (values, PIL.Image.fromarray(values), torch.from_numpy(values)[None]):
        made = LocalStyle([image], p=1.0)(image)
        assert np.abs(np.asarray(made).squeeze().astype(int) - values).max() <= 1


def test_a_batch_that_shares_memory_is_not_written_to(style, images):
    batch = images[:1].expand(4, -1, -1, -1)
    before = images[0].clone()
    assert len(style(batch).flatten(1).unique(dim=0)) == 4
    assert torch.equal(images[0], before)


def test_gradients_reach_the_images(style):
    images = mid_grey_images(4, 3, 12, 12)
    images[0] = 0.5  # flat, where the gradient of a standard deviation is infinite
    images.requires_grad_()
    params = LocalStyle(mid_grey_images(3, 3, 9, 9), p=0.5).make_params(4)
    assert 0 < len(params.rows) < 4
    style.transform(images, params).sum().backward()
    assert torch.isfinite(images.grad).all()
    assert (images.grad != 0).flatten(1).any(dim=1).all()


def test_transparency_is_no_style(images):
    rgba = torch.cat([images, images[:, :1]], dim=1)
    made = LocalStyle(rgba.flip(0), p=1.0)(rgba)
    assert torch.equal(made[:, 3], rgba[:, 3])
    assert not torch.equal(made[:, :3], rgba[:, :3])


def test_all_else_in_a_sample_passes_through(style, images):
    mask = tv_tensors.Mask(torch.zeros(12, 10, dtype=torch.uint8))
    boxes = tv_tensors.BoundingBoxes([[0, 0, 2, 2]], format="XYXY", canvas_size=(12, 10))
    sample = {"path": "a.png", "boxes": boxes, "mask": mask, "id": 3, "image": images[0], "label": LABELS}
    made = style(sample)
    assert list(made) == list(sample)
    assert all(made[key] is sample[key] for key in sample if key != "image")
    assert not torch.equal(made["image"], images[0])


@pytest.mark.parametrize("form_of", [lambda *x: x, lambda *x: list(x), lambda *x: {"image": x[0], "labels": x[1]}])
@pytest.mark.parametrize("labels", [LABELS, torch.rand(8, 40), None, 3, "name"], ids=range(5))
def test_labels_of_any_kind_or_none_are_left_alone(style, images, form_of, labels):
    sample = form_of(images, labels)
    made = style(sample)
    assert type(made) is type(sample)
    image, label = made.values() if isinstance(made, dict) else made
    assert label is labels
    assert not torch.equal(image, images)


def test_soft_labels_by_name_are_no_image(style, images):
    labels = torch.eye(8)
    made = style({"labels": labels, "image": images})
    assert made["labels"] is labels
    assert not torch.equal(made["image"], images)
    assert not torch.equal(style({"x": images, "y": labels})["x"], images)  # no key that names labels


def test_several_arguments_give_a_tuple_and_one_gives_itself(style, images):
    made = style(images[0], 3, "path")
    assert isinstance(made, tuple)
    assert made[1:] == (3, "path")
    assert type(style(images[0])) is torch.Tensor


def test_an_empty_batch_passes(style):
    assert style(torch.zeros(0, 3, 8, 8)).shape == (0, 3, 8, 8)


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (3, 3), (50, 31)])
def test_an_image_of_any_size_is_changed_even_one_smaller_than_the_grid(style, size):
    image = torch.rand(3, *size)
    made = style(image)
    assert made.shape == image.shape
    assert not torch.equal(made, image)
    assert 0 <= made.min() <= made.max() <= 1


def test_in_compose(style, images):
    pipeline = v2.Compose([v2.ToImage(), style, v2.RandomHorizontalFlip(1.0), v2.ToDtype(torch.float32, scale=True)])
    image = as_pil(images[0])
    torch.manual_seed(5)
    made, label = pipeline(image, 3)
    torch.manual_seed(5)
    expected = v2.functional.to_image(style(image)).flip(-1) / 255
    assert label == 3
    torch.testing.assert_close(made.as_subclass(torch.Tensor), expected.as_subclass(torch.Tensor))


def test_grey_images_among_coloured_ones_have_the_style_they_would_have_in_colour(images):
    grey = images[0, :1]
    style = LocalStyle([grey, (images[1], 5), as_pil(images[2])])
    expected = style_of(torch.stack([grey.expand(3, -1, -1), images[1], images[2]]) / 255)
    torch.testing.assert_close(style.styles, expected)


@pytest.mark.parametrize(
    ("sample", "options"),
    [
        (lambda image, label: (image, label), {}),
        (lambda image, label: [image, label, "path"], {}),
        (lambda image, label: {"image": image, "label": label}, {}),
        (lambda image, label: {"pixel_values": image, "y": label}, {}),
        (lambda image, label: {"left": image.flip(2), "right": image, "label": label}, {"image_key": "right"}),
        (lambda image, label: ("path", label, image), {"image_key": 2}),
        (lambda image, label: image, {}),
        (lambda image, label: (image,), {}),
    ],
)
def test_samples_of_every_form_that_a_fit_takes_have_a_style(sample, options, images):
    dataset = [sample(image, int(label)) for image, label in zip(images, LABELS, strict=True)]
    assert torch.equal(LocalStyle(dataset, **options).styles, LocalStyle(images).styles)
    labels = {} if options or not isinstance(dataset[0], dict) or "label" in dataset[0] else {"label_key": "y"}
    read = read_image_set(dataset, layout=SampleLayout(**options, **labels))
    assert torch.equal(read.images, images)


def test_a_folder_of_images_has_styles(photos):
    assert len(LocalStyle(photos / "train").styles) == 8


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("of_set", [1, 2, 3, 4])
def test_an_image_of_other_channels_than_the_set_is_changed(channels, of_set):
    other = mid_grey_images(1, 1, 12, 12).expand(-1, of_set, -1, -1)
    image = mid_grey_images(1, 1, 12, 12).expand(-1, channels, -1, -1)
    made = wholly(LocalStyle(other, p=1.0, grid=1), image)
    n_colours = channels - (channels in (2, 4))
    wanted = style_of(other[:, :1], 1).expand(-1, -1, n_colours, -1, -1)
    torch.testing.assert_close(style_of(made[:, :n_colours], 1), wanted, atol=1e-5, rtol=0)


def test_images_of_mixed_sizes_are_read_once_and_only_their_styles_are_held():
    class Counted(Dataset):
        reads: list = []  # noqa: RUF012

        def __len__(self):
            return 3

        def __getitem__(self, index):
            self.reads.append(index)
            return smooth_images(1, height=100 + index, width=300, seed=index)[0], "no integer"

    style = LocalStyle(Counted(), grid=4)
    assert Counted.reads == [0, 1, 2]
    assert style.styles.shape == (3, 2, 3, 4, 4)
    assert style.styles.dtype == torch.float32
    assert len(pickle.dumps(style)) < 8000
    wanted = [style_of(smooth_images(1, height=100 + i, width=300, seed=i) / 255, 4) for i in range(3)]
    torch.testing.assert_close(style.styles, torch.cat(wanted))


def test_it_draws_from_torchs_global_generator_and_sets_no_seed(images):
    seed, python_state, numpy_state = torch.initial_seed(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    state = torch.get_rng_state()
    style = LocalStyle(images)
    assert torch.equal(torch.get_rng_state(), state)  # reading the set draws nothing
    first = style(images)
    assert not torch.equal(torch.get_rng_state(), state)
    second = style(images)
    assert not torch.equal(first, second)
    torch.set_rng_state(state)
    assert torch.equal(style(images), first)
    assert torch.initial_seed() == seed
    assert random.getstate() == python_state
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda style: pickle.loads(pickle.dumps(style))])
def test_a_copy_does_the_same_and_is_set_apart(clone, images):
    style = LocalStyle(images, p=0.8, max_ratio=0.7, grid=2)
    twin = clone(style)
    torch.manual_seed(2)
    made = style(images)
    torch.manual_seed(2)
    assert torch.equal(twin(images), made)
    twin.p = 0.1
    assert (style.p, style.max_ratio, style.grid) == (0.8, 0.7, 2)
    assert (twin.p, twin.max_ratio, twin.grid) == (0.1, 0.7, 2)


def test_it_has_no_state_that_a_network_would_move_cast_or_save(style, images):
    network = torch.nn.Sequential(style, torch.nn.Linear(2, 2)).half().eval()
    assert not list(style.parameters())
    assert not list(style.buffers())
    assert not any(name.startswith("0.") for name in network.state_dict())
    assert style.styles.dtype == torch.float32
    assert not torch.equal(network[0](images), images)


def test_its_repr_is_one_short_line(images):
    assert repr(LocalStyle(images, p=0.25)) == "LocalStyle(p=0.25, max_ratio=1, grid=3, images=8)"


def test_settings_may_be_set_and_are_checked(style):
    style.p, style.max_ratio = 1, np.float32(0.5)
    assert (style.p, style.max_ratio) == (1.0, 0.5)
    for name in ("p", "max_ratio"):
        with pytest.raises(ValueError, match=rf"{name} must be a number in \[0, 1\]; got 1.5"):
            setattr(style, name, 1.5)
        with pytest.raises(TypeError, match=rf"{name} must be a number in \[0, 1\]; got 'half'"):
            setattr(style, name, "half")
    assert (style.p, style.max_ratio) == (1.0, 0.5)
    with pytest.raises(AttributeError):
        style.grid = 4


def test_the_example_of_the_docstring_runs():
    example = textwrap.dedent(LocalStyle.__doc__.split("Example::")[1])
    names = {"FakeData": FakeData, "LocalStyle": LocalStyle, "v2": v2, "torch": torch}
    exec(example, names)
    image, _ = names["photos"][0]
    assert (image.shape, image.dtype) == ((3, 64, 64), torch.float32)


def test_a_seeded_loader_of_a_wrapped_dataset_repeats_itself_and_workers_differ(augment, style, images):
    augment.p = 0.0
    same_image = TensorDataset(images[:1].expand(8, -1, -1, -1), LABELS[:1].expand(8))
    with pytest.warns(UserWarning, match="are not in this dataset"):
        loader = DataLoader(augment.wrap(same_image, transform=style), batch_size=4, num_workers=2)
    runs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        runs.append(torch.cat([batch for batch, _ in loader]))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    assert not torch.equal(runs[0][:4], runs[0][4:])
    assert (runs[0] != images[0]).flatten(1).any(dim=1).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize(("kind", "tolerance"), [("uint8", 1), ("uint16", 60), ("float32", 1e-3)])
def test_on_cuda_a_batch_stays_on_the_device_and_is_not_waited_for(style, images, kind, tolerance):
    batch = torch.stack([TENSORS[kind](image) for image in images])
    on_device = batch.cuda()
    style(on_device)
    torch.manual_seed(4)
    expected = style(batch)
    torch.manual_seed(4)
    torch.cuda.set_sync_debug_mode("error")
    try:
        made = style(on_device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert made.device == on_device.device
    torch.testing.assert_close(made.cpu().double(), expected.double(), atol=tolerance, rtol=0)
    assert style(on_device[0]).device == on_device.device


def test_images_that_cannot_be_read_are_left_out_on_demand_and_listed():
    images = list(torch.rand(4, 3, 8, 8))
    expected = LocalStyle(images).styles
    with pytest.warns(UserWarning, match=r"2 of 6 images were skipped:\n  image 1 .*\n  image 5 "):
        style = LocalStyle([images[0], images[0] - 2, *images[1:], "no image"], on_error="skip")
    assert torch.equal(style.styles, expected)
    with pytest.raises(ValueError, match="none of the 2 images could be read; image 0"):
        LocalStyle(["no image"] * 2, on_error="skip")
    with pytest.raises(ValueError, match="on_error must be one of"):
        LocalStyle(images, on_error="ignore")
