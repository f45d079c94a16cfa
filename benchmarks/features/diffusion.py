"""A small diffusion model (Ho et al. 2020) on diffusers' UNet; features are the means of the maps of its blocks."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from features.training import batches, centred

N_STEPS = 1000
"""Of the diffusion, with the linear schedule of Ho et al."""


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


def make_scheduler() -> Any:
    from diffusers import DDPMScheduler

    return DDPMScheduler(num_train_timesteps=N_STEPS)


def train(
    images: Tensor, *, steps: int, batch_size: int, seed: int, device: torch.device, width: int
) -> tuple[Any, float]:
    """The network, and the mean squared error of the noise in the last tenth of the steps."""
    unet, scheduler = make_unet(tuple(images.shape[1:]), width).to(device), make_scheduler()
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses = []
    for batch in batches(images, batch_size, steps, seed, device):
        real = centred(batch)
        noise, times = torch.randn_like(real), torch.randint(N_STEPS, (len(real),), device=device)
        loss = F.mse_loss(unet(scheduler.add_noise(real, noise, times), times).sample, noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
    return unet.eval(), torch.stack(losses[-max(1, steps // 10) :]).mean().item()


class Blocks:
    """The mean of every map that a block of the UNet puts out, at one time step, ``(k, sum of channels)``.

    All images get the same noise, so that what differs between two is the image.
    """

    def __init__(self, unet: Any, time: int, seed: int) -> None:
        self.unet, self.time, self.seed, self.scheduler = unet, time, seed, make_scheduler()

    def __call__(self, images: Tensor) -> Tensor:
        real = centred(images)
        noise = torch.randn(real.shape[1:], generator=torch.Generator().manual_seed(self.seed)).to(real)
        times = torch.full((len(real),), self.time, device=real.device)
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
