"""The small classifier of ``glico demo`` and how it is trained."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

from glico_augment.cli.demo_data import Images

_BATCH_SIZE = 50


def accuracy(
    dataset: Dataset[Any], test: Images, *, n_classes: int, steps: int, seed: int, device: torch.device
) -> float:
    """Train a classifier on a dataset of uint8 images and labels; its accuracy on ``test`` in percent.

    One seed gives one initial network and one order of the images, whatever the dataset does to them.
    """
    torch.manual_seed(seed)
    channels, height, width = test.images.shape[1:]
    network = _network(channels, n_classes, min(height, width)).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    batch_size = min(_BATCH_SIZE, len(dataset))  # type: ignore[arg-type]
    sampler = RandomSampler(dataset, num_samples=steps * batch_size)  # type: ignore[arg-type]
    for images, labels in DataLoader(dataset, batch_size, sampler=sampler):
        shifted = random_shift(images.to(device).float() / 255, at_most=max(1, width // 8))
        loss = F.cross_entropy(network(shifted), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        guesses = [network(chunk.to(device).float() / 255).argmax(1).cpu() for chunk in test.images.split(256)]
    return 100 * (torch.cat(guesses) == test.labels).float().mean().item()


def random_shift(images: Tensor, *, at_most: int) -> Tensor:
    """Move each image of a batch up to so many pixels in each direction, repeating its edge.

    Args:
        images: ``(k, channels, height, width)`` float.
        at_most: pixels.
    """
    count, channels, height, width = images.shape
    padded = F.pad(images, [at_most] * 4, mode="replicate")
    starts = torch.randint(2 * at_most + 1, (2, count, 1))
    rows, columns = (starts + torch.arange(max(height, width))).to(images.device)
    of_image, of_channel = (torch.arange(size, device=images.device) for size in (count, channels))
    return padded[
        of_image[:, None, None, None],
        of_channel[:, None, None],
        rows[:, None, :height, None],
        columns[:, None, None, :width],
    ]


def _network(channels: int, n_classes: int, side: int) -> nn.Module:
    """Convolutions that halve the image until it is small, 32 channels wide and wider."""
    layers: list[nn.Module] = [nn.BatchNorm2d(channels)]
    width_in, width = channels, 32
    while True:
        layers += [nn.Conv2d(width_in, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        width_in, width = width, min(2 * width, 128)
        if side < 6:
            break
        layers.append(nn.MaxPool2d(2))
        side //= 2
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width_in, n_classes))
