"""What the classes of a dataset are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.data import ConcatDataset, Subset

from glico_augment.checks import shown

ClassNames = Sequence[str] | Mapping[int, str]


def names_of_classes(dataset: Any, *, label_key: Any = None) -> dict[int, str] | None:
    """The name of each label, where the dataset has them.

    They are looked for in ``classes`` or ``class_to_idx`` (torchvision), ``reader.class_to_idx`` (timm) and the
    ``ClassLabel`` among ``features`` (Hugging Face), through ``Subset`` and ``ConcatDataset``. A ``target_transform``
    renumbers the labels, so that they no longer say what a label means.

    Args:
        dataset: any.
        label_key: the column of the labels, of several in ``features``.

    Returns:
        Names by label, or None.

    Raises:
        ValueError: if the parts of a ``ConcatDataset`` call one label by different names.
    """
    if isinstance(dataset, Subset):
        return names_of_classes(dataset.dataset, label_key=label_key)
    if isinstance(dataset, ConcatDataset):
        return _joined([names_of_classes(part, label_key=label_key) for part in dataset.datasets])
    if getattr(dataset, "target_transform", None) is not None:
        return None
    names = getattr(dataset, "classes", None)
    if isinstance(names, (list, tuple)):
        return {label: str(name) for label, name in enumerate(names)}
    for holder in (dataset, getattr(dataset, "reader", None)):
        numbers = getattr(holder, "class_to_idx", None)
        if isinstance(numbers, Mapping) and numbers and all(isinstance(label, int) for label in numbers.values()):
            return {label: str(name) for name, label in numbers.items()}
    features = getattr(dataset, "features", None)
    if isinstance(features, Mapping):
        columns = [features.get(label_key)] if label_key is not None else list(features.values())
        lists = [names for column in columns if isinstance(names := getattr(column, "names", None), list)]
        if len(lists) == 1:
            return {label: str(name) for label, name in enumerate(lists[0])}
    return None


def _joined(parts: Sequence[dict[int, str] | None]) -> dict[int, str] | None:
    merged: dict[int, str] = {}
    for names in parts:
        if names is None:
            return None
        if difference := first_difference(merged, names):
            raise ValueError(f"the datasets that are joined number their classes differently: {difference}")
        merged |= names
    return merged


def check_class_names(names: Any) -> dict[int, str]:
    """The argument ``class_names``: names in the order of the labels 0, 1, 2, …, or a mapping from label to name.

    Raises:
        TypeError: for anything else.
        ValueError: if two labels have one name.
    """
    by_label = dict(enumerate(names)) if isinstance(names, (list, tuple)) else names
    if not isinstance(by_label, Mapping) or not all(
        isinstance(label, int) and not isinstance(label, bool) and isinstance(name, str)
        for label, name in by_label.items()
    ):
        raise TypeError(
            "class_names must be a list of names in the order of the labels 0, 1, 2, …, or a mapping from label to "
            f"name; got {names!r}"
        )
    if twice := [name for name, count in Counter(by_label.values()).items() if count > 1]:
        raise ValueError(f"class_names must differ; got {', '.join(map(shown, sorted(twice)))} twice")
    return dict(by_label)


def first_difference(names: Mapping[int, str], others: Mapping[int, str]) -> str | None:
    """How two numberings contradict each other, in words; None where they do not."""
    for label, name in names.items():
        if label in others and others[label] != name:
            return f"label {label} is '{shown(name)}' in one and '{shown(others[label])}' in the other"
    labels_of = {name: label for label, name in names.items()}
    for label, name in others.items():
        if labels_of.get(name, label) != label:
            return f"'{shown(name)}' has label {labels_of[name]} in one and {label} in the other"
    return None
