"""Read a dataset once, check it, and hold it as uint8."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from glico_augment.checks import shown
from glico_augment.config import MAX_SIDE, fitted_size
from glico_augment.data.class_names import ClassNames, check_class_names, names_of_classes
from glico_augment.data.reading import Sample, Unreadable, read_sample, read_samples, skipped_by
from glico_augment.data.samples import PLAIN, SampleLayout
from glico_augment.errors import warn
from glico_augment.images import values
from glico_augment.images.identity import digests, fingerprint

ALL_IMAGES = "all images"
"""What the one class of images without labels is called."""
_READ_TWICE = 8  # images, spread over the set: a flip with p = 0.5 escapes all of them once in 256 fits


@dataclass(frozen=True)
class ImageSet:
    """Images in the canonical form; the labelled ones first.

    Attributes:
        images: ``(n, channels, height, width)`` uint8.
        labels: ``(m,)`` int64, labels of the first ``m`` images.
        digests: ``(n,)`` int64, :func:`digest` of each image as its dataset yields it, in the channels of the set.
        class_names: of each distinct label, in ascending order of the labels; None if it has none.
        is_labeled: whether the images have labels. Those of a set without are 0, as of one class.
        skipped: a line for each image that could not be read and is not among them: which, its file and why.
    """

    images: Tensor
    labels: Tensor
    digests: Tensor
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
    max_side: int = MAX_SIDE,
    channels: int | None = None,
    num_workers: int = 0,
    on_error: str = "raise",
) -> ImageSet:
    """Read every sample of a dataset once.

    Args:
        dataset: map-style; images as :func:`convert.to_uint8` takes them, labels integers; or images alone.
        unlabeled: further images; their labels, if any, are ignored.
        layout: where a sample has its image and its label.
        class_names: see :func:`check_class_names`; None takes those of the dataset.
        image_size: side in pixels or ``(height, width)`` to bring images to; None for their common size.
        max_side: without ``image_size``, what the longer side of larger images is brought to, and both sides of images
            of different sizes.
        channels: to bring images to, those of a fit; None takes their own, or those of RGB where they differ.
        num_workers: processes that read; 0 for this one.
        on_error: ``"raise"``, or ``"skip"`` to leave out images that cannot be read.

    Warns:
        UserWarning: if images of different channels are read as RGB, and if reading one twice gives two images.

    Raises:
        TypeError, ValueError: as :func:`check_dataset` and :func:`read_samples`; and for images that cannot be brought
            to one size and number of channels, and negative labels without a name beside named classes. With
            ``"skip"``, if no image of a class can be read.
    """
    skipped_by(on_error)
    check_dataset(dataset, "dataset")
    is_labeled = _has_labels(dataset, layout)
    names = _names(dataset, class_names, layout, is_labeled=is_labeled)
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    collector = _Collector(size, max_side, channels)
    skipped: list[Unreadable] = []

    def read(source: Any, *, with_labels: bool, name: str) -> list[Sample]:
        unreadable = skipped_by(on_error)
        samples = read_samples(
            source, layout, size, num_workers=num_workers, with_labels=with_labels, name=name, unreadable=unreadable
        )
        collected = [collector.add(sample) for sample in samples]
        skipped.extend(unreadable or ())
        return collected

    samples = read(dataset, with_labels=is_labeled, name="image")
    labels = torch.tensor([sample.label for sample in samples], dtype=torch.int64)
    distinct = labels.unique().tolist()
    if is_labeled:
        _check_every_class(names, skipped, distinct)
        _check_no_unlabeled(names, labels)
    _warn_if_random(dataset, layout, samples)
    if unlabeled is not None:
        check_dataset(unlabeled, "unlabeled")
        samples += read(unlabeled, with_labels=False, name="unlabeled image")
    images = collector.finish()
    its_digests = torch.tensor([sample.digests[images.shape[1]] for sample in samples], dtype=torch.int64)
    found = tuple(names.get(label) for label in distinct)
    return ImageSet(images, labels, its_digests, found, is_labeled, tuple(shown(str(each.error)) for each in skipped))


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
    """Whether the first sample has a label; if it cannot be read, reading all of them says why."""
    try:
        return layout.has_label(dataset[0])
    except Exception:
        return layout.has_label(None)


def _names(
    dataset: Any, class_names: ClassNames | None, layout: SampleLayout, *, is_labeled: bool
) -> Mapping[int, str]:
    if class_names is None:
        return names_of_classes(dataset, label_key=layout.label_key) or {} if is_labeled else {0: ALL_IMAGES}
    if not is_labeled:
        raise ValueError("class_names were given, but the images have no labels")
    return check_class_names(class_names)


def _check_every_class(names: Mapping[int, str], skipped: Sequence[Unreadable], labels: Sequence[int]) -> None:
    """Raise ValueError if all images of a class were skipped."""
    for each in skipped:
        if each.label is not None and each.label not in labels:
            name = names.get(each.label, str(each.label))
            raise ValueError(f"none of the images of class {name!r} could be read; {shown(str(each.error))}")


def _check_no_unlabeled(names: Mapping[int, str], labels: Tensor) -> None:
    """Raise ValueError for a negative label without a name where others have one: it may stand for "no label"."""
    nameless = [label for label in labels.unique().tolist() if label < 0 and label not in names]
    if names and nameless:
        count = int((labels == nameless[0]).sum())
        raise ValueError(
            f"{count} of {len(labels)} images have label {nameless[0]}, which has no name among the classes "
            f"({', '.join(map(shown, list(names.values())[:3]))}, …). Does it mark images without a label? Give those "
            "to unlabeled=, or leave them out, with Subset of torch.utils.data. If it is a class, name it: "
            f"class_names={{{nameless[0]}: …}}"
        )


def _warn_if_random(dataset: Any, layout: SampleLayout, samples: Sequence[Sample]) -> None:
    """Warn if reading some images again gives other images."""
    for sample in samples[:: -(-len(samples) // _READ_TWICE)]:
        if read_sample(dataset, sample.index, layout, digests, with_label=False)[0] != sample.digests:
            warn(
                f"reading image {sample.index} twice gave two different images: the dataset applies a random "
                "transform. Fit on the plain images and give the transform to wrap(), so that each code belongs to one "
                "image",
            )
            return


class _Collector:
    """Gathers images at one size: if none was asked for and their sizes differ, all are brought to a square."""

    def __init__(self, size: tuple[int, int] | None, max_side: int, channels: int | None) -> None:
        self.size = size
        self.max_side = max_side
        self.channels = channels
        self.common: tuple[int, int] | None = None  # size of all images before, where none was asked for
        self.images: list[Tensor] = []

    def add(self, sample: Sample) -> Sample:
        """The sample without its image, which is kept here."""
        height, width = sample.image.shape[1:]
        if self.size is None:
            self.common = (height, width)
            self.size = fitted_size((height, width), self.max_side)
        elif self.common not in (None, (height, width)):
            self.common, self.size = None, (self.max_side, self.max_side)
            self.images = [values.resize(kept[None], self.size)[0] for kept in self.images]
        self.images.append(values.resize(sample.image[None], self.size)[0])
        return dataclasses.replace(sample, image=torch.empty(0))

    def finish(self) -> Tensor:
        """All images, ``(n, channels, height, width)`` uint8."""
        assert self.size is not None
        height, width = self.size
        counts = Counter(len(image) for image in self.images)
        channels = self.channels or values.common_channels(counts)
        stacked = torch.empty(len(self.images), channels, height, width, dtype=torch.uint8)
        for index, image in enumerate(self.images):
            if len(image) != channels and not {len(image), channels} <= set(values.COLOUR_CHANNELS):
                whose = "another" if self.channels is None else "the fit"
                raise ValueError(
                    f"image {index} has {len(image)} channels, which cannot be brought to the {channels} of {whose}"
                )
            stacked[index] = values.promote_channels(image[None], channels)[0]
            self.images[index] = torch.empty(0)
        if self.channels is None and len(counts) > 1:
            kinds = ", ".join(f"{count} with {found}" for found, count in sorted(counts.items()))
            warn(
                f"images have different numbers of channels ({kinds}): all are read as RGB, grey as equal channels and "
                "without transparency. Convert them before, if they are to be something else"
            )
        return stacked
