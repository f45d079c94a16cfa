"""Two charts as inline SVG, in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from glico_augment.pictures.curves import smooth

_WIDTH, _HEIGHT = 420, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 18, 26, 38
_MOST_POINTS = 400
_BIN = 5  # degrees


def loss_chart(history: Mapping[str, Sequence[float]]) -> str:
    """The loss and its parts over the steps, each averaged over a fiftieth of them, on a scale of powers of ten."""
    curves = {name: smooth(values) for name, values in history.items() if any(value > 0 for value in values)}
    if not curves:
        return ""
    positive = [value for curve in curves.values() for value in curve if value > 0]
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    high = max(high, low + 1)
    steps = max(map(len, curves.values()))

    def x(step: float) -> float:
        return _LEFT + (step - 1) / max(steps - 1, 1) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        power = math.log10(max(value, 10.0**low))
        return _TOP + (high - power) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    lines = [_level(y(10.0**power), f"{10.0**power:g}") for power in range(low, high + 1)]
    lines += [_mark(x(step), str(step)) for step in sorted({1, (steps + 1) // 2, steps})]
    for number, (name, curve) in enumerate(curves.items()):
        stride = -(-len(curve) // _MOST_POINTS)
        points = " ".join(f"{x(1 + at):.1f},{y(curve[at]):.1f}" for at in range(0, len(curve), stride))
        lines += [f'<polyline class="line{number}" points="{points}"/>', _legend(number, name)]
    return _chart("Loss and its parts over the steps of the fit", "step", lines)


def angle_chart(within: Tensor, between: Tensor) -> str:
    """The shares of pairs of codes, by their angle in degrees, within classes and between them."""
    shares = {
        name: torch.histc(values.float(), bins=180 // _BIN, min=0, max=180) / len(values)
        for name, values in (("within a class", within), ("between classes", between))
        if len(values)
    }
    if not shares:
        return ""
    highest = max(float(share.max()) for share in shares.values())
    base = _HEIGHT - _BOTTOM

    def x(angle: float) -> float:
        return _LEFT + angle / 180 * (_WIDTH - _LEFT - _RIGHT)

    def y(share: float) -> float:
        return base - share / highest * (base - _TOP)

    lines = [_level(y(share), f"{100 * share:.0f} %") for share in (0, highest / 2, highest)]
    lines += [_mark(x(angle), f"{angle}°") for angle in range(0, 181, 45)]
    for number, (name, share) in enumerate(shares.items()):
        outline = [f"{x(0):.1f},{base}"]
        for position, value in enumerate(share.tolist()):
            outline += [f"{x(position * _BIN):.1f},{y(value):.1f}", f"{x((position + 1) * _BIN):.1f},{y(value):.1f}"]
        outline.append(f"{x(180):.1f},{base}")
        lines += [f'<polygon class="area{number}" points="{" ".join(outline)}"/>', _legend(number, name)]
    return _chart("Angles between codes within and between classes", "angle between two codes", lines)


def _chart(title: str, x_title: str, lines: Sequence[str]) -> str:
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    return (
        f'<svg class="chart" role="img" aria-label="{title}" viewBox="0 0 {_WIDTH} {_HEIGHT}">'
        + "".join(lines)
        + f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{x_title}</text></svg>'
    )


def _level(y: float, text: str) -> str:
    return (
        f'<line class="level" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
    )


def _mark(x: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 15}" text-anchor="middle">{text}</text>'


def _legend(number: int, name: str) -> str:
    x = _LEFT + number * 125
    return f'<rect class="key{number}" x="{x}" y="6" width="10" height="10"/><text x="{x + 14}" y="15">{name}</text>'
