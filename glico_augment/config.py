"""Every hyper-parameter of a fit and of a swap, with its default, in two validated dataclasses. Imports no torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from glico_augment import checks

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from glico_augment.settings import FitSettings, FitSettingsBesideSize, SwapSettings

LOSS_NAMES = ("laplacian", "vgg16", "random-vgg16")
SCHEDULES = ("cosine", "step", "constant")
PRECISIONS = ("auto", "float32", "bfloat16")
PRESETS = ("default", "published")
INTERPOLATIONS = ("slerp", "lerp")
SAMPLERS = ("same-class", "noise", "random-out", "other-class")
DEFAULT_SIDE = 64
"""Pixels of the side to which images of many sizes are brought where no ``image_size`` is set."""


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """Hyper-parameters of :meth:`GLICOAugment.fit`. Symbols are those of Azuri & Weinshall 2020.

    Args:
        epochs: passes over the training set. None passes 100 times over it, and more often over a small one, until
            ``min_steps`` optimiser steps are made.
        min_steps: fewest optimiser steps when ``epochs`` is None.
        steps: optimiser steps, in place of ``epochs``.
        batch_size: images a step, at most as many as the set has; None for 32, or the whole of a smaller set.
        latent_dim: dimension ``d`` of the sphere's space, at least 2.
        class_cosine: cosine, in ``[0, 1)``, that two codes of one class start with; codes of different classes start
            at right angles, on average. The path between two codes of a class then leads through its own region of the
            sphere, and not past codes of other classes. 0 starts all codes uniformly, as the paper does.
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
        squared_weight: weight of an added squared distance between pixels, in units of the mean squared distance of
            the real images from their mean image. A loss of absolute differences alone is content with black where
            few pixels are bright, since the median of such a pixel is black. A fit that had to start again takes the
            cross-entropy of pixel values in its place, so weighed that the mean image costs as much.
        classifier_weight: ``γ``, weight of the cross-entropy of ``F``, to which unlabelled images add 0; 0 is GLO.
        image_size: side in pixels, or ``(height, width)``, to which images are brought. None keeps the size of
            images that all have one and takes 64 × 64 otherwise.
        lr: Adam's learning rate of generator and classifier.
        code_lr: Adam's learning rate of the codes, each of which moves, and ages its moments, only at steps that show
            its image.
        adam_beta1: Adam's first decay rate, in ``[0, 1)``.
        max_grad_norm: Euclidean norm to which the gradient of generator and classifier is clipped; None for none.
        schedule: of both learning rates: ``"cosine"`` to 0, ``"step"`` (halved every 70 epochs), ``"constant"``.
        precision: ``"float32"``, ``"bfloat16"`` (autocast) or ``"auto"``: bfloat16 on CUDA, float32 elsewhere.

    Raises:
        TypeError: if a field has the wrong type.
        ValueError: if a field is out of range.
    """

    epochs: int | None = None
    min_steps: int = 600
    steps: int | None = None
    batch_size: int | None = None
    latent_dim: int = 64
    class_cosine: float = 0.5
    noise_dim: int = 16
    noise_std: float = 0.15
    generator_width: int = 32
    classifier_width: int = 32
    loss: Any = "laplacian"
    loss_weights: tuple[float, ...] | None = None
    loss_normalize: bool = True
    vgg_weights: str | None = None
    pixel_weight: float = 0.0
    squared_weight: float = 1.0
    classifier_weight: float = 0.5
    image_size: int | tuple[int, int] | None = None
    lr: float = 2e-3
    code_lr: float = 2e-2
    adam_beta1: float = 0.9
    max_grad_norm: float | None = 1.0
    schedule: str = "cosine"
    precision: str = "auto"

    def __post_init__(self) -> None:
        for name, check in _FIT_CHECKS.items():
            object.__setattr__(self, name, check(name, getattr(self, name)))
        if self.steps is not None and self.epochs is not None:
            raise ValueError(f"give epochs or steps, not both; got epochs={self.epochs} and steps={self.steps}")

    @classmethod
    def published(
        cls,
        image_size: int | tuple[int, int] = 32,
        *,
        n_images: int | None = None,
        **overrides: Unpack[FitSettingsBesideSize],
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
            "class_cosine": 0.0,
            "noise_dim": 100,
            "noise_std": 0.15,
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
        if overrides.get("steps") is not None:
            published["epochs"] = None
        return cls(**{**published, **overrides})

    def replace(self, **overrides: Unpack[FitSettings]) -> FitConfig:
        """A copy with some fields set otherwise.

        Raises:
            TypeError: for a name that is no field.
        """
        return _replace(self, overrides, "fit")

    def resolved(self, n_images: int, image_shape: tuple[int, int, int]) -> FitConfig:
        """The settings with every default that depends on the set as the number that a fit of it uses.

        A fitted file keeps these, so that it stays what it is when a rule changes.

        Args:
            n_images: images of the set, unlabelled ones included.
            image_shape: ``(channels, height, width)`` at which they are fitted.

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
        """The fields as JSON values. A module as loss becomes the name of its class in brackets, ``"<MyLoss>"``."""
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


