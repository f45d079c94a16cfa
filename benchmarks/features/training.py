"""What the networks share: images as numbers, batches, and passes over many images."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

CHUNK = 250


def unit(images: Tensor) -> Tensor:
    """uint8 as float in ``[0, 1]``."""
    return images.float() / 255


def centred(images: Tensor) -> Tensor:
    """uint8 as float in ``[−1, 1]``."""
    return images.float() / 127.5 - 1


def batches(images: Tensor, batch_size: int, steps: int, seed: int, device: torch.device) -> Iterator[Tensor]:
    """``steps`` batches of uint8 images, in an order of the seed, each image once a pass."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        while len(order) < batch_size:
            order = torch.cat([order, torch.randperm(len(images), generator=generator)])
        yield images[order[:batch_size]].to(device)
        order = order[batch_size:]


@torch.no_grad()
def in_chunks(describe: Callable[[Tensor], Tensor], images: Tensor, device: torch.device) -> Tensor:
    """``describe`` of uint8 images, some at a time, on the CPU, flat."""
    return torch.cat([describe(chunk.to(device)).flatten(1).float().cpu() for chunk in images.split(CHUNK)])
