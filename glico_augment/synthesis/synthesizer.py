"""Synthetic images of a fit, on any device: what the transform, the dataset, the bank and all pictures share."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from glico_augment import checks
from glico_augment.capture import can_capture
from glico_augment.config import FitConfig, SwapConfig
from glico_augment.data.labels import as_integers
from glico_augment.errors import warn
from glico_augment.fit.quality import FitQuality
from glico_augment.fit.record import FitRecord, Fitted
from glico_augment.images.values import from_unit, resize
from glico_augment.model.classifier import Classifier
from glico_augment.model.codes import SphereCodes
from glico_augment.model.generator import Generator, check_cells
from glico_augment.model.model import GLICOModel
from glico_augment.shared import SharedNumbers
from glico_augment.synthesis.carry import Swapped, at_own_size, carry, residuals, share_of_partner
from glico_augment.synthesis.draw import SwapParams, draw_params, path_params, path_ratios
from glico_augment.synthesis.graphs import SwapGraphs

_CPU = torch.device("cpu")
_UNIT_TOLERANCE = 1e-3  # what half precision leaves of a unit vector


class Synthesizer(nn.Module):
    """Draws and makes the synthetic images of a fit, as its :class:`SwapConfig` says.

    Args:
        fitted: codes and networks, the labelled images at the fitted size, and how they were made.
        swap: how images are swapped.

    Attributes:
        images: ``(m, channels, height, width)`` uint8, the labelled images at the fitted size.
        record: of the fit.
        swap: the settings. Its fields are attributes of the synthesizer as well, which may be set at any time: workers
            of a ``DataLoader`` see it, those of before as well.
    """

    images: Tensor
    record: FitRecord
    p: float
    cells: int
    carry: bool
    interpolation: str
    sampler: str
    sampler_std: float
    min_angle: float

    def __init__(self, fitted: Fitted, swap: SwapConfig) -> None:
        super().__init__()
        model, self.images, self.record = fitted
        check_cells(swap.cells, self.record.image_shape)
        self._numbers = SharedNumbers(swap.to_numbers())
        self._last_swap = self._numbers.read(), swap
        # In a dict the models are no submodules: there are no parameters, and moving or casting the network that this
        # is part of leaves them as they are.
        self._models = {_CPU: model.to(_CPU).requires_grad_(False).eval()}
        self._residuals: dict[torch.device, Tensor] = {}
        self._graphs = SwapGraphs()
        self._has_warned_unknown = False

    def __getattr__(self, name: str) -> Any:
        if name == "available_keys":  # asked for by albumentations
            raise AttributeError(
                f"{type(self).__name__} is no transform of albumentations: call it before the Compose, which is given "
                "to augment.wrap(dataset, transform=Compose(…))"
            )
        return getattr(self.swap, name) if name in _SWAP_SETTINGS else super().__getattr__(name)

    # The value is annotated as that of nn.Module, by which a type checker finds a misspelt setting.
    def __setattr__(self, name: str, value: Tensor | nn.Module) -> None:
        if name in _SWAP_SETTINGS:
            changed: dict[str, Any] = {name: value}
            self.swap = self.swap.replace(**changed)
        else:
            super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        # A pickle goes to worker processes and other machines, where another device may not exist.
        on_cpu = {device: held for device, held in self._residuals.items() if device == _CPU}
        settings = copy.copy(self._numbers)  # a copy has its own, a worker process shares them
        return {**self.__dict__, "_models": {_CPU: self.model}, "_residuals": on_cpu, "_numbers": settings}

    @property
    def swap(self) -> SwapConfig:
        """The settings of the swap."""
        numbers = self._numbers.read()
        if numbers != self._last_swap[0]:
            self._last_swap = numbers, SwapConfig.from_numbers(numbers)
        return self._last_swap[1]

    @swap.setter
    def swap(self, swap: SwapConfig) -> None:
        check_cells(swap.cells, self.record.image_shape)
        self._numbers.write(swap.to_numbers())

    @property
    def noise_std(self) -> float:
        """``σ`` of the noise of the generator in a swap: that of the fit unless it is set."""
        return self.config.noise_std if self.swap.noise_std is None else self.swap.noise_std

    @noise_std.setter
    def noise_std(self, value: float | None) -> None:
        self.swap = self.swap.replace(noise_std=value)

    @property
    def max_ratio(self) -> float:
        """The largest ratio ``r`` of a swap; unless it is set 1 within a class, 0.4 with the other samplers."""
        return self.swap.largest_ratio

    @max_ratio.setter
    def max_ratio(self, value: float | None) -> None:
        self.swap = self.swap.replace(max_ratio=value)

    @property
    def fitted(self) -> Fitted:
        """The model on the CPU, the labelled images, and the record of the fit."""
        return Fitted(self.model, self.images, self.record)

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
        """The settings of the fit, resolved."""
        return self.record.config

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in ascending order of their labels; the label itself where it has no name."""
        names = zip(self.codes.classes.tolist(), self.record.class_names, strict=True)
        return tuple(str(label) if name is None else name for label, name in names)

    @property
    def history(self) -> dict[str, list[float]]:
        """The loss and its parts before weighting, one value per step."""
        return self.record.history

    @property
    def quality(self) -> FitQuality:
        """How well the generator rebuilds the labelled images."""
        assert self.record.quality is not None
        return self.record.quality

    def model_on(self, device: torch.device | str) -> GLICOModel:
        """The model on ``device``, copied there the first time."""
        device = _with_index(device)
        if device not in self._models:
            with torch.inference_mode(False):  # tensors made in it would pass no gradient to a code outside of it
                self._models[device] = copy.deepcopy(self.model).to(device)
        return self._models[device]

    def residuals_on(self, device: torch.device | str) -> Tensor:
        """What the generator misses of the labelled images, float16 on ``device``, made there the first time."""
        device = _with_index(device)
        if device not in self._residuals:
            with torch.inference_mode(False):
                self._residuals[device] = residuals(self.model_on(device), self.images)
        return self._residuals[device]

    def make_params(
        self, labels: Tensor, *, anchors: Tensor | None = None, generator: torch.Generator | None = None
    ) -> SwapParams:
        """Draw the random parameters of synthetic images, on the device of the labels; see :func:`draw_params`."""
        self.check_sampler()
        model = self.model_on(labels.device)
        return draw_params(model, labels, self.swap, self.noise_std, anchors=anchors, generator=generator)

    def check_sampler(self, sampler: str | None = None) -> None:
        """Raise ValueError if a sampler, None for that of the swap, needs classes and the fit has none."""
        sampler = self.sampler if sampler is None else sampler
        if not self.record.is_labeled and sampler in ("same-class", "other-class"):
            raise ValueError(
                f"GLICO was fitted without labels and has no classes, which the sampler {sampler!r} needs: set "
                "sampler='noise' or 'random-out', which stay about the code of the image itself"
            )

    def transform(self, params: SwapParams, *, carry: bool | None = None) -> Tensor:
        """The synthetic images of ``params``, float32 ``(k, channels, height, width)`` in ``[0, 1]``.

        ``carry`` is in place of the setting of this name, if not None.
        """
        device = params.anchors.device
        missed = self.residuals_on(device) if (self.carry if carry is None else carry) else None
        return _transform(self.model_on(device), missed, params, self.interpolation)

    def make_swapped(self, params: SwapParams) -> Swapped:
        """The synthetic images of ``params``, and what makes them at the size of any photographs."""
        return Swapped(self.transform(params), params.anchors, params.partners, share_of_partner(params))

    def transform_photographs(self, params: SwapParams, photographs: Tensor) -> Tensor:
        """The synthetic images of ``params`` at the size of the photographs that they are made of, uint8.

        ``photographs`` are the labelled ones, ``(m, channels, height, width)`` uint8 on the device of the parameters.
        """
        swapped = self.make_swapped(params)
        if not self.carry:
            return resize(from_unit(swapped.images, torch.uint8), (photographs.shape[-2], photographs.shape[-1]))
        first, second = (photographs[each] for each in (params.anchors, params.partners))
        return at_own_size(first, second, swapped.ratios, swapped.deltas(self.images.to(photographs.device)))

    def make(self, labels: Tensor, *, anchors: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Draw and make one image per label: :meth:`make_params` and :meth:`transform`, on CUDA as one graph.

        Returns:
            Images ``(k, channels, height, width)`` float32 in ``[0, 1]``, and whether each label was fitted, ``(k,)``
            bool; the image means nothing where it was not.
        """
        self.check_sampler()
        missed = self.residuals_on(labels.device) if self.carry else None
        make = partial(_make, self.model_on(labels.device), missed, self.swap, self.noise_std)
        is_capturable = self.sampler != "random-out"  # whose angles are made on the CPU
        if not (len(labels) and is_capturable and can_capture(labels.device)):
            return make(labels, anchors)
        _, height, width = self.record.image_shape
        settings = tuple(getattr(self, name) for name in SwapConfig.names() if name != "p")  # which makes no image
        return self._graphs(make, labels, anchors, settings=settings, size=(height, width))

    def find_known(self, labels: Tensor) -> Tensor:
        """Which of ``labels``, ``(k,)``, were fitted, ``(k,)`` bool; warns, once per process, if one was not."""
        _, is_known = self.model_on(labels.device).codes.index_of(labels)
        if not self._has_warned_unknown and not bool(is_known.all()):
            self._has_warned_unknown = True
            unknown = int(labels[int(is_known.int().argmin())])
            warn(
                f"label {unknown} was not in the set GLICO was fitted on; images of such labels pass through unchanged",
            )
        return is_known

    def reconstruct(self, indices: Any = None) -> Tensor:
        """The images that the generator makes of fitted codes, ``G([z_i, 0])``.

        Args:
            indices: of fitted images, a sequence or tensor ``(k,)``; all if None. Labelled images come first, in
                the order of their dataset, then unlabelled ones.

        Returns:
            ``(k, channels, height, width)`` float32 in ``[0, 1]``.
        """
        chosen = torch.arange(len(self.codes), device=_CPU) if indices is None else self._indices(indices)
        return self.model.reconstruct(chosen)

    def synthesize(
        self, labels: Any = None, *, n_per_class: int | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw synthetic images with the settings of the swap.

        Args:
            labels: ``(k,)`` fitted labels, one per image wanted; or
            n_per_class: how many images of every class.
            generator: CPU source of randomness; the global one of torch if None.

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
        self.check_known(wanted)
        return self.transform(self.make_params(wanted, generator=generator)), wanted

    def check_known(self, labels: Tensor) -> None:
        """Raise ValueError if one of ``labels``, ``(k,)``, was not fitted."""
        _, is_known = self.codes.index_of(labels)
        if not bool(is_known.all()):
            fitted = self.codes.classes.tolist()
            shown = ", ".join(map(str, fitted[:10])) + (", …" if len(fitted) > 10 else "")
            raise ValueError(f"label {int(labels[~is_known][0])} was not fitted; fitted: {shown}")

    def interpolate(self, i: int | Tensor, j: int | Tensor, steps: int = 8) -> Tensor:
        """Images along the path from one code to another, ends included, without noise.

        Between two labelled images of the fit the path is that of the swap, which carries their detail if ``carry`` is
        set; between any others it is that of the generator alone.

        Args:
            i: the index of a fitted image, or a code ``(latent_dim,)``, as :meth:`GLICOAugment.encode` finds.
            j: alike.
            steps: images, at least 2.

        Returns:
            ``(steps, channels, height, width)`` float32 in ``[0, 1]``.

        Raises:
            IndexError: for the index of no fitted image.
            TypeError, ValueError: for what is neither an index nor a point of the sphere, or too few steps.
        """
        steps = checks.integer(2, ", for the two ends")("steps", steps)
        if self.carry and not (_is_code(i) or _is_code(j)):
            ends = self._indices([i, j])
            if bool((ends < self.codes.n_labeled).all()):  # the images of the others are not kept
                return self.transform(path_params(ends[:1], ends[1:], steps))
        start, end = (self._code(each).expand(steps, -1) for each in (i, j))
        return self.model.walk(start, end, path_ratios(steps), None, self.interpolation)

    def _code(self, which: Any) -> Tensor:
        """The code ``(latent_dim,)`` of an index, or the one given."""
        if not _is_code(which):
            return self.codes(self._indices([which]))[0]
        code = which.detach().to(_CPU, torch.float32)
        if code.shape != (self.codes.latent_dim,):
            raise ValueError(f"a code has shape ({self.codes.latent_dim},); got {tuple(code.shape)}")
        if not bool((code.norm() - 1).abs() < _UNIT_TOLERANCE):
            raise ValueError(f"a code is a vector of length 1, normalize(vector); got one of length {code.norm():.3g}")
        return code

    def _indices(self, indices: Any) -> Tensor:
        chosen = as_integers("indices", indices)
        if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < len(self.codes):
            raise IndexError(f"indices must lie in [0, {len(self.codes)}); got {chosen.tolist()}")
        return chosen


_SWAP_SETTINGS = frozenset(SwapConfig.names()) - {"noise_std", "max_ratio"}


def _is_code(which: Any) -> bool:
    return isinstance(which, Tensor) and which.is_floating_point()


def _with_index(device: torch.device | str) -> torch.device:
    """A device by its number: ``"cuda"`` is the current one, ``"cuda:0"`` for example."""
    device = torch.device(device)
    if device.index is None and device.type != "cpu":
        return torch.empty(0, device=device).device
    return device


def _make(
    model: GLICOModel,
    missed: Tensor | None,
    swap: SwapConfig,
    noise_std: float,
    labels: Tensor,
    anchors: Tensor | None,
) -> tuple[Tensor, Tensor]:
    params = draw_params(model, labels, swap, noise_std, anchors=anchors)
    return _transform(model, missed, params, swap.interpolation), params.is_known


def _transform(model: GLICOModel, missed: Tensor | None, params: SwapParams, interpolation: str) -> Tensor:
    ends = model.codes(params.partners) if params.ends is None else params.ends
    made = model.walk(model.codes(params.anchors), ends, params.ratios, params.noise, interpolation)
    return made if missed is None else carry(made, params, missed)
