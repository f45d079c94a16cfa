"""Adam for the codes, row by row."""

from __future__ import annotations

import torch
from torch import Tensor

_EPSILON = 1e-8


class CodeAdam:
    """Adam (Kingma & Ba, ICLR 2015, algorithm 1) in which every row of a matrix keeps time by its own visits.

    A code is seen once per pass. Its moments decay, and the bias of their start is corrected, by the number of its own
    steps, so that a learning rate means the same whatever the number of images. Untouched rows stay put. The ``rows``,
    ``(n, d)``, are changed in place.
    """

    def __init__(self, rows: Tensor, betas: tuple[float, float]) -> None:
        self.rows = rows
        self.betas = betas
        self.first = torch.zeros_like(rows)
        self.second = torch.zeros_like(rows)
        self.visits = torch.zeros(len(rows), 1, dtype=rows.dtype, device=rows.device)

    @torch.no_grad()
    def step(self, indices: Tensor, gradients: Tensor, lr: float | Tensor) -> None:
        """One step of the rows ``indices``, ``(k,)``, along ``gradients``, ``(k, d)``, equal where an index repeats."""
        beta1, beta2 = self.betas
        visits = self.visits[indices] + 1
        first = torch.lerp(gradients, self.first[indices], beta1)
        second = torch.lerp(gradients.square(), self.second[indices], beta2)
        self.visits[indices], self.first[indices], self.second[indices] = visits, first, second
        scale = (second / (1 - beta2**visits)).sqrt_().add_(_EPSILON)
        self.rows[indices] -= lr * (first / (1 - beta1**visits)) / scale

    def state(self) -> dict[str, Tensor]:
        """The moments and visits, one row per image."""
        return {"first": self.first, "second": self.second, "visits": self.visits}
