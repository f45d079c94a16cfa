"""Read a dataset once, check it, and hold it as uint8."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from glico_augment import checks
from glico_augment.config import DEFAULT_SIDE
from glico_augment.data.class_names import ClassNames, check_class_names, names_of_classes
from glico_augment.data.reader import Sample, Unreadable, read_samples
from glico_augment.data.samples import PLAIN, SampleLayout
from glico_augment.images import convert, values
from glico_augment.images.identity import digest, fingerprint

DEFAULT_SIZE = (DEFAULT_SIDE, DEFAULT_SIDE)  # of images that come in many sizes
ALL_IMAGES = "all images"
"""What the one class of images without labels is called."""
LARGEST_IMPLICIT_SIDE = 512  # larger images need an explicit image_size
ON_ERROR = ("raise", "skip")
_READ_TWICE = 8  # images, spread over the set: a flip with p = 0.5 escapes all of them once in 256 fits


@dataclass(frozen=True)
class ImageSet:
    """Images in the canonical form; the labelled ones first.

    Attributes:
        images: ``(n, channels, height, width)`` uint8.
        labels: ``(m,)`` int64, labels of the first ``m`` images.
        digests: ``(n,)`` int64, :func:`digest` of each image as its dataset yields it.
        glimpses: ``(n,)`` int64, its glimpse.
        class_names: of each distinct label, in ascending order of the labels; None where nobody gave one.
        is_labeled: whether the images have labels. Those of a set without are 0, as of one class.
        skipped: a line for each image that could not be read and is not among them: which, its file and why.
    """

    images: Tensor
    labels: Tensor
    digests: Tensor
    glimpses: Tensor
    class_names: tuple[str | None, ...]
    is_labeled: bool = True
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)``."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that differ when an image, a label or their order does."""
        return fingerprint(self.digests, self.labels)


def read_image_set(
    dataset: Dataset[Any] | Sequence[Any],
    *,
    unlabeled: Dataset[Any] | Sequence[Any] | None = None,
    layout: SampleLayout = PLAIN,
    class_names: ClassNames | None = None,
    image_size: int | tuple[int, int] | None = None,
    num_workers: int = 0,
    on_error: str = "raise",
) -> ImageSet:
    """Read every sample of a dataset once.

    Args:
        dataset: map-style; images as :func:`convert.to_uint8` takes them, labels integers; or images alone.
        unlabeled: further images; their labels, if any, are ignored.
        layout: where a sample has its image and its label.
        class_names: see :func:`check_class_names`; None takes those of the dataset.
        image_size: side in pixels or ``(height, width)`` to bring images to. None keeps a common size, and takes
            64 × 64 where sizes differ.
        num_workers: processes that read; 0 for this one.
        on_error: ``"raise"``, or ``"skip"`` to leave out images that cannot be read.

    Raises:
        TypeError: if it is not a map-style dataset, a sample has not both, or a label is no integer.
        ValueError: if it is empty, or an image cannot be read; the message names the index, and the file where the
            dataset has ``samples`` as torchvision's folders do. With ``"skip"``, if none can be read, or none of a
            class.
    """
    checks.choice(ON_ERROR)("on_error", on_error)
    check_dataset(dataset, "dataset")
    is_labeled = _has_labels(dataset, layout)
    if not is_labeled and class_names is not None:
        raise ValueError("class_names were given, but the images have no labels")
    names = _names(dataset, class_names, layout) if is_labeled else {0: ALL_IMAGES}
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    collector = _Collector(size)
    labels: list[int] = []
    seen: list[tuple[int, int]] = []  # positions in the dataset, and digests
    skipped: list[Unreadable] | None = [] if on_error == "skip" else None
    for sample in read_samples(
        dataset, layout, size, num_workers, with_labels=is_labeled, name="image", unreadable=skipped
    ):
        collector.add(sample)
        labels.append(sample.label)
        seen.append((sample.index, sample.digest))
    if is_labeled:
        _check_every_class(names, skipped or [], set(labels))
    _warn_if_random(dataset, layout, seen)
    if unlabeled is not None:
        check_dataset(unlabeled, "unlabeled")
        more: list[Unreadable] | None = None if skipped is None else []
        for sample in read_samples(
            unlabeled, layout, size, num_workers, with_labels=False, name="unlabeled image", unreadable=more
        ):
            collector.add(sample)
        skipped = [*(skipped or []), *(more or [])]
    images = collector.finish()
    digests, glimpses = (torch.tensor(column, dtype=torch.int64) for column in zip(*collector.identities, strict=True))
    label_tensor = torch.tensor(labels, dtype=torch.int64)
    distinct = torch.unique(label_tensor).tolist()
    lines = tuple(image.line for image in skipped or [])
    found = tuple(names.get(label) for label in distinct)
    return ImageSet(images, label_tensor, digests, glimpses, found, is_labeled, lines)


