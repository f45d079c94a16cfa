"""The plots of REPORT.md."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from accuracy.paired import FEWEST, Interval, Scores, gains

mpl.use("Agg")

COLUMNS = 4
COLOURS = {
    "none": "#777777",
    "pixel": "#d8a200",
    "style": "#2e8b57",
    "glico": "#0b6cb8",
    "glico+style": "#102a60",
    "autoaugment": "#b04a9c",
    "glico+style+autoaugment": "#c0392b",
}


def plot_gains(tables: dict[str, Scores], methods: Sequence[str], path: Path) -> None:
    """A panel a setting, by title: every method's paired gain on none, with its interval."""
    methods = [method for method in methods if any(gains(table, method, "none") for table in tables.values())]
    lines = math.ceil(len(tables) / COLUMNS)
    size = (3.6 * COLUMNS + 1, (0.3 * len(methods) + 1.2) * lines)
    figure, panels = plt.subplots(lines, COLUMNS, figsize=size, sharey=True, squeeze=False)
    for panel in panels.flat[len(tables) :]:
        panel.set_visible(False)
    for panel, (title, table) in zip(panels.flat, tables.items(), strict=False):
        for place, method in enumerate(reversed(methods)):
            if paired := gains(table, method, "none"):
                gain = Interval.of(paired.values())
                error = None if math.isnan(gain.half_width) else gain.half_width
                colour = COLOURS["glico" if method.startswith("glico") or method == "published" else "none"]
                panel.errorbar(gain.mean, place, xerr=error, fmt="o", color=colour, capsize=3)
        panel.axvline(0, color="black", linewidth=0.8)
        panel.set_title(title, fontsize=9)
        panel.set_xlabel("gain on none, points (95 % interval)", fontsize=8)
        panel.grid(axis="x", alpha=0.3)
        panel.set_yticks(range(len(methods)), list(reversed(methods)))
        panel.set_ylim(-0.6, len(methods) - 0.4)
    save(figure, path)


def plot_accuracy(tables: dict[str, dict[int, Scores]], path: Path) -> None:
    """A panel a data set, over images a class: none's mean accuracy, and on it the paired gains of at least 3 seeds.

    Not the means of the methods themselves, which may have other seeds than none has.
    """
    figure, panels = plt.subplots(1, len(tables), figsize=(4 * len(tables), 4), squeeze=False)
    for panel, (title, by_count) in zip(panels[0], tables.items(), strict=True):
        for method, colour in COLOURS.items():
            points = {
                count: statistics.mean(table["none"].values()) + statistics.mean(paired.values())
                for count, table in sorted(by_count.items())
                if len(paired := gains(table, method, "none")) >= FEWEST
            }
            panel.plot(points.keys(), points.values(), marker="o", label=method if points else None, color=colour)
        panel.set(title=title, xlabel="training images a class", ylabel="accuracy of none + paired gain, %")
        panel.set_xticks(sorted(by_count))
        panel.grid(alpha=0.3)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize=8)
    save(figure, path)


def save(figure: plt.Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
