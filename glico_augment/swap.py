"""The swap of real for synthetic images: its settings, and one draw of its random parameters."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from glico_augment import settings
from glico_augment.model import INTERPOLATIONS, GLICOModel
from glico_augment.style import transfer_style


@dataclass(frozen=True)
class SwapSettings:
    """How images are swapped (Azuri & Weinshall 2020, "Image classification using GLICO").

    Args:
        p: probability in ``[0, 1]`` that an image is swapped.
        max_ratio: ``r ~ U[0, max_ratio]`` is how far a synthetic image goes from its anchor's code (0) to its
            partner's (1); in ``[0, 1]``.
        interpolation: ``"slerp"``, or ``"lerp"`` for the ablation.
        noise_std: ``σ`` of the noise ``ε``, at least 0.
        pixel_share: probability in ``[0, 1]`` that a synthetic image is the average of its two real images, pixel by
            pixel at the same ratio, and not the generator's. The paper has none; averages have the texture that a
            generator misses, did as well or better in the benchmarks, and cost next to nothing.
        max_style_ratio: ``s ~ U[0, max_style_ratio]`` is how far the style of a synthetic image, its local brightness
            and contrast, goes from its own (0) to that of a random fitted image of any class (1); in ``[0, 1]``. The
            paper has none. See :func:`glico_augment.style.transfer_style`.

    Raises:
        TypeError: if a setting has the wrong type.
        ValueError: if a setting is out of range.
    """

    p: float = 0.5
    max_ratio: float = 1.0
    interpolation: str = "slerp"
    noise_std: float = 0.15
    pixel_share: float = 0.9
    max_style_ratio: float = 1.0

    @classmethod
    def published(cls) -> SwapSettings:
        """Those of the paper, which stays nearer to the anchor."""
        return cls(p=0.5, max_ratio=0.4, interpolation="slerp", noise_std=0.15, pixel_share=0.0, max_style_ratio=0.0)

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            object.__setattr__(self, name, check(name, getattr(self, name)))


class SwapSetting:
    """An attribute that reads and replaces the field of its name in its object's ``swap_settings``."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else getattr(instance.swap_settings, self.name)

    def __set__(self, instance: Any, value: Any) -> None:
        instance.swap_settings = dataclasses.replace(instance.swap_settings, **{self.name: value})


@dataclass(frozen=True)
class SwapParams:
    """One draw for a batch of ``k`` images: a coin, a partner, a ratio, a kind, a style and a noise vector for each.

    Attributes:
        is_swapped: ``(k,)`` bool; never true for a label that was not fitted.
        is_known: ``(k,)`` bool, whether the label was fitted.
        anchors: ``(k,)`` int64 code indices.
        partners: ``(k,)`` int64 code indices of the anchors' classes.
        ratios: ``(k,)`` in ``[0, max_ratio]``.
        is_averaged: ``(k,)`` bool, whether the synthetic image is an average of pixels; None for none.
        noise: ``(k, noise_dim)``, or None for none.
        styles: ``(k,)`` int64 indices of the images of any class whose style is taken on; None for none.
        style_ratios: ``(k,)`` in ``[0, max_style_ratio]``; None for none.
    """

    is_swapped: Tensor
    is_known: Tensor
    anchors: Tensor
    partners: Tensor
    ratios: Tensor
    is_averaged: Tensor | None
    noise: Tensor | None
    styles: Tensor | None = None
    style_ratios: Tensor | None = None

    def __getitem__(self, rows: Tensor) -> SwapParams:
        """The parameters of some of the images."""
        chosen: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            values = getattr(self, field.name)
            chosen[field.name] = None if values is None else values[rows]
        return SwapParams(**chosen)


def draw_params(
    model: GLICOModel,
    labels: Tensor,
    swap: SwapSettings,
    *,
    anchors: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> SwapParams:
    """Draw the parameters of a swap.

    Args:
        model: whose codes to mix; everything is drawn on its device.
        labels: ``(k,)`` integers on that device.
        swap: probability, ratio and noise.
        anchors: ``(k,)`` code indices to start from; −1, or None for all, draws a random code of the class.
        generator: source of randomness; torch's global one if None.
    """
    codes = model.codes
    positions, is_known = codes.index_of(labels)

    def uniform() -> Tensor:
        return torch.rand(len(labels), device=labels.device, dtype=torch.float32, generator=generator)

    is_swapped = (uniform() < swap.p) & is_known
    drawn = codes.sample_anchors(positions, generator=generator)
    chosen = drawn if anchors is None else torch.where(anchors >= 0, anchors, drawn)
    partners = codes.sample_partners(chosen, generator=generator)
    ratios = swap.max_ratio * uniform()
    is_averaged = uniform() < swap.pixel_share if swap.pixel_share else None
    noise = model.noise(len(labels), swap.noise_std, generator=generator)
    styles = style_ratios = None
    if swap.max_style_ratio:
        styles = codes.sample(len(labels), generator=generator)
        style_ratios = swap.max_style_ratio * uniform()
    return SwapParams(is_swapped, is_known, chosen, partners, ratios, is_averaged, noise, styles, style_ratios)


def make_images(model: GLICOModel, params: SwapParams, interpolation: str) -> Tensor:
    """The synthetic images of ``params``, float32 ``(k, channels, height, width)`` in ``[0, 1]``."""
    images = _mixed(model, params, interpolation)
    if params.styles is None or params.style_ratios is None:
        return images
    return transfer_style(images, model.styles_of(params.styles), params.style_ratios)


def _mixed(model: GLICOModel, params: SwapParams, interpolation: str) -> Tensor:
    """Images between anchors and partners, before their styles."""
    if params.is_averaged is None:
        return _generated(model, params, interpolation)
    if params.anchors.device.type != "cpu":  # all of either kind: an accelerator would wait for their counts
        average = model.average(params.anchors, params.partners, params.ratios)
        return torch.where(params.is_averaged.view(-1, 1, 1, 1), average, _generated(model, params, interpolation))
    averaged, others = params.is_averaged.nonzero().flatten(), (~params.is_averaged).nonzero().flatten()
    shape = (len(params.anchors), *model.generator.image_shape)
    images = torch.empty(shape, dtype=torch.float32, device=params.anchors.device)
    images[averaged] = model.average(params.anchors[averaged], params.partners[averaged], params.ratios[averaged])
    images[others] = _generated(model, params[others], interpolation)
    return images


def _generated(model: GLICOModel, params: SwapParams, interpolation: str) -> Tensor:
    return model.interpolate(params.anchors, params.partners, params.ratios, params.noise, interpolation)


_CHECKS: dict[str, settings.Check] = {
    "p": settings.proportion,
    "max_ratio": settings.proportion,
    "interpolation": settings.choice(tuple(INTERPOLATIONS)),
    "noise_std": settings.non_negative,
    "pixel_share": settings.proportion,
    "max_style_ratio": settings.proportion,
}
