"""The order in which a fit sees its images."""

from __future__ import annotations

import torch
from torch import Tensor


class ShuffledPasses:
    """An endless run of shuffled passes over a set, cut into batches, which may reach over the end of a pass.

    Args:
        n_images: of the set.
        batch_size: images a batch; may be more than the set has.
        rng: source of the shuffles, on the CPU.

    Attributes:
        left: ``(k,)`` int64, what is shuffled and not in a batch yet.
    """

    def __init__(self, n_images: int, batch_size: int, rng: torch.Generator) -> None:
        self.n_images, self.batch_size, self.rng = n_images, batch_size, rng
        self.left = torch.empty(0, dtype=torch.int64)

    def next_batch(self) -> Tensor:
        """The indices of the next images, ``(batch_size,)``."""
        while len(self.left) < self.batch_size:
            self.left = torch.cat([self.left, torch.randperm(self.n_images, generator=self.rng)])
        batch, self.left = self.left[: self.batch_size], self.left[self.batch_size :].clone()
        return batch