@dataclasses.dataclass(frozen=True)
class SwapConfig:
    """How images are swapped (Azuri & Weinshall 2020, "Image classification using GLICO").

    Args:
        p: probability in ``[0, 1]`` that an image is swapped.
        max_ratio: ``r ~ U[0, max_ratio]`` is how far a synthetic image goes from its anchor's code (0) to its
            partner's (1); in ``[0, 1]``. The paper's 0.4 stays nearer to the anchor.
        interpolation: ``"slerp"``, or ``"lerp"`` for the paper's ablation.
        noise_std: ``σ`` of the generator's noise ``ε``, at least 0; None for that of the fit.
        sampler: where a synthetic image lies about its anchor. ``"same-class"`` is GLICO: towards another code of the
            class. The others are those of LASIUM (Khodadadeh et al., ICLR 2021), which need no second image of the
            class: ``"noise"`` (LASIUM-N) is the anchor with Gaussian noise; ``"random-out"`` (LASIUM-RO) lies towards a
            random point of the sphere at least ``min_angle`` away; ``"other-class"`` (LASIUM-OC) towards a code of
            another class. The label is the anchor's whatever the sampler.
        sampler_std: ``σ`` of the noise of ``"noise"``, at least 0, in units in which the entries of a code have
            variance one, as LASIUM's have: the angle to the anchor is about ``atan σ``, whatever the dimension.
        min_angle: ``ε``, the least angle in radians, in ``[0, π)``, of ``"random-out"``.

    Raises:
        TypeError: if a setting has the wrong type.
        ValueError: if a setting is out of range.
    """

    p: float = 0.5
    max_ratio: float = 0.4
    interpolation: str = "slerp"
    noise_std: float | None = None
    sampler: str = "same-class"
    sampler_std: float = 0.25
    min_angle: float = 1.0

    def __post_init__(self) -> None:
        for name, check in _SWAP_CHECKS.items():
            object.__setattr__(self, name, check(name, getattr(self, name)))

    @classmethod
    def published(cls, **overrides: Unpack[SwapSettings]) -> SwapConfig:
        """That of the paper, whatever the default becomes.

        Args:
            overrides: fields to set otherwise.
        """
        return cls(p=0.5, max_ratio=0.4, interpolation="slerp", noise_std=0.15, sampler="same-class").replace(
            **overrides
        )

    def replace(self, **overrides: Unpack[SwapSettings]) -> SwapConfig:
        """A copy with some fields set otherwise.

        Raises:
            TypeError: for a name that is no field.
        """
        return _replace(self, overrides, "swap")

    @property
    def way(self) -> str:
        """Where a synthetic image lies, in words."""
        share = f"up to {self.max_ratio:g} of the way to"
        return {
            "same-class": f"{share} another image of the class",
            "noise": f"at the image's code with Gaussian noise of {self.sampler_std:g}",
            "random-out": f"{share} a random point at an angle of at least {self.min_angle:g}",
            "other-class": f"{share} an image of another class",
        }[self.sampler]

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SwapConfig:
        """The inverse of :meth:`to_json`.

        Raises:
            TypeError, ValueError: if ``values`` is not what :meth:`to_json` makes.
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"swap must be an object, got {type(values).__name__}")
        return cls().replace(**values)


def split_overrides(overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Which of some settings are of a :class:`FitConfig`, and which of a :class:`SwapConfig`; ``noise_std`` is of both.

    Raises:
        TypeError: for a name that is a field of neither.
    """
    of_fit, of_swap = _names(FitConfig), _names(SwapConfig)
    if unknown := [name for name in overrides if name not in of_fit + of_swap]:
        raise TypeError(_unknown("setting", unknown, [*of_fit, *(name for name in of_swap if name not in of_fit)]))
    fit = {name: value for name, value in overrides.items() if name in of_fit}
    swap = {name: value for name, value in overrides.items() if name in of_swap}
    return fit, swap


