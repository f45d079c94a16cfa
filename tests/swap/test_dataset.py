import copy
import json
import pickle

import numpy as np
import PIL.Image
import pytest
import torch
from conftest import LABELS, quick_fit, save_photos, smooth_images
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset
from torchvision import transforms as v1
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from glico_augment import GLICODataset
from glico_augment.images import values


@pytest.fixture
def exact(augment):
    """Every image is swapped for its anchor's reconstruction."""
    augment.p = 1.0
    augment.max_ratio = augment.noise_std = 0.0
    return augment


def as_uint8(unit):
    return (unit * 255).round().to(torch.uint8)


def assert_alike(image, expected):
    assert (image.int() - expected.int()).abs().max() <= 1


def wrap_part(augment, dataset):
    """A wrapped dataset that lacks fitted images."""
    with pytest.warns(UserWarning, match="fitted images .* are not in this dataset"):
        return augment.wrap(dataset)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An ImageFolder of three classes and eight PNG files."""
    root = tmp_path_factory.mktemp("photos")
    for index, image in enumerate(smooth_images(8)):
        path = root / "abc"[index % 3] / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        PIL.Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return root


@pytest.fixture(scope="module")
def folder_fit(folder):
    return quick_fit(ImageFolder(folder))


def test_a_fitted_image_starts_from_its_own_code(exact, dataset):
    wrapped = exact.wrap(dataset)
    expected = as_uint8(exact.reconstruct())
    for index in range(len(dataset)):
        assert_alike(wrapped[index][0], expected[index])
    assert isinstance(wrapped, GLICODataset)


@pytest.mark.parametrize("arrange", [lambda d: Subset(d, [6, 2, 0]), lambda d: ConcatDataset([d, d])])
def test_a_fitted_image_is_recognised_wherever_it_stands(exact, dataset, arrange):
    arranged = arrange(dataset)
    expected = as_uint8(exact.reconstruct())
    own = [index for image, _ in arranged for index, (fitted, _) in enumerate(dataset) if torch.equal(image, fitted)]
    wrapped = wrap_part(exact, arranged) if len(arranged) < len(dataset) else exact.wrap(arranged)
    for position, index in enumerate(own):
        assert_alike(wrapped[position][0], expected[index])


def test_a_fitted_image_is_recognised_in_another_type(exact, dataset, images):
    expected = as_uint8(exact.reconstruct())
    pictures = [(PIL.Image.fromarray(image.permute(1, 2, 0).numpy()), int(y)) for image, y in dataset]
    for index, (image, _) in enumerate(exact.wrap(pictures)[i] for i in range(len(pictures))):
        assert_alike(torch.from_numpy(np.array(image)).permute(2, 0, 1), expected[index])


def test_other_images_start_from_every_code_of_their_class(exact):
    strangers = TensorDataset(smooth_images(300, seed=77), torch.full((300,), 3))
    expected = as_uint8(exact.reconstruct([0, 1, 2])).int()
    starts = [
        (expected - image.int()).abs().amax(dim=(1, 2, 3)).argmin().item()
        for image, _ in exact.wrap(strangers, unfitted="swap").__getitems__(range(300))
    ]
    assert all(60 < starts.count(code) < 140 for code in range(3))


def test_of_identical_images_each_starts_from_its_own_code(images):
    twins = TensorDataset(images[[0, 0, 0, 1]], torch.tensor([5, 5, 6, 6]))
    augment = quick_fit(twins, p=1.0, max_ratio=0.0)
    augment.noise_std = 0.0
    expected = as_uint8(augment.reconstruct())
    assert len({tuple(image.flatten().tolist()) for image in expected[:3]}) == 3
    for index in range(4):
        assert_alike(augment.wrap(twins)[index][0], expected[index])
    elsewhere = wrap_part(augment, TensorDataset(images[[1, 1, 0]], torch.tensor([6, 6, 5])))
    assert_alike(elsewhere[2][0], expected[0])  # the first of those that it may be


def test_images_fitted_at_another_size_start_from_their_own_codes_in_any_order(images):
    large = torch.nn.functional.interpolate(images.float(), (60, 70), mode="bilinear").to(torch.uint8)
    augment = quick_fit(TensorDataset(large, LABELS), image_size=(12, 10), p=1.0, max_ratio=0.0)
    augment.noise_std = 0.0
    expected = values.resize(as_uint8(augment.reconstruct()), (60, 70))
    order = torch.tensor([6, 0, 3, 3, 7, 1])
    for position, (image, _) in enumerate(wrap_part(augment, TensorDataset(large[order], LABELS[order]))):
        assert_alike(image, expected[order[position]])


def test_images_that_differ_in_a_few_pixels_start_from_their_own_codes_in_any_order():
    sparse = torch.zeros(4, 1, 64, 64, dtype=torch.uint8)
    for number, column in enumerate((0, 20, 40, 63)):
        sparse[number, 0, 32:36, column] = 255
    labels = torch.tensor([0, 0, 0, 1])
    augment = quick_fit(TensorDataset(sparse, labels), p=1.0, max_ratio=0.0, image_size=64)
    augment.noise_std = 0.0
    expected = as_uint8(augment.reconstruct())
    assert len({tuple(image.flatten().tolist()) for image in expected}) == 4
    order = torch.tensor([2, 1, 3, 0])
    for position, (image, _) in enumerate(augment.wrap(TensorDataset(sparse[order], labels[order]))):
        assert_alike(image, expected[order[position]])


def test_an_unlabelled_image_has_no_code_to_start_from(dataset, images):
    others = smooth_images(3, seed=5)
    augment = quick_fit(dataset, unlabeled=TensorDataset(others), p=1.0, max_ratio=0.0)
    augment.noise_std = 0.0
    expected = as_uint8(augment.reconstruct())[: len(LABELS)].int()
    for made, label in augment.wrap(TensorDataset(others, LABELS[[0, 3, 6]]), unfitted="swap"):
        assert ((made.int() - expected[label == LABELS]).abs().flatten(1).amax(dim=1) <= 1).any()


def test_a_batch_is_made_in_one_generator_pass(augment, dataset):
    augment.p = 1.0
    calls = []
    augment.generator.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    samples = augment.wrap(dataset).__getitems__(range(8))
    assert calls == [8]
    assert [label.item() for _, label in samples] == LABELS.tolist()


def test_half_of_the_images_are_swapped(augment, dataset):
    torch.manual_seed(0)
    wrapped = augment.wrap(dataset)
    unchanged = sum(torch.equal(wrapped[index][0], dataset[index][0]) for _ in range(50) for index in range(8))
    assert unchanged == pytest.approx(200, abs=40)


def test_the_real_transform_sees_the_images_that_were_not_swapped_and_no_others(exact, dataset):
    exact.p = 0.5
    real = {image.numpy().tobytes() for image, _ in dataset}
    seen = []

    def invert(image):
        seen.append(image.numpy().tobytes())
        return 255 - image

    wrapped = exact.wrap(dataset, real_transform=invert, transform=lambda image: (image, 255 - image))
    results = [wrapped[index][0] for _ in range(5) for index in range(len(dataset))]
    untouched = [back.numpy().tobytes() for _, back in results if back.numpy().tobytes() in real]
    assert seen == untouched  # inverted before the transform inverted them back
    assert 10 < len(seen) < 30


def test_transforms_see_one_type_and_every_image(augment, folder, folder_fit):
    seen = []
    wrapped = folder_fit.wrap(
        ImageFolder(folder),
        transform=lambda image: seen.append((type(image), image.mode, image.size)) or image,
        target_transform=lambda label: f"class {label}",
    )
    folder_fit.p = 0.5
    labels = [wrapped[index % 8][1] for index in range(40)]
    assert set(seen) == {(PIL.Image.Image, "RGB", (10, 12))}
    assert len(seen) == 40
    assert set(labels) == {"class 0", "class 1", "class 2"}


@pytest.mark.ecosystem("torchvision", needs="torchvision", shows="`ImageFolder`, transforms v1 and v2 given to `wrap`")
@pytest.mark.parametrize(
    "transform",
    [
        v1.Compose([v1.RandomCrop(8), v1.RandomHorizontalFlip(), v1.AutoAugment(), v1.ToTensor(), v1.RandomErasing()]),
        v2.Compose([v2.RandomCrop(8), v2.AutoAugment(), v2.ToImage(), v2.ToDtype(torch.float32), v2.RandomErasing()]),
    ],
)
def test_torchvision_transforms_chain(transform, folder, folder_fit):
    folder_fit.p = 1.0
    images, labels = next(iter(DataLoader(folder_fit.wrap(ImageFolder(folder), transform=transform), 8)))
    assert images.shape == (8, 3, 8, 8)
    assert labels.tolist() == [label for _, label in ImageFolder(folder).samples]


def test_images_of_many_sizes_keep_theirs():
    sized = [
        (PIL.Image.fromarray(smooth_images(1, height=9 + index, width=20, seed=index)[0].permute(1, 2, 0).numpy()), y)
        for index, y in enumerate([0, 0, 1, 1])
    ]
    augment = quick_fit(sized, p=1.0, epochs=1, image_size=16)
    wrapped = augment.wrap(sized)
    swapped = [wrapped[index][0] for index in range(4)]
    assert [image.size for image in swapped] == [image.size for image, _ in sized]
    assert all(image.tobytes() != real.tobytes() for image, (real, _) in zip(swapped, sized, strict=True))


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_swap_images_through_three_epochs(context, folder, folder_fit):
    transform = v2.Compose([v2.AutoAugment(), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    folder_fit.p = 1.0
    plain = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    originals = torch.stack([plain(image) for image, _ in ImageFolder(folder)])
    loader = DataLoader(
        folder_fit.wrap(ImageFolder(folder), transform=plain if context == "fork" else transform),
        batch_size=2,
        shuffle=True,
        num_workers=2,
        multiprocessing_context=context,
        persistent_workers=True,
    )
    epochs = [[pair for batch in loader for pair in zip(*batch, strict=True)] for _ in range(3)]
    for epoch in epochs:
        assert sorted(int(label) for _, label in epoch) == sorted(ImageFolder(folder).targets)
        assert not any((image == original).all() for image, _ in epoch for original in originals)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_seeded_loader_repeats_itself_and_workers_differ(num_workers, augment, images):
    augment.p = 1.0
    same_image = TensorDataset(images[:1].expand(8, -1, -1, -1), LABELS[:1].expand(8))
    loader = DataLoader(wrap_part(augment, same_image), batch_size=4, num_workers=num_workers)
    runs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        runs.append(torch.cat([batch for batch, _ in loader]))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    first_worker, second_worker = runs[0][:4], runs[0][4:]
    assert not torch.equal(first_worker, second_worker)


def test_wrapped_datasets_pickle(augment, dataset):
    wrapped = augment.wrap(dataset)
    twin = pickle.loads(pickle.dumps(wrapped))
    samples = []
    for each in (wrapped, twin, copy.deepcopy(wrapped)):
        torch.manual_seed(0)
        samples.append(torch.stack([image for image, _ in each.__getitems__(range(8))]))
    assert torch.equal(samples[0], samples[1])
    assert torch.equal(samples[0], samples[2])


def test_a_label_never_fitted_passes_through_with_one_warning(augment, images):
    augment.p = 1.0
    data = TensorDataset(torch.cat([images, smooth_images(8, seed=9)]), torch.cat([LABELS, torch.full((8,), 8)]))
    wrapped = augment.wrap(data)  # without a word: it is not swapped
    with pytest.warns(UserWarning, match="label 8 was not in the set") as caught:
        passed = [wrapped[index][0] for index in range(8, 16)]
    assert len(caught) == 1
    assert torch.equal(torch.stack(passed), data.tensors[0][8:])


def test_settings_changed_later_take_effect(augment, dataset):
    wrapped = augment.wrap(dataset)
    augment.p = 0.0
    assert all(torch.equal(wrapped[index][0], dataset[index][0]) for index in range(8))


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.zeros(3, 4, 4), 0


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (Stream(), TypeError, "must be a map-style dataset"),
        ([], ValueError, "dataset is empty"),
        ([{"image": 1, "label": 2}], TypeError, "an image must be a PIL image, a tensor or an array; got int"),
        ([{"x": 1, "label": 2}], ValueError, r"expected one image in the sample, found 0.*pass image_key="),
        ([torch.zeros(3, 4, 4)], TypeError, r"a sample must be \(image, label\)"),
        ([(torch.full((3, 4, 4), -2.0), 0)], ValueError, "put normalisation after it"),
        ([(torch.zeros(3, 4, 4), "cat")], TypeError, "labels must be integers, got 'cat'"),
    ],
)
def test_a_dataset_that_cannot_be_swapped_is_refused_at_once(augment, data, error, message):
    with pytest.raises(error, match=message):
        augment.wrap(data)


def test_repr_and_length(augment, dataset):
    wrapped = augment.wrap(dataset)
    assert len(wrapped) == 8
    assert repr(wrapped).startswith("GLICODataset(8 images, augment=GLICOAugment(")


def test_a_file_that_breaks_after_it_was_wrapped_is_named_with_its_index(tmp_path):
    root = save_photos(tmp_path, suffix="png")
    wrapped = quick_fit(ImageFolder(root), epochs=1).wrap(ImageFolder(root))
    (root / "cat" / "4.png").write_bytes(b"no image")  # image 2
    message = r"^image {} \(.*4\.png\) could not be read: cannot identify"
    for read, index in [(lambda: wrapped[2], 2), (lambda: wrapped[-6], 2), (lambda: wrapped[1:4][1], 1)]:
        with pytest.raises(ValueError, match=message.format(index)):
            read()
    with pytest.raises(ValueError, match=message.format(2).removeprefix("^")):
        list(DataLoader(wrapped, batch_size=8, num_workers=1))


@pytest.mark.parametrize("first", [0, 3])
def test_any_error_of_a_dataset_is_told_with_the_index(first, augment, dataset):
    class Breaking(list):
        is_broken = False

        def __getitem__(self, index):
            return json.loads("") if self.is_broken and index == first else super().__getitem__(index)

    samples = Breaking(dataset)
    wrapped = augment.wrap(samples)
    samples.is_broken = True
    for act in (lambda: wrapped[first], lambda: augment.wrap(samples), lambda: augment.restrict(samples)):
        with pytest.raises(ValueError, match=f"^image {first} could not be read: Expecting value") as caught:
            act()
        assert isinstance(caught.value.__cause__, json.JSONDecodeError)


def test_a_loop_over_a_wrapped_dataset_ends(augment, dataset):
    assert len(list(iter(augment.wrap(dataset)))) == len(dataset)
    with pytest.raises(IndexError):
        augment.wrap(dataset)[len(dataset)]
