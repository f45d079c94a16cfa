"""What a fit costs at least, estimated from its settings, and the refusal of one that cannot be."""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch

from glico_augment.config import FitConfig
from glico_augment.devices import memory_of
from glico_augment.model.classifier import Classifier
from glico_augment.model.generator import Generator

MOST_STEPS = 10**8
"""Of a fit; on images of any size they take weeks."""

_FLOAT = 4  # bytes
_COPIES = 4  # of a weight: itself, its gradient and two moments


class FitCost(NamedTuple):
    """Bytes that a fit needs at least, by what for; infinite where no tensor is so large."""

    images: float
    codes: float
    networks: float
    feature_maps: float
    losses: float


def estimate(
    config: FitConfig, n_images: int, image_shape: tuple[int, int, int], n_classes: int, *, n_processes: int = 1
) -> FitCost:
    """The least memory of each process of a fit, in bytes.

    Args:
        config: resolved.
        n_images: of the set, unlabelled ones included.
        image_shape: ``(channels, height, width)``.
        n_classes: of the labelled images.
        n_processes: that share a batch.
    """
    assert config.batch_size is not None
    assert config.steps is not None
    try:
        with torch.device("meta"):  # shapes without memory
            generator = Generator(config.latent_dim, config.noise_dim, image_shape, config.generator_width)
            classifier = Classifier(image_shape[0], n_classes, config.classifier_width)
        weights: float = sum(each.numel() for network in (generator, classifier) for each in network.parameters())
        widths = [cast("int", conv.out_channels) for conv in generator.convs]
        maps: float = sum(width * math.prod(size) for width, size in zip(widths, generator.sizes, strict=True))
    except (RuntimeError, OverflowError, TypeError):  # more elements than torch can count
        weights = maps = math.inf
    return FitCost(
        images=n_images * math.prod(image_shape),
        codes=3 * n_images * config.latent_dim * _FLOAT,  # with their moments
        networks=weights * _COPIES * _FLOAT,
        feature_maps=maps * math.ceil(config.batch_size / n_processes) * _FLOAT,
        losses=3 * config.steps * _FLOAT,
    )


def check_cost(
    config: FitConfig,
    n_images: int,
    image_shape: tuple[int, int, int],
    n_classes: int,
    *,
    device: torch.device,
    n_processes: int = 1,
) -> None:
    """Refuse a fit that needs more memory than ``device`` has, or more than ``MOST_STEPS`` steps.

    Raises:
        ValueError: what is too large, and which settings make it so.
    """
    assert config.steps is not None
    if config.steps > MOST_STEPS:
        raise ValueError(
            f"a fit of {config.steps:.3g} steps would take years even at a thousandth of a second each; at most "
            f"{MOST_STEPS:,} are made. Lower epochs=, steps= or min_steps="
        )
    cost = estimate(config, n_images, image_shape, n_classes, n_processes=n_processes)
    check_memory(
        sum(cost), f"a fit of {n_images} images", f"most of it for {_described(cost)}", memory=memory_of(device)
    )


def check_memory(needed: float, what: str, remedy: str, *, memory: int) -> None:
    """Raise ValueError if ``what`` needs more bytes than there are, with the remedy."""
    if needed > memory:
        raise ValueError(f"{what} needs at least {_shown(needed)} of memory, and {_shown(memory)} are here; {remedy}")


def _described(cost: FitCost) -> str:
    largest = max(zip(cost, cost._fields, strict=True))[1]
    return {
        "images": "the images: lower image_size or give fewer",
        "codes": "the codes: lower latent_dim",
        "networks": "the networks: lower latent_dim, noise_dim, generator_width, classifier_width or image_size",
        "feature_maps": "the images of a step: lower batch_size, generator_width or image_size",
        "losses": "the losses of the steps: lower epochs=, steps= or min_steps=",
    }[largest]


def _shown(count: float) -> str:
    """A number of bytes in words."""
    if count >= 2**60:
        return "a million TiB"
    return f"{count / 2**30:,.1f} GiB" if count < 2**40 else f"{count / 2**40:,.1f} TiB"
