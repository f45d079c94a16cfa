"""Which images of MNIST are of base classes and which of new ones, and who sees them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from accuracy.data import load_parts
from accuracy.training import Swap
from features.pools import Labelled, ranks
from torch import Tensor


@dataclass(frozen=True)
class World:
    """The images of a seed: uint8 grey, with the labels of the data set.

    Attributes:
        base: all training images of the base classes.
        new: those drawn of the new classes.
        reference: real images of the new classes, which the made ones are compared with.
        judged_by: images of all classes to train the judge on.
        test: images of the new classes to test on.
    """

    base: Labelled
    new: Labelled
    reference: Labelled
    judged_by: Labelled
    test: Labelled


def load_world(root: Path, n_base: int, per_class: int, seed: int) -> World:
    """The world of a seed, which draws ``per_class`` images of each class from ``n_base`` on.

    The new classes' images that are not drawn go half to the judge, half to the reference. The methods see all training
    images of the base classes, so the judge learns those classes from the test part.
    """
    (images, labels), (test_images, test_labels) = load_parts(root, "mnist", None)
    images, test_images = images[:, :1], test_images[:, :1]
    is_base, is_base_test = labels < n_base, test_labels < n_base
    rank = ranks(labels, seed)
    is_drawn = ~is_base & (rank < per_class)
    is_reference = ~is_base & ~is_drawn & (rank % 2 == 0)
    is_judge = ~is_base & ~is_drawn & ~is_reference
    judged_by = (
        torch.cat([images[is_judge], test_images[is_base_test]]),
        torch.cat([labels[is_judge], test_labels[is_base_test]]),
    )
    return World(
        (images[is_base], labels[is_base]),
        (images[is_drawn], labels[is_drawn]),
        (images[is_reference], labels[is_reference]),
        judged_by,
        (test_images[~is_base_test], test_labels[~is_base_test]),
    )


def replace_half(made: Tensor, made_labels: Tensor) -> Swap:
    """A swap of half of the images for random ones of ``made`` of their class."""
    members = made_labels[None] == torch.arange(int(made_labels.max()) + 1)[:, None]

    def swap(images: Tensor, labels: Tensor, indices: Tensor) -> Tensor:
        chosen = torch.multinomial(members[labels.cpu()].float(), 1).flatten()
        coins = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
        return torch.where(coins, made[chosen].to(images.device), images)

    return swap
