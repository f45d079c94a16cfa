"""Wide residual network (Zagoruyko & Komodakis 2016), pre-activation, of any depth 6·n + 4 and width."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class WideResNet(nn.Module):
    """WRN-``depth``-``width`` over images ``(k, channels, height, width)``; larger images get a strided stem.

    ``dropout`` is the probability with which a feature between the two convolutions of a block is left out.
    """

    def __init__(
        self, n_classes: int, *, depth: int = 10, width: int = 2, side: int = 32, dropout: float = 0.0
    ) -> None:
        super().__init__()
        widths = [16, 16 * width, 32 * width, 64 * width]
        self.stem = nn.Conv2d(3, widths[0], 3, stride=2 if side > 40 else 1, padding=1, bias=False)
        blocks = []
        for stage in range(3):
            for index in range((depth - 4) // 6):
                stride = 2 if index == 0 and stage > 0 else 1
                channels_in = widths[stage + (index > 0)]
                blocks.append(_Block(channels_in, widths[stage + 1], stride, dropout))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(widths[-1])
        self.head = nn.Linear(widths[-1], n_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """What the last layer sees, ``(k, 64·width)``."""
        return F.relu(self.norm(self.blocks(self.stem(images)))).mean(dim=(2, 3))


class _Block(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        needs_projection = stride != 1 or channels_in != channels_out
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False) if needs_projection else None

    def forward(self, features: Tensor) -> Tensor:
        activated = F.relu(self.norm1(features))
        shortcut = features if self.shortcut is None else self.shortcut(activated)
        hidden = F.relu(self.norm2(self.conv1(activated)))
        if self.dropout:
            hidden = F.dropout(hidden, self.dropout, self.training)
        return shortcut + self.conv2(hidden)
