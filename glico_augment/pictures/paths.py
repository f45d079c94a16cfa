"""Which images to look at: of which classes, and between which two of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from glico_augment.synthesis.synthesizer import Synthesizer


def positions_of(augment: Synthesizer, names: Sequence[str] | None = None, *, at_most: int | None = None) -> Tensor:
    """Positions of the classes called ``names``, ``(k,)``; of all, or the first ``at_most``, if None.

    Raises:
        TypeError: for a string in place of a sequence of them.
        ValueError: for a name that no class has, or for none at all.
    """
    if names is None:
        return torch.arange(len(augment.classes))[:at_most]
    if isinstance(names, str):
        raise TypeError(f"classes must be a sequence of names; got the string {names!r}")
    if len(names) == 0:
        raise ValueError("classes: no name was given")
    if unknown := [name for name in names if name not in augment.classes]:
        raise ValueError(f"classes: {', '.join(map(str, unknown))} not among {', '.join(augment.classes)}")
    return torch.tensor([augment.classes.index(name) for name in names], dtype=torch.int64)


def random_pairs(
    augment: Synthesizer, class_positions: Tensor, *, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Two random images of each of the classes at ``class_positions``, ``(k,)``, as two ``(k,)`` of indices."""
    anchors = augment.codes.sample_anchors(class_positions, generator=generator)
    return anchors, augment.codes.sample_partners(anchors, generator=generator)


def paths(augment: Synthesizer, anchors: Tensor, partners: Tensor, *, steps: int) -> Tensor:
    """Images along the paths from ``anchors``, ``(k,)``, to ``partners``, ``steps`` on each.

    Returns:
        ``(k · steps, channels, height, width)`` in ``[0, 1]``.
    """
    ratios = torch.linspace(0, 1, steps).repeat(len(anchors))
    return augment.model.interpolate(
        anchors.repeat_interleave(steps), partners.repeat_interleave(steps), ratios, None, augment.interpolation
    )


def with_ends(first: Tensor, between: Tensor, last: Tensor) -> Tensor:
    """Rows of images with another image before and after each: ``(k, …)``, ``(k · steps, …)``, ``(k, …)``."""
    rows = between.unflatten(0, (len(first), -1))
    return torch.cat([first[:, None], rows, last[:, None]], dim=1).flatten(0, 1)
