"""Find the image and the label in a sample of any structure, and put others in their places."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten
from torchvision import tv_tensors

from glico_augment.images import pil, values

LabelsGetter = Callable[[Any], Any]
Key = str | int

_LEAVES = (Tensor, np.ndarray, PIL.Image.Image, str, bytes, int, float)
_IMAGE_KEYS = ("image", "img")  # of several images in a mapping, the one under such a key is meant


@dataclass(frozen=True)
class SampleLayout:
    """Where a sample has its image and its label.

    Args:
        image_key: key of a mapping or position in a tuple. None: the first item of a tuple, the one image of a mapping.
        label_key: key of a mapping or position in a tuple. None: the second item of a tuple, or the item of a mapping
            (the sample itself, or its second item) whose key is ``label`` or ``labels`` in any case or else contains
            ``label``.
        labels_getter: a function from the sample to its label, or to the labels of a batch, in place of a key.

    Raises:
        TypeError: if a key is neither a string nor an integer, or the getter cannot be called.
        ValueError: if a key and a getter are given for the label.
    """

    image_key: Key | None = None
    label_key: Key | None = None
    labels_getter: LabelsGetter | None = None

    def __post_init__(self) -> None:
        for name in ("image_key", "label_key"):
            key = getattr(self, name)
            if key is not None and (isinstance(key, bool) or not isinstance(key, (str, int))):
                raise TypeError(f"{name} must be a key of a mapping, a position in a tuple, or None; got {key!r}")
        if self.labels_getter is not None and not callable(self.labels_getter):
            raise TypeError(
                f"labels_getter must be a function from a sample to its label or labels; got {self.labels_getter!r}"
            )
        if self.labels_getter is not None and self.label_key is not None:
            raise ValueError("give label_key or labels_getter, not both")

    def labels(self, sample: Any) -> Any:
        """The label, or the labels of a batch; raises ValueError if there is none."""
        if self.labels_getter is not None:
            return self.labels_getter(sample)
        return find_labels(sample) if self.label_key is None else _item(sample, self.label_key, "label_key")

    def image(self, sample: Any) -> Any:
        """The image of a sample, or a sample that is an image itself; raises ValueError if there is none or several."""
        key = self._image_key(sample)
        return sample if key is None else _item(sample, key, "image_key")

    def split(self, sample: Any) -> tuple[Any, Any]:
        """The image and the label of a dataset's sample.

        Raises:
            TypeError: unless it is a mapping, or a tuple or list of at least two items.
            ValueError: if it has no image or no label, or several that may be meant.
        """
        is_long = isinstance(sample, (tuple, list)) and len(sample) > 1
        if not (is_long or isinstance(sample, Mapping)):
            raise TypeError(
                f"a sample must be (image, label), a longer tuple or a mapping that has both; got {_shown(sample)}. "
                "For arrays of images and labels call fit(images, labels)"
            )
        return self.image(sample), self.labels(sample)

    def replace(self, sample: Any, image: Any) -> Any:
        """The sample with another image in place of its own, in the same structure."""
        key = self._image_key(sample)
        return image if key is None else _put(sample, key, image)

    def replace_label(self, sample: Any, label: Any) -> Any:
        """The sample with another label in place of its own, in the same structure.

        Raises:
            ValueError: if a getter alone knows where the label is.
        """
        if self.labels_getter is not None:
            raise ValueError("a labels_getter does not say where a changed label is to be put: give label_key instead")
        if self.label_key is not None:
            return _put(sample, self.label_key, label)
        if isinstance(sample, Mapping):
            return _put(sample, _label_key(sample), label)
        inner = sample[1]
        return _put(sample, 1, _put(inner, _label_key(inner), label) if isinstance(inner, Mapping) else label)

    def append(self, sample: Any, name: str, value: Any) -> Any:
        """The sample with one more entry: the last of a tuple or list, under ``name`` in a mapping.

        Raises:
            ValueError: if a mapping has an entry of that name.
        """
        if isinstance(sample, Mapping):
            if name in sample:
                raise ValueError(f"the samples have an entry {name!r} already: rename it")
            return _put(sample, name, value)
        if isinstance(sample, list):
            return [*sample, value]
        return (*sample, value) if isinstance(sample, tuple) else (sample, value)

    def find(self, sample: Any, labels: Any) -> tuple[Any, Callable[[Any], Any]]:
        """The image, list of images or batch in a sample of any structure, and what puts another in its place.

        Args:
            sample: as a transform is called with.
            labels: its label or labels, which are no image even where they have two dimensions.

        Raises:
            ValueError: if there is no image or several, or an annotation that a swap would falsify.
        """
        check_sample(sample)
        key = self.image_key
        if key is None and isinstance(sample, Mapping):
            lists = [name for name, value in sample.items() if _is_list_of_images(value)]
            key = lists[0] if len(lists) == 1 else None
        if key is not None:
            return _item(sample, key, "image_key"), lambda image: _put(sample, key, image)
        leaves, rebuild = flatten(sample)
        position = find_image(leaves, labels)
        return leaves[position], lambda image: rebuild(_put(leaves, position, image))

    def changed(self, image_key: Key | None, label_key: Key | None, labels_getter: LabelsGetter | None) -> SampleLayout:
        """A copy with what is not None set otherwise."""
        if label_key is None and labels_getter is None:
            label_key, labels_getter = self.label_key, self.labels_getter
        return type(self)(self.image_key if image_key is None else image_key, label_key, labels_getter)

    def has_label(self, sample: Any) -> bool:
        """Whether a sample is more than an image or a tuple of one: it then has a label, or lacks it by mistake."""
        if isinstance(sample, (tuple, list)) and len(sample) == 1:
            sample = sample[0]
        return self.label_key is not None or self.labels_getter is not None or not is_image(sample)

    def _image_key(self, sample: Any) -> Key | None:
        if self.image_key is not None or not isinstance(sample, (Mapping, tuple, list)):
            return self.image_key
        if not isinstance(sample, Mapping):
            return 0
        named = [key for key in sample if isinstance(key, str) and key.lower() in _IMAGE_KEYS]
        found = named or [key for key, value in sample.items() if is_image(value)]
        if len(found) != 1:
            raise ValueError(
                f"expected one image in the sample, found {len(found)} among the keys {list(sample)}; pass image_key="
            )
        return found[0]


class ImagesAlone(SampleLayout):
    """The layout of samples whose labels, if any, are not read: that of a fit without labels. All have label 0."""

    def has_label(self, sample: Any) -> bool:
        """False."""
        return False

    def labels(self, sample: Any) -> int:
        """0, of one sample."""
        return 0

    def split(self, sample: Any) -> tuple[Any, int]:
        """The image, and 0."""
        return self.image(sample), 0

    def replace_label(self, sample: Any, label: Any) -> Any:
        """Raise ValueError: no place for a label is known."""
        raise ValueError(
            "GLICO was fitted without labels and reads none, so that it cannot give one to target_transform: give that "
            "to the wrapped dataset"
        )


PLAIN = SampleLayout()
"""The layout of torchvision's samples."""