def check_dataset(dataset: Any, name: str) -> None:
    """Raise TypeError unless ``dataset`` is map-style, ValueError if it is empty."""
    if isinstance(dataset, IterableDataset) or not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise TypeError(
            f"{name} must be a map-style dataset with __len__ and __getitem__, got {type(dataset).__name__}. "
            "Images are read by their index: list(dataset) makes such a set of an iterable"
        )
    if len(dataset) == 0:
        raise ValueError(f"{name} is empty: it must hold at least one image")


def _has_labels(dataset: Any, layout: SampleLayout) -> bool:
    """Whether the first sample has a label; if it cannot be read, whoever reads them all says why."""
    try:
        return layout.has_label(dataset[0])
    except Exception:
        return layout.has_label(None)


def _names(dataset: Any, class_names: ClassNames | None, layout: SampleLayout) -> dict[int, str]:
    if class_names is not None:
        return check_class_names(class_names)
    return names_of_classes(dataset, label_key=layout.label_key) or {}


def _check_every_class(names: Mapping[int, str], skipped: Sequence[Unreadable], labels: set[int]) -> None:
    """Raise ValueError if all images of a class were skipped."""
    for image in skipped:
        if image.label is not None and image.label not in labels:
            name = names.get(image.label, str(image.label))
            raise ValueError(f"none of the images of class {name!r} could be read; {image.line}")


def _warn_if_random(dataset: Any, layout: SampleLayout, seen: Sequence[tuple[int, int]]) -> None:
    """Warn if reading some images again gives other images."""
    for index, first_digest in seen[:: -(-len(seen) // _READ_TWICE)]:
        if digest(convert.to_uint8(layout.image(dataset[index]))) != first_digest:
            warnings.warn(
                f"reading image {index} twice gave two different images: the dataset applies a random transform. Fit "
                "on the plain images and give the transform to wrap(), so that each code belongs to one image",
                UserWarning,
                stacklevel=5,
            )
            return


class _Collector:
    """Gathers images of one size; brings all to the default size when a second one appears."""

    def __init__(self, size: tuple[int, int] | None) -> None:
        self.size = size
        self.is_settled = size is not None
        self.images: list[Tensor] = []
        self.identities: list[tuple[int, int]] = []

    def add(self, sample: Sample) -> None:
        image = sample.image
        self.identities.append((sample.digest, sample.glimpse))
        shape = (image.shape[-2], image.shape[-1])
        if self.size is None:
            self.size = shape
        elif not self.is_settled and shape != self.size:
            self.size, self.is_settled = DEFAULT_SIZE, True
            self.images = [values.resize(kept[None], DEFAULT_SIZE)[0] for kept in self.images]
        if not self.is_settled and max(shape) > LARGEST_IMPLICIT_SIDE:
            # Either another size follows or finish() refuses; photographs would fill the memory until then.
            image = values.resize(image[None], DEFAULT_SIZE)[0]
        elif self.is_settled:
            image = values.resize(image[None], self.size)[0]
        self.images.append(image.clone())  # a dataset may hand out one buffer again and again

    def finish(self) -> Tensor:
        assert self.size is not None
        if not self.is_settled and max(self.size) > LARGEST_IMPLICIT_SIDE:
            height, width = self.size
            raise ValueError(
                f"images are {height} × {width} pixels; a generator of that size needs gigabytes and hours. Pass "
                f"image_size=64 or so (or image_size=({height}, {width}) to insist)"
            )
        channels = max(image.shape[0] for image in self.images)
        for index, image in enumerate(self.images):
            if image.shape[0] != channels and channels > 4:
                raise ValueError(f"image {index} has {image.shape[0]} channels, another has {channels}")
        stacked = torch.empty(len(self.images), channels, *self.size, dtype=torch.uint8)
        for index in range(len(stacked)):
            image, self.images[index] = self.images[index], torch.empty(0)
            stacked[index] = values.promote_channels(image[None], channels)[0]
        return stacked
