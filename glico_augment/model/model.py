"""What a fit learns: codes, generator and joint classifier, and the images they make."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from glico_augment.config import FitConfig
from glico_augment.images.values import to_unit
from glico_augment.model import sphere
from glico_augment.model.classifier import Classifier
from glico_augment.model.codes import SphereCodes
from glico_augment.model.generator import Generator
from glico_augment.style import style_of

_PIXELS_A_PASS = 2**20  # the feature maps of a pass stay near 100 MB a layer at the default width

INTERPOLATIONS = {"slerp": sphere.slerp, "lerp": sphere.lerp}


class GLICOModel(nn.Module):
    """Codes ``{z_i}``, generator ``G`` and classifier ``F`` of one training set.

    Args:
        codes: the codes and labels.
        config: widths and dimensions of the networks are read.
        image_shape: ``(channels, height, width)``.
        device: of the networks; ``"meta"`` leaves them without storage, to be loaded.

    Attributes:
        images: ``(m, channels, height, width)`` uint8, the labelled images at the fitted size; None until
            :meth:`hold_images` sets them.
    """

    images: Tensor | None
    _styles: Tensor | None

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
        self.register_buffer("images", None, persistent=False)
        self.register_buffer("_styles", None, persistent=False)

    @classmethod
    def initialize(
        cls,
        labels: Tensor,
        n_unlabeled: int,
        config: FitConfig,
        image_shape: tuple[int, int, int],
        generator: torch.Generator,
    ) -> GLICOModel:
        """Uniform codes and He-normal weights, all drawn from ``generator`` on the CPU.

        The generator's last layer starts a tenth as large: images that start near grey keep the first steps from
        finding a constant image, from which a wide generator without normalisation does not return.
        """
        latent_dim = config.latent_dim_for(len(labels) + n_unlabeled)
        codes = SphereCodes.random(labels, latent_dim, n_unlabeled=n_unlabeled, generator=generator)
        model = cls(codes, config, image_shape)
        for network in (model.generator, model.classifier):
            for module in network.modules():
                if isinstance(module, (nn.Linear, nn.Conv2d)):
                    nn.init.kaiming_normal_(module.weight, a=0.2, generator=generator)
                    nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        model.generator.to_image.weight.data.mul_(0.1)
        return model

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
    def interpolate(
        self, anchors: Tensor, partners: Tensor, ratios: Tensor, noise: Tensor | None, interpolation: str = "slerp"
    ) -> Tensor:
        """Images between those of two codes, ``G([slerp(z_i, z_j, r), ε])``.

        Args:
            anchors: ``(k,)`` indices ``i``.
            partners: ``(k,)`` indices ``j``.
            ratios: ``(k,)`` ``r`` in ``[0, 1]``.
            noise: ``(k, noise_dim)`` or None for none.
            interpolation: ``"slerp"`` or ``"lerp"``.

        Returns:
            ``(k, channels, height, width)`` float32 in ``[0, 1]``.
        """
        codes = INTERPOLATIONS[interpolation](self.codes(anchors), self.codes(partners), ratios)
        _, height, width = self.generator.image_shape
        chunks = range(0, max(len(codes), 1), max(1, _PIXELS_A_PASS // (height * width)))
        with torch.autocast(self.device.type, enabled=False):
            made = [
                self.generator(
                    codes[start : start + chunks.step], None if noise is None else noise[start : start + chunks.step]
                )
                for start in chunks
            ]
        return made[0] if len(made) == 1 else torch.cat(made)

    def average(self, anchors: Tensor, partners: Tensor, ratios: Tensor) -> Tensor:
        """Averages of two real images, ``(1 − r)·x_i + r·x_j``, in the shape and range of :meth:`interpolate`.

        Raises:
            ValueError: if the model holds no images.
        """
        if self.images is None:
            raise ValueError("this model holds no real images to average; set pixel_share to 0, or hold_images()")
        return torch.lerp(to_unit(self.images[anchors]), to_unit(self.images[partners]), ratios.view(-1, 1, 1, 1))

    def hold_images(self, images: Tensor) -> None:
        """Keep the labelled images, uint8 ``(m, channels, height, width)``, for averages and styles."""
        self.images = images.to(self.device)
        chunks = self.images.split(max(1, _PIXELS_A_PASS // self.images[0, 0].numel()))
        self._styles = torch.cat([style_of(to_unit(chunk)) for chunk in chunks])

    def styles_of(self, indices: Tensor) -> Tensor:
        """Styles of the labelled images ``indices``, ``(k,)``; see :func:`glico_augment.style.style_of`.

        Raises:
            ValueError: if the model holds no images.
        """
        if self._styles is None:
            raise ValueError("this model holds no real images; set max_style_ratio to 0, or hold_images()")
        return self._styles[indices]
