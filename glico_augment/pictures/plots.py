"""Figures of a fit: which classes and images to show, and how, by matplotlib or as the HTML of a notebook.

Figures need the extra ``plots``. They are made without pyplot and its global state, and belong to the caller.
"""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from glico_augment import checks
from glico_augment.data.labels import as_integers
from glico_augment.devices import cpu_by_default
from glico_augment.images.values import resize, to_unit
from glico_augment.optional import import_optional
from glico_augment.pictures.grids import data_uri, make_pixels, shortened, to_png
from glico_augment.synthesis.draw import path_params, path_ratios
from glico_augment.synthesis.synthesizer import Synthesizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_ROWS = 8
"""Classes that a figure shows unless it is asked for others."""
_MAX_SIDE = 9.0  # inches, of the images of a figure
_MAX_TILE = 1.2
_NOTEBOOK_DPI = 72
_HTML_ROWS, _HTML_COLUMNS, _HTML_SIDE = 4, 8, 64


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
    return augment.transform(path_params(anchors, partners, steps))


def samples(
    augment: Synthesizer, class_positions: Tensor, count: int, *, generator: torch.Generator | None = None
) -> Tensor:
    """Synthetic images as a swap makes them, ``count`` of each class at ``class_positions``, ``(k,)``, in order.

    Returns:
        ``(k · count, channels, height, width)`` in ``[0, 1]``.
    """
    labels = augment.codes.classes[class_positions].repeat_interleave(count)
    return augment.synthesize(labels, generator=generator)[0]


def swaps(augment: Synthesizer, indices: Tensor, count: int, *, generator: torch.Generator | None = None) -> Tensor:
    """The labelled images at ``indices``, ``(k,)``, then ``count`` times as many that a swap may put in their place.

    Returns:
        ``((1 + count) · k, channels, height, width)`` in ``[0, 1]``.
    """
    anchors = indices.repeat(count)
    params = augment.make_params(augment.codes.labels[anchors], anchors=anchors, generator=generator)
    return torch.cat([to_unit(augment.images[indices]), augment.transform(params)])


def paths_with_ends(augment: Synthesizer, anchors: Tensor, partners: Tensor, *, steps: int) -> Tensor:
    """:func:`paths` with the training images at both ends, ``(k · (steps + 2), channels, height, width)``."""
    first, last = to_unit(augment.images[anchors]), to_unit(augment.images[partners])
    return with_ends(first, paths(augment, anchors, partners, steps=steps), last)


def with_ends(first: Tensor, between: Tensor, last: Tensor) -> Tensor:
    """Rows of images with another image before and after each: ``(k, …)``, ``(k · steps, …)``, ``(k, …)``."""
    rows = between.unflatten(0, (len(first), -1))
    return torch.cat([first[:, None], rows, last[:, None]], dim=1).flatten(0, 1)


@cpu_by_default()
def plot_paths(
    augment: Synthesizer,
    pairs: Sequence[tuple[int, int]] | None = None,
    *,
    steps: int = 8,
    classes: Sequence[str] | None = None,
    generator: torch.Generator | None = None,
) -> Figure:
    """Paths between the codes of two training images, which stand at both ends; one row per path.

    A swap has noise as well, which is left out, and with ``cells`` above 1 another ``r`` in each part of the image,
    where a path has one: :func:`plot_swaps` shows that.

    Args:
        augment: the fit.
        pairs: of indices of labelled images; None for a random pair of each class.
        steps: images per path, at least 2.
        classes: names of the classes to draw pairs of; None for the first 8.
        generator: CPU source of randomness for the pairs; the global one of torch if None.

    Raises:
        ModuleNotFoundError: without matplotlib.
        IndexError: for the index of no labelled image.
        TypeError, ValueError: for pairs, classes or steps that are not as above, and if both pairs and classes are
            given.
    """
    steps = checks.integer(2)("steps", steps)
    if pairs is not None and classes is not None:
        raise ValueError("give either pairs or classes")
    if pairs is None:
        positions = positions_of(augment, classes, at_most=MAX_ROWS)
        anchors, partners = random_pairs(augment, positions, generator=generator)
    else:
        anchors, partners = _checked(augment, _as_pairs(pairs)).unflatten(0, (-1, 2)).unbind(1)
    images = paths_with_ends(augment, anchors, partners, steps=steps)
    ratios = [f"{ratio:.2f}".rstrip("0").rstrip(".") for ratio in path_ratios(steps).tolist()]
    figure = _image_figure(images, _names_of(augment, anchors), ["real", *ratios, "real"])
    label = "r, the share of the path from the left image to the right one, without noise"
    if augment.sampler == "same-class":
        label += f"; a swap goes up to {augment.max_ratio:g}"
        if augment.cells > 1:
            label += f",\nwith a field of {augment.cells} × {augment.cells} ratios r, where a path has one"
    figure.axes[0].set_xlabel(label)
    return figure


