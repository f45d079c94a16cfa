import collections
import types

import numpy as np
import PIL.Image
import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from glico_augment.data.samples import find_image, find_labels

IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 1])
Pair = collections.namedtuple("Pair", ["image", "target"])


@pytest.mark.parametrize(
    "sample",
    [
        (IMAGES, LABELS),
        [IMAGES, LABELS],
        (IMAGES, LABELS, "path"),
        (IMAGES, {"labels": LABELS, "other_label": "x"}),
        {"image": IMAGES, "label": LABELS},
        {"image": IMAGES, "LABELS": LABELS},
        {"label_id": "x", "image": IMAGES, "Labels": LABELS},
        {"image": IMAGES, "my_label_tensor": LABELS},
    ],
)
def test_labels_are_found_where_cutmix_finds_them(sample):
    assert find_labels(sample) is LABELS
    with torch.random.fork_rng(devices=[]):
        mixed = v2.CutMix(num_classes=3)(sample)
    assert find_labels(mixed).shape == (4, 3)  # CutMix puts mixed one-hot labels in the place where it found them


@pytest.mark.parametrize(
    "sample",
    [
        ("image", 3),
        Pair("image", 3),
        ("image", {3: "x", "label": 3}),
        types.MappingProxyType({"label": 3}),
        collections.OrderedDict(image="image", Label=3),
    ],
)
def test_one_label_is_found_in_any_pair_or_mapping(sample):
    assert find_labels(sample) == 3


@pytest.mark.parametrize("sample", [IMAGES, PIL.Image.new("L", (3, 3)), (IMAGES,), [], "image", None])
def test_an_image_alone_is_refused_with_the_call_that_was_meant(sample):
    with pytest.raises(ValueError, match=rf"augment\(image, label\).*got a {type(sample).__name__} alone"):
        find_labels(sample)


@pytest.mark.parametrize("sample", [{"image": 1, "target": 2}, (1, {"image": 1, "target": 2, 3: 4})])
def test_a_mapping_without_labels_is_refused_with_its_keys_and_the_remedy(sample):
    with pytest.raises(ValueError, match=r"no key with 'label' among \['image', 'target'\]; pass labels_getter="):
        find_labels(sample)


PLAIN = torch.zeros(3, 4, 4)


@pytest.mark.parametrize(
    "image",
    [PIL.Image.new("L", (4, 4)), tv_tensors.Image(PLAIN), PLAIN, PLAIN[0], PLAIN[None], PLAIN.numpy()],
    ids=type,
)
@pytest.mark.parametrize("position", [0, 1, 3])
def test_the_one_image_is_found_wherever_it_stands(image, position):
    others = [3, "path", torch.tensor([1, 2]), np.array(5), None]
    assert find_image([*others[:position], image, *others[position:]], 3) == position


@pytest.mark.parametrize("image", [PIL.Image.new("L", (4, 4)), tv_tensors.Image(PLAIN)], ids=type)
def test_a_marked_image_comes_before_plain_tensors(image):
    assert find_image([PLAIN, PLAIN.numpy(), image, 3], 3) == 2


@pytest.mark.parametrize("labels", [torch.eye(4), np.eye(4)], ids=["tensor", "array"])
def test_labels_of_two_dimensions_are_no_image(labels):
    assert find_image([labels, PLAIN], labels) == 1


def test_of_several_plain_tensors_the_first_is_the_image():
    assert find_image([3, PLAIN, torch.zeros(4, 16)], 3) == 1


@pytest.mark.parametrize(
    ("leaves", "found"),
    [
        ([], 0),
        ([3, "path", torch.arange(4), np.zeros(3)], 0),
        ([PIL.Image.new("L", (4, 4)), tv_tensors.Image(PLAIN), PLAIN], 2),
    ],
)
def test_none_or_several_images_are_refused_with_their_number(leaves, found):
    with pytest.raises(ValueError, match=f"expected (an|one) image .*found {found}"):
        find_image(leaves, 3)


@pytest.mark.parametrize(
    "annotation",
    [
        tv_tensors.BoundingBoxes([[0, 0, 2, 2]], format="XYXY", canvas_size=(4, 4)),
        tv_tensors.Mask(torch.zeros(4, 4, dtype=torch.uint8)),
        tv_tensors.Video(torch.zeros(2, 3, 4, 4)),
        *([tv_tensors.KeyPoints([[1, 1]], canvas_size=(4, 4))] if hasattr(tv_tensors, "KeyPoints") else []),
    ],
    ids=type,
)
def test_annotations_that_a_swap_would_falsify_are_refused_by_name(annotation):
    with pytest.raises(ValueError, match=f"does not support {type(annotation).__name__}"):
        find_image([tv_tensors.Image(PLAIN), 3, annotation], 3)
