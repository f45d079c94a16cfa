"""The network of the few-shot literature, and EasyFSL's prototypical network on it."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from easyfsl.methods import PrototypicalNetworks
from latent.episodes import draw_rows, labels_of
from latent.images import Images
from torch import nn

LEARNING_RATE = 1e-3


def conv4(channels: int, width: int = 64) -> nn.Sequential:
    """Four blocks of convolution, batch normalisation, ReLU and pooling (Snell, Swersky & Zemel, NeurIPS 2017)."""
    layers: list[nn.Module] = []
    for inputs in (channels, width, width, width):
        layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten())


def train(backbone: nn.Module, episodes: Iterable, count: int, device: str) -> dict[str, float]:
    """Train on ``count`` episodes, one a step, by Adam; seconds and the mean accuracy of the last tenth of episodes."""
    network = PrototypicalNetworks(backbone).to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    start, right = time.perf_counter(), []
    for episode in itertools.islice(iter(episodes), count):
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
def pixel_accuracy(episodes: Iterable, count: int) -> float:
    """Accuracy in % of the nearest mean image over ``count`` episodes: how much there is to learn from them."""
    network = PrototypicalNetworks(nn.Flatten()).eval()
    right = []
    for support_images, support_labels, query_images, query_labels, *_ in itertools.islice(iter(episodes), count):
        network.process_support_set(support_images, support_labels)
        right.append((network(query_images).argmax(dim=1) == query_labels).float().mean().item())
    return 100 * sum(right) / len(right)


@torch.no_grad()
def score(
    backbone: nn.Module, images: Images, n_way: int, n_shot: int, n_query: int, n_tasks: int, seed: int, device: str
) -> dict[str, float]:
    """Mean accuracy in % over tasks of real images and half of its 95 % interval; one seed draws the same tasks."""
    backbone.eval()
    values = images.images.float() / 255
    features = torch.cat([backbone(chunk.to(device)).cpu() for chunk in values.split(250)])
    network = PrototypicalNetworks(nn.Identity()).eval()  # an image's features do not depend on the task
    generator = torch.Generator().manual_seed(seed)
    support_labels, query_labels = labels_of(n_way, n_shot), labels_of(n_way, n_query)
    right = []
    for _ in range(n_tasks):
        support, query = draw_rows(images.labels, n_way, n_shot, n_query, generator)
        network.process_support_set(features[support], support_labels)
        right.append((network(features[query]).argmax(dim=1) == query_labels).float().mean())
    accuracies = 100 * torch.stack(right)
    return {"accuracy": accuracies.mean().item(), "half_width": 1.96 * accuracies.std().item() / math.sqrt(n_tasks)}
