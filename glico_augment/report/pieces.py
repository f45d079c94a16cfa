"""HTML of images and tables. Every text that goes in is escaped here: class names and file names may be anybody's."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from glico_augment.images.values import from_unit, resize
from glico_augment.pictures.grids import data_uri, to_png, visible

_LARGEST_SIDE = 128  # pixels of an image on the page, so that it stays a few MB


def escape(text: object) -> str:
    """A text as HTML."""
    return html.escape(str(text))


def image(pixels: Tensor, description: str) -> str:
    """One image ``(channels, height, width)``, uint8 or float in ``[0, 1]``."""
    shown = visible(pixels[None])
    height, width = shown.shape[-2:]
    shrink = min(1.0, _LARGEST_SIDE / max(height, width))
    shown = resize(shown, (max(1, round(shrink * height)), max(1, round(shrink * width))))
    return f'<img src="{data_uri(to_png(from_unit(shown[0], torch.uint8)))}" alt="{escape(description)}">'


def image_row(images: Sequence[str], style: str = "") -> str:
    """HTML of images side by side."""
    columns = f'style="grid-template-columns:repeat({len(images)},1fr)"'
    return f"<div{f' class={style}' if style else ''} {columns}>{''.join(images)}</div>"


def figure(images: Sequence[str], caption: Sequence[str]) -> str:
    """HTML of images side by side above lines of text."""
    return f"<figure>{image_row(images)}<figcaption>{'<br>'.join(map(escape, caption))}</figcaption></figure>"


def numbers(values: Mapping[str, object]) -> str:
    """A few figures, large, each with its name."""
    items = (f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in values.items())
    return f'<dl class="numbers">{"".join(items)}</dl>'


def table(rows: Mapping[str, object]) -> str:
    """Names and values."""
    cells = (f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows.items())
    return f"<table>{''.join(cells)}</table>"


def class_table(names: Sequence[str], counts: Sequence[int], qualities: Sequence[float]) -> str:
    """R² of each class as a number and a bar."""
    rows = (
        f"<tr><td>{escape(name)}</td><td>{count}</td><td>{r2:.3f}</td>"
        f'<td class="bar"><span style="width:{100 * min(1.0, max(0.0, r2)):.1f}%"></span></td></tr>'
        for name, count, r2 in zip(names, counts, qualities, strict=True)
    )
    head = "<tr><th>class</th><th>images</th><th>R²</th><th></th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"