_Config = TypeVar("_Config", FitConfig, SwapConfig)


def _replace(config: _Config, overrides: Mapping[str, Any], kind: str) -> _Config:
    names = _names(type(config))
    if unknown := [name for name in overrides if name not in names]:
        raise TypeError(_unknown(f"{kind} setting", unknown, names))
    return dataclasses.replace(config, **overrides)


def _names(config: type[FitConfig] | type[SwapConfig]) -> list[str]:
    return [field.name for field in dataclasses.fields(config)]


def _unknown(what: str, unknown: list[str], known: list[str]) -> str:
    names = ", ".join(checks.shown(name).strip("'\"") for name in sorted(unknown))
    return f"unknown {what} {names}; the settings are: {', '.join(known)}"


_DEFAULT_EPOCHS = 100
_DEFAULT_BATCH_SIZE = 32


def _loss(name: str, value: Any) -> Any:
    expected = f"one of {', '.join(map(repr, LOSS_NAMES))}, or a torch.nn.Module"
    if isinstance(value, str):
        if value in LOSS_NAMES or value.startswith("<"):  # "<MyLoss>": read back from a file
            return value
        raise ValueError(f"{name} must be {expected}; got {checks.quoted(value)}")
    if isinstance(value, type) or not (callable(value) and hasattr(value, "parameters")):
        raise TypeError(f"{name} must be {expected}; got {checks.quoted(value)}")
    return value


def _image_size(name: str, value: Any) -> int | tuple[int, int]:
    if isinstance(value, (tuple, list)):
        return checks.sequence_of(checks.integer(1), "a pair (height, width) of positive integers", 2)(name, value)
    return checks.integer(1, ", or a pair (height, width), or None")(name, value)


_FIT_CHECKS: dict[str, checks.Check] = {
    "epochs": checks.optional(checks.integer(1, ", or None")),
    "min_steps": checks.integer(1),
    "steps": checks.optional(checks.integer(1, ", or None")),
    "batch_size": checks.optional(checks.integer(1, ", or None")),
    "latent_dim": checks.integer(2, ": the unit sphere of a line is two points, with no path between them"),
    "class_cosine": checks.real("a number in [0, 1)", lambda value: 0 <= value < 1),
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
    "squared_weight": checks.non_negative,
    "classifier_weight": checks.non_negative,
    "image_size": checks.optional(_image_size),
    "lr": checks.positive,
    "code_lr": checks.positive,
    "adam_beta1": checks.real("a number in [0, 1)", lambda value: 0 <= value < 1),
    "max_grad_norm": checks.optional(checks.positive),
    "schedule": checks.choice(SCHEDULES),
    "precision": checks.choice(PRECISIONS),
}

_SWAP_CHECKS: dict[str, checks.Check] = {
    "p": checks.proportion,
    "max_ratio": checks.proportion,
    "interpolation": checks.choice(INTERPOLATIONS),
    "noise_std": checks.optional(checks.non_negative),
    "sampler": checks.choice(SAMPLERS),
    "sampler_std": checks.non_negative,
    "min_angle": checks.real("an angle in radians, in [0, π)", lambda value: 0 <= value < math.pi),
}
