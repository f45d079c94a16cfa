"""Read every sample of a dataset once, and say which could not be read and where it lies."""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from glico_augment.checks import shown
from glico_augment.data.labels import read_label
from glico_augment.data.samples import SampleLayout, check_sample
from glico_augment.images import convert, values
from glico_augment.images.identity import digest, glimpse


@dataclass(frozen=True)
class Sample:
    """An image in the canonical form, with what it is recognised by, and its label; 0 where labels are not read."""

    index: int
    image: Tensor
    digest: int
    glimpse: int
    label: int


class Unreadable(NamedTuple):
    """An image that could not be read: a line that says which and why, and its label where the dataset tells it."""

    line: str
    label: int | None


def read_samples(
    dataset: Any,
    layout: SampleLayout,
    size: tuple[int, int] | None,
    num_workers: int,
    *,
    with_labels: bool,
    name: str,
    unreadable: list[Unreadable] | None = None,
) -> Iterator[Sample]:
    """The samples of a dataset, in order.

    Args:
        dataset: map-style.
        layout: where a sample has its image and its label.
        size: ``(height, width)`` to bring images to; None leaves them.
        num_workers: processes that read; 0 for this one.
        with_labels: whether a label is read; else what may stand beside an image is ignored.
        name: what an image is called in messages.
        unreadable: takes the images that cannot be read, which are left out; None raises instead.

    Raises:
        TypeError: if a sample has no image and label or a label is no integer, whatever ``unreadable`` is.
        TypeError, ValueError: for an image that cannot be read, where ``unreadable`` is None.
        ValueError: if none can be read.
    """
    # The generator keeps the loader from drawing its seed from torch's global one.
    loader: DataLoader[Any] = DataLoader(
        _Reader(dataset, layout, size, with_labels=with_labels),
        batch_size=None,
        num_workers=num_workers,
        generator=torch.Generator(),
    )
    for index, item in enumerate(loader):
        if isinstance(item, Sample):
            yield item
            continue
        file = _file_and_label(dataset, index)
        place = f"{name} {index}" if file is None else f"{name} {index} ({shown(file[0])})"
        line = f"{place} could not be read: {item.error}"
        if unreadable is None or not item.is_skippable:
            raise type(item.error)(line) from item.error
        unreadable.append(Unreadable(shown(line), None if file is None else file[1]))
    if unreadable and len(unreadable) == len(dataset):
        raise ValueError(f"none of the {len(dataset)} images could be read; {unreadable[0].line}")


class _Failure(NamedTuple):
    """Why there is no sample, and whether that is for the one image to blame and not for the dataset."""

    error: Exception
    is_skippable: bool


class _Reader(Dataset[Any]):
    """Canonical images, so that decoding and resizing run in the workers."""

    def __init__(self, dataset: Any, layout: SampleLayout, size: tuple[int, int] | None, *, with_labels: bool) -> None:
        self.dataset = dataset
        self.layout = layout
        self.size = size
        self.with_labels = with_labels

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample | _Failure:
        # An exception is handed over, not raised: a worker would turn its message into a traceback.
        try:
            sample = self.dataset[index]
        except Exception as error:
            return _failure(error)
        try:
            image, label = self._split(sample)
        except Exception as error:
            return _failure(error, is_skippable=False)
        try:
            canonical = convert.to_uint8(image)
            identity = digest(canonical), glimpse(canonical)
            if self.size is not None:
                canonical = values.resize(canonical[None], self.size)[0]
            return Sample(index, canonical, *identity, label)
        except Exception as error:
            return _failure(error)

    def _split(self, sample: Any) -> tuple[Any, int]:
        if not self.with_labels:
            return self.layout.image(sample), 0
        image, label = self.layout.split(sample)
        check_sample(sample)
        return image, read_label(label)


def _failure(error: Exception, *, is_skippable: bool = True) -> _Failure:
    kind = TypeError if isinstance(error, TypeError) else ValueError
    return _Failure(kind(f"{error}" or type(error).__name__), is_skippable)


def _file_and_label(dataset: Any, index: int) -> tuple[str, int | None] | None:
    """The file of an image and its label, of a dataset with ``samples`` as torchvision's folders have them."""
    while isinstance(dataset, (Subset, ConcatDataset)):
        if isinstance(dataset, Subset):
            dataset, index = dataset.dataset, int(dataset.indices[index])
        else:
            part = bisect.bisect_right(dataset.cumulative_sizes, index)
            index -= dataset.cumulative_sizes[part - 1] if part else 0
            dataset = dataset.datasets[part]
    samples = getattr(dataset, "samples", None)
    if not isinstance(samples, (list, tuple)) or index >= len(samples):
        return None
    entry = samples[index]
    if not isinstance(entry, (list, tuple)) or len(entry) != 2 or not isinstance(entry[0], (str, os.PathLike)):
        return None
    label = entry[1] if getattr(dataset, "target_transform", None) is None else None
    return os.fspath(entry[0]), label if isinstance(label, int) else None
