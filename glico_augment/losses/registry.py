"""Losses by name, or any module."""

from __future__ import annotations

import copy

from torch import nn

from glico_augment.config import FitConfig
from glico_augment.losses.laplacian import LaplacianLoss
from glico_augment.losses.perceptual import PerceptualLoss, RandomPerceptualLoss


def build_loss(config: FitConfig, image_shape: tuple[int, int, int]) -> nn.Module:
    """The reconstruction loss that ``config.loss`` names, or the module it is.

    Args:
        config: its ``loss``, ``loss_weights``, ``loss_normalize`` and ``vgg_weights`` are read.
        image_shape: ``(channels, height, width)`` of the images to compare.

    Raises:
        FileNotFoundError: if pretrained weights are asked for and not to be had.
        ValueError: if the loss cannot compare such images.
    """
    if isinstance(config.loss, nn.Module):
        return copy.deepcopy(config.loss)  # it is moved and calibrated
    if config.loss.startswith("<"):
        raise ValueError(f"loss {config.loss} was a module of its user's; pass that module as loss= again")
    weights, normalize = config.loss_weights, config.loss_normalize
    loss: LaplacianLoss | PerceptualLoss | RandomPerceptualLoss
    if config.loss == "laplacian":
        loss = LaplacianLoss(weights, normalize=normalize)
    elif config.loss == "vgg16":
        loss = PerceptualLoss(weights, normalize=normalize, weights_file=config.vgg_weights)
    else:
        loss = RandomPerceptualLoss(weights, normalize=normalize)
    loss.check_images(image_shape)
    return loss
