"""Few-shot tasks of real images, and of single images and their augmentations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from latent.images import Images
from torch import Tensor

LARGEST_SHIFT = 6  # pixels, as UMTRA has on Omniglot
HIDDEN = 0.1  # share of the pixels that are made black


class Episode(NamedTuple):
    """The parts of :class:`glico_augment.tasks.Task` that a network is trained on, images as float in ``[0, 1]``."""

    support_images: Tensor
    support_labels: Tensor
    query_images: Tensor
    query_labels: Tensor


def labels_of(n_way: int, count: int) -> Tensor:
    return torch.arange(n_way).repeat_interleave(count)


def draw_rows(
    labels: Tensor, n_way: int, n_shot: int, n_query: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Indices of the support ``(n_way · n_shot,)`` and of the queries of one task of real images, by class.

    Raises:
        ValueError: for fewer classes than ways, or a class with too few images.
    """
    classes, counts = labels.unique(return_counts=True)
    if len(classes) < n_way or int(counts.min()) < n_shot + n_query:
        raise ValueError(
            f"a task needs {n_way} classes of {n_shot + n_query} images; there are {len(classes)} of at least "
            f"{int(counts.min())}"
        )
    chosen = classes[torch.randperm(len(classes), generator=generator)[:n_way]]
    members = [(labels == label).nonzero()[:, 0] for label in chosen]
    drawn = torch.stack([rows[torch.randperm(len(rows), generator=generator)[: n_shot + n_query]] for rows in members])
    return drawn[:, :n_shot].flatten(), drawn[:, n_shot:].flatten()


def real(images: Images, n_way: int, n_shot: int, n_query: int, seed: int) -> Iterator[Episode]:
    """Endless tasks of labelled images, those of the supervised ceiling."""
    generator = torch.Generator().manual_seed(seed)
    values = images.images.float() / 255
    while True:
        support, query = draw_rows(images.labels, n_way, n_shot, n_query, generator)
        yield Episode(values[support], labels_of(n_way, n_shot), values[query], labels_of(n_way, n_query))


def augmented(images: Tensor, n_way: int, n_shot: int, n_query: int, seed: int) -> Iterator[Episode]:
    """Endless tasks of single images: a class is an image as it is and, as queries, augmented, as in UMTRA
    (Khodadadeh, Bölöni & Shah, NeurIPS 2019); with more than one shot the others are augmented as well.
    """
    generator = torch.Generator().manual_seed(seed)
    values = images.float() / 255
    while True:
        anchors = torch.randperm(len(images), generator=generator)[:n_way]
        support = values[anchors].repeat_interleave(n_shot, dim=0)
        is_own = torch.arange(len(support)) % n_shot == 0
        support = torch.where(is_own.view(-1, 1, 1, 1), support, augment(support, generator))
        query = augment(values[anchors].repeat_interleave(n_query, dim=0), generator)
        yield Episode(support, labels_of(n_way, n_shot), query, labels_of(n_way, n_query))


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images ``(k, channels, height, width)`` shifted by whole pixels over black, and a share of pixels made black."""
    height, width = images.shape[-2:]
    padded = F.pad(images, [LARGEST_SHIFT] * 4)
    top, left = torch.randint(2 * LARGEST_SHIFT + 1, (2, len(images), 1), generator=generator)
    rows, columns = top + torch.arange(height), left + torch.arange(width)
    which = torch.arange(len(images)).view(-1, 1, 1)
    shifted = padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    is_seen = torch.rand(len(images), 1, height, width, generator=generator) >= HIDDEN
    return shifted * is_seen
