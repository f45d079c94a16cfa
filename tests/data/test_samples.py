import collections
import collections.abc
import types

import numpy as np
import PIL.Image
import pytest
import torch
from torch.utils._pytree import tree_leaves
from torchvision import tv_tensors
from torchvision.transforms import v2

from glico_augment.data.samples import SampleLayout, check_sample, copied, find_image, find_labels

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
    with pytest.raises(ValueError, match=rf"augment\(image, label\).*got {type(sample).__name__} alone"):
        find_labels(sample)


@pytest.mark.parametrize("sample", [{"image": 1, "target": 2}, (1, {"image": 1, "target": 2, 3: 4})])
def test_a_mapping_without_labels_is_refused_with_its_keys_and_the_remedy(sample):
    with pytest.raises(ValueError, match=r"no key with 'label' among \['image', 'target'\]; pass label_key="):
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
        check_sample((tv_tensors.Image(PLAIN), 3, {"more": [annotation]}))


LONG = (PLAIN, 3, "path")
NAMED = Pair(PLAIN, 3)
MAPPING = {"image": PLAIN, "label": 3, "id": 7}
NESTED = (PLAIN, {"label": 3, "id": 7})


@pytest.mark.parametrize("sample", [(PLAIN, 3), [PLAIN, 3], LONG, NAMED, MAPPING, NESTED, {"img": PLAIN, "y_label": 3}])
def test_a_layout_takes_image_and_label_out_and_puts_others_in_their_places(sample):
    layout = SampleLayout()
    changed = layout.replace_label(layout.replace(sample, "new"), 9)
    assert type(changed) is type(sample)
    image, label = SampleLayout(image_key=layout._image_key(sample)).split(changed)
    assert (image, label) == ("new", 9)
    assert layout.split(sample)[0] is PLAIN  # the sample itself is left alone
    assert layout.split(sample)[1] == 3
    others = [leaf for leaf in tree_leaves(sample) if leaf is not PLAIN and leaf != 3]
    assert [leaf for leaf in tree_leaves(changed) if leaf not in ("new", 9)] == others


def test_keys_and_positions_choose_among_several():
    sample = {"left": PLAIN, "right": PLAIN + 1, "coarse_label": 1, "fine_label": 2}
    layout = SampleLayout(image_key="right", label_key="fine_label")
    assert layout.split(sample)[0] is sample["right"]
    assert layout.labels(sample) == 2
    assert layout.replace_label(sample, 5)["fine_label"] == 5
    assert SampleLayout(image_key=2, label_key=0).split((4, "x", PLAIN)) == (PLAIN, 4)
    getter = SampleLayout(labels_getter=lambda sample: sample["fine_label"] + 1, image_key="left")
    assert getter.labels(sample) == 3
    with pytest.raises(ValueError, match="give label_key instead"):
        getter.replace_label(sample, 0)


@pytest.mark.parametrize(
    ("layout", "sample", "message"),
    [
        (
            SampleLayout(),
            {"coarse_label": 1, "fine_label": 2, "image": PLAIN},
            "may all hold the label; pass label_key=",
        ),
        (SampleLayout(), {"a": PLAIN, "b": PLAIN, "label": 1}, "found 2 among the keys .*pass image_key="),
        (SampleLayout(), {"label": 1}, "found 0 among the keys"),
        (
            SampleLayout(image_key="x"),
            {"image": PLAIN, "label": 1},
            "image_key='x' is not in the sample, dict w",
        ),
        (SampleLayout(label_key=5), (PLAIN, 1), "label_key=5 is not in the sample, tuple of 2 items"),
    ],
)
def test_what_is_missing_or_may_be_meant_twice_is_said_with_the_key_to_pass(layout, sample, message):
    with pytest.raises(ValueError, match=message):
        layout.split(sample)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"image_key": 1.5}, TypeError),
        ({"label_key": True}, TypeError),
        ({"labels_getter": 5}, TypeError),
        ({"labels_getter": len, "label_key": "y"}, ValueError),
    ],
)
def test_keys_that_are_none_are_refused(options, error):
    with pytest.raises(error, match=next(iter(options))):
        SampleLayout(**options)


