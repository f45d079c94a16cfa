"""The methods compared, by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from accuracy.mixmatch import mixmatch
from accuracy.settings import parse_name
from accuracy.training import Batches, Objective, cross_entropy


@dataclass(frozen=True)
class Method:
    """How a method differs from none.

    Attributes:
        swap: None, ``"pixel"`` or ``"glico"``.
        swap_settings: of the swap: ``p``, ``max_ratio``, ``interpolation``, …
        fit: fields of the fit, or ``{"preset": "published"}``.
        policy: a torchvision transform of one uint8 image.
        erase: a torchvision transform of one normalised image.
        spare: whether the policy is for images that were not swapped (``real_transform`` of ``augment.wrap``).
        objective: the loss.
    """

    swap: str | None = None
    swap_settings: dict[str, Any] | None = None
    fit: dict[str, Any] | None = None
    policy: Callable[[], nn.Module] | None = None
    erase: Callable[[], nn.Module] | None = None
    spare: bool = False
    objective: Objective = cross_entropy


def cosine_loss(network: nn.Module, batches: Batches, indices: Tensor, labels: Tensor) -> Tensor:
    """One minus the cosine of the logits and the one-hot label (Barz & Denzler, WACV 2020, equation 3)."""
    logits = network(batches(indices)).float()
    return (1 - F.normalize(logits, dim=1).gather(1, labels[:, None])).mean()


def mixed(transform: Callable[..., nn.Module], p: float = 1.0) -> Objective:
    """Cross-entropy against the soft labels of a transform of batches, applied to a share ``p`` of them."""

    def objective(network: nn.Module, batches: Batches, indices: Tensor, labels: Tensor) -> Tensor:
        mix = transform(num_classes=batches.n_classes)
        images = batches(indices)
        with batches.own_randomness():
            if torch.rand(()) < p:
                images, labels = mix(images, labels)
        return F.cross_entropy(network(images).float(), labels)

    return objective


cutmix = mixed(v2.CutMix, p=0.5)
"""Half of the batches, as its authors do on CIFAR (Yun et al., ICCV 2019)."""


def cutout() -> nn.Module:
    """A grey square of half the side (DeVries & Taylor 2017, for CIFAR-10), here always inside the image."""
    return v2.RandomErasing(p=1.0, scale=(0.25, 0.25), ratio=(1.0, 1.0))


def autoaugment() -> nn.Module:
    return v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)


def autoaugment_by_coin() -> nn.Module:
    return v2.RandomApply([autoaugment()], p=0.5)


HALF = {"pixel_share": 0.5}
"""Half of the synthetic images are the generator's: what is changed about it shows."""

METHODS = {
    "none": Method(),
    "cutout": Method(erase=cutout),
    "random-erasing": Method(erase=v2.RandomErasing),
    "autoaugment": Method(policy=autoaugment),
    "randaugment": Method(policy=v2.RandAugment),
    "trivialaugment": Method(policy=v2.TrivialAugmentWide),
    "mixup": Method(objective=mixed(v2.MixUp)),
    "cutmix": Method(objective=cutmix),
    "cosine-loss": Method(objective=cosine_loss),
    "mixmatch": Method(objective=mixmatch),
    "pixel": Method(swap="pixel"),
    "glico": Method(swap="glico"),
    "glico-style-only": Method(swap="glico", swap_settings={"pixel_share": 1, "max_ratio": 0}),
    "glico-pixel-only": Method(swap="glico", swap_settings={"pixel_share": 1}),
    "glico-generator-only": Method(swap="glico", swap_settings={"pixel_share": 0}),
    "glico-half": Method(swap="glico", swap_settings=HALF),
    "glico-half-lerp": Method(swap="glico", swap_settings=HALF | {"interpolation": "lerp"}),
    "glico-half-no-noise": Method(swap="glico", swap_settings=HALF | {"noise_std": 0}),
    "glico-half-no-style": Method(swap="glico", swap_settings=HALF | {"max_style_ratio": 0}),
    "glo-half": Method(swap="glico", swap_settings=HALF, fit={"classifier_weight": 0}),
    "glico-published": Method(
        swap="glico",
        swap_settings={"max_ratio": 0.4, "pixel_share": 0, "max_style_ratio": 0},
        fit={"preset": "published"},
    ),
    "glico+autoaugment": Method(swap="glico", swap_settings={"p": 0.67}, policy=autoaugment_by_coin, spare=True),
    "glico+full-autoaugment": Method(swap="glico", policy=autoaugment, spare=True),
    "glico+full-randaugment": Method(swap="glico", policy=v2.RandAugment, spare=True),
    "glico-then-autoaugment": Method(swap="glico", policy=autoaugment),
    "glico-half-then-autoaugment": Method(swap="glico", swap_settings=HALF, policy=autoaugment),
    "pixel-then-autoaugment": Method(swap="pixel", policy=autoaugment),
    "glico-half+cutmix": Method(swap="glico", swap_settings=HALF, objective=cutmix),
}

SWAP_FIELDS = ("p", "max_ratio", "interpolation", "noise_std", "pixel_share", "max_style_ratio")


def find_method(text: str) -> Method:
    """``NAME`` or ``NAME:field=value,…``: fields of the swap, of the fit or of MixMatch (``unlabeled_weight``).

    Raises:
        ValueError: for a name that does not exist, or fields for a method without a swap.
    """
    name, fields = parse_name(text)
    if name not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {name!r}")
    method = METHODS[name]
    if name == "mixmatch" and fields.keys() <= {"unlabeled_weight"}:
        return Method(objective=partial(mixmatch, **fields))
    if fields and method.swap is None:
        raise ValueError(f"{name} takes no fields; got {text!r}")
    swap_settings = {key: value for key, value in fields.items() if key in SWAP_FIELDS}
    fit = {key: value for key, value in fields.items() if key not in SWAP_FIELDS}
    return dataclasses.replace(
        method, swap_settings=(method.swap_settings or {}) | swap_settings, fit=(method.fit or {}) | fit
    )
