"""Generative models that learn features without labels: VAE, VQ-VAE, DCGAN and a diffusion model, all small."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHUNK = 250
GRID = 4
"""Each layer of the discriminator is max-pooled to 4 × 4, as Radford et al. do."""
N_STEPS = 1000
"""Of the diffusion, with the linear schedule of Ho et al."""


def unit(images: Tensor) -> Tensor:
    """uint8 as float in ``[0, 1]``."""
    return images.float() / 255


def centred(images: Tensor) -> Tensor:
    """uint8 as float in ``[−1, 1]``."""
    return images.float() / 127.5 - 1


def batches(images: Tensor, batch_size: int, steps: int, seed: int, device: torch.device) -> Iterator[Tensor]:
    """``steps`` batches of uint8 images, in an order of the seed, each image once per pass."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        while len(order) < batch_size:
            order = torch.cat([order, torch.randperm(len(images), generator=generator)])
        yield images[order[:batch_size]].to(device)
        order = order[batch_size:]


def optimise(
    optimizer: torch.optim.Optimizer, loss_of: Callable[[Tensor], Tensor], shown: Iterator[Tensor], steps: int
) -> float:
    """A step per batch, with a cosine schedule; the mean loss of the last tenth of the steps."""
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses = []
    for batch in shown:
        loss = loss_of(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
    return mean_of_last(losses)


def mean_of_last(values: list[Tensor]) -> float:
    return torch.stack(values[-max(1, len(values) // 10) :]).mean().item()


@torch.no_grad()
def in_chunks(describe: Callable[[Tensor], Tensor], images: Tensor, device: torch.device) -> Tensor:
    """``describe`` of uint8 images, some at a time, on the CPU, flat."""
    return torch.cat([describe(chunk.to(device)).flatten(1).float().cpu() for chunk in images.split(CHUNK)])


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
    """Kingma & Welling 2014. Features are the means of the posterior, ``(k, latent_dim)``."""

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
        """The negative evidence bound in nats per image."""
        mean, log_variance = self.to_posterior(self.encode(images)).chunk(2, dim=1)
        codes = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        logits = self.decode(F.relu(self.from_code(codes)).unflatten(1, self.inner))
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum() / 2
        return (F.binary_cross_entropy_with_logits(logits, images, reduction="sum") + divergence) / len(images)

    def features(self, images: Tensor) -> Tensor:
        return self.to_posterior(self.encode(images)).chunk(2, dim=1)[0]


class VQVAE(nn.Module):
    """Van den Oord et al. 2017. Features are the quantised map, ``(k, code_dim, height / 4, width / 4)``."""

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


class Discriminator(nn.Module):
    """Of a DCGAN (Radford et al. 2016): three strided convolutions and a linear layer."""

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


def dcgan_generator(image_shape: tuple[int, int, int], noise_dim: int, width: int) -> nn.Sequential:
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


def train_dcgan(shown: Iterator[Tensor], image_shape: tuple[int, int, int], width: int) -> tuple[Discriminator, float]:
    """The discriminator, and the share of real and made images that it told apart in the last tenth of the batches."""
    noise_dim, right = 64, []
    maker, judge = dcgan_generator(image_shape, noise_dim, width), Discriminator(image_shape[0], width)
    judge(torch.zeros(2, *image_shape))  # the lazy layer
    rates = {"lr": 2e-4, "betas": (0.5, 0.999)}
    of_maker, of_judge = torch.optim.Adam(maker.parameters(), **rates), torch.optim.Adam(judge.parameters(), **rates)
    for batch in shown:
        made = maker.to(batch.device)(torch.randn(len(batch), noise_dim, device=batch.device))
        of_real, of_made = judge.to(batch.device)(centred(batch)), judge(made.detach())
        of_judge.zero_grad()
        (F.softplus(-of_real) + F.softplus(of_made)).mean().backward()
        of_judge.step()
        of_maker.zero_grad()
        F.softplus(-judge(made)).mean().backward()
        of_maker.step()
        right.append(((of_real > 0).float() + (of_made < 0).float()).mean().detach() / 2)
    return judge.eval(), mean_of_last(right)


def make_unet(image_shape: tuple[int, int, int], width: int) -> Any:
    from diffusers import UNet2DModel  # needed here alone

    channels, side, _ = image_shape
    return UNet2DModel(
        sample_size=side,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=1,
        block_out_channels=(width, 2 * width, 2 * width),
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
        norm_num_groups=8,
        add_attention=False,
    )


class Diffusion:
    """A diffusion model (Ho et al. 2020) on diffusers' UNet.

    Features are the mean of every map that a block of the UNet puts out, at one time step, ``(k, sum of channels)``.
    All images get the same noise, so that what differs between two is the image.
    """

    def __init__(self, image_shape: tuple[int, int, int], width: int, device: torch.device) -> None:
        from diffusers import DDPMScheduler

        self.unet = make_unet(image_shape, width).to(device)
        self.scheduler = DDPMScheduler(num_train_timesteps=N_STEPS)

    def loss(self, batch: Tensor) -> Tensor:
        """The mean squared error of the noise."""
        real = centred(batch)
        noise, times = torch.randn_like(real), torch.randint(N_STEPS, (len(real),), device=real.device)
        return F.mse_loss(self.unet(self.scheduler.add_noise(real, noise, times), times).sample, noise)

    def features(self, images: Tensor, time: int, seed: int) -> Tensor:
        real = centred(images)
        noise = torch.randn(real.shape[1:], generator=torch.Generator().manual_seed(seed)).to(real)
        times = torch.full((len(real),), time, device=real.device)
        pooled: list[Tensor] = []

        def keep(block: Any, inputs: Any, output: Any) -> None:
            pooled.append((output[0] if isinstance(output, tuple) else output).mean(dim=(2, 3)))

        blocks = [*self.unet.down_blocks, self.unet.mid_block, *self.unet.up_blocks]
        hooks = [block.register_forward_hook(keep) for block in blocks]
        try:
            self.unet(self.scheduler.add_noise(real, noise.expand_as(real), times), times)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.cat(pooled, dim=1)