@pytest.mark.parametrize(
    ("sample", "layout"),
    [
        ((PLAIN, 3), SampleLayout()),
        ({"a": [PLAIN], "b": {"c": 1, "label": 2}, "label": 3}, SampleLayout(image_key="a")),
        ({"image": [PLAIN, PLAIN], "label": [3, 4]}, SampleLayout()),
        (("x", {"label": 3}, PLAIN), SampleLayout()),
    ],
)
def test_an_image_is_found_in_any_structure_and_its_place_takes_another(sample, layout):
    image, put_back = layout.find(sample, layout.labels(sample))
    changed = put_back("new")
    assert type(changed) is type(sample)
    assert "new" in tree_leaves(changed)
    assert len(tree_leaves(changed)) == len(tree_leaves(sample)) - (len(image) - 1 if isinstance(image, list) else 0)


def test_a_list_of_images_is_found_as_one():
    images, _ = SampleLayout().find({"image": [PLAIN, PLAIN], "label": [0, 1], "id": [[1, 2], [3]]}, [0, 1])
    assert len(images) == 2
    assert all(image is PLAIN for image in images)


class Row(dict):
    """A dict as libraries have them."""


class Held(collections.abc.MutableMapping):
    """A mapping whose shallow copy would share its items, and that cannot be made of others."""

    def __init__(self, image, label):
        self.items_of = {"image": image, "label": label}

    def __getitem__(self, key):
        return self.items_of[key]

    def __setitem__(self, key, value):
        self.items_of[key] = value

    def __delitem__(self, key):
        del self.items_of[key]

    def __iter__(self):
        return iter(self.items_of)

    def __len__(self):
        return len(self.items_of)


class Items(list):
    """A list as libraries have them."""


@pytest.mark.parametrize(
    ("sample", "kind"),
    [
        (collections.UserDict(image=PLAIN, label=3), collections.UserDict),
        (types.MappingProxyType({"image": PLAIN, "label": 3}), types.MappingProxyType),
        (Row(image=PLAIN, label=3), Row),
        (Held(PLAIN, 3), dict),
        (collections.defaultdict(int, image=PLAIN, label=3), collections.defaultdict),
        (Items([PLAIN, 3]), Items),
        ((collections.UserDict(image=PLAIN), 3), tuple),
        (Items([Row(image=PLAIN), 3]), Items),
    ],
    ids=lambda value: type(value).__name__,
)
def test_containers_of_any_type_are_looked_into_and_left_alone(sample, kind):
    layout = SampleLayout()
    image, put_back = layout.find(sample, layout.labels(sample))
    assert image is PLAIN
    changed = put_back("new")
    assert type(changed) is kind
    assert layout.labels(changed) == 3
    inner = changed if isinstance(changed, collections.abc.Mapping) else changed[0]
    assert (inner["image"] if isinstance(inner, collections.abc.Mapping) else inner) == "new"
    assert layout.find(sample, layout.labels(sample))[0] is PLAIN


@pytest.mark.parametrize("kind", [collections.UserDict, Row, types.MappingProxyType])
def test_annotations_in_containers_of_any_type_are_refused(kind):
    mask = tv_tensors.Mask(torch.zeros(4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match="does not support Mask"):
        check_sample(kind({"image": PLAIN, "more": [kind({"mask": mask})]}))


class Noted(torch.Tensor):
    """A tensor with notes."""


def noted(tensor):
    tensor = tensor.as_subclass(Noted)
    tensor.notes = ["a"]
    return tensor


@pytest.mark.parametrize(
    "image",
    [PIL.Image.new("RGB", (3, 2)), np.zeros((2, 3, 3), np.uint8), torch.zeros(3, 2, 3), noted(torch.zeros(3, 2, 3))],
    ids=type,
)
def test_a_copy_stays_as_it_is_when_its_containers_and_pixels_are_filled_again(image):
    label = np.array(3)
    sample = {"image": image, "label": label, "more": ["path"]}
    kept = copied(sample)
    sample["more"][0], sample["id"] = "other", 1
    label[...] = 4
    if isinstance(image, PIL.Image.Image):
        image.putpixel((0, 0), (9, 9, 9))
    else:
        image[...] = 9
    assert type(kept["image"]) is type(image)
    assert np.asarray(kept["image"]).sum() == 0
    assert getattr(kept["image"], "notes", None) == getattr(image, "notes", None)
    assert (kept["label"], kept["more"], list(kept)) == (3, ["path"], ["image", "label", "more"])