@cpu_by_default()
def plot_swaps(
    augment: Synthesizer, indices: Any = None, *, n_swaps: int = 3, generator: torch.Generator | None = None
) -> Figure:
    """Training images above synthetic images that a swap may put in their place, at the size of the fit.

    Args:
        augment: the fit.
        indices: of labelled images, a sequence or tensor ``(k,)``; None for one of each of the first 8 classes.
        n_swaps: synthetic images below each, at least 1.
        generator: CPU source of randomness; the global one of torch if None.

    Raises:
        ModuleNotFoundError: without matplotlib.
        IndexError: for the index of no labelled image.
        TypeError, ValueError: for what are not indices, for none at all, or a number that is not as above.
    """
    n_swaps = checks.integer(1)("n_swaps", n_swaps)
    if indices is None:
        positions = positions_of(augment, at_most=MAX_ROWS)
        chosen = augment.codes.sample_anchors(positions, generator=generator)
    else:
        chosen = _checked(augment, as_integers("indices", indices))
    images = swaps(augment, chosen, n_swaps, generator=generator)
    figure = _image_figure(images, ["photograph", *["swapped"] * n_swaps], _names_of(augment, chosen))
    figure.axes[0].set_xlabel(f"class; each image is swapped with probability {augment.p:g}")
    return figure


@cpu_by_default()
def plot_reconstructions(augment: Synthesizer, indices: Any = None) -> Figure:
    """Training images above what the generator makes of their codes, without noise.

    Args:
        augment: the fit.
        indices: of labelled images, a sequence or tensor ``(k,)``; None for the worst of the fit, the worst first.

    Raises:
        ModuleNotFoundError: without matplotlib.
        IndexError: for the index of no labelled image.
        TypeError, ValueError: for what are not indices, or for none at all.
    """
    chosen = torch.tensor(augment.quality.worst) if indices is None else as_integers("indices", indices)
    chosen = _checked(augment, chosen)
    images = torch.cat([to_unit(augment.images[chosen]), augment.reconstruct(chosen)])
    columns = [f"{name}\n{index}" for name, index in zip(_names_of(augment, chosen), chosen.tolist(), strict=True)]
    figure = _image_figure(images, ["real", "rebuilt"], columns)
    order = "the worst first, " if indices is None else ""
    figure.axes[0].set_xlabel(f"class and index, {order}R² {augment.quality.r2:.3f} over all")
    return figure


@cpu_by_default()
def plot_samples(
    augment: Synthesizer,
    n_per_class: int = 8,
    *,
    classes: Sequence[str] | None = None,
    generator: torch.Generator | None = None,
) -> Figure:
    """Synthetic images as a swap makes them, one row per class.

    Args:
        augment: the fit.
        n_per_class: images per row, at least 1.
        classes: names of the classes to show; None for the first 8.
        generator: CPU source of randomness; the global one of torch if None.

    Raises:
        ModuleNotFoundError: without matplotlib.
        TypeError, ValueError: for classes or a number that are not as above.
    """
    n_per_class = checks.integer(1)("n_per_class", n_per_class)
    positions = positions_of(augment, classes, at_most=MAX_ROWS)
    images = samples(augment, positions, n_per_class, generator=generator)
    return _image_figure(images, [augment.classes[position] for position in positions.tolist()], [""] * n_per_class)


@cpu_by_default()
def plot_losses(augment: Synthesizer) -> Figure:
    """The loss and its parts before weighting over the steps of the fit, and the moving average of each.

    Raises:
        ModuleNotFoundError: without matplotlib.
    """
    figure = _new_figure((7, 4))
    axes = figure.add_subplot()
    for name, values in augment.history.items():
        if not any(value > 0 for value in values):
            continue  # a part of weight 0 has no place on a logarithmic scale
        (line,) = axes.plot(range(1, len(values) + 1), moving_average(values), label=name)
        axes.plot(range(1, len(values) + 1), values, color=line.get_color(), alpha=0.25, linewidth=0.8)
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("loss, and its parts before weighting")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
    return figure