def find_labels(sample: Any) -> Any:
    """The label or labels of a sample, found as torchvision's ``v2.CutMix`` finds them.

    The second item of a tuple or list, or the item of a mapping (the sample itself, or its second item) whose key
    is ``labels`` or ``label`` in any case or else contains ``label``.

    Raises:
        ValueError: if there is none, or if several keys may be meant.
    """
    if isinstance(sample, (tuple, list)) and len(sample) > 1:
        sample = sample[1]
    elif not isinstance(sample, Mapping):
        raise ValueError(
            "GLICOAugment swaps within a class and needs the label: call augment(image, label) or "
            f"augment(images, labels); got {type(sample).__name__} alone. Where a pipeline passes images alone, as "
            "batch_tfms of fastai and the sequences of kornia and torch do, swap before it: augment.wrap(dataset)"
        )
    return sample[_label_key(sample)] if isinstance(sample, Mapping) else sample


def _label_key(sample: Mapping[Any, Any]) -> str:
    names = [key for key in sample if isinstance(key, str)]
    exact = [[name for name in names if name.lower() == wanted] for wanted in ("labels", "label")]
    for candidates in (*exact, [name for name in names if "label" in name.lower()]):
        if len(candidates) > 1:
            raise ValueError(f"the keys {candidates} may all hold the label; pass label_key=")
        if candidates:
            return candidates[0]
    raise ValueError(
        f"no key with 'label' among {names}; pass label_key=, or labels_getter=, a function that finds it in a sample"
    )


