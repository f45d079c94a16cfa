"""Images of a setting: loaded once as uint8, and split by seed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torchvision
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from accuracy.packed import PackedFolder

VALIDATION_PER_CLASS = 300
PARTS = ("train", "test")
OMNIGLOT_PARTS = ("background", "evaluation")


@dataclass(frozen=True)
class Split:
    """Training images of one seed and those that are scored, uint8 ``(n, 3, side, side)`` with int64 labels."""

    images: Tensor
    labels: Tensor
    eval_images: Tensor
    eval_labels: Tensor

    def to(self, device: torch.device) -> Split:
        return Split(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


def make_split(root: Path, data: str, side: int | None, per_class: int, seed: int, part: str) -> Split:
    """``per_class`` random training images a class, and what to score on.

    Args:
        root: folder of the folders of images, packed or not, and of torchvision's downloads.
        data: see :class:`Setting`.
        side: see :class:`Setting`.
        per_class: see :class:`Setting`.
        seed: of the draw.
        part: ``"test"``; ``"validation"``, up to 300 a class of the training images that were not drawn; or ``"rest"``,
            all of those.
    """
    (images, labels), test = load_parts(root, data, side)
    generator = torch.Generator().manual_seed(seed)
    drawn, others = [], []
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        if len(members) < per_class:
            raise ValueError(f"{data} has {len(members)} training images of class {label}, fewer than {per_class}")
        members = members[torch.randperm(len(members), generator=generator)]
        drawn.append(members[:per_class])
        others.append(members[per_class:][: None if part == "rest" else VALIDATION_PER_CLASS])
    chosen, rest = torch.cat(drawn), torch.cat(others)
    scored = test if part == "test" else (images[rest], labels[rest])
    return Split(images[chosen], labels[chosen], *scored)


@lru_cache(maxsize=8)
def load_parts(root: Path, data: str, side: int | None) -> list[tuple[Tensor, Tensor]]:
    if data == "digits":
        return _load_digits(side)
    if data == "omniglot":
        return load_omniglot(root / data / "background", side)
    if data not in ("CIFAR10", "CIFAR100"):
        return [load_images(root / data / part, side) for part in PARTS]
    download = getattr(torchvision.datasets, data)
    return [_stacked(download(root, train=train, transform=_to_tensor(side), download=True)) for train in (True, False)]


def _to_tensor(side: int | None) -> v2.Compose:
    return v2.Compose([v2.PILToTensor(), *([v2.Resize((side, side), antialias=True)] if side else [])])


def load_omniglot(folder: Path, side: int | None) -> list[tuple[Tensor, Tensor]]:
    """Every other of the 20 drawers of a character to draw training images from, the others to test on."""
    stacked, numbers = load_images(folder, side)
    first_of_class = torch.cat([torch.zeros(1).long(), numbers.bincount().cumsum(0)[:-1]])
    is_train = (torch.arange(len(numbers)) - first_of_class[numbers]) % 2 == 0
    return [(stacked[chosen], numbers[chosen]) for chosen in (is_train, ~is_train)]


def load_images(folder: Path, side: int | None) -> tuple[Tensor, Tensor]:
    """All images of a folder of classes, packed or not, uint8 ``(n, 3, height, width)``, and their int64 labels."""
    if folder.is_dir():
        return _stacked(ImageFolder(folder, transform=_to_tensor(side)))
    return _stacked(PackedFolder(folder.parent.with_suffix(".zip"), folder.name, transform=_to_tensor(side)))


def _stacked(dataset: Dataset) -> tuple[Tensor, Tensor]:
    images, labels = zip(*dataset, strict=True)
    return torch.stack(images), torch.tensor(labels)


def _load_digits(side: int | None) -> list[tuple[Tensor, Tensor]]:
    """Scikit-learn's handwritten digits, 8 × 8 grey, as RGB."""
    from accuracy.digits import digits  # scikit-learn is needed here alone

    def enlarge(images: Tensor) -> Tensor:
        images = images.expand(-1, 3, -1, -1)
        return v2.functional.resize(images, [side, side], antialias=True) if side else images.contiguous()

    return [(enlarge(images), labels) for images, labels in digits()]
