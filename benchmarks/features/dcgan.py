"""A DCGAN (Radford et al. 2016); features are those of its discriminator."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from features.training import batches, centred

GRID = 4
"""Each layer of the discriminator is max-pooled to 4 × 4, as Radford et al. do."""


class Discriminator(nn.Module):
    """Three strided convolutions and a linear layer."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = [channels, width, 2 * width, 4 * width]
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(widths[level], widths[level + 1], 5, 2, 2),
                nn.BatchNorm2d(widths[level + 1]) if level else nn.Identity(),
                nn.LeakyReLU(0.2),
            )
            for level in range(3)
        )
        self.head = nn.LazyLinear(1)

    def forward(self, images: Tensor) -> Tensor:
        for layer in self.layers:
            images = layer(images)
        return self.head(images.flatten(1)).flatten()

    def features(self, images: Tensor) -> Tensor:
        pooled = []
        for layer in self.layers:
            images = layer(images)
            pooled.append(F.adaptive_max_pool2d(images, GRID).flatten(1))
        return torch.cat(pooled, dim=1)


def generator(image_shape: tuple[int, int, int], noise_dim: int, width: int) -> nn.Sequential:
    channels, height, width_px = image_shape
    return nn.Sequential(
        nn.Linear(noise_dim, 4 * width * (height // 4) * (width_px // 4)),
        nn.Unflatten(1, (4 * width, height // 4, width_px // 4)),
        nn.BatchNorm2d(4 * width),
        nn.ReLU(),
        nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * width, channels, 4, 2, 1),
        nn.Tanh(),
    )


def train(
    images: Tensor, *, steps: int, batch_size: int, seed: int, device: torch.device, width: int, noise_dim: int = 64
) -> tuple[Discriminator, float]:
    """The discriminator, and the share of real and made images that it told apart in the last tenth of the steps."""
    maker = generator(tuple(images.shape[1:]), noise_dim, width).to(device)
    judge = Discriminator(images.shape[1], width).to(device)
    judge(centred(images[:2].to(device)))  # the lazy layer
    rates = {"lr": 2e-4, "betas": (0.5, 0.999)}
    of_maker, of_judge = torch.optim.Adam(maker.parameters(), **rates), torch.optim.Adam(judge.parameters(), **rates)
    right = []
    for batch in batches(images, batch_size, steps, seed, device):
        made = maker(torch.randn(len(batch), noise_dim, device=device))
        of_real, of_made = judge(centred(batch)), judge(made.detach())
        of_judge.zero_grad()
        (F.softplus(-of_real) + F.softplus(of_made)).mean().backward()
        of_judge.step()
        of_maker.zero_grad()
        F.softplus(-judge(made)).mean().backward()
        of_maker.step()
        right.append(((of_real > 0).float() + (of_made < 0).float()).mean().detach() / 2)
    return judge.eval(), torch.stack(right[-max(1, steps // 10) :]).mean().item()