def find_image(leaves: list[Any], labels: Any) -> int:
    """The position of the one image among the leaves of a sample.

    A PIL image or ``tv_tensors.Image``; where there is none, the first plain tensor or array of at least two
    dimensions, other than the labels, as in torchvision's transforms.

    Raises:
        ValueError: if there is no image or several.
    """
    found = [index for index, leaf in enumerate(leaves) if isinstance(leaf, (PIL.Image.Image, tv_tensors.Image))]
    if not found:
        found = [index for index, leaf in enumerate(leaves) if is_image(leaf) and leaf is not labels][:1]
    if not found:
        raise ValueError("expected an image or a batch of images in the sample, found 0")
    if len(found) > 1:
        raise ValueError(f"expected one image in the sample, found {len(found)}; call the transform for each")
    return found[0]


def flatten(sample: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """The leaves of a sample of any structure, and what makes a sample like it of others.

    Mappings, tuples and lists of any type are looked into, and what is registered with torch's pytree.
    """
    children: list[Any] = [sample]
    if isinstance(sample, Mapping):
        keys = list(sample)
        children, join = [sample[key] for key in keys], lambda values: dict(zip(keys, values, strict=True))
    elif isinstance(sample, (tuple, list)):
        children, join = list(sample), lambda values: dict(enumerate(values))
    elif not isinstance(sample, _LEAVES):
        children, structure = tree_flatten(sample, is_leaf=lambda each: each is not sample)
        join = None
    if len(children) == 1 and children[0] is sample:
        return children, lambda leaves: leaves[0]
    parts = [flatten(child) for child in children]

    def rebuild(leaves: list[Any]) -> Any:
        left = iter(leaves)
        made = [make([next(left) for _ in part]) for part, make in parts]
        return tree_unflatten(made, structure) if join is None else _put_all(sample, join(made))

    return [leaf for part, _ in parts for leaf in part], rebuild


def copied(sample: Any) -> Any:
    """A sample that stays as it is when its dataset fills its containers, arrays and images with the next one."""
    leaves, rebuild = flatten(sample)
    return rebuild([_own(leaf) for leaf in leaves])


def check_sample(sample: Any) -> None:
    """Raise ValueError for a sample with boxes, masks and the like, which a swap would falsify."""
    for leaf in flatten(sample)[0]:
        if isinstance(leaf, tv_tensors.TVTensor) and not isinstance(leaf, tv_tensors.Image):
            raise ValueError(
                f"GLICOAugment does not support {type(leaf).__name__}: a synthetic image has only its class in common "
                "with the real one"
            )


def is_image(value: Any) -> bool:
    """Whether a value of a mapping may be an image, and is no annotation of one."""
    if isinstance(value, tv_tensors.TVTensor):
        return isinstance(value, tv_tensors.Image)
    return isinstance(value, PIL.Image.Image) or (isinstance(value, (Tensor, np.ndarray)) and value.ndim >= 2)


def _is_list_of_images(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(map(is_image, value))


def _item(sample: Any, key: Key, name: str) -> Any:
    try:
        return sample[key]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{name}={key!r} is not in the sample, {_shown(sample)}") from error


def _shown(sample: Any) -> str:
    """The structure of a sample, in words."""
    items = f" with the keys {list(sample)}" if isinstance(sample, Mapping) else ""
    items = f" of {len(sample)} items" if isinstance(sample, (tuple, list)) else items
    return f"{type(sample).__name__}{items}"


def _put(sample: Any, key: Key, value: Any) -> Any:
    """A copy of a mapping, tuple, named tuple or list with one item replaced."""
    return _put_all(sample, {key: value})


def _put_all(sample: Any, changes: Mapping[Any, Any]) -> Any:
    """A copy of a mapping, tuple or list of any type with items replaced; a dict of a mapping that cannot be made."""
    if isinstance(sample, tuple):
        if all(value is sample[key] for key, value in changes.items()):
            return sample
        items = [changes.get(key, value) for key, value in enumerate(sample)]
        return type(sample)(*items) if hasattr(sample, "_fields") else type(sample)(items)
    if isinstance(sample, (dict, list)) or hasattr(sample, "__copy__"):
        changed: Any = copy.copy(sample)
        for key, value in changes.items():
            changed[key] = value
        return changed
    changed = {**sample, **changes}  # a copy might share what it holds
    with suppress(Exception):
        made = type(sample)(changed)
        changed = made if list(made) == list(changed) else changed
    return changed


def _own(leaf: Any) -> Any:
    """A copy of pixels, or of an array beside them; anything else is itself."""
    if isinstance(leaf, np.ndarray):
        return leaf.copy()
    if isinstance(leaf, Tensor):
        return values.as_type_of(leaf.as_subclass(Tensor).clone(), leaf)
    return pil.copied(leaf) if isinstance(leaf, PIL.Image.Image) else leaf
