"""Every hyper-parameter of a fit, with its default, in one validated dataclass. Imports no torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from glico_augment import checks

LOSS_NAMES = ("laplacian", "vgg16", "random-vgg16")
SCHEDULES = ("cosine", "step", "constant")
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """Hyper-parameters of :meth:`GLICOAugment.fit`. Symbols are those of Azuri & Weinshall 2020.

    Args:
        epochs: passes over the training set. None passes 100 times over it, and more often over a small one, until
            ``min_steps`` optimiser steps are made.
        min_steps: fewest optimiser steps when ``epochs`` is None.
        batch_size: images a step, at most as many as the set has; None for 32, or the whole of a smaller set.
        latent_dim: dimension ``d`` of the sphere's space, at least 2; None for one in 8 images, between 8 and 64. With
            few dimensions codes are neighbours and the images between them a smooth family; with too few for its
            images, a generator blurs them.
        noise_dim: dimension of ``ε``; 0 for none.
        noise_std: ``σ``, standard deviation of ``ε``, at least 0.
        generator_width: channels of the generator at full image size.
        classifier_width: channels of the first layer of the joint classifier ``F``.
        loss: ``"laplacian"`` (GLO's pyramid), ``"vgg16"`` (the paper's perceptual loss, pretrained),
            ``"random-vgg16"`` (fixed random weights), or a module called as ``loss(output, target)`` on images
            ``(k, channels, height, width)`` in ``[0, 1]`` that returns a scalar.
        loss_weights: the ``λ_j``, one a tap (VGG) or pyramid level, finest first; None for all 1.
        loss_normalize: divide each tap by its mean absolute deviation on the real images.
        vgg_weights: local file with torchvision's VGG-16 state dict for ``"vgg16"``; None for torchvision's cache.
        pixel_weight: weight of an added L1 distance between pixels in ``[0, 1]``.
        classifier_weight: ``γ``, weight of the cross-entropy of ``F``; 0 is GLO.
        image_size: side in pixels, or ``(height, width)``, to which images are brought. None keeps the size of
            images that all have one and takes 64 × 64 otherwise.
        lr: Adam's learning rate of generator and classifier.
        code_lr: Adam's learning rate of the codes, each of which moves only at steps that show its image (but on MPS,
            whose torch has no sparse gradients).
        adam_beta1: Adam's first decay rate, in ``[0, 1)``.
        schedule: of both learning rates: ``"cosine"`` to 0, ``"step"`` (halved every 70 epochs), ``"constant"``.
        precision: ``"float32"``, ``"bfloat16"`` (autocast) or ``"auto"``: bfloat16 on CUDA, float32 elsewhere.

    Raises:
        TypeError: if a field has the wrong type.
        ValueError: if a field is out of range.
    """

    epochs: int | None = None
    min_steps: int = 600
    batch_size: int | None = None
    latent_dim: int | None = None
    noise_dim: int = 16
    noise_std: float = 0.15
    generator_width: int = 32
    classifier_width: int = 32
    loss: Any = "laplacian"
    loss_weights: tuple[float, ...] | None = None
    loss_normalize: bool = True
    vgg_weights: str | None = None
    pixel_weight: float = 0.0
    classifier_weight: float = 0.5
    image_size: int | tuple[int, int] | None = None
    lr: float = 2e-3
    code_lr: float = 2e-2
    adam_beta1: float = 0.9
    schedule: str = "cosine"
    precision: str = "auto"

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            object.__setattr__(self, name, check(name, getattr(self, name)))

    @classmethod
    def published(
        cls, image_size: int | tuple[int, int] = 32, *, n_images: int | None = None, **overrides: Any
    ) -> FitConfig:
        """The settings of the paper and of its authors' published code, on this library's generator.

        Not carried over: the quarter-scale copy among the taps above 64 pixels, and what the published code does
        differently from the paper by mistake (unnormalised VGG input, Adam's moments dropped every epoch).

        Args:
            image_size: side in pixels, or ``(height, width)``, to bring images to. The authors take the first 3 VGG
                taps at 32 pixels, 4 at 64 and 5 above, and batches of 128 images at 32 pixels, 32 at 256.
            n_images: size of the set, where it may be smaller than those batches.
            overrides: fields to set otherwise.
        """
        side = max(image_size) if isinstance(image_size, tuple) else image_size
        n_taps = 3 if side <= 32 else 4 if side <= 64 else 5
        batch_size = 128 if side <= 64 else 32
        published: dict[str, Any] = {
            "epochs": 202,
            "batch_size": batch_size if n_images is None else min(batch_size, n_images),
            "image_size": image_size,
            "latent_dim": 512,
            "noise_dim": 100,
            "noise_std": 0.15,
            "loss": "vgg16",
            "loss_weights": tuple(float(tap < n_taps) for tap in range(5)),
            "loss_normalize": False,
            "pixel_weight": 1.0,
            "classifier_weight": 0.5,
            "lr": 0.7e-3,
            "code_lr": 1e-3,
            "adam_beta1": 0.5,
            "schedule": "step",
        }
        return cls(**{**published, **overrides})

    def replace(self, **overrides: Any) -> FitConfig:
        """A copy with some fields set otherwise.

        Raises:
            TypeError: for a name that is no field.
        """
        unknown = sorted(set(overrides) - {field.name for field in dataclasses.fields(self)})
        if unknown:
            fields = ", ".join(field.name for field in dataclasses.fields(self))
            raise TypeError(f"unknown fit setting {', '.join(unknown)}; the settings are: {fields}")
        return dataclasses.replace(self, **overrides)

    def total_steps(self, n_images: int) -> int:
        """Optimiser steps of a fit on ``n_images`` images."""
        epochs = _DEFAULT_EPOCHS if self.epochs is None else self.epochs
        steps = math.ceil(epochs * n_images / self.batch_size_for(n_images))
        return steps if self.epochs is not None else max(self.min_steps, steps)

    def batch_size_for(self, n_images: int) -> int:
        """Images a step in a fit on ``n_images`` images.

        Raises:
            ValueError: if :attr:`batch_size` is larger than the set.
        """
        if self.batch_size is None:
            return min(_DEFAULT_BATCH_SIZE, n_images)
        if self.batch_size > n_images:
            raise ValueError(
                f"batch_size must be at most the {n_images} images of the set; got {self.batch_size}. "
                f"Lower it to {n_images} or less, or leave it at None"
            )
        return self.batch_size

    def latent_dim_for(self, n_images: int) -> int:
        """Dimension of the codes of ``n_images`` images."""
        if self.latent_dim is not None:
            return self.latent_dim
        return min(max(n_images // 8, _FEWEST_DIMENSIONS), _MOST_DIMENSIONS)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values. A module as loss becomes its class name in brackets, ``"<MyLoss>"``."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if not isinstance(self.loss, str):
            fields["loss"] = f"<{type(self.loss).__name__}>"
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FitConfig:
        """The inverse of :meth:`to_json`.

        Raises:
            TypeError, ValueError: if ``values`` is not what :meth:`to_json` makes.
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"config must be an object, got {type(values).__name__}")
        return cls().replace(**values)


