"""The recipes of augmentation that are compared, as settings and as the code to paste."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glico_augment.config import fitted_size

NONE = "no augmentation"
"""The recipe that the others are compared with: shifts alone, which all recipes have."""

_IMPORTS = ("import torch", "from torchvision.datasets import ImageFolder", "from torchvision.transforms import v2")


_DEFAULTS: Mapping[str, Any] = {}


def padding_of(size: tuple[int, int]) -> int:
    """By how many pixels an image of ``size`` is shifted at most."""
    return min(size) // 8


@dataclass(frozen=True)
class Recipe:
    """What is done to training images before they are shifted.

    Attributes:
        swap: whether half of the photographs are swapped for synthetic ones.
        style: whether :class:`LocalStyle` follows.
        policy: the share of the photographs that were not swapped to which AutoAugment is applied.
    """

    swap: bool = False
    style: bool = False
    policy: float = 0.0

    def code(
        self, folder: str, size: tuple[int, int], *, fit: Mapping[str, Any] = _DEFAULTS, flip: bool = False
    ) -> str:
        """The lines of Python that do the same to the photographs in ``folder/<class>/``, at ``(height, width)``."""
        policy = "v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)"
        policy = policy if self.policy == 1 else f"v2.RandomApply([{policy}], p={self.policy:g})"
        steps = [policy] if self.policy and not self.swap else []
        steps += ["LocalStyle(train)"] if self.style else []
        steps += [f"v2.Resize({size})", f"v2.RandomCrop({size}, padding={padding_of(size)})"]
        steps += ["v2.RandomHorizontalFlip()"] if flip else []
        names = [*(["GLICOAugment"] if self.swap else []), *(["LocalStyle"] if self.style else [])]
        lines = [*_IMPORTS]
        lines += [f"from glico_augment import {', '.join(names)}"] if names else []
        lines += ["", f"train = ImageFolder({folder!r})"]
        lines += [f"steps = [{', '.join(steps)}]"]
        lines += ["pipeline = v2.Compose([*steps, v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])"]
        if not self.swap:
            return "\n".join([*lines, "train.transform = pipeline"])
        settings = ", ".join(f"{name}={value!r}" for name, value in {"image_size": fitted_size(size), **fit}.items())
        spared = f", real_transform={policy}" if self.policy else ""
        lines += [f"augment = GLICOAugment.fit(train, {settings})"]
        return "\n".join([*lines, f"train = augment.wrap(train, transform=pipeline{spared})"])


RECIPES: Mapping[str, Recipe] = {
    NONE: Recipe(),
    "style": Recipe(style=True),
    "GLICO": Recipe(swap=True),
    "GLICO + style": Recipe(swap=True, style=True),
    "AutoAugment": Recipe(policy=1.0),
    "GLICO + style + AutoAugment": Recipe(swap=True, style=True, policy=0.5),
}
"""What is compared, by name."""
