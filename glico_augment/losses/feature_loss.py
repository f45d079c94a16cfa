"""What the reconstruction losses share: a weighted L1 distance between taps, each in units of its own scale."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module

import torch
from torch import Tensor, nn

from glico_augment.config import LOSSES, FitConfig


class FeatureLoss(nn.Module):
    """``Σ_j λ_j · mean|ξ_j(output) − ξ_j(target)| / s_j`` over the taps ``ξ_j`` that a subclass defines.

    The form of GLICO's perceptual loss (Azuri & Weinshall 2020) with a scale ``s_j`` per tap, the mean absolute
    deviation of ``ξ_j`` from its average over the real images. Predicting the mean image costs ``λ_j`` per linear tap,
    so that fine and coarse, early and late taps count alike. To write a loss, define :meth:`features`.

    Args:
        weights: the ``λ_j``, one non-negative number per tap; all 1 if None. A tap of weight 0 is left out.
        normalize: whether to divide by the scales. They are all 1 until :meth:`calibrate` is called.
    """

    scales: Tensor

    is_cheap = False
    """Whether features are computed at every step, and not kept for every image."""

    def __init__(self, weights: Sequence[float] | None = None, *, normalize: bool = True) -> None:
        super().__init__()
        self.weights = None if weights is None else tuple(float(weight) for weight in weights)
        if self.weights is not None and not (all(w >= 0 for w in self.weights) and any(self.weights)):
            raise ValueError(f"loss weights must be non-negative and not all 0, got {self.weights}")
        self.normalize = normalize
        self.register_buffer("scales", torch.ones(0))

    @classmethod
    def from_config(cls, config: FitConfig) -> FeatureLoss:
        """The loss of a fit with these settings; the base reads ``loss_weights`` and ``loss_normalize``."""
        return cls(config.loss_weights, normalize=config.loss_normalize)

    def features(self, images: Tensor) -> list[Tensor]:
        """The taps of ``images``, ``(k, channels, height, width)`` in ``[0, 1]``; each has ``k`` rows."""
        raise NotImplementedError(f"{type(self).__name__} must define features(images)")

    def check_images(self, image_shape: tuple[int, int, int]) -> None:
        """Raise ValueError if images ``(channels, height, width)`` cannot be compared."""

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Take each tap's scale from the real images.

        Args:
            batches: the real images, ``(k, channels, height, width)`` in ``[0, 1]`` each; iterated over twice.
        """
        if not self.normalize:
            return
        means = self._average(batches, lambda tap, _: tap.sum(dim=0))
        deviations = self._average(batches, lambda tap, j: (tap - means[j]).abs().flatten(1).mean(dim=1).sum())
        # Where all images are equal, deviations are rounding errors.
        magnitudes = torch.stack([mean.abs().mean() for mean in means])
        scales = torch.stack(deviations)
        self.scales = torch.where(scales > 1e-5 * magnitudes, scales, magnitudes.where(magnitudes > 0, 1.0))

    def _average(self, batches: Iterable[Tensor], total: Callable[[Tensor, int], Tensor]) -> list[Tensor]:
        """The mean over images of each tap's ``total`` over a batch."""
        sums: list[Tensor] = []
        count = 0
        for batch in batches:
            parts = [total(tap.float(), j) for j, tap in enumerate(self.features(batch))]
            sums = parts if count == 0 else [kept + part for kept, part in zip(sums, parts, strict=True)]
            count += len(batch)
        return [kept / count for kept in sums]

    def compare(self, outputs: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
        """The loss, a scalar, of two lists of taps."""
        weights = self.weights or (1.0,) * len(outputs)
        if len(weights) != len(outputs):
            raise ValueError(f"{type(self).__name__} has {len(outputs)} taps here, got {len(weights)} loss weights")
        scales = self.scales if len(self.scales) else torch.ones(len(outputs), device=outputs[0].device)
        parts = [
            weight * (output.float() - target.float()).abs().mean() / scale
            for weight, scale, output, target in zip(weights, scales, outputs, targets, strict=True)
            if weight
        ]
        return torch.stack(parts).sum()

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss, a scalar, of images ``(k, channels, height, width)`` in ``[0, 1]`` against real ones."""
        with torch.no_grad():
            target_features = self.features(targets.detach())
        return self.compare(self.features(outputs), target_features)


def build_loss(config: FitConfig, image_shape: tuple[int, int, int]) -> nn.Module:
    """The reconstruction loss of images ``(channels, height, width)`` that ``config.loss`` names, or a copy of it.

    Raises:
        FileNotFoundError: if pretrained weights are neither in the cache nor to be downloaded.
        ValueError: if the loss cannot compare such images.
    """
    if isinstance(config.loss, nn.Module):
        return copy.deepcopy(config.loss)  # it is moved and calibrated
    if config.loss not in LOSSES:
        raise ValueError(f"loss {config.loss} was a module of its user's; pass that module as loss= again")
    module, name = LOSSES[config.loss]
    loss: FeatureLoss = getattr(import_module(f"glico_augment.losses.{module}"), name).from_config(config)
    loss.check_images(image_shape)
    return loss
