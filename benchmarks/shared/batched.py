"""Transforms that draw for each image of a batch and work on all of them at once, on any device.

The distribution is that of torchvision's transforms applied image by image; those would keep a GPU waiting.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from glico_augment.devices import to_device


def shift_and_flip(images: Tensor, shift: int, *, flip: bool) -> Tensor:
    """``RandomCrop(side, padding=shift)`` and, with ``flip``, ``RandomHorizontalFlip()`` of each of ``(k, C, H, W)``.

    Drawn from the CPU's generator whatever the device, which is not waited for.
    """
    count, _, height, width = images.shape
    down, right = torch.randint(2 * shift + 1, (2, count, 1))
    rows, columns = down + torch.arange(height), right + torch.arange(width)
    if flip:
        columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    rows, columns = (to_device(places, images.device) for places in (rows, columns))
    each = torch.arange(count, device=images.device)[:, None, None]
    return F.pad(images, [shift] * 4)[each, :, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


def of_batches(policy: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """The same for batches, of ``AutoAugment`` alone or in a ``RandomApply``; None of another transform."""
    if isinstance(policy, v2.AutoAugment):
        return BatchAutoAugment(policy)
    if isinstance(policy, v2.RandomApply) and [type(transform) for transform in policy.transforms] == [v2.AutoAugment]:
        return BatchAutoAugment(policy.transforms[0], share=policy.p)
    return None


class BatchAutoAugment:
    """AutoAugment with a draw for each image: those that drew the same operation and magnitude are changed together.

    Args:
        policy: torchvision's, which has the sub-policies and the operations.
        share: of the images, on average, to change.
    """

    def __init__(self, policy: v2.AutoAugment, share: float = 1.0) -> None:
        self.policy, self.share = policy, share

    def __call__(self, images: Tensor) -> Tensor:
        """A copy of uint8 images ``(k, C, H, W)``, changed."""
        count = len(images)
        chosen = torch.randint(len(self.policy._policies), (count,)).tolist()
        is_changed = (torch.rand(count) < self.share).tolist()
        # Whether each of the two operations is made, and whether its magnitude is negative.
        coins, signs = torch.rand(2, 2, count).tolist()
        images = images.clone()
        for place in range(2):
            groups: dict[tuple[str, int | None, bool], list[int]] = defaultdict(list)
            for row in range(count):
                name, probability, level = self.policy._policies[chosen[row]][place]
                if is_changed[row] and coins[place][row] <= probability:
                    is_signed = self.policy._AUGMENTATION_SPACE[name][1]
                    groups[name, level, is_signed and signs[place][row] <= 0.5].append(row)
            for (name, level, is_negative), rows in groups.items():
                where = to_device(torch.tensor(rows), images.device)
                images[where] = self._apply(images[where], name, level, is_negative)
        return images

    def _apply(self, images: Tensor, name: str, level: int | None, is_negative: bool) -> Tensor:
        magnitudes = self.policy._AUGMENTATION_SPACE[name][0](10, *images.shape[-2:])
        magnitude = 0.0 if magnitudes is None else float(magnitudes[level])
        return self.policy._apply_image_or_video_transform(
            images,
            name,
            -magnitude if is_negative else magnitude,
            interpolation=self.policy.interpolation,
            fill=self.policy._fill,
        )
