"""The settings as keywords, for type checkers: they find ``fit(dataset, imagesize=32)`` before it is run.

Names and types are those of :class:`FitConfig` and :class:`SwapConfig`; a test compares them. A function passes such
keywords on as ``def fit_mine(**settings: Unpack[Settings])``.
"""

from __future__ import annotations

from typing import Any, TypedDict


class Settings(TypedDict, total=False):
    """The fields of both configs; ``noise_std`` of a fit is a number."""

    epochs: int | None
    min_steps: int
    steps: int | None
    batch_size: int | None
    latent_dim: int
    class_cosine: float
    noise_dim: int
    noise_std: float | None
    generator_width: int
    classifier_width: int
    loss: Any
    loss_weights: tuple[float, ...] | None
    loss_normalize: bool
    vgg_weights: str | None
    pixel_weight: float
    squared_weight: float
    classifier_weight: float
    image_size: int | tuple[int, int] | None
    lr: float
    code_lr: float
    adam_beta1: float
    max_grad_norm: float | None
    schedule: str
    precision: str
    p: float
    max_ratio: float | None
    cells: int
    carry: bool
    interpolation: str
    sampler: str
    sampler_std: float
    min_angle: float
