"""The swap of real for synthetic images: its settings, and one draw of its random parameters."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from glico_augment import checks
from glico_augment.devices import to_device
from glico_augment.model.model import INTERPOLATIONS, GLICOModel
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
    """One draw for ``k`` images that are swapped: a partner, a ratio, a kind, a noise vector and a style for each.

    All are on the model's device but ``is_averaged``, which decides how much is computed and so is kept where looking
    at it waits for no accelerator.

    Attributes:
        is_known: ``(k,)`` bool, whether the label was fitted; the rest means nothing where it was not.
        anchors: ``(k,)`` int64 code indices.
        partners: ``(k,)`` int64 code indices of the anchors' classes.
        ratios: ``(k,)`` in ``[0, max_ratio]``.
        is_averaged: ``(k,)`` bool on the CPU, whether the synthetic image is an average of pixels.
        noise: ``(k, noise_dim)``, or None for none.
        styles: ``(k,)`` int64 indices of the images of any class whose style is taken on; None for none.
        style_ratios: ``(k,)`` in ``[0, max_style_ratio]``; None for none.
    """

    is_known: Tensor
    anchors: Tensor
    partners: Tensor
    ratios: Tensor
    is_averaged: Tensor
    noise: Tensor | None
    styles: Tensor | None = None
    style_ratios: Tensor | None = None


def draw_rows(count: int, p: float) -> Tensor:
    """Which of ``count`` images are swapped, each with probability ``p``: ``(k,)`` int64 rows, ascending, on the CPU.

    They are drawn from torch's global CPU generator whatever the device of the images, which need not be waited for.
    """
    return (torch.rand(count, device=_CPU, dtype=torch.float32) < p).nonzero().flatten()


def draw_anchors(
    model: GLICOModel, labels: Tensor, anchors: Tensor | None, *, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """``anchors``, ``(k,)``, with a random code of the class for −1, or for all if None; and which labels are known."""
    positions, is_known = model.codes.index_of(labels)
    drawn = model.codes.sample_anchors(positions, generator=generator)
    return drawn if anchors is None else torch.where(anchors >= 0, anchors, drawn), is_known


def draw_params(
    model: GLICOModel,
    labels: Tensor,
    swap: SwapSettings,
    *,
    anchors: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> SwapParams:
    """Draw the parameters of images that are swapped.

    Args:
        model: whose codes to mix; all but ``is_averaged`` is drawn on its device.
        labels: ``(k,)`` integers on that device.
        swap: ratio, kind, noise and style; ``p`` is for :func:`draw_rows`.
        anchors: ``(k,)`` code indices to start from; −1, or None for all, draws a random code of the class.
        generator: source of randomness of a model on the CPU; torch's global ones if None.
    """
    codes = model.codes
    chosen, is_known = draw_anchors(model, labels, anchors, generator=generator)
    partners = codes.sample_partners(chosen, generator=generator)

    def uniform(device: torch.device) -> Tensor:
        return torch.rand(len(labels), device=device, dtype=torch.float32, generator=generator)

    ratios = swap.max_ratio * uniform(labels.device)
    is_averaged = uniform(_CPU) < swap.pixel_share
    noise = model.noise(len(labels), swap.noise_std, generator=generator)
    styles = style_ratios = None
    if swap.max_style_ratio:
        styles = codes.sample(len(labels), generator=generator)
        style_ratios = swap.max_style_ratio * uniform(labels.device)
    return SwapParams(is_known, chosen, partners, ratios, is_averaged, noise, styles, style_ratios)


def make_images(model: GLICOModel, params: SwapParams, interpolation: str) -> Tensor:
    """The synthetic images of ``params``, float32 ``(k, channels, height, width)`` in ``[0, 1]``.

    The generator runs for those alone that are not averages.
    """
    anchors, partners, ratios, noise = params.anchors, params.partners, params.ratios, params.noise
    averaged, others = (
        to_device(chosen.nonzero().flatten(), anchors.device) for chosen in (params.is_averaged, ~params.is_averaged)
    )
    shape = (len(anchors), *model.generator.image_shape)
    images = torch.empty(shape, dtype=torch.float32, device=anchors.device)
    if len(averaged):
        images[averaged] = model.average(anchors[averaged], partners[averaged], ratios[averaged])
    if len(others):
        noise = None if noise is None else noise[others]
        images[others] = model.interpolate(anchors[others], partners[others], ratios[others], noise, interpolation)
    if params.styles is None or params.style_ratios is None:
        return images
    return transfer_style(images, model.styles_of(params.styles), params.style_ratios)


def replace_images(images: Tensor, rows: Tensor, synthetic: Tensor, is_wanted: Tensor) -> Tensor:
    """A copy of ``images``, ``(k, C, H, W)``, with some replaced.

    Args:
        images: the real images.
        rows: ``(j,)`` where the synthetic images go.
        synthetic: ``(j, C, H, W)`` of the same dtype.
        is_wanted: ``(j,)`` bool; the real image stays where it is false.
    """
    if images.dtype == torch.uint16:  # which torch cannot index
        replaced = replace_images(images.view(torch.int16), rows, synthetic.view(torch.int16), is_wanted)
        return replaced.view(torch.uint16)
    chosen = torch.where(is_wanted.view(-1, 1, 1, 1), synthetic, images[rows])
    return images.clone().index_copy_(0, rows, chosen)


_CPU = torch.device("cpu")

_CHECKS: dict[str, checks.Check] = {
    "p": checks.proportion,
    "max_ratio": checks.proportion,
    "interpolation": checks.choice(tuple(INTERPOLATIONS)),
    "noise_std": checks.non_negative,
    "pixel_share": checks.proportion,
    "max_style_ratio": checks.proportion,
}
