"""Synthetic images of a fitted model, on any device: what the transform, the dataset and the bank share."""

from __future__ import annotations

import copy
import warnings
from functools import partial
from typing import Any, Generic, TypeVar, overload

import torch
from torch import Tensor

from glico_augment import checks
from glico_augment.capture import can_capture
from glico_augment.config import FitConfig, SwapConfig
from glico_augment.data.labels import as_integers
from glico_augment.fit.quality import FitQuality
from glico_augment.fit.record import FitRecord
from glico_augment.model.classifier import Classifier
from glico_augment.model.codes import SphereCodes
from glico_augment.model.generator import Generator
from glico_augment.model.model import GLICOModel
from glico_augment.swap.draw import SwapParams, draw_params
from glico_augment.swap.graphs import SwapGraphs

_Value = TypeVar("_Value")


class _SwapField(Generic[_Value]):
    """An attribute that reads, and replaces with its check, the field of its name in ``swap``."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> _SwapField[_Value]: ...
    @overload
    def __get__(self, instance: SwapMaker, owner: type) -> _Value: ...
    def __get__(self, instance: SwapMaker | None, owner: type) -> _SwapField[_Value] | _Value:
        return self if instance is None else getattr(instance.swap, self.name)

    def __set__(self, instance: SwapMaker, value: _Value) -> None:
        changed: dict[str, Any] = {self.name: value}
        instance.swap = instance.swap.replace(**changed)


class SwapMaker:
    """Draws and makes the synthetic images of a fit, as its :class:`SwapConfig` says.

    Args:
        model: codes, generator and classifier.
        images: ``(m, channels, height, width)`` uint8, the labelled images at the fitted size.
        record: how they were made.
        swap: how images are swapped; None for the defaults.

    Attributes:
        model: on the CPU.
        images, record: as given.
        swap: the settings; its fields, ``p``, ``max_ratio`` and the others, are attributes as well.
    """

    swap: SwapConfig
    p = _SwapField[float]()
    max_ratio = _SwapField[float]()
    interpolation = _SwapField[str]()
    sampler = _SwapField[str]()
    sampler_std = _SwapField[float]()
    min_angle = _SwapField[float]()

    def __init__(self, model: GLICOModel, images: Tensor, record: FitRecord, swap: SwapConfig | None = None) -> None:
        super().__init__()
        self.images = images
        self.record = record
        self.swap = swap or SwapConfig()
        # In a dict the models are no submodules: the transform has no parameters, and moving or casting the network
        # it is part of leaves them as they are.
        self._models = {_CPU: model.to(_CPU).requires_grad_(False).eval()}
        self._graphs = SwapGraphs()
        self._has_warned_unknown = False

    @property
    def noise_std(self) -> float:
        """``σ`` of the generator's noise in a swap: that of the fit unless it is set."""
        return self.config.noise_std if self.swap.noise_std is None else self.swap.noise_std

    @noise_std.setter
    def noise_std(self, value: float | None) -> None:
        self.swap = self.swap.replace(noise_std=value)

    @property
    def model(self) -> GLICOModel:
        """Codes, generator and classifier, on the CPU."""
        return self._models[_CPU]

    @property
    def codes(self) -> SphereCodes:
        """The codes and labels of the fitted images."""
        return self.model.codes

    @property
    def generator(self) -> Generator:
        """The generator ``G``."""
        return self.model.generator

    @property
    def classifier(self) -> Classifier:
        """The joint classifier ``F``; its logits follow :attr:`SphereCodes.classes`."""
        return self.model.classifier

    @property
    def config(self) -> FitConfig:
        """The hyper-parameters of the fit, resolved."""
        return self.record.config

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in ascending order of their labels; the label itself where it has no name."""
        labels = self.codes.classes.tolist()
        return tuple(
            str(label) if name is None else name for label, name in zip(labels, self.record.class_names, strict=True)
        )

    @property
    def history(self) -> dict[str, list[float]]:
        """The loss and its parts before weighting, a value a step."""
        return self.record.history

    @property
    def quality(self) -> FitQuality:
        """How well the generator rebuilds the labelled images."""
        assert self.record.quality is not None
        return self.record.quality

    def model_on(self, device: torch.device | str) -> GLICOModel:
        """The model on ``device``, copied there the first time."""
        device = torch.device(device)
        if device.index is None and device.type != "cpu":
            device = torch.empty(0, device=device).device  # "cuda" is the current one, "cuda:0" say
        if device not in self._models:
            with torch.inference_mode(False):  # tensors made in it would pass no gradient to a code outside of it
                self._models[device] = copy.deepcopy(self.model).to(device)
        return self._models[device]

    def make_params(
        self, labels: Tensor, *, anchors: Tensor | None = None, generator: torch.Generator | None = None
    ) -> SwapParams:
        """Draw the random parameters of images with ``labels``, ``(k,)``, that are swapped, on the labels' device.

        Args:
            labels: ``(k,)`` integers.
            anchors: ``(k,)`` codes to start from; −1, or None for all, for a random one of the class.
            generator: source of randomness on the CPU; torch's global ones if None.
        """
        self.check_sampler()
        model = self.model_on(labels.device)
        return draw_params(model, labels, self.swap, self.noise_std, anchors=anchors, generator=generator)

    def check_sampler(self, sampler: str | None = None) -> None:
        """Raise ValueError if a sampler, None for that of the swap, needs classes and the fit has none."""
        sampler = self.sampler if sampler is None else sampler
        if not self.record.is_labeled and sampler in ("same-class", "other-class"):
            raise ValueError(
                f"GLICO was fitted without labels and has no classes, which the sampler {sampler!r} needs: set "
                "sampler='noise' or 'random-out', which stay about an image's own code"
            )

    def transform(self, params: SwapParams) -> Tensor:
        """The synthetic images of ``params``, float32 ``(k, channels, height, width)`` in ``[0, 1]``."""
        return _transform(self.model_on(params.anchors.device), params, self.interpolation)

    def make(self, labels: Tensor, *, anchors: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Draw and make an image for each of ``labels``: :meth:`make_params` and :meth:`transform`, on CUDA in one.

        Args:
            labels: ``(k,)`` integers.
            anchors: ``(k,)`` codes to start from; −1, or None for all, for a random one of the class.

        Returns:
            Images ``(k, channels, height, width)`` float32 in ``[0, 1]``, and whether each label was fitted, ``(k,)``
            bool; the image means nothing where it was not.
        """
        self.check_sampler()
        make = partial(_make, self.model_on(labels.device), self.swap, self.noise_std)
        is_capturable = self.sampler != "random-out"  # whose angles are made on the CPU
        if not (len(labels) and is_capturable and can_capture(labels.device)):
            return make(labels, anchors)
        settings = (self.sampler, self.sampler_std, self.max_ratio, self.interpolation, self.noise_std)
        _, *size = self.record.image_shape
        return self._graphs(make, labels, anchors, settings=settings, size=(size[0], size[1]))

    def find_known(self, labels: Tensor) -> Tensor:
        """Which of ``labels``, ``(k,)``, were fitted, ``(k,)`` bool; warns, once a process, if one was not."""
        _, is_known = self.model_on(labels.device).codes.index_of(labels)
        if not self._has_warned_unknown and not bool(is_known.all()):
            self._has_warned_unknown = True
            unknown = int(labels[int(is_known.int().argmin())])
            warnings.warn(
                f"label {unknown} was not in the set GLICO was fitted on; images of such labels pass through unchanged",
                UserWarning,
                stacklevel=4,
            )
        return is_known

    def reconstruct(self, indices: Any = None) -> Tensor:
        """The generator's images of fitted images, ``G([z_i, 0])``.

        Args:
            indices: of fitted images, a sequence or tensor ``(k,)``; all if None. Labelled images come first, in
                the order of their dataset, then unlabelled ones.

        Returns:
            ``(k, channels, height, width)`` float32 in ``[0, 1]``.
        """
        return self.model.reconstruct(
            torch.arange(len(self.codes), device=_CPU) if indices is None else self._indices(indices)
        )

    def synthesize(
        self, labels: Any = None, *, n_per_class: int | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw synthetic images with the settings of the swap.

        Args:
            labels: ``(k,)`` fitted labels, one for each image wanted; or
            n_per_class: how many images of every class.
            generator: CPU source of randomness; torch's global one if None.

        Returns:
            Images ``(k, channels, height, width)`` float32 in ``[0, 1]`` and their labels ``(k,)`` int64.

        Raises:
            ValueError: for a label that was not fitted, or unless exactly one of the two is given.
        """
        if (labels is None) == (n_per_class is None):
            raise ValueError("give either labels or n_per_class")
        if labels is None:
            wanted = self.codes.classes.repeat_interleave(checks.integer(1)("n_per_class", n_per_class))
        else:
            wanted = as_integers("labels", labels)
        _, is_known = self.codes.index_of(wanted)
        if not bool(is_known.all()):
            raise ValueError(f"label {wanted[~is_known][0].item()} was not fitted; fitted: {self._shown_labels()}")
        return self.transform(self.make_params(wanted, generator=generator)), wanted

    def interpolate(self, i: int | Tensor, j: int | Tensor, steps: int = 8) -> Tensor:
        """Images along the path from one code to another, ends included, without noise.

        Args:
            i: the index of a fitted image, or a code ``(latent_dim,)``, as :meth:`encode` finds.
            j: alike.
            steps: images, at least 2.

        Returns:
            ``(steps, channels, height, width)`` float32 in ``[0, 1]``.

        Raises:
            IndexError: for the index of no fitted image.
            TypeError, ValueError: for what is neither an index nor a point of the sphere, or too few steps.
        """
        steps = checks.integer(2, ", for the two ends")("steps", steps)
        start, end = (self._code(each).expand(steps, -1) for each in (i, j))
        ratios = torch.linspace(0, 1, steps, device=_CPU, dtype=torch.float32)
        return self.model.walk(start, end, ratios, None, self.interpolation)

    def __getstate__(self) -> dict[str, Any]:
        # A pickle goes to worker processes and other machines, where another device may not exist.
        return {**self.__dict__, "_models": {_CPU: self.model}}

    def _code(self, which: Any) -> Tensor:
        """The code ``(latent_dim,)`` of an index, or the one given."""
        if not (isinstance(which, Tensor) and which.is_floating_point()):
            return self.codes(self._indices([which]))[0]
        code = which.detach().to(_CPU, torch.float32)
        if code.shape != (self.codes.latent_dim,):
            raise ValueError(f"a code has shape ({self.codes.latent_dim},); got {tuple(code.shape)}")
        if not bool((code.norm() - 1).abs() < _UNIT):
            raise ValueError(f"a code is a vector of length 1, normalize(vector); got one of length {code.norm():.3g}")
        return code

    def _indices(self, indices: Any) -> Tensor:
        chosen = as_integers("indices", indices)
        if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < len(self.codes):
            raise IndexError(f"indices must lie in [0, {len(self.codes)}); got {chosen.tolist()}")
        return chosen

    def _shown_labels(self) -> str:
        labels = self.codes.classes.tolist()
        return ", ".join(map(str, labels[:10])) + (", …" if len(labels) > 10 else "")


def _make(
    model: GLICOModel, swap: SwapConfig, noise_std: float, labels: Tensor, anchors: Tensor | None
) -> tuple[Tensor, Tensor]:
    params = draw_params(model, labels, swap, noise_std, anchors=anchors)
    return _transform(model, params, swap.interpolation), params.is_known


def _transform(model: GLICOModel, params: SwapParams, interpolation: str) -> Tensor:
    ends = model.codes(params.partners) if params.ends is None else params.ends
    return model.walk(model.codes(params.anchors), ends, params.ratios, params.noise, interpolation)


_CPU = torch.device("cpu")
_UNIT = 1e-3  # what half precision leaves of a unit vector
