"""A VAE (Kingma & Welling 2014) and a VQ-VAE (van den Oord et al. 2017), small and convolutional."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from features.training import batches, unit


def encoder(channels: int, width: int, channels_out: int) -> nn.Sequential:
    """To a quarter of the side."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(2 * width, channels_out, 3, 1, 1),
    )


def decoder(channels: int, width: int, channels_in: int) -> nn.Sequential:
    """From a quarter of the side to logits of pixels."""
    return nn.Sequential(
        nn.Conv2d(channels_in, 2 * width, 3, 1, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(width, channels, 4, 2, 1),
    )


class VAE(nn.Module):
    """Features are the means of the posterior, ``(k, latent_dim)``."""

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int = 32, width: int = 16) -> None:
        super().__init__()
        channels, height, width_px = image_shape
        self.inner = (width, height // 4, width_px // 4)
        size = width * (height // 4) * (width_px // 4)
        self.encode = nn.Sequential(encoder(channels, width, width), nn.ReLU(), nn.Flatten())
        self.to_posterior = nn.Linear(size, 2 * latent_dim)
        self.from_code = nn.Linear(latent_dim, size)
        self.decode = decoder(channels, width, width)

    def loss(self, images: Tensor) -> Tensor:
        """The negative evidence bound in nats an image."""
        mean, log_variance = self.to_posterior(self.encode(images)).chunk(2, dim=1)
        codes = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        logits = self.decode(F.relu(self.from_code(codes)).unflatten(1, self.inner))
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum() / 2
        return (F.binary_cross_entropy_with_logits(logits, images, reduction="sum") + divergence) / len(images)

    def features(self, images: Tensor) -> Tensor:
        return self.to_posterior(self.encode(images)).chunk(2, dim=1)[0]


class VQVAE(nn.Module):
    """Features are the quantised map, ``(k, code_dim, height / 4, width / 4)``."""

    def __init__(self, image_shape: tuple[int, int, int], n_codes: int = 128, code_dim: int = 16, width: int = 16):
        super().__init__()
        self.encode = encoder(image_shape[0], width, code_dim)
        self.decode = decoder(image_shape[0], width, code_dim)
        self.codebook = nn.Embedding(n_codes, code_dim)
        nn.init.normal_(self.codebook.weight, std=0.1)

    def loss(self, images: Tensor) -> Tensor:
        """Squared error in units of the images' variance, and the two pulls between map and codebook."""
        encoded = self.encode(images)
        quantised = self.quantise(encoded)
        pull = F.mse_loss(quantised, encoded.detach()) + 0.25 * F.mse_loss(encoded, quantised.detach())
        rebuilt = self.decode(encoded + (quantised - encoded).detach()).sigmoid()
        return F.mse_loss(rebuilt, images) / images.var() + pull

    def quantise(self, encoded: Tensor) -> Tensor:
        vectors = encoded.permute(0, 2, 3, 1)
        nearest = torch.cdist(vectors.flatten(0, 2), self.codebook.weight).argmin(dim=1)
        return self.codebook(nearest).view_as(vectors).permute(0, 3, 1, 2)

    def features(self, images: Tensor) -> Tensor:
        return self.quantise(self.encode(images))


def train(model: VAE | VQVAE, images: Tensor, *, steps: int, batch_size: int, seed: int, device: torch.device) -> float:
    """Train in place; the mean loss of the last tenth of the steps."""
    model.to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses = []
    for batch in batches(images, batch_size, steps, seed, device):
        loss = model.loss(unit(batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
    model.eval()
    return torch.stack(losses[-max(1, steps // 10) :]).mean().item()
