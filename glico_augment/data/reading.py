"""Samples of any dataset, read one by one, with what is wrong in words that name the sample and its file."""

from __future__ import annotations

import bisect
import functools
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Subset

from glico_augment import checks
from glico_augment.checks import shown
from glico_augment.data.labels import read_label
from glico_augment.data.samples import SampleLayout, check_sample
from glico_augment.devices import cpu_by_default
from glico_augment.errors import warn
from glico_augment.images import convert, values
from glico_augment.images.identity import digests

T = TypeVar("T")
ON_ERROR = ("raise", "skip")


class Unreadable(NamedTuple):
    """A sample that could not be read.

    Attributes:
        error: a TypeError or ValueError that says which image, its file where the dataset tells it, and why.
        label: where the dataset tells it.
        is_skippable: whether the image is to blame, and not the dataset as a whole.
    """

    error: Exception
    label: int | None
    is_skippable: bool


@dataclass(frozen=True)
class Sample:
    """An image in the canonical form, its digest by channels, and its label; 0 where labels are not read."""

    index: int
    image: Tensor
    digests: dict[int, int]
    label: int


def read_sample(
    dataset: Any, index: int, layout: SampleLayout, use: Callable[[Any], T], *, with_label: bool, name: str = "image"
) -> tuple[T, int]:
    """What ``use`` makes of the image of a sample, and its label.

    Args:
        dataset: map-style.
        index: of the sample.
        layout: where a sample has its image and its label.
        use: called before another sample is read: a dataset may hand out one buffer again and again.
        with_label: whether the label is read; else it is 0, and what may stand beside an image is ignored.
        name: what an image is called in messages.

    Raises:
        TypeError, ValueError: for a sample that cannot be read; the message names the index, and the file where the
            dataset has ``samples`` as torchvision's folders do.
    """
    read = _try_to_read(dataset, index, layout, use, with_label=with_label, name=name)
    if isinstance(read, Unreadable):
        raise read.error
    return read


def read_samples(
    dataset: Any,
    layout: SampleLayout,
    size: tuple[int, int] | None = None,
    *,
    num_workers: int = 0,
    with_labels: bool,
    name: str = "image",
    unreadable: list[Unreadable] | None = None,
) -> Iterator[Sample]:
    """The samples of a dataset, in order, as :func:`read_sample` reads them.

    Args:
        dataset: map-style.
        layout: where a sample has its image and its label.
        size: ``(height, width)`` to bring images to; None leaves them.
        num_workers: processes that read; 0 for this one, as in a daemonic process.
        with_labels: whether labels are read.
        name: what an image is called in messages.
        unreadable: takes the images that cannot be read, which are left out; None raises instead.

    Raises:
        TypeError, ValueError: for a sample that has no image and label, or a label that is no integer; for an image
            that cannot be read, where ``unreadable`` is None; and if none can be read.
    """
    use = functools.partial(_canonical, size=size)
    read = read_each(
        dataset, layout, use, num_workers=num_workers, with_labels=with_labels, name=name, unreadable=unreadable
    )
    for index, (image, its_digests), label in read:
        # What a worker sends lies in shared memory, with a file descriptor.
        yield Sample(index, image.clone() if num_workers else image, its_digests, label)


def read_each(
    dataset: Any,
    layout: SampleLayout,
    use: Callable[[Any], T],
    *,
    indices: Sequence[int] | None = None,
    num_workers: int = 0,
    with_labels: bool,
    name: str = "image",
    unreadable: list[Unreadable] | None = None,
) -> Iterator[tuple[int, T, int]]:
    """The index of each sample, what ``use`` makes of its image, and its label; see :func:`read_samples`.

    ``indices`` are those to read, None for all.
    """
    read_one = functools.partial(_try_to_read, dataset, layout=layout, use=use, with_label=with_labels, name=name)
    if multiprocessing.current_process().daemon:
        num_workers = 0  # it may start none
    chosen: Any = range(len(dataset)) if indices is None else indices
    # Samples are read where they are collated: in the workers. The generator keeps the loader from drawing its seed
    # from torch's global one.
    with cpu_by_default():  # torch's loader draws a number
        loader: DataLoader[Any] = DataLoader(
            chosen, batch_size=None, num_workers=num_workers, collate_fn=read_one, generator=torch.Generator()
        )
        all_read = iter(loader)
    for index, read in zip(chosen, all_read, strict=True):
        if not isinstance(read, Unreadable):
            yield index, *read
        elif unreadable is None or not read.is_skippable:
            raise read.error
        else:
            unreadable.append(read)
    if unreadable and len(unreadable) == len(chosen):
        raise ValueError(f"none of the {len(chosen)} images could be read; {unreadable[0].error}")


