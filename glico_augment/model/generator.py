"""The generator ``G([z, ε])`` from a code and a noise vector to an image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_BASE_SIDE = 8  # halving stops once the longer side is at most this
_MAX_WIDENING = 4  # channels double with each halving, up to this many times the width


class Generator(nn.Module):
    """Convolutional generator of images of any size (Azuri & Weinshall 2020, section "GLICO training").

    A linear layer makes a small feature map, which nearest-neighbour upsampling and 3×3 convolutions enlarge to full
    size, without normalisation, which would hide how bright an image is. The noise passes through a linear projection
    with LeakyReLU and is concatenated to the code, which is scaled by ``√latent_dim`` to entries of unit variance. A
    learned background is added to the logits of the image, so that a fit can start at the mean image. An image depends
    neither on the rest of its batch nor on ``train()`` and ``eval()``.

    Args:
        latent_dim: dimension of a code.
        noise_dim: dimension of the noise ``ε``; 0 leaves the noise out.
        image_shape: ``(channels, height, width)`` of the images.
        width: channels of the feature map at full size.
    """

    def __init__(self, latent_dim: int, noise_dim: int, image_shape: tuple[int, int, int], width: int = 32) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.noise_dim = noise_dim
        self.image_shape = image_shape
        channels, height, width_px = image_shape
        self.sizes = _halvings(height, width_px)
        widths = [width * min(2**level, _MAX_WIDENING) for level in reversed(range(len(self.sizes)))]
        self.project_noise = nn.Sequential(nn.Linear(noise_dim, noise_dim), nn.LeakyReLU(0.2)) if noise_dim else None
        base_height, base_width = self.sizes[0]
        self.project = nn.Linear(latent_dim + noise_dim, widths[0] * base_height * base_width)
        self.convs = nn.ModuleList(
            nn.Conv2d(width_in, width_out, 3, padding=1)
            for width_in, width_out in zip([widths[0], *widths], widths, strict=False)
        )
        self.to_image = nn.Conv2d(widths[-1], channels, 3, padding=1, bias=False)
        self.background = nn.Parameter(torch.zeros(channels, height, width_px))
        self.to(memory_format=torch.channels_last)

    def forward(self, codes: Tensor, noise: Tensor | None = None) -> Tensor:
        """Generate images.

        Args:
            codes: ``(k, latent_dim)``; or a field of codes ``(k, *sizes[0], latent_dim)``, one for each cell ``(u, v)``
                of the first feature map, ``h(u, v) = W(u, v)·[z(u, v), ε]``. A constant field is a code.
            noise: ``(k, noise_dim)``, or None for no noise (zeros).

        Returns:
            ``(k, channels, height, width)`` in ``[0, 1]``.
        """
        features = codes
        for layer in self.layers(codes, noise):
            features = layer
        return (self.to_image(features) + self.background).sigmoid()

    def layers(self, codes: Tensor, noise: Tensor | None = None) -> Iterator[Tensor]:
        """The feature maps ``(k, channels, height, width)`` of each layer, the smallest first; see :meth:`forward`."""
        features = self._first_map(codes, noise).contiguous(memory_format=torch.channels_last)
        for (height, width), conv in zip(self.sizes, cast("list[nn.Conv2d]", self.convs), strict=True):
            if features.shape[-2:] == (height, width):
                features = conv(features)
            else:
                features = double_and_convolve(features, conv.weight, conv.bias)[..., :height, :width]
            features = F.leaky_relu(features, 0.2)
            yield features

    def _first_map(self, codes: Tensor, noise: Tensor | None) -> Tensor:
        hidden = codes * self.latent_dim**0.5
        if self.project_noise is not None:
            if noise is None:
                noise = hidden.new_zeros(len(hidden), self.noise_dim)
            projected = self.project_noise(noise)
            if codes.ndim == 4:
                projected = projected[:, None, None].expand(*codes.shape[:3], -1)
            hidden = torch.cat([hidden, projected], dim=-1)
        if codes.ndim == 2:
            return self.project(hidden).unflatten(1, (-1, *self.sizes[0]))
        weight, bias = (each.unflatten(0, (-1, *self.sizes[0])) for each in (self.project.weight, self.project.bias))
        return torch.einsum("kuvi,cuvi->kcuv", hidden, weight) + bias

    def extra_repr(self) -> str:  # noqa: D102 — torch documents it
        return f"latent_dim={self.latent_dim}, noise_dim={self.noise_dim}, image_shape={self.image_shape}"


def check_cells(cells: int, image_shape: tuple[int, int, int]) -> None:
    """Raise ValueError if a field of ratios has more cells per side than the first feature map for such images."""
    _, height, width = image_shape
    size = _halvings(height, width)[0]
    if cells > min(size):
        raise ValueError(
            f"cells must be at most {min(size)}, the shorter side of the first feature map, {size[0]} × {size[1]}, for "
            f"images of {height} × {width} pixels; got {cells}"
        )


def double_and_convolve(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Nearest-neighbour upsampling to twice the size and a 3×3 convolution with zero padding, in one.

    An output pixel depends on 2×2 inputs only, since upsampling repeats them. A transposed convolution of stride 2,
    whose 4×4 kernel sums the weights of equal inputs, gives the same with 4/9 of the work.

    Args:
        features: ``(k, channels_in, height, width)``.
        weight: ``(channels_out, channels_in, 3, 3)`` of the convolution.
        bias: ``(channels_out,)`` or None.

    Returns:
        ``(k, channels_out, 2·height, 2·width)``.
    """
    padded = F.pad(weight.transpose(0, 1).flip(2, 3), (1, 1, 1, 1))
    rows = padded[:, :, 1:] + padded[:, :, :-1]
    kernel = rows[..., 1:] + rows[..., :-1]
    return F.conv_transpose2d(features, kernel, bias, stride=2, padding=1)


def _halvings(height: int, width: int) -> list[tuple[int, int]]:
    """The sizes from the base feature map up to ``(height, width)``, each half of the next, rounded up."""
    sizes = [(height, width)]
    while max(sizes[0]) > _BASE_SIDE and min(sizes[0]) > 1:
        sizes.insert(0, ((sizes[0][0] + 1) // 2, (sizes[0][1] + 1) // 2))
    return sizes
