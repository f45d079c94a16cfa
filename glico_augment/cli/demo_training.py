"""The small classifier of ``glico demo`` and how it is trained."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glico_augment.cli.demo_data import Images

_BATCH_SIZE = 50

Change = Callable[[Tensor, Tensor], "tuple[Tensor, Tensor]"]
"""From uint8 images ``(k, channels, height, width)`` and their labels to both."""


def accuracy(
    few: Images, change: Change, test: Images, *, n_classes: int, steps: int, seed: int, device: torch.device
) -> float:
    """Train a classifier on batches of a few images, each of them changed; its accuracy on ``test`` in percent.

    One seed gives one initial network, one order of the images and one shift of each, whatever the change draws.
    """
    torch.manual_seed(seed)
    own_numbers = torch.Generator().manual_seed(seed)
    channels, height, width = test.images.shape[1:]
    network = _network(channels, n_classes, min(height, width)).to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    batch_size = min(_BATCH_SIZE, len(few))
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        while len(order) < batch_size:
            order = torch.cat([order, torch.randperm(len(few), generator=own_numbers)])
        indices, order = order[:batch_size], order[batch_size:]
        images, labels = change(few.images[indices].to(device), few.labels[indices].to(device))
        shifted = random_shift(images.float() / 255, at_most=largest_shift(width), generator=own_numbers)
        loss = F.cross_entropy(network(shifted), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        guesses = [network(chunk.to(device).float() / 255).argmax(1).cpu() for chunk in test.images.split(256)]
    return 100 * (torch.cat(guesses) == test.labels).float().mean().item()


def largest_shift(width: int) -> int:
    """Pixels by which images so wide are shifted at most: one in sixteen, none on smaller ones."""
    return width // 16


def random_shift(images: Tensor, *, at_most: int, generator: torch.Generator | None = None) -> Tensor:
    """Move each image of a batch up to so many pixels in each direction, repeating its edge.

    Args:
        images: ``(k, channels, height, width)`` float.
        at_most: pixels.
        generator: of the CPU, to draw from; None for torch's own.
    """
    count, channels, height, width = images.shape
    padded = F.pad(images, [at_most] * 4, mode="replicate")
    starts = torch.randint(2 * at_most + 1, (2, count, 1), generator=generator)
    rows, columns = (starts + torch.arange(max(height, width))).to(images.device)
    of_image, of_channel = (torch.arange(size, device=images.device) for size in (count, channels))
    return padded[
        of_image[:, None, None, None],
        of_channel[:, None, None],
        rows[:, None, :height, None],
        columns[:, None, None, :width],
    ]


def _network(channels: int, n_classes: int, side: int) -> nn.Module:
    """Convolutions, 16 channels wide to 64, that halve the image until it is small; a large one by its first stride."""
    stride = 2 if side > 16 else 1
    layers: list[nn.Module] = [nn.BatchNorm2d(channels), *_convolution(channels, 16, stride)]
    width, side = 16, side // stride
    while side >= 6:
        layers += [*_convolution(width, min(2 * width, 64)), nn.MaxPool2d(2)]
        width, side = min(2 * width, 64), side // 2
    layers += _convolution(width, 64)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, n_classes))


def _convolution(width_in: int, width: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
