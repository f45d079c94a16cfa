import dataclasses
import multiprocessing
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset
from torchvision.datasets import ImageFolder

from glico_augment.data.image_set import read_image_set
from glico_augment.data.labels import read_label
from glico_augment.data.samples import SampleLayout
from glico_augment.images.identity import digest, fingerprint

# torch warns of a read-only array once a process; test_convert.py has a test of its own for it.
pytestmark = pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")


def pixels(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


IMAGES = pixels(6, 3, 9, 7)
LABELS = [4, -2, 4, 10**12, -2, 4]


def as_pil(image):
    array = image.permute(1, 2, 0).numpy().copy()
    return PIL.Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def pairs(images=IMAGES, labels=LABELS):
    return list(zip(images, labels, strict=True))


@pytest.fixture
def folder(tmp_path):
    """Two images of class "cat", three of class "dog"."""
    for index, name in enumerate(["cat/0", "cat/1", "dog/0", "dog/1", "dog/2"]):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        as_pil(IMAGES[index]).save(path)
    return tmp_path


@pytest.mark.parametrize(
    "convert",
    [as_pil, lambda image: image, lambda image: image.numpy(), lambda image: image.permute(1, 2, 0).numpy()],
    ids=["PIL", "tensor", "CHW", "HWC"],
)
@pytest.mark.parametrize("label", [int, np.int64, np.uint8, torch.tensor, np.array], ids=lambda kind: kind.__name__)
def test_images_of_any_kind_and_labels_of_any_integer_type_give_one_set(convert, label):
    small = [value % 100 for value in LABELS]
    read = read_image_set([(convert(image), label(value)) for image, value in pairs(labels=small)])
    assert torch.equal(read.images, IMAGES)
    assert read.images.dtype == torch.uint8
    assert read.labels.tolist() == small
    assert read.labels.dtype == torch.int64
    assert read.image_shape == (3, 9, 7)
    assert len(read) == 6
    assert read.fingerprint == read_image_set(pairs(labels=small)).fingerprint


def test_labels_need_be_neither_contiguous_nor_positive():
    read = read_image_set(pairs())
    assert read.labels.tolist() == LABELS
    assert read.class_names == (None, None, None)


def test_the_set_is_a_copy():
    images = IMAGES.clone()
    read = read_image_set(TensorDataset(images, torch.tensor(LABELS)))
    images.zero_()
    assert torch.equal(read.images, IMAGES)


def test_a_folder_names_its_classes_through_subsets_and_concatenations(folder):
    dataset = ImageFolder(folder)
    read = read_image_set(dataset)
    assert torch.equal(read.images, IMAGES[:5])
    assert read.labels.tolist() == [0, 0, 1, 1, 1]
    assert read.class_names == ("cat", "dog")
    part = read_image_set(Subset(Subset(dataset, [4, 3, 0]), [1, 0]))
    assert torch.equal(part.images, IMAGES[[3, 4]])
    assert part.class_names == ("dog",)
    both = read_image_set(ConcatDataset([dataset, Subset(dataset, [0])]))
    assert len(both) == 6
    assert both.class_names == ("cat", "dog")


def test_images_of_one_size_keep_it_and_of_many_sizes_become_32_by_32():
    even = pixels(2, 3, 32, 4)
    assert torch.equal(read_image_set(pairs(even, [0, 1])).images, even)
    mixed = [(pixels(3, 20, 30), 0), (pixels(3, 20, 30), 1), (pixels(3, 30, 20), 0), (pixels(3, 32, 32), 1)]
    read = read_image_set(mixed)
    assert read.image_shape == (3, 32, 32)
    assert torch.equal(read.images[3], mixed[3][0])
    assert torch.equal(read.images[0], read.images[1])
    assert torch.equal(read.images[:3], read_image_set(mixed[:3], image_size=32).images)


@pytest.mark.parametrize(
    ("shape", "expected"), [((3, 600, 600), (32, 32)), ((1, 20, 512), (1, 32)), ((3, 64, 48), (32, 24))]
)
def test_larger_images_of_one_size_are_taken_down_to_32_pixels_on_their_longer_side(shape, expected):
    dataset = [(pixels(*shape, seed=seed), seed) for seed in range(2)]
    read = read_image_set(dataset)
    assert read.image_shape == (shape[0], *expected)
    assert torch.equal(read.images, read_image_set(dataset, image_size=expected).images)
    assert read_image_set(dataset, max_side=64).image_shape[1:] == tuple(min(2 * side, 64) for side in expected)
    assert torch.equal(read_image_set(dataset, image_size=shape[1:]).images[1], dataset[1][0])


@pytest.mark.parametrize(("size", "expected"), [(8, (8, 8)), ((5, 12), (5, 12))])
@pytest.mark.parametrize("shapes", [[(3, 9, 7)] * 2, [(3, 9, 7), (3, 600, 20)]])
def test_an_explicit_size_is_obeyed(size, expected, shapes):
    read = read_image_set([(pixels(*shape), index) for index, shape in enumerate(shapes)], image_size=size)
    assert read.image_shape == (3, *expected)


def test_resizing_keeps_the_picture():
    left, bottom = torch.zeros(2, 1, 40, 40, dtype=torch.uint8)
    left[..., :20], bottom[:, 20:] = 255, 255
    read = read_image_set([(left, 0), (bottom, 1)], image_size=(8, 4))
    assert read.images[0, 0, :, 0].eq(255).all()
    assert read.images[0, 0, :, -1].eq(0).all()
    assert read.images[1, 0, -1].eq(255).all()
    assert read.images[1, 0, 0].eq(0).all()


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_grey_among_colour_is_promoted_to_colour(order):
    grey, colour = pixels(1, 9, 7), IMAGES[0]
    with pytest.warns(UserWarning, match=r"\(1 with 1, 1 with 3\): all are read as RGB"):
        read = read_image_set([(as_pil([grey, colour][index]), index) for index in order])
    assert torch.equal(read.images[order.index(0)], grey.expand(3, -1, -1))
    assert torch.equal(read.images[order.index(1)], colour)


def test_images_are_brought_to_the_channels_of_a_fit_with_the_digests_they_have_there():
    grey = pixels(2, 1, 9, 7)
    read = read_image_set(pairs(grey, [0, 1]), channels=3)
    assert torch.equal(read.images, grey.expand(-1, 3, -1, -1))
    assert read.digests.tolist() == [digest(image, 3) for image in grey]
    with pytest.raises(ValueError, match="image 1 has 7 channels, which cannot be brought to the 3 of the fit"):
        read_image_set([(grey[0], 0), (pixels(7, 9, 7), 1)], channels=3)
    with pytest.raises(ValueError, match="image 1 has 3 channels, which cannot be brought to the 7 of another"):
        read_image_set([(pixels(7, 9, 7), 1), (pixels(3, 9, 7), 0)])


@pytest.mark.parametrize("channels", [(3, 4), (1, 4), (4, 1, 3), (2, 1), (4, 2)])
def test_images_of_different_channels_are_read_as_rgb_and_that_is_said(channels):
    images = [pixels(count, 9, 7, seed=count) for count in channels]
    with pytest.warns(UserWarning, match=r"different numbers of channels .*RGB, .*without transparency") as caught:
        read = read_image_set(pairs(images, range(len(images))))
    assert len(caught) == 1
    assert read.image_shape == (3, 9, 7)
    for image, its_digest, found in zip(read.images, read.digests.tolist(), images, strict=True):
        colour = found if len(found) in (1, 3) else found[:-1]
        assert torch.equal(image, colour.expand(3, -1, -1))
        assert its_digest == digest(found, 3)


def test_images_of_one_number_of_channels_keep_it():
    for count in (1, 2, 3, 4, 7):
        assert read_image_set(pairs([pixels(count, 9, 7)] * 2, [0, 1])).image_shape == (count, 9, 7)


def test_unlabelled_images_have_a_say_in_the_common_channels():
    with pytest.warns(UserWarning, match="all are read as RGB"):
        assert read_image_set(pairs([pixels(4, 9, 7)] * 2, [0, 1]), unlabeled=[IMAGES[0]]).image_shape == (3, 9, 7)


@pytest.mark.parametrize("order", [[0, 1, 2], [1, 2, 0], [1, 0, 2]])
def test_large_images_of_many_sizes_become_32_by_32(order):
    dataset = [(pixels(1, 10, 10), 0), (pixels(1, 600, 600), 1), (pixels(1, 600, 600, seed=1), 2)]
    read = read_image_set([dataset[index] for index in order])
    assert read.image_shape == (1, 32, 32)
    explicit = read_image_set([dataset[index] for index in order], image_size=32)
    assert torch.equal(read.images[order.index(0)], explicit.images[order.index(0)])
    assert (read.images.int() - explicit.images.int()).abs().max() <= 1  # the first of one size is scaled at once


def test_workers_read_the_same_set_and_neither_touches_the_global_generator(folder):
    (folder / "dog" / "1.png").write_bytes(b"no picture")
    before = torch.get_rng_state()
    alone, together = (
        read_image_set(ImageFolder(folder), image_size=8, num_workers=n, on_error="skip") for n in (0, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    for field in dataclasses.fields(alone):
        first, second = getattr(alone, field.name), getattr(together, field.name)
        assert torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


class Splits(Dataset):
    """Images of named classes, some of them without a label, as in STL10's "train+unlabeled"."""

    classes = ("airplane", "bird")

    def __init__(self, labels):
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return IMAGES[index], self.labels[index]


def test_a_negative_label_beside_named_classes_is_asked_about():
    for labels, said in (
        ([0, 1, -1, 0, 1, -1], "2 of 6 images have label -1"),
        ([-1] * 6, "6 of 6"),
        ([0, -100], "1 "),
    ):
        with pytest.raises(ValueError, match=rf"{said}.*\(airplane, bird, …\).*without a label\? .*unlabeled="):
            read_image_set(Splits(labels))
    read = read_image_set(Splits([0, 1, -1]), class_names={-1: "neither", 0: "airplane", 1: "bird"})
    assert read.class_names == ("neither", "airplane", "bird")
    assert read_image_set(pairs(labels=[-1, 1] * 3)).class_names == (None, None)
    assert read_image_set(Splits([0, 1]), unlabeled=Splits([-1, -1])).labels.tolist() == [0, 1]


def test_the_fingerprint_changes_with_image_label_and_order_and_not_otherwise():
    original = read_image_set(pairs()).fingerprint
    assert len(original) == 32
    assert int(original, 16) >= 0
    dot = IMAGES.clone()
    dot[3, 1, 2, 2] ^= 1
    turned = IMAGES.clone()
    turned[0] = turned[0].flip(0)
    changed = [
        pairs(dot),
        pairs(turned),
        pairs([*IMAGES[:5], IMAGES[5].reshape(3, 7, 9)]),
        pairs(labels=[*LABELS[:5], 5]),
        pairs()[::-1],
        pairs(IMAGES[[1, 0, 2, 3, 4, 5]]),
        pairs()[:5],
        [*pairs(), pairs()[0]],
    ]
    prints = [read_image_set(dataset).fingerprint for dataset in changed]
    prints += [read_image_set(pairs(), unlabeled=IMAGES[:1]).fingerprint]
    assert len({original, *prints}) == len(prints) + 1
    same = [pairs(), pairs([as_pil(image) for image in IMAGES]), pairs(labels=[np.int64(label) for label in LABELS])]
    assert {read_image_set(dataset).fingerprint for dataset in same} == {original}
    assert read_image_set(pairs(), image_size=4).fingerprint == original


def test_the_digest_is_that_of_the_image_as_its_dataset_yields_it():
    read = read_image_set(pairs(), image_size=4)
    assert read.digests.tolist() == [digest(image, 3) for image in IMAGES]
    assert read.digests.dtype == torch.int64
    assert read.fingerprint == fingerprint(read.digests, read.labels)


@pytest.mark.parametrize(
    "unlabeled",
    [list(IMAGES[:2]), IMAGES[:2], pairs(IMAGES[:2], ["cat", None]), [(image, 0, "more") for image in IMAGES[:2]]],
    ids=["images", "a tensor", "labels of any kind", "tuples"],
)
def test_unlabelled_images_are_appended_and_their_labels_ignored(unlabeled):
    read = read_image_set(pairs(), unlabeled=unlabeled)
    assert torch.equal(read.images, torch.cat([IMAGES, IMAGES[:2]]))
    assert read.labels.tolist() == LABELS
    assert torch.equal(read.digests[6:], read.digests[:2])
    assert read.class_names == read_image_set(pairs()).class_names


def test_unlabelled_images_have_a_say_in_the_common_size():
    assert read_image_set(pairs(), unlabeled=[pixels(3, 5, 5)]).image_shape == (3, 32, 32)


@pytest.mark.parametrize("damage", [lambda content: b"no picture", lambda content: content[:-40], lambda content: b""])
def test_a_corrupt_file_is_reported_with_its_index(folder, damage):
    path = folder / "dog" / "1.png"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"^image 3 \({re.escape(str(path))}\) could not be read: .+"):
        read_image_set(ImageFolder(folder))


def test_a_corrupt_file_is_named_through_subsets_and_concatenations(folder):
    path = folder / "cat" / "1.png"
    path.write_bytes(b"no picture")
    dataset = ImageFolder(folder)
    nested = ConcatDataset([Subset(dataset, [4, 3]), Subset(Subset(dataset, [2, 1]), [1])])
    with pytest.raises(ValueError, match=rf"^image 2 \({re.escape(str(path))}\) could not be read"):
        read_image_set(nested)


def test_the_name_of_a_corrupt_file_cannot_steer_a_terminal(folder):
    (folder / "cat" / "\x1b[2J.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"cat/\\x1b\[2J\.png\) could not be read"):
        read_image_set(ImageFolder(folder))


def test_unreadable_images_are_skipped_on_demand_and_listed(folder):
    for name in ("cat/0", "dog/1"):
        (folder / f"{name}.png").write_bytes(b"no picture")
    more = [IMAGES[0], torch.full((3, 9, 7), -2.0), IMAGES[1]]
    read = read_image_set(ImageFolder(folder), unlabeled=more, on_error="skip")
    assert torch.equal(read.images, IMAGES[[1, 2, 4, 0, 1]])
    assert read.labels.tolist() == [0, 1, 1]
    assert read.digests.tolist() == [digest(image, 3) for image in read.images]
    assert [line.split(" could")[0] for line in read.skipped] == [
        f"image 0 ({folder / 'cat' / '0.png'})",
        f"image 3 ({folder / 'dog' / '1.png'})",
        "unlabeled image 1",
    ]
    assert read_image_set(pairs(), on_error="skip").skipped == ()


def test_a_class_of_which_nothing_can_be_read_is_an_error_even_when_skipping(folder):
    for name in ("0", "1"):
        (folder / "cat" / f"{name}.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"none of the images of class 'cat' could be read; image 0 \(.*0\.png\)"):
        read_image_set(ImageFolder(folder), on_error="skip")


@pytest.mark.parametrize("name", ["dataset", "unlabeled"])
def test_a_set_of_which_nothing_can_be_read_is_an_error_even_when_skipping(name):
    broken = [(torch.full((3, 2, 2), -2.0), 0)] * 2
    sets = {"dataset": pairs(), "unlabeled": pairs(), name: broken}
    with pytest.raises(ValueError, match=r"none of the 2 images could be read; .*image 0 could not .*normalis"):
        read_image_set(sets["dataset"], unlabeled=sets["unlabeled"], on_error="skip")


@pytest.mark.parametrize("sample", [(IMAGES[0], "cat"), IMAGES[0], {"image": IMAGES[0]}])
def test_what_is_wrong_with_the_dataset_and_not_with_an_image_is_not_skipped(sample):
    with pytest.raises((TypeError, ValueError), match=r"^image 6 could not be read"):
        read_image_set([*pairs(), sample], on_error="skip")


def test_another_word_for_on_error_is_refused():
    with pytest.raises(ValueError, match="on_error must be one of 'raise', 'skip'; got 'ignore'"):
        read_image_set(pairs(), on_error="ignore")


def test_the_first_image_is_read_again_even_if_those_before_it_are_skipped():
    with pytest.warns(UserWarning, match="reading image 1 twice gave two different images"):
        read_image_set(ConcatDataset([Broken([OSError("gone")]), Flickering()]), on_error="skip")


class Broken(Dataset):
    """Raises what it holds where an image should be."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        if isinstance(self.items[index], Exception):
            raise self.items[index]
        return self.items[index]


@pytest.mark.parametrize(
    ("sample", "error", "message"),
    [
        ({"image": IMAGES[0], "y": 0}, ValueError, r"no key with 'label' among \['image', 'y'\]; pass label_key="),
        ({"a": IMAGES[0], "b": IMAGES[0], "label": 0}, ValueError, r"one image .* found 2 among .*pass image_key="),
        ((IMAGES[0],), TypeError, r"must be \(image, label\), a longer tuple or a mapping .*got tuple of 1"),
        (IMAGES[0], TypeError, r"must be \(image, label\).*Tensor.*fit\(images, labels\)"),
        ((IMAGES[0], 2**63), ValueError, "labels must fit into 64 bits"),
        ((IMAGES[0], True), TypeError, "labels must be integers, got True"),
        ((IMAGES[0], torch.tensor(1j)), TypeError, "labels must be integers"),
        ((IMAGES[0], "cat"), TypeError, r"labels must be integers, got 'cat' \(str\).*Number the classes 0, 1, 2"),
        ((IMAGES[0], 1.0), TypeError, r"labels must be integers, got 1\.0 \(float\)"),
        ((IMAGES[0], np.float32(1)), TypeError, "labels must be integers"),
        ((IMAGES[0], torch.tensor(1.0)), TypeError, r"labels must be integers, got 1\.0 \(float\)"),
        ((IMAGES[0], torch.eye(3)[0].long()), TypeError, r"integers, got a tensor of torch\.int64 \(3,\)"),
        ((IMAGES[0], None), TypeError, "labels must be integers, got None"),
        ((torch.full((3, 9, 7), torch.nan), 0), ValueError, "NaN or infinite"),
        ((torch.full((3, 9, 7), -2.1), 0), ValueError, r"must lie in \[0, 1\].*put normalisation after it"),
        (("a.png", 0), TypeError, "PIL image, a tensor or an array; got str"),
        (OSError("disk on fire"), ValueError, "disk on fire"),
        (KeyError("page"), ValueError, "page"),
        (RuntimeError(), ValueError, "RuntimeError"),
    ],
)
def test_a_sample_that_cannot_be_read_is_reported_with_its_index(sample, error, message):
    dataset = Broken([*pairs(), sample, *pairs()])
    with pytest.raises(error, match=f"^image 6 could not be read: .*{message}"):
        read_image_set(dataset)


def test_a_worker_reports_a_sample_as_this_process_does():
    with pytest.raises(TypeError, match=r"^image 6 could not be read: labels must be integers, got 'cat'"):
        read_image_set([*pairs(), (IMAGES[0], "cat")], num_workers=2)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_dataset_may_hand_out_one_buffer_again_and_again(num_workers):
    class Reused(Dataset):
        buffer = torch.empty(3, 9, 7, dtype=torch.uint8)

        def __len__(self):
            return len(IMAGES)

        def __getitem__(self, index):
            return self.buffer.copy_(IMAGES[index]), index

    for image_size in (None, (9, 7)):
        assert torch.equal(read_image_set(Reused(), image_size=image_size, num_workers=num_workers).images, IMAGES)


def test_an_unlabelled_image_that_cannot_be_read_is_reported_as_one():
    with pytest.raises(ValueError, match=r"^unlabeled image 1 could not be read: image has NaN"):
        read_image_set(pairs(), unlabeled=[IMAGES[0].float() / 255, torch.full((3, 9, 7), torch.nan)])


def test_the_first_image_may_be_the_unreadable_one():
    with pytest.raises(TypeError, match=r"^image 0 could not be read"):
        read_image_set([(IMAGES[0], "cat")])


class Stream(IterableDataset):
    def __iter__(self):
        return iter(pairs())


@pytest.mark.parametrize(
    "dataset", [Stream(), iter(pairs()), 3, None], ids=["IterableDataset", "iterator", "3", "None"]
)
def test_what_cannot_be_indexed_is_refused_with_the_remedy(dataset):
    with pytest.raises(TypeError, match=r"dataset must be a map-style dataset .*list\(dataset\)"):
        read_image_set(dataset)


def test_an_unlabelled_stream_is_refused_by_name():
    with pytest.raises(TypeError, match=r"unlabeled must be a map-style dataset .*Stream"):
        read_image_set(pairs(), unlabeled=Stream())


def test_an_empty_dataset_is_refused_by_name():
    with pytest.raises(ValueError, match="dataset is empty"):
        read_image_set([])
    with pytest.raises(ValueError, match="unlabeled is empty"):
        read_image_set(pairs(), unlabeled=[])


class Flickering(Dataset):
    """Another image at every reading, as of a random transform."""

    def __init__(self):
        self.readings = 0

    def __len__(self):
        return 3

    def __getitem__(self, index):
        self.readings += 1
        return pixels(3, 8, 8, seed=self.readings), index


def test_a_random_transform_is_warned_of_with_the_remedy():
    with pytest.warns(UserWarning, match=r"random transform.*give the transform to wrap\(\)") as caught:
        read_image_set(Flickering())
    assert len(caught) == 1
    assert Path(caught[0].filename).name != "image_set.py"


def test_labels_and_samples_are_read_one_by_one():
    assert [read_label(label) for label in (3, np.uint8(3), torch.tensor(3), np.array(3))] == [3] * 4
    assert SampleLayout().split(("image", 1)) == SampleLayout().split(["image", 1]) == ("image", 1)


def read_with_workers(queue):
    queue.put(read_image_set(pairs(), num_workers=2).labels.tolist())


def test_a_daemonic_process_which_may_start_none_reads_without_workers():
    processes = multiprocessing.get_context("fork")
    queue = processes.Queue()
    process = processes.Process(target=read_with_workers, args=(queue,), daemon=True)
    process.start()
    assert queue.get(timeout=60) == LABELS
    process.join()
