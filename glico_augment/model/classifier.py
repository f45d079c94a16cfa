"""The joint classifier ``F`` whose cross-entropy shapes the sphere during the fit."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Classifier(nn.Module):
    """A small convolutional network over generated images, trained with the generator and the codes.

    Args:
        channels: channels of the images.
        n_classes: number of classes.
        width: channels of the first layer; each of the two following layers doubles them.
    """

    def __init__(self, channels: int, n_classes: int, width: int = 32) -> None:
        super().__init__()
        widths = [channels, width, 2 * width, 4 * width]
        self.convs = nn.ModuleList(
            nn.Conv2d(width_in, width_out, 3, stride=2, padding=1) for width_in, width_out in itertools.pairwise(widths)
        )
        self.head = nn.Linear(widths[-1], n_classes)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(k, n_classes)`` of images ``(k, channels, height, width)`` in ``[0, 1]``."""
        features = images * 2 - 1
        for conv in self.convs:
            features = F.leaky_relu(conv(features), 0.2)
        return self.head(features.mean(dim=(2, 3)))