@cpu_by_default()
def to_html(augment: Synthesizer) -> str:
    """The HTML that a notebook shows: the settings, synthetic images of the first 4 classes, and the verdict."""
    positions = positions_of(augment, at_most=_HTML_ROWS)
    images = shrunk(samples(augment, positions, _HTML_COLUMNS, generator=torch.Generator().manual_seed(0)), _HTML_SIDE)
    scale = max(1, _HTML_SIDE // max(images.shape[-2:]))
    picture = data_uri(to_png(make_pixels(images, columns=_HTML_COLUMNS, scale=scale)))
    names = html.escape(", ".join(augment.classes[position] for position in positions.tolist()))
    return (
        f"<div><p><code>{html.escape(repr(augment))}</code></p>"
        f'<img src="{picture}" alt="Synthetic images of {names}">'
        f"<p>Synthetic images, one row per class: {names}. "
        f"{html.escape(augment.fitted.verdict)}</p></div>"
    )


def shrunk(images: Tensor, side: int) -> Tensor:
    """Images ``(k, channels, height, width)`` whose longer side is at most ``side`` pixels."""
    height, width = images.shape[-2:]
    factor = min(1.0, side / max(height, width))
    return resize(images, (max(1, round(factor * height)), max(1, round(factor * width))))


def moving_average(values: Sequence[float]) -> list[float]:
    """The mean over a fiftieth of the values about each."""
    reach = len(values) // 100
    padded = F.pad(torch.tensor(values)[None, None], (reach, reach), mode="replicate")
    return F.avg_pool1d(padded, 2 * reach + 1, stride=1).flatten().tolist()


def _new_figure(size: tuple[float, float]) -> Figure:
    """An empty figure of ``(width, height)`` inches, which a notebook shows whether or not pyplot was imported."""
    matplotlib = import_optional("matplotlib.figure", "figures need matplotlib: pip install 'glico-augment[plots]'")

    class NotebookFigure(matplotlib.Figure):  # type: ignore[name-defined]
        def _repr_png_(self) -> bytes:
            file = io.BytesIO()
            self.savefig(file, format="png", dpi=_NOTEBOOK_DPI)
            return file.getvalue()

    return NotebookFigure(figsize=size, layout="constrained")


def _image_figure(images: Tensor, rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """A grid of images in one axes, whose ticks are the names of rows and columns."""
    height, width = images.shape[-2:]
    tile = min(_MAX_TILE, _MAX_SIDE / len(columns))
    figure = _new_figure((tile * len(columns) + 1.2, tile * height / width * len(rows) + 0.9))
    axes = figure.add_subplot()
    pixels = make_pixels(images, columns=len(columns))
    axes.imshow(pixels.permute(1, 2, 0).numpy(), interpolation="nearest")
    # make_pixels leaves one white pixel before and between the images. A "$" in a name must not start a formula.
    x_ticks = [width / 2 + column * (width + 1) for column in range(len(columns))]
    y_ticks = [height / 2 + row * (height + 1) for row in range(len(rows))]
    axes.set_xticks(x_ticks, list(map(shortened, columns)), parse_math=False)
    axes.set_yticks(y_ticks, list(map(shortened, rows)), parse_math=False)
    axes.tick_params(length=0, labelsize="small")
    axes.spines[:].set_visible(False)
    return figure


def _as_pairs(pairs: Any) -> Tensor:
    """Pairs of integers, one after the other, ``(2k,)``."""
    if any(not isinstance(pair, (Sequence, Tensor)) or len(pair) != 2 for pair in pairs):
        raise ValueError(f"pairs must be pairs of indices, as in [(0, 3), (4, 7)]; got {pairs!r}")
    return as_integers("pairs", [int(index) for pair in pairs for index in pair])


def _checked(augment: Synthesizer, indices: Tensor) -> Tensor:
    if len(indices) == 0:
        raise ValueError("no index was given: there is nothing to show")
    if not 0 <= int(indices.min()) <= int(indices.max()) < augment.codes.n_labeled:
        raise IndexError(
            f"indices must be of labelled images, in [0, {augment.codes.n_labeled}); got {indices.tolist()}"
        )
    return indices


def _names_of(augment: Synthesizer, indices: Tensor) -> list[str]:
    return [augment.classes[position] for position in augment.codes.class_indices[indices].tolist()]
