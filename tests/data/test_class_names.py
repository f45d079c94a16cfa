import types

import pytest
from torch.utils.data import ConcatDataset, Subset

from glico_augment.data.class_names import check_class_names, first_difference, names_of_classes


class Named(list):
    """A dataset with attributes."""

    def __init__(self, **attributes):
        super().__init__([0, 1, 2])
        self.__dict__.update(attributes)


CAT_DOG = {0: "cat", 1: "dog"}
LABEL = types.SimpleNamespace(names=["cat", "dog"])
OTHER = types.SimpleNamespace(names=["red", "green"])


@pytest.mark.parametrize(
    ("dataset", "options"),
    [
        (Named(classes=["cat", "dog"]), {}),
        (Named(class_to_idx={"dog": 1, "cat": 0}), {}),
        (Named(reader=types.SimpleNamespace(class_to_idx={"cat": 0, "dog": 1})), {}),
        (Named(features={"image": object(), "label": LABEL}), {}),
        (Named(features={"label": LABEL, "colour": OTHER}), {"label_key": "label"}),
        (Subset(Subset(Named(classes=("cat", "dog")), [1, 0]), [0]), {}),
        (ConcatDataset([Named(classes=["cat"]), Named(classes=["cat", "dog"])]), {}),
    ],
)
def test_names_are_found_where_libraries_keep_them(dataset, options):
    assert names_of_classes(dataset, **options) == CAT_DOG


@pytest.mark.parametrize(
    "dataset",
    [
        Named(),
        Named(classes=["cat", "dog"], target_transform=lambda label: 1 - label),
        Named(features={"label": LABEL, "colour": OTHER}),
        ConcatDataset([Named(classes=["cat"]), Named()]),
    ],
)
def test_a_dataset_may_have_none_or_none_that_is_known_to_mean_its_labels(dataset):
    assert names_of_classes(dataset) is None


def test_joined_datasets_must_number_their_classes_alike():
    joined = ConcatDataset([Named(classes=["cat", "dog"]), Named(classes=["dog", "cat"])])
    with pytest.raises(ValueError, match=r"number their classes differently: label 0 is 'cat' .* 'dog'"):
        names_of_classes(joined)


@pytest.mark.parametrize(
    ("names", "others", "expected"),
    [
        (CAT_DOG, CAT_DOG, None),
        (CAT_DOG, {7: "bird"}, None),
        (CAT_DOG, {1: "dog"}, None),
        (CAT_DOG, {0: "dog"}, "label 0 is 'cat' in one and 'dog' in the other"),
        (CAT_DOG, {5: "dog"}, "'dog' has label 1 in one and 5 in the other"),
        ({0: "a\nb"}, {0: "c"}, r"label 0 is 'a\nb' in one"),
    ],
)
def test_a_label_of_two_names_and_a_name_of_two_labels_are_differences(names, others, expected):
    found = first_difference(names, others)
    assert found is None if expected is None else found.startswith(expected)


def test_names_come_as_a_list_or_by_label():
    assert check_class_names(["cat", "dog"]) == check_class_names(CAT_DOG) == CAT_DOG


@pytest.mark.parametrize("names", ["cat", 3, ["cat", 3], {"cat": 0}, {True: "cat"}, None])
def test_other_class_names_are_refused_with_both_forms(names):
    with pytest.raises(TypeError, match=r"class_names must be a list .* or a mapping from label to name; got"):
        check_class_names(names)


def test_two_classes_of_one_name_are_refused():
    with pytest.raises(ValueError, match="class_names must differ; got dog twice"):
        check_class_names(["dog", "cat", "dog"])
