"""The methods compared, by name, and what they do to the images of a batch."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from torchvision.transforms import v2

from glico_augment import GLICOAugment, LocalStyle, SwapConfig
from shared.batched_autoaugment import BatchedAutoAugment
from shared.data import Split, make_split
from shared.fits import fitted, to_bytes
from shared.mixmatch import mixmatch
from shared.runner import parse_name
from shared.settings import Setting
from shared.training import Batches, Objective, Swap, cross_entropy

N_UNLABELED = 2000


@dataclass(frozen=True)
class Method:
    """How a method differs from no augmentation.

    Attributes:
        swap: None, ``"pixel"`` or ``"glico"``.
        swap_settings: of the swap: ``p``, ``max_ratio``, ``interpolation``, …
        fit: fields of the fit, or ``{"preset": "published"}``.
        unlabeled: None, or which images are fitted without their labels: ``"train"`` (2,000 of the training part that
            were not drawn) or ``"test"`` (2,000 of those that are scored).
        style: whether ``LocalStyle`` follows, with its defaults.
        autoaugment: share of the images that AutoAugment changes, by its policies for CIFAR-10.
        policy: another torchvision transform of one uint8 image.
        reference: a transform of one uint8 image, made from the training images.
        erase: a torchvision transform of one normalised image.
        spare: whether the policy is for images that were not swapped (``real_transform`` of ``augment.wrap``).
        objective: the loss.
    """

    swap: str | None = None
    swap_settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    fit: dict[str, Any] = dataclasses.field(default_factory=dict)
    unlabeled: str | None = None
    style: bool = False
    autoaugment: float = 0.0
    policy: Callable[[], nn.Module] | None = None
    reference: Callable[[Tensor], Callable[[Tensor], Tensor]] | None = None
    erase: Callable[[], nn.Module] | None = None
    spare: bool = False
    objective: Objective = cross_entropy


class PixelAveraging:
    """The control: ``(1 − r)·x_i + r·x_j`` of two real images of a class, ``r ~ U[0, max_ratio]``, or of two.

    With ``cells`` the ratio is a field over the image, as that of the swap. The label stays that of ``x_i``.
    """

    def __init__(
        self,
        split: Split,
        p: float = SwapConfig.p,
        max_ratio: float = 1.0,
        *,
        cells: int = 1,
        other_class: bool = False,
    ) -> None:
        self.images, self.p, self.max_ratio, self.cells = split.images, p, max_ratio, cells
        self.partners = (split.labels[:, None] == split.labels[None]) != other_class
        self.partners.fill_diagonal_(False)
        if not bool(self.partners.any(dim=1).all()):
            raise ValueError("there is nothing to average with: an image is the only one of its class")

    def __call__(self, images: Tensor, labels: Tensor, indices: Tensor) -> Tensor:
        partners = self.images[torch.multinomial(self.partners[indices].float(), 1).flatten()]
        ratios = torch.rand(len(images), 1, self.cells, self.cells, device=images.device)
        if self.cells > 1:
            ratios = F.interpolate(ratios, images.shape[-2:], mode="bicubic", align_corners=False).clamp(0, 1)
        ratios = self.max_ratio * ratios
        averages = (1 - ratios) * images + ratios * partners
        coins = torch.rand(len(images), 1, 1, 1, device=images.device) < self.p
        return torch.where(coins, averages.round().to(images.dtype), images)


class GLICOSwap:
    """The library's swap of fitted ``images`` with every image's own code as anchor, as ``augment.wrap`` does it."""

    def __init__(self, augment: GLICOAugment, images: Tensor) -> None:
        self.augment, self.images = augment, images

    def __call__(self, images: Tensor, labels: Tensor, indices: Tensor) -> Tensor:
        rows = (torch.rand(len(images)) < self.augment.p).nonzero().flatten().to(images.device)
        if images.shape[1:] == self.augment.record.image_shape:
            made = to_bytes(self.augment.make(labels[rows], anchors=indices[rows])[0])
        else:
            params = self.augment.make_params(labels[rows], anchors=indices[rows])
            made = self.augment.transform_photographs(params, self.images)
        images = images.clone()
        images[rows] = made
        return images


def make_swap(
    method: Method, split: Split, setting: Setting, seed: int, part: str, args: argparse.Namespace
) -> tuple[Swap | None, dict[str, Any]]:
    """The swap of a method, fitted if it has a fit, and what to record of it; ``part`` is what is scored."""
    if method.swap == "pixel":
        return PixelAveraging(split, **method.swap_settings), {}
    if method.swap is None:
        return None, {}
    unlabeled = None
    if method.unlabeled is not None:  # of the training part beside those drawn, or of those to be scored
        further = "rest" if method.unlabeled == "train" else part
        others = make_split(args.data, setting.data, setting.side, setting.per_class, seed, further).eval_images
        unlabeled = others[torch.randperm(len(others), generator=torch.Generator().manual_seed(seed))[:N_UNLABELED]]
    of_fit = method.fit if "preset" in method.fit else setting.fit | method.fit
    options = {"seed": seed, "unlabeled": unlabeled, "device": split.images.device} | of_fit
    augment, record = fitted(split.images, split.labels, args.fits, **options)
    augment.swap = augment.swap.replace(**method.swap_settings)
    return GLICOSwap(augment, split.images), record | {"swap": augment.swap.to_json()}


def make_batches(
    method: Method, split: Split, setting: Setting, seed: int, part: str, args: argparse.Namespace
) -> tuple[Batches, dict[str, Any]]:
    """The batches that a method trains on, and what to record of its fit; ``part`` is what is scored."""
    swap, record = make_swap(method, split, setting, seed, part, args)
    if method.autoaugment:
        policy = autoaugment(method.autoaugment, batched=setting.batched)
    elif method.reference is not None:
        policy = method.reference(split.images)
    else:
        policy = method.policy and method.policy()
    style = LocalStyle(TensorDataset(split.images.cpu(), split.labels.cpu())) if method.style else None
    erase = method.erase and method.erase()
    options = {"spare": method.spare, "batched": setting.batched}
    return Batches(split, setting.flip, swap, style, policy, erase, **options), record


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


def cutout() -> nn.Module:
    """A grey square of half the side (DeVries & Taylor 2017, for CIFAR-10), here always inside the image."""
    return v2.RandomErasing(p=1.0, scale=(0.25, 0.25), ratio=(1.0, 1.0))


def autoaugment(share: float, *, batched: bool = False) -> Callable[[Tensor], Tensor]:
    if batched:
        return BatchedAutoAugment(share)
    return v2.RandomApply([v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)], p=share)


def color_jitter() -> nn.Module:
    """Brightness, contrast, saturation and hue, at the strength that SimCLR has for CIFAR-10 (Chen et al. 2020)."""
    return v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.5)


def by_reference(name: str) -> Callable[[Tensor], Callable[[Tensor], Tensor]]:
    """A transform of albumentations that takes what it needs of a random training image, on half of the images."""

    def make(training_images: Tensor) -> Callable[[Tensor], Tensor]:
        import albumentations

        references = [image.permute(1, 2, 0).numpy() for image in training_images.cpu()]

        def apply(image: Tensor) -> Tensor:
            if torch.rand(()) >= 0.5:
                return image
            transform = getattr(albumentations, name)(metadata_key="references", p=1.0)
            transform.set_random_seed(int(torch.randint(2**31, ())))
            reference = references[int(torch.randint(len(references), ()))]
            changed = transform(image=image.permute(1, 2, 0).numpy(), references=[reference])["image"]
            return torch.from_numpy(changed).permute(2, 0, 1).contiguous()

        return apply

    return make


FIELD = {"cells": 3}
PLAIN = SwapConfig.published().to_json()
"""The swap of the paper: the generator alone, one ratio per image, up to 0.4."""

METHODS = {
    "none": Method(),
    "cutout": Method(erase=cutout),
    "random-erasing": Method(erase=v2.RandomErasing),
    "autoaugment": Method(autoaugment=1.0),
    "randaugment": Method(policy=v2.RandAugment),
    "trivialaugment": Method(policy=v2.TrivialAugmentWide),
    "mixup": Method(objective=mixed(v2.MixUp)),
    "cutmix": Method(objective=mixed(v2.CutMix, p=0.5)),  # as its authors do on CIFAR (Yun et al., ICCV 2019)
    "cosine-loss": Method(objective=cosine_loss),
    "mixmatch": Method(objective=mixmatch),
    "pixel": Method(swap="pixel"),
    "field": Method(swap="pixel", swap_settings=FIELD),
    "field+style": Method(swap="pixel", swap_settings=FIELD, style=True),
    "field+style+autoaugment": Method(swap="pixel", swap_settings=FIELD, style=True, autoaugment=0.5),
    "style": Method(style=True),
    "style+autoaugment": Method(style=True, autoaugment=0.5),
    "glico": Method(swap="glico"),
    "glico+style": Method(swap="glico", style=True),
    "glico+style+autoaugment": Method(swap="glico", style=True, autoaugment=0.5),
    "glico+style+autoaugment-spared": Method(swap="glico", style=True, autoaugment=0.5, spare=True),
    "plain": Method(swap="glico", swap_settings=PLAIN),
    "plain+style": Method(swap="glico", swap_settings=PLAIN, style=True),
    "plain+style+autoaugment": Method(swap="glico", swap_settings=PLAIN, style=True, autoaugment=0.5, spare=True),
    "published": Method(swap="glico", swap_settings=PLAIN, fit={"preset": "published"}),
    "color-jitter": Method(policy=color_jitter),
    "histogram-matching": Method(reference=by_reference("HistogramMatching")),
    "fda": Method(reference=by_reference("FDA")),
    "glico-noise": Method(swap="glico", swap_settings=PLAIN | {"sampler": "noise"}),
    "glico-random-out": Method(swap="glico", swap_settings=PLAIN | {"sampler": "random-out"}),
    "glico-other-class": Method(swap="glico", swap_settings=PLAIN | {"sampler": "other-class"}),
    "glico-other-class+style": Method(swap="glico", swap_settings=PLAIN | {"sampler": "other-class"}, style=True),
    "pixel-other-class": Method(swap="pixel", swap_settings={"other_class": True, "max_ratio": 0.4}),
    "glico-uniform": Method(swap="glico", swap_settings=PLAIN, fit={"class_cosine": 0.0}),
    "glico-lerp": Method(swap="glico", swap_settings=PLAIN | {"interpolation": "lerp"}),
    "glo": Method(swap="glico", swap_settings=PLAIN, fit={"classifier_weight": 0.0}),
    "glico-transductive-train": Method(swap="glico", swap_settings=PLAIN, unlabeled="train"),
    "glico-transductive-test": Method(swap="glico", swap_settings=PLAIN, unlabeled="test"),
}


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
    of_swap = SwapConfig().to_json().keys()
    return dataclasses.replace(
        method,
        swap_settings=method.swap_settings | {key: value for key, value in fields.items() if key in of_swap},
        fit=method.fit | {key: value for key, value in fields.items() if key not in of_swap},
    )
