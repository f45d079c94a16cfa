"""Every setting of a fit and of a swap, stated once: its default, its check and its meaning. Imports no torch."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from glico_augment import checks

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from glico_augment.settings import Settings

LOSSES = {
    "laplacian": ("laplacian", "LaplacianLoss"),
    "vgg16": ("perceptual", "PerceptualLoss"),
    "random-vgg16": ("perceptual", "RandomPerceptualLoss"),
}
"""The losses by name: module in ``glico_augment.losses`` and class, imported when one is built."""
LOSS_NAMES = tuple(LOSSES)
PRESETS = ("default", "published")
SAMPLERS = ("same-class", "noise", "random-out", "other-class")
INTERPOLATIONS = ("slerp", "lerp")
SCHEDULES = ("cosine", "step", "constant")
PRECISIONS = ("auto", "float32", "bfloat16")
MAX_SIDE, MAX_SIDE_PUBLISHED = 32, 64
"""Longest side in pixels of a fit of larger images where no ``image_size`` is set, and that of the published preset."""
_DEFAULT_EPOCHS = 40
_DEFAULT_BATCH_SIZE = 32


def _setting(default: Any, check: checks.Check, help: str, choices: tuple[str, ...] = ()) -> Any:
    """A field of a config; the rest is for :class:`_Config`, for docstrings and for the command line."""
    return dataclasses.field(default=default, metadata={"check": check, "help": help, "choices": choices})


@dataclasses.dataclass(frozen=True)
class _Config:
    """Settings that are checked when they are made and cannot be changed."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, field.metadata["check"](field.name, getattr(self, field.name)))

    @classmethod
    def names(cls) -> list[str]:
        """The names of the settings."""
        return [field.name for field in dataclasses.fields(cls)]

    def replace(self, **overrides: Unpack[Settings]) -> Self:
        """A copy with some settings changed; TypeError for a name that is no setting."""
        check_names(overrides, self.names())
        return type(self)(**{name: getattr(self, name) for name in self.names()} | dict(overrides))

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values."""
        values = {name: getattr(self, name) for name in self.names()}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_json`; TypeError or ValueError for what that does not make."""
        if not isinstance(values, Mapping):
            raise TypeError(f"{cls.__name__} must be an object, got {type(values).__name__}")
        return cls().replace(**values)


_ConfigType = TypeVar("_ConfigType", bound=type[_Config])


def _documented(config: _ConfigType) -> _ConfigType:
    """The class with its settings in the docstring."""
    lines = [f"    {field.name}: {field.metadata['help']}" for field in dataclasses.fields(config)]
    config.__doc__ = f"{config.__doc__}\n\nArgs:\n" + "\n".join(lines) + _RAISES
    return config


_RAISES = """

Raises:
    TypeError: if a setting has the wrong type.
    ValueError: if a setting is out of range.
"""


def _check_loss(name: str, value: Any) -> Any:
    expected = f"one of {', '.join(map(repr, LOSS_NAMES))}, or a torch.nn.Module"
    if isinstance(value, str):
        if value in LOSS_NAMES or value.startswith("<"):  # "<MyLoss>": read back from a file
            return value
        raise ValueError(f"{name} must be {expected}; got {checks.quoted(value)}")
    if isinstance(value, type) or not (callable(value) and hasattr(value, "parameters")):
        raise TypeError(f"{name} must be {expected}; got {checks.quoted(value)}")
    return value


def _check_image_size(name: str, value: Any) -> int | tuple[int, int]:
    if isinstance(value, (tuple, list)):
        return checks.sequence_of(checks.integer(1), "a pair (height, width) of positive integers", 2)(name, value)
    return checks.integer(1, ", or a pair (height, width), or None")(name, value)


_COUNT = checks.optional(checks.integer(1, ", or None"))
_BELOW_ONE = checks.real("a number in [0, 1)", lambda value: 0 <= value < 1)
_LATENT_DIM = checks.integer(2, ": the unit sphere of a line is two points, with no path between them")
_WEIGHTS = checks.optional(checks.sequence_of(checks.non_negative, "a sequence of non-negative numbers, or None"))
_ANGLE = checks.real("an angle in radians, in [0, π)", lambda value: 0 <= value < math.pi)


