"""Reconstruction losses: compare generated with real images by features of both."""

from glico_augment.losses.feature_loss import FeatureLoss, build_loss
from glico_augment.losses.laplacian import LaplacianLoss
from glico_augment.losses.perceptual import PerceptualLoss, RandomPerceptualLoss

__all__ = ["FeatureLoss", "LaplacianLoss", "PerceptualLoss", "RandomPerceptualLoss", "build_loss"]
