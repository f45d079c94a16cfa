"""The fields of the configs as keywords, for type checkers: ``fit(dataset, imagesize=32)`` is found before it is run.

Names and types are those of :class:`FitConfig` and :class:`SwapConfig`, which alone have the defaults; a test compares
them. For a function that passes such keywords on: ``def fit_mine(**settings: Unpack[Settings])``.
"""

from __future__ import annotations

from typing import Any, TypedDict


class FitSettingsBesideSize(TypedDict, total=False):
    """Fields of :class:`FitConfig` but ``image_size``."""

    epochs: int | None
    min_steps: int
    steps: int | None
    batch_size: int | None
    latent_dim: int
    class_cosine: float
    noise_dim: int
    noise_std: float
    generator_width: int
    classifier_width: int
    loss: Any
    loss_weights: tuple[float, ...] | None
    loss_normalize: bool
    vgg_weights: str | None
    pixel_weight: float
    squared_weight: float
    classifier_weight: float
    lr: float
    code_lr: float
    adam_beta1: float
    max_grad_norm: float | None
    schedule: str
    precision: str


class FitSettings(FitSettingsBesideSize, total=False):
    """Fields of :class:`FitConfig`."""

    image_size: int | tuple[int, int] | None


class _SwapSettingsWithoutNoise(TypedDict, total=False):
    p: float
    max_ratio: float
    interpolation: str
    sampler: str
    sampler_std: float
    min_angle: float


class SwapSettings(_SwapSettingsWithoutNoise, total=False):
    """Fields of :class:`SwapConfig`."""

    noise_std: float | None


class Settings(FitSettings, _SwapSettingsWithoutNoise, total=False):
    """Fields of both; ``noise_std`` is that of the fit, which needs a number."""
