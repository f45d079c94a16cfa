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
from glico_augment import SwapConfig


@dataclass(frozen=True)
class Method:
    """How a method differs from none.

    Attributes:
        swap: None, ``"pixel"`` or ``"glico"``.
        swap_settings: of the swap: ``p``, ``max_ratio``, ``interpolation``, …
        fit: fields of the fit, or ``{"preset": "published"}``.
        unlabeled: None, or which images are fitted without their labels: ``"train"`` (2,000 of the training part that
            were not drawn) or ``"test"`` (2,000 of those that are scored).
        style: whether ``LocalStyle`` follows, with its defaults.
        policy: a torchvision transform of one uint8 image.
        reference: a transform of one uint8 image, made from the training images.
        erase: a torchvision transform of one normalised image.
        spare: whether the policy is for images that were not swapped (``real_transform`` of ``augment.wrap``).
        objective: the loss.
    """

    swap: str | None = None
    swap_settings: dict[str, Any] | None = None
    fit: dict[str, Any] | None = None
    unlabeled: str | None = None
    style: bool = False
    policy: Callable[[], nn.Module] | None = None
    reference: Callable[[Tensor], Callable[[Tensor], Tensor]] | None = None
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


def color_jitter() -> nn.Module:
    """Brightness, contrast, saturation and hue, at the strength that SimCLR has for CIFAR-10 (Chen et al. 2020)."""
    return v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.5)


def by_reference(name: str, **options: Any) -> Callable[[Tensor], Callable[[Tensor], Tensor]]:
    """A transform of albumentations that takes what it needs of a random training image, on half of the images."""

    def make(training_images: Tensor) -> Callable[[Tensor], Tensor]:
        import albumentations

        references = [image.permute(1, 2, 0).numpy() for image in training_images.cpu()]
        kind = getattr(albumentations, name)
        key = "references"

        def apply(image: Tensor) -> Tensor:
            if torch.rand(()) >= 0.5:
                return image
            transform = kind(metadata_key=key, p=1.0, **options)
            transform.set_random_seed(int(torch.randint(2**31, ())))
            reference = references[int(torch.randint(len(references), ()))]
            changed = transform(image=image.permute(1, 2, 0).numpy(), **{key: [reference]})["image"]
            return torch.from_numpy(changed).permute(2, 0, 1).contiguous()

        return apply

    return make


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
    "style": Method(style=True),
    "glico": Method(swap="glico"),
    "glico+style": Method(swap="glico", style=True),
    "style+autoaugment": Method(style=True, policy=autoaugment_by_coin),
    "glico+style+autoaugment": Method(swap="glico", style=True, policy=autoaugment_by_coin, spare=True),
    "published": Method(swap="glico", swap_settings=SwapConfig.published().to_json(), fit={"preset": "published"}),
    "color-jitter": Method(policy=color_jitter),
    "histogram-matching": Method(reference=by_reference("HistogramMatching")),
    "fda": Method(reference=by_reference("FDA")),
    "glico-noise": Method(swap="glico", swap_settings={"sampler": "noise"}),
    "glico-random-out": Method(swap="glico", swap_settings={"sampler": "random-out"}),
    "glico-other-class": Method(swap="glico", swap_settings={"sampler": "other-class"}),
    "glico-other-class+style": Method(swap="glico", swap_settings={"sampler": "other-class"}, style=True),
    "pixel-other-class": Method(swap="pixel", swap_settings={"other_class": True, "max_ratio": SwapConfig.max_ratio}),
    "glico-uniform": Method(swap="glico", fit={"class_cosine": 0.0}),
    "glico-lerp": Method(swap="glico", swap_settings={"interpolation": "lerp"}),
    "glo": Method(swap="glico", fit={"classifier_weight": 0.0}),
    "glico-transductive-train": Method(swap="glico", unlabeled="train"),
    "glico-transductive-test": Method(swap="glico", unlabeled="test"),
    "pixel-then-autoaugment": Method(swap="pixel", policy=autoaugment),
}

SWAP_FIELDS = tuple(SwapConfig().to_json())


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
