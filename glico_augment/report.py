"""One HTML page that shows what was fitted and how well. It is self-contained: no script, no external resources.

Every text in it is escaped: names of classes and files may be anything.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from glico_augment import __version__
from glico_augment.devices import cpu_by_default
from glico_augment.files.atomic import write_atomically
from glico_augment.files.format import FORMAT_VERSION
from glico_augment.images.values import to_unit
from glico_augment.pictures import plots
from glico_augment.pictures.grids import data_uri, make_pixels, to_png
from glico_augment.synthesis.synthesizer import Synthesizer

_STEPS = 8  # of a path
_SWAPS = 5  # of each training image shown
_VISIBLE_CLASSES = 12  # of the table; the others are folded away
_MAX_IMAGE_SIDE = 128  # pixels, so that the page stays below a few MB


def write_report(
    synthesizer: Synthesizer,
    path: str | Path,
    *,
    title: str = "fit.safetensors",
    names: Mapping[int, str] | None = None,
) -> None:
    """Write the page of a fit to one HTML file, atomically. It shows training images: share it as you would share them.

    Args:
        synthesizer: the fit.
        path: the file, which ends in .html or .htm.
        title: the name of the file that the fit is in.
        names: the file name of each labelled image that has one, by the index of the image.

    Raises:
        ValueError: for another ending.
        OSError: if it cannot be written.
    """
    check_name(path)
    # Names of folders may hold bytes that are not text.
    page = make_report(synthesizer, title=title, names=names).encode(errors="replace")
    write_atomically(path, lambda partial: partial.write_bytes(page))


def check_name(path: str | Path) -> None:
    """Raise ValueError unless the name of a file is that of a page."""
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"the report is one HTML page; give a name that ends in .html, not {Path(path).name}")


@cpu_by_default()
def make_report(
    synthesizer: Synthesizer, *, title: str = "fit.safetensors", names: Mapping[int, str] | None = None
) -> str:
    """The page of a fit, for the arguments of :func:`write_report`.

    The same fit gives the same page, and nothing is drawn from a global generator.
    """
    indices = range(synthesizer.codes.n_labeled)
    labels = [synthesizer.classes[position] for position in synthesizer.codes.class_indices.tolist()]
    named = [(names or {}).get(index, f"{labels[index]}, image {index}") for index in indices]
    sections = (
        _summary(synthesizer, title),
        _swaps(synthesizer),
        _reconstructions(synthesizer, named),
        _paths(synthesizer),
        _settings(synthesizer),
        _usage(title),
    )
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_escape(title)} – GLICO</title>\n<style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def _summary(synthesizer: Synthesizer, title: str) -> str:
    codes, (channels, height, width) = synthesizer.codes, synthesizer.generator.image_shape
    is_labeled = synthesizer.record.is_labeled
    facts = {
        "R² of the reconstructions": f"{synthesizer.quality.r2:.3f}",
        "images": f"{codes.n_labeled} {'labelled' if is_labeled else 'without labels'}",
        "unlabelled images": len(codes) - codes.n_labeled,
        "classes": len(synthesizer.classes) if is_labeled else "none",
        "fitted at": f"{height} × {width}, {channels} channels",
        "steps": len(synthesizer.record.losses),
    }
    return (
        f'<h1>{_escape(title)}</h1><p class="verdict">{_escape(synthesizer.fitted.verdict)}</p>'
        f"{_table(facts.items())}<p>A fit of GLICO. The page shows training images, and the file holds them: share "
        "both as you would share those.</p>"
    )


def _swaps(synthesizer: Synthesizer) -> str:
    positions = plots.positions_of(synthesizer, at_most=plots.MAX_ROWS)
    generator = torch.Generator().manual_seed(0)
    indices = synthesizer.codes.sample_anchors(positions, generator=generator)
    shown = plots.swaps(synthesizer, indices, _SWAPS, generator=generator).unflatten(0, (1 + _SWAPS, -1))
    names = [synthesizer.classes[position] for position in positions.tolist()]
    figures = [
        _figure(images, f"A training image of {name} and {_SWAPS} images it is swapped for", name)
        for images, name in zip(shown.unbind(1), names, strict=True)
    ]
    return (
        "<h2>What the classifier sees</h2><p>Left a training image, then images that it is swapped for, with "
        f"probability {synthesizer.p:g}, at the size of the fit. A swapped image lies "
        f"{_escape(synthesizer.swap.description)}. One that looks like a copy of the training image, or of its "
        f"partner, has a ratio r near 0, or near 1: that is no fault of the fit.{_left_out(synthesizer)}</p>"
        f'<div class="swaps">{"".join(figures)}</div>'
    )


def _reconstructions(synthesizer: Synthesizer, named: list[str]) -> str:
    counts, r2 = torch.bincount(synthesizer.codes.class_indices).tolist(), synthesizer.quality.per_class
    classes = sorted(zip(r2, synthesizer.classes, counts, strict=True), key=lambda each: each[0])
    rows = [(name, count, f"{value:.3f}") for value, name, count in classes]
    head, others = ("class", "images", "R²"), rows[_VISIBLE_CLASSES:]
    table = _table([head, *rows[:_VISIBLE_CLASSES]])
    if others:
        table += f"<details><summary>The other {len(others)} classes</summary>{_table([head, *others])}</details>"
    worst = list(synthesizer.quality.worst)
    real, rebuilt = to_unit(synthesizer.images[worst]), synthesizer.reconstruct(worst)
    errors = (rebuilt - real).square().flatten(1).mean(dim=1).sqrt().tolist()
    pairs = [
        _figure(
            torch.stack(images), f"Training image {index} and its reconstruction", named[index], f"off by {error:.3f}"
        )
        for *images, index, error in zip(real, rebuilt, worst, errors, strict=True)
    ]
    carried = " What the generator misses, a swap carries along from the photographs." if synthesizer.carry else ""
    return (
        "<h2>Reconstructions</h2><p>R² is 1 for perfect reconstructions and 0 for a generator that draws the mean "
        f"image whatever the code. The worst class comes first.</p>{table}<h3>The worst reconstructions</h3><p>Left "
        "the training image, right what the generator makes of its code. The number is the root mean squared "
        f'difference of values between 0 and 1.{carried}</p><div class="pairs">{"".join(pairs)}</div>'
    )


def _paths(synthesizer: Synthesizer) -> str:
    positions = plots.positions_of(synthesizer, at_most=plots.MAX_ROWS)
    pairs = plots.random_pairs(synthesizer, positions, generator=torch.Generator().manual_seed(0))
    rows = plots.paths_with_ends(synthesizer, *pairs, steps=_STEPS).split(_STEPS + 2)
    names = [synthesizer.classes[position] for position in positions.tolist()]
    figures = [_figure(row, f"A path of {name}", name) for row, name in zip(rows, names, strict=True)]
    return (
        "<h2>Paths</h2><p>Between the codes of two training images of a class, which stand at both ends. A path has "
        f"one ratio r in all parts of the image, and no noise.{_left_out(synthesizer)}</p>" + "".join(figures)
    )


def _settings(synthesizer: Synthesizer) -> str:
    record = synthesizer.record
    origin = {
        "fingerprint of images and labels": record.fingerprint,
        "seed": record.seed,
        "restarts at a lower rate": record.restarts,
        "code": f"{synthesizer.codes.latent_dim} numbers on the unit sphere",
        "generator": f"{sum(value.numel() for value in synthesizer.generator.parameters()):,} parameters",
        "file format": FORMAT_VERSION,
        "report by": f"glico-augment {__version__}",
    }
    swap = {**synthesizer.swap.to_json(), "noise_std": synthesizer.noise_std}
    return (
        f"<h2>Settings</h2><h3>The swap</h3>{_table(swap.items())}<h3>The fit</h3><details><summary>All settings"
        f"</summary>{_table(synthesizer.config.to_json().items())}</details><h3>Origin</h3>{_table(origin.items())}"
    )


def _usage(title: str) -> str:
    code = (
        "from torchvision.datasets import ImageFolder\n"
        "from glico_augment import GLICOAugment\n\n"
        f"augment = GLICOAugment.load({title!r})\n"
        'swapped = augment.wrap(ImageFolder("FOLDER"), transform=...)  # the images it was fitted on\n'
        "image, label = augment(image, label)  # or as a transform, before normalisation\n"
        "images, labels = augment.synthesize(n_per_class=10)"
    )
    return f"<h2>How to use the file</h2><pre>{_escape(code)}</pre>"


def _escape(text: object) -> str:
    return html.escape(str(text))


def _left_out(synthesizer: Synthesizer) -> str:
    return f" The first {plots.MAX_ROWS} classes are shown." if len(synthesizer.classes) > plots.MAX_ROWS else ""


def _table(rows: Iterable[Iterable[object]]) -> str:
    cells = ("".join(f"<td>{_escape(value)}</td>" for value in row) for row in rows)
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


def _figure(images: Tensor, description: str, *caption: str) -> str:
    """Images ``(k, channels, height, width)`` in ``[0, 1]`` side by side, above lines of text."""
    png = to_png(make_pixels(plots.shrunk(images, _MAX_IMAGE_SIDE), columns=len(images)))
    lines = "<br>".join(map(_escape, caption))
    picture = f'<img src="{data_uri(png)}" alt="{_escape(description)}">'
    return f"<figure>{picture}<figcaption>{lines}</figcaption></figure>"


_STYLE = """
:root { color-scheme: light dark; }
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem 1rem 4rem; font: 1rem/1.55 system-ui, sans-serif;
  overflow-wrap: anywhere; }
h2 { margin-top: 2.5rem; border-top: 1px solid GrayText; padding-top: 1rem; }
p { max-width: 42rem; }
pre { border: 1px solid GrayText; padding: .8rem; white-space: pre-wrap; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td { padding: .2rem 1rem .2rem 0; vertical-align: top; }
img { display: block; max-width: 100%; }
.verdict { font-size: 1.2rem; font-weight: bold; }
.pairs, .swaps { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: 1rem; }
.swaps { grid-template-columns: repeat(auto-fill, minmax(min(100%, 28rem), 1fr)); }
figure { margin: .5rem 0; }
figure img { width: 100%; image-rendering: pixelated; }
figcaption { font-size: .85rem; line-height: 1.35; }
"""
