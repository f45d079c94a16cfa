"""Images to fit and images to judge on, which no fit has seen."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from shared.data import Labelled, load_images

SOURCES = {
    "mnist": ("mnist/train", "mnist/test", None),
    "omniglot": ("omniglot/background", "omniglot/evaluation", 28),
    "signs": ("signs/train", "signs/test", 32),
    "cifar10": ("cifar10/train", "cifar10/test", None),
}
"""Folders of the training and of the test part, and the side that images are resized to."""


@lru_cache(maxsize=4)
def load(root: Path, name: str, part: str) -> Labelled:
    """All images of ``"train"`` or ``"test"``; strokes are grey, and white on black."""
    train, test, side = SOURCES[name]
    images, labels = load_images(root / (train if part == "train" else test), side)
    if name in ("mnist", "omniglot"):
        images = images[:, :1].clone()
    return (255 - images if name == "omniglot" else images), labels


def split(labelled: Labelled, count: int, seed: int) -> tuple[Labelled, Labelled]:
    """``count`` random images, all if there are fewer, and the others."""
    images, labels = labelled
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    first, others = order[:count], order[count:]
    return (images[first], labels[first]), (images[others], labels[others])
