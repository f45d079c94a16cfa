"""Figures of a fit, by matplotlib and without its global state: nothing of pyplot is touched.

They need the extra ``plots``, and return a ``matplotlib.figure.Figure`` that belongs to the caller.
"""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from glico_augment import checks
from glico_augment.data.labels import as_integers
from glico_augment.images.values import resize, to_unit
from glico_augment.pictures.curves import smooth
from glico_augment.pictures.grids import data_uri, make_pixels, to_png
from glico_augment.pictures.paths import paths, positions_of, random_pairs, with_ends
from glico_augment.synthesis.synthesizer import Synthesizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_ROWS = 8
_LARGEST_SIDE = 9.0  # inches, of the images of a figure
_LARGEST_TILE = 1.2
_LONGEST_NAME = 24
_NOTEBOOK_DPI = 72


def _new_figure(size: tuple[float, float]) -> Figure:
    """An empty figure, which a notebook shows whether or not pyplot was imported."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "matplotlib":
            raise
        raise ModuleNotFoundError(
            "figures need matplotlib: pip install 'glico-augment[plots]'", name="matplotlib"
        ) from error

    class Picture(Figure):
        def _repr_png_(self) -> bytes:
            file = io.BytesIO()
            self.savefig(file, format="png", dpi=_NOTEBOOK_DPI)
            return file.getvalue()

    return Picture(figsize=size, layout="constrained")


def plot_paths(
    augment: Synthesizer,
    pairs: Sequence[tuple[int, int]] | None = None,
    *,
    steps: int = 8,
    classes: Sequence[str] | None = None,
    generator: torch.Generator | None = None,
) -> Figure:
    """Paths between the codes of two images, the real ones at their ends."""
    steps = checks.integer(2)("steps", steps)
    if pairs is not None and classes is not None:
        raise ValueError("give either pairs or classes")
    if pairs is None:
        positions = positions_of(augment, classes, at_most=_MOST_ROWS)
        anchors, partners = random_pairs(augment, positions, generator=generator)
    else:
        anchors, partners = _check_indices(augment, _check_pairs(pairs)).unflatten(0, (-1, 2)).unbind(1)
    between = paths(augment, anchors, partners, steps=steps)
    images = with_ends(to_unit(augment.images[anchors]), between, to_unit(augment.images[partners]))
    ratios = [f"{ratio:.2f}".rstrip("0").rstrip(".") for ratio in torch.linspace(0, 1, steps).tolist()]
    names = _names_of(augment, anchors)
    figure = _show(images, names, ["real", *ratios, "real"])
    limit = f"; a swap goes up to {augment.max_ratio:g}" if augment.sampler == "same-class" else ""
    figure.axes[0].set_xlabel(f"r, the way from the left image to the right{limit}")
    return figure


def plot_reconstructions(augment: Synthesizer, indices: Any = None) -> Figure:
    """Fitted images above what the generator makes of their codes."""
    chosen = torch.tensor(augment.quality.worst) if indices is None else as_integers("indices", indices)
    chosen = _check_indices(augment, chosen)
    images = torch.cat([to_unit(augment.images[chosen]), augment.reconstruct(chosen)])
    columns = [f"{name}\n{index}" for name, index in zip(_names_of(augment, chosen), chosen.tolist(), strict=True)]
    figure = _show(images, ["real", "rebuilt"], columns)
    which = "the worst first, " if indices is None else ""
    figure.axes[0].set_xlabel(f"class and index, {which}R² {augment.quality.r2:.3f} over all")
    return figure


def plot_samples(
    augment: Synthesizer,
    n_per_class: int = 8,
    *,
    classes: Sequence[str] | None = None,
    generator: torch.Generator | None = None,
) -> Figure:
    """Synthetic images as a swap makes them, a row a class."""
    n_per_class = checks.integer(1)("n_per_class", n_per_class)
    positions = positions_of(augment, classes, at_most=_MOST_ROWS)
    labels = augment.codes.classes[positions].repeat_interleave(n_per_class)
    images, _ = augment.synthesize(labels, generator=generator)
    return _show(images, [augment.classes[position] for position in positions.tolist()], [""] * n_per_class)


def plot_losses(augment: Synthesizer) -> Figure:
    """The loss and its parts over the steps of the fit."""
    figure = _new_figure((7, 4))
    axes = figure.add_subplot()
    for name, values in augment.history.items():
        if not any(value > 0 for value in values):
            continue  # a part of weight 0 has no place on a scale of powers
        (line,) = axes.plot(range(1, len(values) + 1), smooth(values), label=name)
        axes.plot(range(1, len(values) + 1), values, color=line.get_color(), alpha=0.25, linewidth=0.8)
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("loss, and its parts before weighting")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
    return figure


def _show(images: Tensor, rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """A grid of images in one axes, whose ticks are the names of rows and columns."""
    height, width = images.shape[-2:]
    tile = min(_LARGEST_TILE, _LARGEST_SIDE / len(columns))
    figure = _new_figure((tile * len(columns) + 1.2, tile * height / width * len(rows) + 0.9))
    axes = figure.add_subplot()
    pixels = make_pixels(images, columns=len(columns))
    axes.imshow(pixels.permute(1, 2, 0).numpy(), interpolation="nearest")
    # make_pixels has a line of one pixel before and between the images. Names may be anybody's: no formulas in them.
    x_ticks = [width / 2 + column * (width + 1) for column in range(len(columns))]
    y_ticks = [height / 2 + row * (height + 1) for row in range(len(rows))]
    axes.set_xticks(x_ticks, list(map(_shortened, columns)), parse_math=False)
    axes.set_yticks(y_ticks, list(map(_shortened, rows)), parse_math=False)
    axes.tick_params(length=0, labelsize="small")
    axes.spines[:].set_visible(False)
    return figure


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _check_pairs(pairs: Any) -> Tensor:
    """Pairs of integers, one after the other, ``(2k,)``."""
    if any(not isinstance(pair, (Sequence, Tensor)) or len(pair) != 2 for pair in pairs):
        raise ValueError(f"pairs must be pairs of indices, as in [(0, 3), (4, 7)]; got {pairs!r}")
    return as_integers("pairs", [int(index) for pair in pairs for index in pair])


def _check_indices(augment: Synthesizer, indices: Tensor) -> Tensor:
    if len(indices) == 0:
        raise ValueError("no index was given: there is nothing to show")
    if not 0 <= int(indices.min()) <= int(indices.max()) < augment.codes.n_labeled:
        raise IndexError(
            f"indices must be of labelled images, in [0, {augment.codes.n_labeled}); got {indices.tolist()}"
        )
    return indices


def _names_of(augment: Synthesizer, indices: Tensor) -> list[str]:
    return [augment.classes[position] for position in augment.codes.class_indices[indices].tolist()]


_HTML_CLASSES, _HTML_COLUMNS, _HTML_SIDE = 4, 8, 64


def to_html(augment: Synthesizer) -> str:
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
