"""Losses by name, or any module."""

from __future__ import annotations

import copy
from importlib import import_module

from torch import nn

from glico_augment.config import LOSSES, FitConfig
from glico_augment.losses.feature_loss import FeatureLoss


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
