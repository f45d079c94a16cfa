"""The pictures of a fit as methods of :class:`GLICOAugment`."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch

from glico_augment.images.values import resize
from glico_augment.pictures.grids import data_uri, make_pixels, to_png
from glico_augment.pictures.paths import positions_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from glico_augment.swap.make import SwapMaker


class Pictures:
    """Figures of matplotlib (the extra ``plots``), and what a notebook shows of a fit.

    Each method returns a ``matplotlib.figure.Figure`` that belongs to the caller: save it with ``figure.savefig``, or
    let a notebook show it. Nothing of ``matplotlib.pyplot`` is touched. Images of more than four channels are shown by
    their first three.
    """

    def plot_paths(
        self,
        pairs: Sequence[tuple[int, int]] | None = None,
        *,
        steps: int = 8,
        classes: Sequence[str] | None = None,
        generator: torch.Generator | None = None,
    ) -> Figure:
        """Draw paths between the codes of two images, without noise, the real images at both ends.

        Args:
            pairs: indices of two labelled images each, a row a pair; or
            classes: names of classes, of each of which two images are drawn; None for the first 8 classes.
            steps: images between the real ones, at least 2.
            generator: CPU source of randomness for the draw; torch's global one if None.

        Raises:
            ModuleNotFoundError: without matplotlib.
            ValueError, TypeError: for pairs that are none, an unknown class, or both pairs and classes.
            IndexError: for the index of no labelled image.
        """
        return _plots().plot_paths(_maker(self), pairs, steps=steps, classes=classes, generator=generator)

    def plot_reconstructions(self, indices: Any = None) -> Figure:
        """Draw fitted images above what the generator makes of their codes, without noise.

        Args:
            indices: of labelled images, a sequence or tensor ``(k,)``; None for those that are rebuilt worst.

        Raises:
            ModuleNotFoundError: without matplotlib.
            IndexError: for the index of no labelled image.
        """
        return _plots().plot_reconstructions(_maker(self), indices)

    def plot_samples(
        self,
        n_per_class: int = 8,
        *,
        classes: Sequence[str] | None = None,
        generator: torch.Generator | None = None,
    ) -> Figure:
        """Draw synthetic images as a swap makes them, a row a class.

        Args:
            n_per_class: images a row.
            classes: names of the classes; None for the first 8.
            generator: CPU source of randomness; torch's global one if None.

        Raises:
            ModuleNotFoundError: without matplotlib.
            ValueError: for an unknown class.
        """
        return _plots().plot_samples(_maker(self), n_per_class, classes=classes, generator=generator)

    def plot_losses(self) -> Figure:
        """Draw the loss and its parts over the steps of the fit, each step and a moving average, on a log scale.

        Raises:
            ModuleNotFoundError: without matplotlib.
        """
        return _plots().plot_losses(_maker(self))

    def _repr_html_(self) -> str:
        """A few synthetic images, the quality of the fit and its settings. Draws nothing from global generators."""
        return to_html(_maker(self))


_HTML_CLASSES, _HTML_COLUMNS, _HTML_SIDE = 4, 8, 64


def to_html(augment: SwapMaker) -> str:
    """What a notebook shows: a grid of synthetic images, a row a class, under the settings and the quality."""
    positions = positions_of(augment, at_most=_HTML_CLASSES)
    labels = augment.codes.classes[positions].repeat_interleave(_HTML_COLUMNS)
    images, _ = augment.synthesize(labels, generator=torch.Generator().manual_seed(0))
    height, width = images.shape[-2:]
    if max(height, width) > _HTML_SIDE:
        shrink = _HTML_SIDE / max(height, width)
        images = resize(images, (max(1, round(shrink * height)), max(1, round(shrink * width))))
    scale = max(1, _HTML_SIDE // max(images.shape[-2:]))
    picture = data_uri(to_png(make_pixels(images, columns=_HTML_COLUMNS, scale=scale)))
    names = html.escape(", ".join(augment.classes[position] for position in positions.tolist()))
    verdict = ": the images are not learned, fit again, longer or at a lower rate" if augment.quality.is_poor else ""
    return (
        f"<div><p><code>{html.escape(repr(augment))}</code></p>"
        f'<img src="{picture}" alt="Synthetic images of {names}">'
        f"<p>Synthetic images, a row a class: {names}. "
        f"R² of the reconstructions: {augment.quality.r2:.3f}{verdict}.</p></div>"
    )


def _plots() -> Any:
    try:
        from glico_augment.pictures import plots
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "matplotlib":
            raise
        raise ModuleNotFoundError(
            "figures need matplotlib: pip install 'glico-augment[plots]'", name="matplotlib"
        ) from error
    return plots


def _maker(pictures: Pictures) -> SwapMaker:
    return cast("SwapMaker", pictures)
