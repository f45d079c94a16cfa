"""Feature spaces in two dimensions."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from features.heads import scaler

mpl.use("Agg")
COLUMNS = 4


def layout(features: Tensor, seed: int) -> Tensor:
    """Where UMAP puts the rows of ``(n, d)``, brought to one scale, ``(n, 2)``."""
    from umap import UMAP  # needed here alone

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed makes it slower
        placed = UMAP(n_neighbors=min(15, len(features) - 1), random_state=seed).fit_transform(
            scaler(features, "all")(features).numpy()
        )
    return torch.from_numpy(placed)


def plot_layouts(panels: dict[str, Tensor], labels: Tensor, path: Path) -> None:
    """A panel a space, by title, the images of a class in one colour."""
    lines = math.ceil(len(panels) / COLUMNS)
    figure, axes = plt.subplots(lines, COLUMNS, figsize=(3 * COLUMNS, 3.2 * lines), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (title, places) in zip(axes.flat, panels.items(), strict=False):
        axis.scatter(places[:, 0], places[:, 1], c=labels, cmap="tab10", s=4, linewidths=0)
        axis.set_title(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90, bbox_inches="tight")
    plt.close(figure)
