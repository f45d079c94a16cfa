"""What a fit learns: codes, generator and joint classifier."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from glico_augment.config import FitConfig
from glico_augment.model import sphere
from glico_augment.model.classifier import Classifier
from glico_augment.model.codes import SphereCodes
from glico_augment.model.generator import Generator

_PIXELS_PER_PASS = 2**20  # feature maps stay near 100 MB per layer at the default width

_PATHS = {"slerp": sphere.slerp, "lerp": sphere.lerp}


class GLICOModel(nn.Module):
    """Codes ``{z_i}``, generator ``G`` and classifier ``F`` of one training set, without its images.

    On the device ``"meta"`` the networks are without storage, to be loaded.
    """

    def __init__(
        self,
        codes: SphereCodes,
        config: FitConfig,
        image_shape: tuple[int, int, int],
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.codes = codes
        # On the meta device first: constructors draw initial weights from torch's global generator.
        with torch.device("meta"):
            self.generator = Generator(codes.latent_dim, config.noise_dim, image_shape, config.generator_width)
            self.classifier = Classifier(image_shape[0], len(codes.classes), config.classifier_width)
        for network in (self.generator, self.classifier):
            network.float().to_empty(device=device)  # whatever torch's default dtype is

    @property
    def device(self) -> torch.device:
        """Where the codes and networks are."""
        return self.codes.codes.device

    def noise(self, count: int, std: float, *, generator: torch.Generator | None = None) -> Tensor | None:
        """``ε ~ N(0, std²·I)``, ``(count, noise_dim)``, on the model's device; None where it would be zero."""
        if std == 0 or self.generator.noise_dim == 0:
            return None
        shape = (count, self.generator.noise_dim)
        return std * torch.randn(shape, device=self.device, dtype=self.codes.codes.dtype, generator=generator)

    @torch.no_grad()
    def walk(
        self, starts: Tensor, ends: Tensor, ratios: Tensor, noise: Tensor | None, interpolation: str = "slerp"
    ) -> Tensor:
        """Images between two points of the sphere, ``(k, latent_dim)`` each, ``G([slerp(z_i, z_j, r), ε])``.

        ``ratios`` in ``[0, 1]`` are ``(k,)``, or a field ``(k, height, width)`` over the generator's first feature map.
        """
        if ratios.ndim == 3:
            starts, ends = starts[:, None, None], ends[:, None, None]
        return self.generate(_PATHS[interpolation](starts, ends, ratios), noise)

    @torch.no_grad()
    def reconstruct(self, indices: Tensor) -> Tensor:
        """The generator's images of codes, ``G([z_i, 0])``: ``(k,)`` indices to ``(k, channels, height, width)``."""
        return self.generate(self.codes(indices))

    @torch.no_grad()
    def generate(self, codes: Tensor, noise: Tensor | None = None) -> Tensor:
        """The generator's images of any codes, ``(k, latent_dim)`` to ``(k, channels, height, width)``, in passes."""
        _, height, width = self.generator.image_shape
        size = max(1, _PIXELS_PER_PASS // (height * width))
        noises = itertools.repeat(None) if noise is None else noise.split(size)
        with torch.autocast(self.device.type, enabled=False):
            made = [self.generator(chunk, noise) for chunk, noise in zip(codes.split(size), noises, strict=False)]
        return made[0] if len(made) == 1 else torch.cat(made)