_DEFAULT_EPOCHS = 100
_DEFAULT_BATCH_SIZE = 32
_FEWEST_DIMENSIONS, _MOST_DIMENSIONS = 8, 64


def _loss(name: str, value: Any) -> Any:
    expected = f"one of {', '.join(map(repr, LOSS_NAMES))}, or a torch.nn.Module"
    if isinstance(value, str):
        if value in LOSS_NAMES or value.startswith("<"):  # "<MyLoss>": read back from a file
            return value
        raise ValueError(f"{name} must be {expected}; got {value!r}")
    if isinstance(value, type) or not (callable(value) and hasattr(value, "parameters")):
        raise TypeError(f"{name} must be {expected}; got {value!r}")
    return value


def _image_size(name: str, value: Any) -> int | tuple[int, int]:
    if isinstance(value, (tuple, list)):
        return checks.sequence_of(checks.integer(1), "a pair (height, width) of positive integers", 2)(name, value)
    return checks.integer(1, ", or a pair (height, width), or None")(name, value)


_CHECKS: dict[str, checks.Check] = {
    "epochs": checks.optional(checks.integer(1, ", or None")),
    "min_steps": checks.integer(1),
    "batch_size": checks.optional(checks.integer(1, ", or None")),
    "latent_dim": checks.optional(
        checks.integer(2, ": the unit sphere of a line is two points, with no path between them")
    ),
    "noise_dim": checks.integer(0),
    "noise_std": checks.non_negative,
    "generator_width": checks.integer(1),
    "classifier_width": checks.integer(1),
    "loss": _loss,
    "loss_weights": checks.optional(
        checks.sequence_of(checks.non_negative, "a sequence of non-negative numbers, or None")
    ),
    "loss_normalize": checks.boolean,
    "vgg_weights": checks.optional(checks.path),
    "pixel_weight": checks.non_negative,
    "classifier_weight": checks.non_negative,
    "image_size": checks.optional(_image_size),
    "lr": checks.positive,
    "code_lr": checks.positive,
    "adam_beta1": checks.real("a number in [0, 1)", lambda value: 0 <= value < 1),
    "schedule": checks.choice(SCHEDULES),
    "precision": checks.choice(PRECISIONS),
}
