"""What the reconstruction losses share: a weighted L1 distance between taps, each in units of its own scale."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


class FeatureLoss(nn.Module):
    """``Σ_j λ_j · mean|ξ_j(output) − ξ_j(target)| / s_j`` over the taps ``ξ_j`` that a subclass defines.

    The form of GLICO's perceptual loss (Azuri & Weinshall 2020) with a scale ``s_j`` a tap, the mean magnitude of
    ``ξ_j`` on the real images, so that fine and coarse, early and late taps count alike. To write a loss, define
    :meth:`features`.

    Args:
        weights: the ``λ_j``, one non-negative number a tap; all 1 if None. A tap of weight 0 is left out.
        normalize: whether to divide by the scales. They are all 1 until :meth:`calibrate` is called.
    """

    scales: Tensor

    def __init__(self, weights: Sequence[float] | None = None, *, normalize: bool = True) -> None:
        super().__init__()
        self.weights = None if weights is None else tuple(float(weight) for weight in weights)
        if self.weights is not None and not (all(w >= 0 for w in self.weights) and any(self.weights)):
            raise ValueError(f"loss weights must be non-negative and not all 0, got {self.weights}")
        self.normalize = normalize
        self.register_buffer("scales", torch.ones(0))

    def features(self, images: Tensor) -> list[Tensor]:
        """The taps of ``images``, ``(k, channels, height, width)`` in ``[0, 1]``; each begins with dimension ``k``."""
        raise NotImplementedError(f"{type(self).__name__} must define features(images)")

    def check_images(self, image_shape: tuple[int, int, int]) -> None:
        """Raise ValueError if images ``(channels, height, width)`` cannot be compared."""

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Take each tap's scale from the real images.

        Args:
            batches: real images, ``(k, channels, height, width)`` in ``[0, 1]`` each.
        """
        if not self.normalize:
            return
        total, count = torch.zeros(0), 0
        for images in batches:
            means = torch.stack([tap.float().abs().mean() for tap in self.features(images)]) * len(images)
            total = means if count == 0 else total + means
            count += len(images)
        scales = total / max(count, 1)
        self.scales = torch.where(scales > 0, scales, 1.0)

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
