"""Few-shot tasks of real images and of augmented ones, and EasyFSL's prototypical network, which learns from tasks."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import torch
import torch.nn.functional as F
from shared.data import Labelled
from torch import Tensor, nn

MAX_SHIFT = 6  # pixels, as UMTRA has on Omniglot
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
    size = n_shot + n_query
    if len(classes) < n_way or int(counts.min()) < size:
        there = f"there are {len(classes)} of at least {int(counts.min())}"
        raise ValueError(f"a task needs {n_way} classes of {size} images; {there}")
    chosen = classes[torch.randperm(len(classes), generator=generator)[:n_way]]
    members = [(labels == label).nonzero()[:, 0] for label in chosen]
    drawn = torch.stack([rows[torch.randperm(len(rows), generator=generator)[:size]] for rows in members])
    return drawn[:, :n_shot].flatten(), drawn[:, n_shot:].flatten()


def real(labelled: Labelled, n_way: int, n_shot: int, n_query: int, seed: int) -> Iterator[Episode]:
    """Endless tasks of labelled images, those of the supervised ceiling."""
    generator, values = torch.Generator().manual_seed(seed), labelled[0].float() / 255
    while True:
        support, query = draw_rows(labelled[1], n_way, n_shot, n_query, generator)
        yield Episode(values[support], labels_of(n_way, n_shot), values[query], labels_of(n_way, n_query))


def augmented(images: Tensor, n_way: int, n_shot: int, n_query: int, seed: int) -> Iterator[Episode]:
    """Endless tasks of single images: a class is an image as it is and, as queries, augmented, as in UMTRA
    (Khodadadeh, Bölöni & Shah, NeurIPS 2019); with more than one shot the others are augmented as well.
    """
    generator, values = torch.Generator().manual_seed(seed), images.float() / 255
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
    padded = F.pad(images, [MAX_SHIFT] * 4)
    top, left = torch.randint(2 * MAX_SHIFT + 1, (2, len(images), 1), generator=generator)
    rows, columns = top + torch.arange(height), left + torch.arange(width)
    which = torch.arange(len(images)).view(-1, 1, 1)
    shifted = padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return shifted * (torch.rand(len(images), 1, height, width, generator=generator) >= HIDDEN)


def conv4(channels: int, width: int = 64) -> nn.Sequential:
    """Four blocks of convolution, batch normalisation, ReLU and pooling (Snell, Swersky & Zemel, NeurIPS 2017)."""
    layers: list[nn.Module] = []
    for inputs in (channels, width, width, width):
        layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten())


def prototypical(backbone: nn.Module) -> nn.Module:
    from easyfsl.methods import PrototypicalNetworks  # needed here alone

    return PrototypicalNetworks(backbone)


def share_right(network: nn.Module, query: Tensor, labels: Tensor) -> Tensor:
    return (network(query).argmax(dim=1) == labels).float().mean()


def train(backbone: nn.Module, episodes: Iterable[Episode], count: int, device: str) -> dict[str, float]:
    """Train on ``count`` episodes, one per step, by Adam; seconds and the mean accuracy of the last tenth of them."""
    network = prototypical(backbone).to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    start, right = time.perf_counter(), []
    for episode in islice(iter(episodes), count):
        support_images, support_labels, query_images, query_labels = (part.to(device) for part in episode[:4])
        network.process_support_set(support_images, support_labels)
        scores = network(query_images)
        loss = F.cross_entropy(scores, query_labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        right.append((scores.argmax(dim=1) == query_labels).float().mean().item())
    last = right[-max(1, count // 10) :]
    return {"train_seconds": time.perf_counter() - start, "train_accuracy": 100 * sum(last) / len(last)}


@torch.no_grad()
def pixel_accuracy(episodes: Iterable[Episode], count: int) -> float:
    """Accuracy in % of the nearest mean image over ``count`` episodes: how much there is to learn from them."""
    network, right = prototypical(nn.Flatten()).eval(), []
    for support_images, support_labels, query_images, query_labels, *_ in islice(iter(episodes), count):
        network.process_support_set(support_images, support_labels)
        right.append(share_right(network, query_images, query_labels).item())
    return 100 * sum(right) / len(right)


@torch.no_grad()
def score(
    backbone: nn.Module, labelled: Labelled, n_way: int, n_shot: int, n_query: int, n_tasks: int, seed: int, device: str
) -> dict[str, float]:
    """Mean accuracy in % over tasks of real images and half of its 95 % interval; one seed draws the same tasks."""
    values = labelled[0].float() / 255
    features = torch.cat([backbone.eval()(chunk.to(device)).cpu() for chunk in values.split(250)])
    network, right = prototypical(nn.Identity()).eval(), []  # an image's features do not depend on the task
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n_tasks):
        support, query = draw_rows(labelled[1], n_way, n_shot, n_query, generator)
        network.process_support_set(features[support], labels_of(n_way, n_shot))
        right.append(share_right(network, features[query], labels_of(n_way, n_query)))
    accuracies = 100 * torch.stack(right)
    return {"accuracy": accuracies.mean().item(), "half_width": 1.96 * accuracies.std().item() / math.sqrt(n_tasks)}
