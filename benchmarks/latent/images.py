"""Images to fit and images to judge on, which no fit has seen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from shared.data import load_images
from torch import Tensor


@dataclass(frozen=True)
class Source:
    """A data set, as it is brought to the fit.

    Attributes:
        train, test: folders of a folder per class.
        side: images are resized to this; None leaves them.
        is_grey: one channel in place of three.
        is_inverted: white on black in place of black on white.
    """

    train: str
    test: str
    side: int | None = None
    is_grey: bool = False
    is_inverted: bool = False


SOURCES = {
    "mnist": Source("mnist/train", "mnist/test", is_grey=True),
    "omniglot": Source("omniglot/background", "omniglot/evaluation", 28, is_grey=True, is_inverted=True),
    "signs": Source("signs/train", "signs/test", 32),
    "cifar10": Source("cifar10/train", "cifar10/test"),
}


@dataclass(frozen=True)
class Images:
    """uint8 images ``(n, channels, height, width)`` and int64 labels ``(n,)``."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: Tensor) -> Images:
        return Images(self.images[rows], self.labels[rows])


@lru_cache(maxsize=4)
def load(root: Path, name: str, part: str) -> Images:
    """All images of ``"train"`` or ``"test"``; Omniglot's alphabets of ``background`` and of ``evaluation``."""
    source = SOURCES[name]
    images, labels = load_images(root / getattr(source, part), source.side)
    images = images[:, :1].clone() if source.is_grey else images
    return Images(255 - images if source.is_inverted else images, labels)


def split(train: Images, count: int, seed: int) -> tuple[Images, Images]:
    """``count`` random images, all if there are fewer, and the others."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    return train[order[:count]], train[order[count:]]
