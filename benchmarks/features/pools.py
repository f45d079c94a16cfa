"""Which images features are learned from, which are labelled, and which are scored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from accuracy.data import load_parts
from torch import Tensor

GREY = ("mnist", "digits")
"""Sets whose three channels are alike."""

Labelled = tuple[Tensor, Tensor]
"""Images uint8 ``(n, channels, height, width)`` and labels ``(n,)`` int64."""


@dataclass(frozen=True)
class Pool:
    """The images of a data set: ``train`` to learn from without labels, and to draw labelled images from."""

    train: Labelled
    validation: Labelled
    test: Labelled

    @property
    def n_classes(self) -> int:
        return int(self.train[1].max()) + 1

    def draw(self, seed: int, per_class: int) -> Tensor:
        """Indices of ``per_class`` training images a class; those of fewer are the first of those of more."""
        labels, generator = self.train[1], torch.Generator().manual_seed(seed)
        drawn = []
        for label in range(self.n_classes):
            members = (labels == label).nonzero().flatten()
            if len(members) < per_class:
                raise ValueError(f"class {label} has {len(members)} training images, fewer than {per_class}")
            drawn.append(members[torch.randperm(len(members), generator=generator)][:per_class])
        return torch.cat(drawn)


def load_pool(root: Path, data: str, validation: int, test: int) -> Pool:
    """A pool of the folder ``root/data``.

    Args:
        root: folder of the folders of images.
        data: name of one.
        validation: images a class of the training part that are kept out of it, to choose settings on.
        test: images a class of the test part that are scored, at most.
    """
    (images, labels), (test_images, test_labels) = load_parts(root, data, None)
    if data in GREY:
        images, test_images = images[:, :1], test_images[:, :1]
    rank = ranks(labels)
    if int(labels.bincount().min()) <= validation:
        raise ValueError(f"{data} has a class of {int(labels.bincount().min())} images, not more than {validation}")
    held, scored = rank < validation, ranks(test_labels) < test
    return Pool(
        (images[~held], labels[~held]),
        (images[held], labels[held]),
        (test_images[scored], test_labels[scored]),
    )


def ranks(labels: Tensor, seed: int = 0) -> Tensor:
    """The place of each image among those of its class, in a random order."""
    place = torch.empty_like(labels)
    generator = torch.Generator().manual_seed(seed)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        place[members] = torch.randperm(len(members), generator=generator)
    return place