@_documented
@dataclasses.dataclass(frozen=True)
class FitConfig(_Config):
    """Settings of :meth:`GLICOAugment.fit`. Symbols are those of Azuri & Weinshall (2020)."""

    epochs: int | None = _setting(
        None, _COUNT, "passes over the training set; None for 40, or more until min_steps steps are made"
    )
    min_steps: int = _setting(250, checks.integer(1), "fewest optimiser steps when epochs is None")
    steps: int | None = _setting(None, _COUNT, "optimiser steps, in place of epochs")
    batch_size: int | None = _setting(
        None, _COUNT, "images per step, at most the size of the set; None for 32, or the whole of a smaller set"
    )
    latent_dim: int = _setting(64, _LATENT_DIM, "dimension d of the space of the sphere, at least 2")
    class_cosine: float = _setting(
        0.5,
        _BELOW_ONE,
        "cosine in [0, 1) between the initial codes of two images of a class; between classes it is 0 on average, so "
        "that paths within a class stay in its own region of the sphere. 0 draws all codes uniformly, as in the paper",
    )
    noise_dim: int = _setting(16, checks.integer(0), "dimension of the noise ε; 0 for none")
    noise_std: float = _setting(0.15, checks.non_negative, "standard deviation σ of the noise ε, at least 0")
    generator_width: int = _setting(16, checks.integer(1), "channels of the generator at full image size")
    classifier_width: int = _setting(32, checks.integer(1), "channels of the first layer of the joint classifier F")
    loss: Any = _setting(
        "laplacian",
        _check_loss,
        '"laplacian" (the pyramid of GLO), "vgg16" (the perceptual loss of the paper, pretrained), "random-vgg16" '
        "(fixed random weights), or a module called as loss(output, target) on images (k, channels, height, width) in "
        "[0, 1] that returns a scalar",
        LOSS_NAMES,
    )
    loss_weights: tuple[float, ...] | None = _setting(
        None, _WEIGHTS, "weights λ_j per VGG tap or pyramid level, finest first; None for all 1"
    )
    loss_normalize: bool = _setting(
        True, checks.boolean, "divide each tap by its mean absolute deviation on the real images"
    )
    vgg_weights: str | None = _setting(
        None,
        checks.optional(checks.path),
        'local file with the VGG-16 state dict of torchvision for "vgg16"; None for the cache of torchvision',
    )
    pixel_weight: float = _setting(0.0, checks.non_negative, "weight of an added L1 distance between pixels in [0, 1]")
    squared_weight: float = _setting(
        1.0,
        checks.non_negative,
        "weight of an added squared distance between pixels, divided by that of the mean image. It keeps the fit from "
        "drawing the median, which is black where few pixels are bright. A fit that had to restart uses the "
        "cross-entropy of pixel values in its place",
    )
    classifier_weight: float = _setting(
        0.5, checks.non_negative, "weight γ of the cross-entropy of F, to which unlabelled images add 0; 0 is GLO"
    )
    image_size: int | tuple[int, int] | None = _setting(
        None,
        checks.optional(_check_image_size),
        "side in pixels, or (height, width), to which images are resized; None keeps a common size of at most 32, and "
        "brings the longer side of larger images to 32, and images of different sizes to 32 × 32",
    )
    lr: float = _setting(2e-3, checks.positive, "learning rate (Adam) of generator and classifier")
    code_lr: float = _setting(
        2e-2, checks.positive, "learning rate (Adam) of the codes; a code changes only in steps that show its image"
    )
    adam_beta1: float = _setting(0.9, _BELOW_ONE, "first decay rate of Adam, in [0, 1)")
    max_grad_norm: float | None = _setting(
        1.0,
        checks.optional(checks.positive),
        "norm to which the gradient of generator and classifier is clipped; None for no clipping",
    )
    schedule: str = _setting(
        "cosine",
        checks.choice(SCHEDULES),
        'of both learning rates: "cosine" to 0, "step" (halved every 70 epochs) or "constant"',
        SCHEDULES,
    )
    precision: str = _setting(
        "auto",
        checks.choice(PRECISIONS),
        '"float32", "bfloat16" (autocast), or "auto": bfloat16 on CUDA, float32 elsewhere',
        PRECISIONS,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps is not None and self.epochs is not None:
            raise ValueError(f"give epochs or steps, not both; got epochs={self.epochs} and steps={self.steps}")

    @classmethod
    def published(cls, image_size: Any = 32, /, *, n_images: int | None = None, **overrides: Unpack[Settings]) -> Self:
        """The settings of the paper and of its authors' published code, on the generator of this library.

        Not carried over: the quarter-scale copy among the taps above 64 pixels, and what the published code does
        differently from the paper by mistake (unnormalised VGG input, moments of Adam dropped every epoch).

        Args:
            image_size: side in pixels, or ``(height, width)``; None for that of the images. The authors take the first
                3 VGG taps at 32 pixels, 4 at 64 and 5 above, and batches of 128 images at 32 pixels, 32 at 256.
            n_images: size of the set, where it may be smaller than those batches.
            overrides: settings to change.
        """
        check_names(overrides, cls.names())
        size = checks.optional(_check_image_size)("image_size", overrides.pop("image_size", image_size))
        side = max(size) if isinstance(size, tuple) else size or MAX_SIDE_PUBLISHED
        n_taps = 3 if side <= 32 else 4 if side <= 64 else 5
        batch_size = 128 if side <= 64 else 32
        published: dict[str, Any] = {
            "epochs": 202 if overrides.get("steps") is None else None,
            "batch_size": batch_size if n_images is None else min(batch_size, n_images),
            "image_size": size,
            "latent_dim": 512,
            "class_cosine": 0.0,
            "noise_dim": 100,
            "noise_std": 0.15,
            "generator_width": 32,
            "loss": "vgg16",
            "loss_weights": tuple(float(tap < n_taps) for tap in range(5)),
            "loss_normalize": False,
            "pixel_weight": 1.0,
            "squared_weight": 0.0,
            "classifier_weight": 0.5,
            "lr": 0.7e-3,
            "code_lr": 1e-3,
            "adam_beta1": 0.5,
            "max_grad_norm": None,
            "schedule": "step",
        }
        return cls(**{**published, **overrides})

    def resolved(self, n_images: int, image_shape: tuple[int, int, int]) -> FitConfig:
        """The settings with every default that depends on the set, unlabelled images included, replaced by its number.

        A fitted file keeps these, so that it stays what it is when a default changes.

        Raises:
            ValueError: if :attr:`batch_size` is larger than the set.
        """
        batch_size = min(_DEFAULT_BATCH_SIZE, n_images) if self.batch_size is None else self.batch_size
        if batch_size > n_images:
            raise ValueError(
                f"batch_size must be at most the {n_images} images of the set; got {batch_size}. "
                f"Lower it to {n_images} or less, or leave it at None"
            )
        steps = self.steps or math.ceil((self.epochs or _DEFAULT_EPOCHS) * n_images / batch_size)
        if self.steps is None and self.epochs is None:
            steps = max(self.min_steps, steps)
        size = (image_shape[1], image_shape[2])
        return self.replace(epochs=None, steps=steps, batch_size=batch_size, image_size=size)

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values. A module as loss becomes the name of its class in brackets, ``"<MyLoss>"``."""
        loss = self.loss if isinstance(self.loss, str) else f"<{type(self.loss).__name__}>"
        return {**super().to_json(), "loss": loss}


@_documented
@dataclasses.dataclass(frozen=True)
class SwapConfig(_Config):
    """How images are swapped (Azuri & Weinshall 2020, "Image classification using GLICO").

    With ``sampler="same-class"`` a synthetic image lies on the path from the code of its anchor to that of another
    image of the class: GLICO. The other samplers are those of LASIUM (Khodadadeh et al., ICLR 2021) and need no second
    image of the class: ``"noise"`` (LASIUM-N) adds Gaussian noise to the anchor, ``"random-out"`` (LASIUM-RO) goes
    towards a random point of the sphere at least ``min_angle`` away, ``"other-class"`` (LASIUM-OC) towards a code of
    another class. The label is that of the anchor with every sampler.
    """

    p: float = _setting(0.5, checks.proportion, "probability in [0, 1] that an image is swapped")
    max_ratio: float | None = _setting(
        None,
        checks.optional(checks.proportion),
        "r ~ U[0, max_ratio], in [0, 1], is how far to go from the anchor (0) to its partner (1); None for 1 between "
        "images of a class, and for 0.4 with the other samplers, whose paths leave it",
    )
    cells: int = _setting(
        3,
        checks.integer(1),
        "above 1, the ratio varies smoothly over the image, by cells × cells numbers r; at most the pixels per side of "
        "the first feature map of the generator. 1 is one ratio per image, as in the paper",
    )
    carry: bool = _setting(
        True,
        checks.boolean,
        "add what the generator misses of both photographs, e = x − G([z, 0]), so that their detail stays, at any "
        "size, and both ends of a path are the photographs themselves. False, as in the paper, is the generator alone",
    )
    interpolation: str = _setting(
        "slerp", checks.choice(INTERPOLATIONS), '"slerp", or "lerp" for the ablation of the paper', INTERPOLATIONS
    )
    noise_std: float | None = _setting(
        None,
        checks.optional(checks.non_negative),
        "standard deviation σ of the noise ε of the generator, at least 0; None for that of the fit",
    )
    sampler: str = _setting(
        "same-class", checks.choice(SAMPLERS), "where a synthetic image lies about its anchor", SAMPLERS
    )
    sampler_std: float = _setting(
        0.25,
        checks.non_negative,
        'σ of "noise", at least 0, where the entries of a code have variance one, as in LASIUM: the angle to the '
        "anchor is about atan σ in any dimension",
    )
    min_angle: float = _setting(1.0, _ANGLE, 'smallest angle ε of "random-out", in radians, in [0, π)')

    @classmethod
    def published(cls, **overrides: Unpack[Settings]) -> Self:
        """The swap of the paper, whatever the defaults become.

        Args:
            overrides: settings to change.
        """
        published: dict[str, Any] = {"p": 0.5, "max_ratio": 0.4, "cells": 1, "carry": False, "interpolation": "slerp"}
        return cls(**published, noise_std=0.15, sampler="same-class").replace(**overrides)

    def to_numbers(self) -> tuple[float, ...]:
        """Each setting as a number: a name as its place among the choices, None as infinity."""
        choices = [field.metadata["choices"] for field in dataclasses.fields(self)]
        values = [getattr(self, name) for name in self.names()]
        return tuple(
            math.inf if value is None else float(names.index(value) if names else value)
            for value, names in zip(values, choices, strict=True)
        )

    @classmethod
    def from_numbers(cls, numbers: Iterable[float]) -> Self:
        """The inverse of :meth:`to_numbers`."""
        values: dict[str, Any] = {}
        for field, number in zip(dataclasses.fields(cls), numbers, strict=True):
            names, default = field.metadata["choices"], field.default
            kind: Callable[[float], Any] = float if default is None else type(default)
            values[field.name] = names[int(number)] if names else None if number == math.inf else kind(number)
        return cls(**values)

    @property
    def largest_ratio(self) -> float:
        """:attr:`max_ratio`, or what None stands for."""
        if self.max_ratio is not None:
            return self.max_ratio
        return 1.0 if self.sampler == "same-class" else 0.4

    @property
    def description(self) -> str:
        """Where a synthetic image lies, in words."""
        share = "anywhere on the path to" if self.largest_ratio == 1 else f"up to {self.largest_ratio:g} of the path to"
        place = {
            "same-class": f"{share} another image of the class",
            "noise": f"at the code of the image with Gaussian noise of {self.sampler_std:g}",
            "random-out": f"{share} a random point at an angle of at least {self.min_angle:g}",
            "other-class": f"{share} an image of another class",
        }[self.sampler]
        has_field = self.cells > 1 and self.sampler != "noise"  # which has no path
        field = f", by a field of {self.cells} × {self.cells} ratios" if has_field else ""
        return f"{place}{field}{', detail carried' if self.carry else ''}"


def fitted_size(size: tuple[int, int], max_side: int = MAX_SIDE) -> tuple[int, int]:
    """``(height, width)`` at which images of one size are fitted where no ``image_size`` is set."""
    scale = min(1, max_side / max(size))
    return max(1, round(scale * size[0])), max(1, round(scale * size[1]))


def split_overrides(
    overrides: Mapping[str, Any], arguments: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings among ``overrides`` of a :class:`FitConfig` and of a :class:`SwapConfig`; ``noise_std`` is of both.

    A name that is a setting of neither raises TypeError; ``arguments`` are further names that may be meant.
    """
    check_names(overrides, list(dict.fromkeys([*FitConfig.names(), *SwapConfig.names()])), arguments)
    fit, swap = (
        {name: overrides[name] for name in overrides if name in each.names()} for each in (FitConfig, SwapConfig)
    )
    return fit, swap


def check_names(overrides: Mapping[str, Any], known: list[str], arguments: Sequence[str] = ()) -> None:
    """Raise TypeError for a name that is not ``known``, with the nearest one and all that are."""
    unknown = sorted(name for name in overrides if name not in known)
    if unknown:
        names = ", ".join(checks.shown(name).strip("'\"") for name in unknown)
        guess = did_you_mean(unknown, [*known, *arguments])
        raise TypeError(f"unknown setting {names}{guess}; the settings are: {', '.join(known)}")


def did_you_mean(unknown: Sequence[str], known: Sequence[str]) -> str:
    """Which of the ``known`` names may be meant, as a question in brackets; empty where none is near.

    A name is near that has most letters in common, or a part between underscores: ``size`` is of ``image_size``.
    """
    near = []
    for name in unknown:
        near += difflib.get_close_matches(name, known, 1) or [each for each in known if name in each.split("_")]
    return f" (did you mean {', '.join(near)}?)" if near else ""