def read_raw(dataset: Any, index: int) -> Any:
    """``dataset[index]`` as it is; what it raises is a ValueError or TypeError that names the index, and the file."""
    try:
        return dataset[index]
    except Exception as error:
        count = len(dataset)
        if isinstance(error, IndexError) and not -count <= index < count:
            raise  # which ends a loop over the dataset
        raise _in_words(dataset, index % count, "image", error) from error


def skipped_by(on_error: str) -> list[Unreadable] | None:
    """What :func:`read_each` takes as ``unreadable`` for an ``on_error`` of ``"raise"`` or ``"skip"``."""
    return None if checks.choice(ON_ERROR)("on_error", on_error) == "raise" else []


def warn_of_skipped(skipped: Sequence[str], total: int) -> None:
    """Warn that images of ``total`` were skipped, with a line for each; of none nothing is said."""
    if skipped:
        lines = "\n  ".join(skipped)
        warn(f"{len(skipped)} of {total} images were skipped:\n  {lines}")


def _try_to_read(
    dataset: Any, index: int, layout: SampleLayout, use: Callable[[Any], T], *, with_label: bool, name: str
) -> tuple[T, int] | Unreadable:
    """What :func:`read_sample` returns, or what it raises: a worker would turn its message into a traceback."""
    is_skippable = True
    try:
        sample = dataset[index]
        is_skippable = False
        label = 0
        if with_label:
            image, raw_label = layout.split(sample)
            check_sample(sample)
            label = read_label(raw_label)
        else:
            image = layout.image(sample)
        is_skippable = True
        return use(image), label
    except Exception as error:
        in_words = _in_words(dataset, index, name, error)
        in_words.__cause__ = error
        return Unreadable(in_words, _file_and_label(dataset, index)[1], is_skippable)


def _in_words(dataset: Any, index: int, name: str, error: Exception) -> Exception:
    """An error that names the image, and its file, as a type that takes a message."""
    kind = TypeError if isinstance(error, TypeError) else ValueError
    file, _ = _file_and_label(dataset, index)
    place = f"{name} {index}" if file is None else f"{name} {index} ({shown(file)})"
    return kind(f"{place} could not be read: {str(error) or type(error).__name__}")


def _canonical(image: Any, size: tuple[int, int] | None) -> tuple[Tensor, dict[int, int]]:
    """A copy of an image in the canonical form and of a size, and the digests of the image itself."""
    canonical = convert.to_uint8(image)
    resized = canonical if size is None else values.resize(canonical[None], size)[0]
    return resized.clone(), digests(canonical)


def _file_and_label(dataset: Any, index: int) -> tuple[str | None, int | None]:
    """The file of an image and its label, of a dataset with ``samples`` as torchvision's folders have them."""
    while isinstance(dataset, (Subset, ConcatDataset)):
        if isinstance(dataset, Subset):
            dataset, index = dataset.dataset, int(dataset.indices[index])
        else:
            part = bisect.bisect_right(dataset.cumulative_sizes, index)
            index -= dataset.cumulative_sizes[part - 1] if part else 0
            dataset = dataset.datasets[part]
    samples = getattr(dataset, "samples", None)
    entry = samples[index] if isinstance(samples, (list, tuple)) and index < len(samples) else None
    if not isinstance(entry, (list, tuple)) or len(entry) != 2 or not isinstance(entry[0], (str, os.PathLike)):
        return None, None
    label = entry[1] if getattr(dataset, "target_transform", None) is None else None
    return os.fspath(entry[0]), label if isinstance(label, int) else None
