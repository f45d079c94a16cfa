"""Read a dataset once, check it, and hold it as uint8."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset

from glico_augment.data.labels import read_label
from glico_augment.data.samples import split_sample
from glico_augment.images import convert, values
from glico_augment.images.identity import digest, fingerprint, glimpse

DEFAULT_SIZE = (64, 64)  # of images that come in many sizes
LARGEST_IMPLICIT_SIDE = 512  # larger images need an explicit image_size


@dataclass(frozen=True)
class ImageSet:
    """Images in the canonical form; the labelled ones first.

    Attributes:
        images: ``(n, channels, height, width)`` uint8.
        labels: ``(m,)`` int64, labels of the first ``m`` images.
        digests: ``(n,)`` int64, :func:`digest` of each image as its dataset yields it.
        glimpses: ``(n,)`` int64, its glimpse.
        class_names: a name for each distinct label, in ascending order of the labels.
    """

    images: Tensor
    labels: Tensor
    digests: Tensor
    glimpses: Tensor
    class_names: tuple[str, ...]

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
    image_size: int | tuple[int, int] | None = None,
    num_workers: int = 0,
) -> ImageSet:
    """Read every sample of a dataset of ``(image, label)`` once.

    Args:
        dataset: map-style; images as :func:`convert.to_uint8` takes them, labels integers.
        unlabeled: further images; their labels, if any, are ignored.
        image_size: side in pixels or ``(height, width)`` to bring images to. None keeps a common size, and takes
            64 × 64 where sizes differ.
        num_workers: processes that read; 0 for this one.

    Raises:
        TypeError: if it is not a map-style dataset, a sample is not a pair, or a label no integer.
        ValueError: if it is empty, or an image cannot be read; the message names the index.
    """
    check_dataset(dataset, "dataset")
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    collector = _Collector(size)
    labels: list[int] = []
    for image, identity, label in _read(dataset, size, num_workers, with_labels=True, name="image"):
        collector.add(image, identity)
        labels.append(label)
    _warn_if_random(dataset, collector.identities[0].digest)
    if unlabeled is not None:
        check_dataset(unlabeled, "unlabeled")
        for image, identity, _ in _read(unlabeled, size, num_workers, with_labels=False, name="unlabeled image"):
            collector.add(image, identity)
    images = collector.finish()
    digests, glimpses = (torch.tensor(column, dtype=torch.int64) for column in zip(*collector.identities, strict=True))
    label_tensor = torch.tensor(labels, dtype=torch.int64)
    distinct = torch.unique(label_tensor).tolist()
    return ImageSet(images, label_tensor, digests, glimpses, _class_names(dataset, distinct))


def check_dataset(dataset: Any, name: str) -> None:
    """Raise TypeError unless ``dataset`` is map-style, ValueError if it is empty."""
    if isinstance(dataset, IterableDataset) or not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise TypeError(
            f"{name} must be a map-style dataset with __len__ and __getitem__, got {type(dataset).__name__}. "
            "Images are read by their index: list(dataset) makes such a set of an iterable"
        )
    if len(dataset) == 0:
        raise ValueError(f"{name} is empty: it must hold at least one image")


def _warn_if_random(dataset: Any, first_digest: int) -> None:
    """Warn if reading the first image again gives another image."""
    if digest(convert.to_uint8(split_sample(dataset[0])[0])) != first_digest:
        warnings.warn(
            "reading image 0 twice gave two different images: the dataset applies a random transform. Fit on the "
            "plain images and give the transform to wrap(), so that each code belongs to one image",
            UserWarning,
            stacklevel=5,
        )


class _Identity(NamedTuple):
    digest: int
    glimpse: int


class _Reader(Dataset[Any]):
    """Canonical images, so that decoding and resizing run in the workers."""

    def __init__(self, dataset: Any, size: tuple[int, int] | None, *, with_labels: bool) -> None:
        self.dataset = dataset
        self.size = size
        self.with_labels = with_labels

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, _Identity, int] | Exception:
        # An exception is handed over, not raised: a worker would turn its message into a traceback.
        try:
            sample = self.dataset[index]
            if self.with_labels:
                image, label = split_sample(sample)
                label = read_label(label)
            else:
                image, label = (sample[0] if isinstance(sample, (tuple, list)) else sample), 0
            canonical = convert.to_uint8(image)
            identity = _Identity(digest(canonical), glimpse(canonical))
            if self.size is not None:
                canonical = values.resize(canonical[None], self.size)[0]
            return canonical, identity, label
        except TypeError as error:
            return TypeError(str(error))
        except Exception as error:
            return ValueError(f"{error}" or type(error).__name__)


def _read(
    dataset: Any, size: tuple[int, int] | None, num_workers: int, *, with_labels: bool, name: str
) -> Iterator[tuple[Tensor, _Identity, int]]:
    # The generator keeps the loader from drawing its seed from torch's global one.
    loader: DataLoader[Any] = DataLoader(
        _Reader(dataset, size, with_labels=with_labels),
        batch_size=None,
        num_workers=num_workers,
        generator=torch.Generator(),
    )
    for index, item in enumerate(loader):
        if isinstance(item, Exception):
            raise type(item)(f"{name} {index} could not be read: {item}") from item
        yield item


class _Collector:
    """Gathers images of one size; brings all to the default size when a second one appears."""

    def __init__(self, size: tuple[int, int] | None) -> None:
        self.size = size
        self.is_settled = size is not None
        self.images: list[Tensor] = []
        self.identities: list[_Identity] = []

    def add(self, image: Tensor, identity: _Identity) -> None:
        self.identities.append(identity)
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


def _class_names(dataset: Any, labels: Sequence[int]) -> tuple[str, ...]:
    """Names from the dataset's ``classes``, as torchvision's datasets carry it; else the labels themselves.

    A ``target_transform`` renumbers the labels, so that ``classes`` no longer says what they mean.
    """
    while isinstance(dataset, (Subset, ConcatDataset)):
        dataset = dataset.dataset if isinstance(dataset, Subset) else dataset.datasets[0]
    names = getattr(dataset, "classes", None) if getattr(dataset, "target_transform", None) is None else None
    if isinstance(names, (list, tuple)) and all(0 <= label < len(names) for label in labels):
        return tuple(str(names[label]) for label in labels)
    return tuple(str(label) for label in labels)
