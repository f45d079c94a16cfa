"""The images of ``glico demo``: scikit-learn's digits or a folder, and a few of them a class to train on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from glico_augment.data.folders import ClassFolders
from glico_augment.data.image_set import read_image_set
from glico_augment.devices import check_memory, memory_of
from glico_augment.images import values


class Images(Dataset[tuple[Tensor, int]]):
    """Images in memory.

    Args:
        images: ``(n, channels, height, width)`` uint8.
        labels: ``(n,)`` int64.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])


class Splits(NamedTuple):
    """All images to draw from, those to test on, and the names of the classes, whose labels count from 0."""

    train: Images
    test: Images
    names: tuple[str, ...]


def digits(size: tuple[int, int] | None = None) -> Splits:
    """Scikit-learn's handwritten digits, half to train on and half to test.

    Args:
        size: ``(height, width)`` to bring them to; None for their 8 × 8.

    Raises:
        ModuleNotFoundError: without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ModuleNotFoundError(
            "the digits of the demo come with scikit-learn: pip install 'glico-augment[demo]', or --data FOLDER"
        ) from error
    loaded = load_digits()
    images = torch.from_numpy(loaded.images * (255 / 16)).round().to(torch.uint8)[:, None]
    if size is not None:
        _check_size(len(images), size)
        images = values.resize(images, size)
    labels = torch.from_numpy(loaded.target)
    train, test = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).tensor_split(2)
    return Splits(Images(images[train], labels[train]), Images(images[test], labels[test]), tuple(map(str, range(10))))


def folder(root: Path, size: tuple[int, int] | None = None) -> Splits:
    """The images of ``root/train`` and ``root/test``, one folder a class in each.

    Args:
        root: the folder that holds both.
        size: ``(height, width)`` to bring them to; None for the size of the training images, or 64 × 64 if they differ.

    Raises:
        FileNotFoundError: if one of the two is not there.
        ValueError: if they hold different classes.
    """
    for part in ("train", "test"):
        if not (root / part).is_dir():
            raise FileNotFoundError(f"no such folder: {root / part} (expected {root} to hold train/ and test/)")
    train_files, test_files = ClassFolders(root / "train"), ClassFolders(root / "test")
    if size is not None:
        _check_size(len(train_files) + len(test_files), size)
    if train_files.classes != test_files.classes:
        raise ValueError(f"train/ and test/ hold different classes: {train_files.classes} and {test_files.classes}")
    train = read_image_set(train_files, image_size=size)
    test = read_image_set(test_files, image_size=train.image_shape[1:])
    return Splits(Images(train.images, train.labels), Images(test.images, test.labels), tuple(train_files.classes))


def _check_size(count: int, size: tuple[int, int]) -> None:
    """Raise ValueError if so many images of a size do not fit into memory."""
    memory = memory_of(torch.device("cpu"))
    check_memory(count * math.prod(size), f"a demo with {count} images", "lower --image-size", memory=memory)


def draw_few(splits: Splits, count: int, *, seed: int) -> Images:
    """``count`` random training images of each class.

    Raises:
        ValueError: if a class has fewer.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for label, name in enumerate(splits.names):
        members = (splits.train.labels == label).nonzero().flatten()
        if len(members) < count:
            raise ValueError(f"--per-class {count}: class {name!r} has {len(members)} training images")
        chosen.append(members[torch.randperm(len(members), generator=generator)[:count]])
    indices = torch.cat(chosen)
    return Images(splits.train.images[indices], splits.train.labels[indices])
