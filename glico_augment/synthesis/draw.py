"""One draw of the random parameters of a swap."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from glico_augment.config import SwapConfig
from glico_augment.model import sphere
from glico_augment.model.model import GLICOModel


@dataclass(frozen=True)
class SwapParams:
    """One draw for ``k`` images that are swapped: an anchor, a partner, a ratio and a noise vector for each.

    All are on the model's device.

    Attributes:
        is_known: ``(k,)`` bool, whether the label was fitted; the rest means nothing where it was not.
        anchors: ``(k,)`` int64 code indices.
        partners: ``(k,)`` int64 code indices of the anchors' classes, or of others with the sampler ``"other-class"``;
            the anchors themselves where the path leads to no fitted code.
        ratios: in ``[0, max_ratio]``, ``(k,)``, or a field ``(k, height, width)`` over the first feature map of the
            generator; 1 with the sampler ``"noise"``.
        noise: ``(k, noise_dim)``, or None for none.
        ends: ``(k, latent_dim)`` where the paths lead, or None for the codes of the partners.
    """

    is_known: Tensor
    anchors: Tensor
    partners: Tensor
    ratios: Tensor
    noise: Tensor | None
    ends: Tensor | None = None


def path_ratios(steps: int) -> Tensor:
    """``(steps,)`` ratios from 0 to 1, on the CPU in float32 whatever torch's defaults are."""
    return torch.linspace(0, 1, steps, device="cpu", dtype=torch.float32)


def path_params(anchors: Tensor, partners: Tensor, steps: int) -> SwapParams:
    """The parameters of ``steps`` images along each path between codes ``(k,)``, ends included, without noise."""
    count = len(anchors)
    is_known = torch.ones(count * steps, dtype=torch.bool, device=anchors.device)
    starts, ends = (each.repeat_interleave(steps) for each in (anchors, partners))
    return SwapParams(is_known, starts, ends, path_ratios(steps).repeat(count), None)


def draw_rows(count: int, p: float) -> Tensor:
    """Which of ``count`` images are swapped, each with probability ``p``: ``(k,)`` int64 rows, ascending, on the CPU.

    They are drawn from torch's global CPU generator on every device, so that none is waited for.
    """
    return (torch.rand(count, device="cpu", dtype=torch.float32) < p).nonzero().flatten()


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
    swap: SwapConfig,
    noise_std: float,
    *,
    anchors: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> SwapParams:
    """Draw the parameters of images that are swapped, on the device of model and labels ``(k,)``.

    ``anchors``, ``(k,)``, are code indices to start from; −1, or None for all, draws a random code of the class. The
    sampler ``"other-class"`` raises ValueError where there is one class only.
    """
    chosen, is_known = draw_anchors(model, labels, anchors, generator=generator)
    partners, ends = chosen, None
    if swap.sampler == "same-class":
        partners = model.codes.sample_partners(chosen, generator=generator)
    elif swap.sampler == "other-class":
        partners = model.codes.sample_others(chosen, generator=generator)
    elif swap.sampler == "noise":
        ends = sphere.sample_around(model.codes(chosen).detach(), swap.sampler_std, generator=generator)
    else:
        ends = sphere.sample_away(model.codes(chosen).detach(), swap.min_angle, generator=generator)
    ratios = _draw_ratios(len(labels), swap, model.generator.sizes[0], labels.device, generator)
    noise = model.noise(len(labels), noise_std, generator=generator)
    return SwapParams(is_known, chosen, partners, ratios, noise, ends)


def _draw_ratios(
    count: int, swap: SwapConfig, size: tuple[int, int], device: torch.device, generator: torch.Generator | None
) -> Tensor:
    """One ratio per image; or one per cell, enlarged to ``size`` by cubic interpolation and clamped."""
    has_field = swap.cells > 1 and swap.sampler != "noise"  # which has no path
    shape = (count, 1, swap.cells, swap.cells) if has_field else (count,)
    uniform = torch.rand(shape, device=device, dtype=torch.float32, generator=generator)
    if swap.sampler == "noise":
        return torch.ones_like(uniform)
    if has_field:
        uniform = F.interpolate(uniform, size, mode="bicubic", align_corners=False)[:, 0].clamp_(0, 1)
    return swap.largest_ratio * uniform
