"""AutoAugment of a whole batch on its device: each image draws its own policy, and each operation is applied once."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import v2

from glico_augment.devices import to_device

_BINS = 10  # of the magnitudes, as in the paper


class BatchedAutoAugment:
    """``RandomApply([AutoAugment(CIFAR10)], p)`` of each image of a uint8 batch ``(k, channels, height, width)``.

    Policies, magnitudes and operations are those of torchvision's transform, which draws once for a whole batch. Random
    numbers come from the CPU's generator.
    """

    def __init__(self, p: float = 1.0) -> None:
        self.p = p
        self.transform = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)

    def __call__(self, images: Tensor) -> Tensor:
        policies = self.transform._policies
        count, (height, width) = len(images), images.shape[-2:]
        chosen = torch.where(torch.rand(count) < self.p, torch.randint(len(policies), (count,)), -1)
        images = images.clone()
        for number, policy in enumerate(policies):
            members = (chosen == number).nonzero().flatten()
            for operation, probability, strength in policy:
                taken = members[torch.rand(len(members)) < probability]
                make_magnitudes, is_signed = self.transform._AUGMENTATION_SPACE[operation]
                magnitudes = make_magnitudes(_BINS, height, width)
                magnitude = 0.0 if magnitudes is None else float(magnitudes[strength])
                is_negative = (torch.rand(len(taken)) <= 0.5) & (is_signed and magnitudes is not None)
                for rows, value in ((taken[~is_negative], magnitude), (taken[is_negative], -magnitude)):
                    if len(rows):
                        rows = to_device(rows, images.device)
                        images[rows] = self._apply(images[rows], operation, value)
        return images

    def _apply(self, images: Tensor, operation: str, magnitude: float) -> Tensor:
        transform = self.transform
        options = {"interpolation": transform.interpolation, "fill": transform._fill}
        return transform._apply_image_or_video_transform(images, operation, magnitude, **options)
