"""Scikit-learn's handwritten digits."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor

Split = tuple[Tensor, Tensor]


def digits() -> tuple[Split, Split]:
    """Half to train and half to test on: uint8 images ``(n, 1, 8, 8)`` and labels."""
    loaded = load_digits()
    images = torch.from_numpy(loaded.images * (255 / 16)).round().to(torch.uint8)[:, None]
    labels = torch.from_numpy(loaded.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, test = order.tensor_split(2)
    return (images[train], labels[train]), (images[test], labels[test])
