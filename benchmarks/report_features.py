"""Tables and plots from results/features.jsonl and results/metacgan.jsonl, for FEATURES.md and METACGAN.md.

python benchmarks/report_features.py
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from accuracy.paired import FEWEST, Interval, gains
from accuracy.rows import read_rows
from features.heads import HEADS
from measure_features import BASELINE, BASELINES, COUNTS, NEIGHBOURS, NETWORK, UNCHANGED
from measure_metacgan import ALL, REAL
from report import MISSING, replace_block
from report_plots import save

mpl.use("Agg")

HERE = Path(__file__).parent
Row = dict[str, Any]
Table = dict[str, dict[int, dict[int, float]]]
"""Accuracy by space, labelled images a class, and seed."""

NAMES = {"mnist": "MNIST", "cifar10": "CIFAR-10 (JPEG)"}
SPACES = {
    BASELINE: "network from scratch",
    UNCHANGED: "the same without shifts",
    "pixels": "pixels",
    "pca": "PCA",
    "vae": "VAE",
    "vqvae": "VQ-VAE",
    "dcgan": "DCGAN's discriminator",
    "diffusion": "diffusion UNet",
    "glico": "GLICOFeatures",
}
COLOURS = ("black", "#bbbbbb", "#777777", "#d8a200", "#2e8b57", "#b04a9c", "#c0392b", "#e07b39", "#0b6cb8")


def main() -> None:
    rows, page = read_rows(HERE / "results" / "features.jsonl"), HERE / "FEATURES.md"
    replace_block(page, "ahead", ahead_table(rows, BASELINE))
    replace_block(page, "ahead, no shifts", ahead_table(rows, UNCHANGED))
    for data in NAMES:
        for head in HEADS:
            replace_block(page, f"{data} {head}", accuracy_table(table_of(rows, data, head)))
    replace_block(page, "neighbours", neighbours_table(rows))
    replace_block(page, "chosen", chosen_table(rows))
    replace_block(page, "sizes", sizes_table(rows))
    plot_curves(rows, HERE / "plots" / "features.png")
    plot_times(rows, HERE / "plots" / "features-times.png")
    metacgan = read_rows(HERE / "results" / "metacgan.jsonl")
    replace_block(HERE / "METACGAN.md", "scores", metacgan_table(metacgan))


def table_of(rows: Iterable[Row], data: str, head: str) -> Table:
    """The rows of the test images of a data set; the baseline, which has a head of its own, beside every head.

    Raises:
        ValueError: if two rows are of the same space, count and seed.
    """
    table: Table = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if (row["data"], row["part"]) != (data, "test") or row["head"] not in (head, NETWORK):
            continue
        scored = table[row["space"]][row["per_class"]]
        if row["seed"] in scored:
            raise ValueError(f"two rows of {row['space']}, {head}, {row['per_class']} a class, seed {row['seed']}")
        scored[row["seed"]] = row["accuracy"]
    return table


def paired(table: Table, space: str, count: int, reference: str = BASELINE) -> list[float]:
    """What a space is ahead of a baseline at each seed that both have."""
    at_count = {name: by_count.get(count, {}) for name, by_count in table.items()}
    return list(gains(at_count, space, reference).values())


def accuracy_table(table: Table) -> str:
    lines = [f"| features | {' | '.join(map(str, COUNTS))} |", "|---" * (len(COUNTS) + 1) + "|"]
    for space, name in SPACES.items():
        cells = []
        for count in COUNTS:
            values = list(table[space][count].values()) if count in table.get(space, {}) else []
            if not values:
                cells.append(MISSING)
                continue
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            ahead = paired(table, space, count) if space not in BASELINES else []
            is_ahead = bool(ahead) and statistics.mean(ahead) > 0
            shown = f"{statistics.mean(values):.1f}"
            cells.append((f"**{shown}**" if is_ahead else shown) + spread)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def lead(table: Table, space: str, reference: str = BASELINE, *, is_certain: bool) -> int:
    """The count up to which, from the smallest on, a space is ahead of a baseline on average, or certainly; or 0.

    Certain is what a 95 % interval of the paired differences over at least three seeds excludes zero of.
    """
    reached = 0
    for count in COUNTS:
        differences = paired(table, space, count, reference)
        if not differences:
            continue
        interval = Interval.of(differences)
        if interval.mean <= 0 or (is_certain and (interval.count < FEWEST or not interval.excludes_zero)):
            break
        reached = count
    return reached


def ahead_table(rows: list[Row], reference: str) -> str:
    heads = " | ".join(f"{NAMES[data]}, {head}" for data in NAMES for head in HEADS)
    lines = [f"| features | {heads} |", "|---" * (len(NAMES) * len(HEADS) + 1) + "|"]
    tables = [table_of(rows, data, head) for data in NAMES for head in HEADS]
    for space, name in SPACES.items():
        if space in BASELINES:
            continue
        cells = []
        for table in tables:
            if not any(paired(table, space, count, reference) for count in COUNTS):
                cells.append(MISSING)
                continue
            means, certain = (lead(table, space, reference, is_certain=is_certain) for is_certain in (False, True))
            cells.append(f"{means or '–'} ({certain or '–'})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def neighbours_table(rows: list[Row]) -> str:
    """The best variant of each space."""
    lines = [f"| features | {' | '.join(NAMES.values())} |", "|---" * (len(NAMES) + 1) + "|"]
    best: dict[tuple[str, str], Row] = {}
    for row in rows:
        if row["part"] == NEIGHBOURS:
            place = row["data"], row["space"]
            best[place] = max(best.get(place, row), row, key=lambda each: each["share"])
    for space, name in SPACES.items():
        if space not in BASELINES:
            found = [best.get((data, space)) for data in NAMES]
            cells = [f"{each['share']:.1f} {each['variant']}".strip() if each else MISSING for each in found]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def by_variant(rows: Iterable[Row], data: str, space: str) -> dict[str, list[float]]:
    """Accuracies on the validation images by variant."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if (row["data"], row["space"], row["part"]) == (data, space, "validation"):
            found[row["variant"]].append(row["accuracy"])
    return found


def chosen_table(rows: list[Row]) -> str:
    lines = ["| data | features | accuracy on the validation images, of each variant |", "|---|---|---|"]
    for data, name in NAMES.items():
        for space in ("glico", "diffusion"):
            means = {variant: statistics.mean(each) for variant, each in by_variant(rows, data, space).items()}
            best = max(means, key=means.__getitem__, default=None)
            cells = [f"**{each} {mean:.1f}**" if each == best else f"{each} {mean:.1f}" for each, mean in means.items()]
            lines.append(f"| {name} | {SPACES[space]} | {', '.join(cells) or MISSING} |")
    return "\n".join(lines) + "\n"


def sizes_table(rows: list[Row]) -> str:
    """What each space was learned with, by the rows."""
    lines = ["| data | features | dimensions | settings | of the training | seconds |", "|---" * 6 + "|"]
    for data, name in NAMES.items():
        for space, title in SPACES.items():
            row = next(
                (each for each in rows if (each["data"], each["space"], each["part"]) == (data, space, "test")), {}
            )
            if not row:
                continue
            effort = {key.removeprefix(f"{space}_"): value for key, value in row["effort"].items()}
            shown = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in effort.items() if key != "times")
            figures = {"r2": "R²", "loss": "loss", "told_apart": "told apart", "explained_variance": "variance kept"}
            reached = ", ".join(f"{label} {row[key]:.3f}" for key, label in figures.items() if key in row)
            seconds = row.get("seconds_of_training", 0) + row.get("seconds_of_features", 0)
            has_settings = space not in ("pixels", "pca")
            cells = [str(row.get("n_features", "")), shown if has_settings else "", reached, f"{seconds:.0f}"]
            lines.append(f"| {name} | {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot_curves(rows: list[Row], path: Path) -> None:
    """A panel a data set and head: mean accuracy over the labelled images a class."""
    measured = [data for data in NAMES if any(row["data"] == data for row in rows)]
    if not measured:
        return
    size = (6 * len(measured), 4.2 * len(HEADS))
    figure, panels = plt.subplots(len(HEADS), len(measured), figsize=size, squeeze=False)
    for line, head in zip(panels, HEADS, strict=True):
        for panel, data in zip(line, measured, strict=True):
            table = table_of(rows, data, head)
            for (space, title), colour in zip(SPACES.items(), COLOURS, strict=True):
                points = {count: statistics.mean(each.values()) for count, each in sorted(table.get(space, {}).items())}
                style = "--" if space in BASELINES else "-"
                if points:
                    panel.plot(points.keys(), points.values(), style, marker=".", color=colour, label=title)
            panel.set(title=f"{NAMES[data]}, {head} head", xlabel="labelled images a class", ylabel="test accuracy, %")
            panel.set_xscale("log", base=2)
            panel.set_xticks(COUNTS, COUNTS)
            panel.grid(alpha=0.3)
    panels[0][0].legend(fontsize=8)
    save(figure, path)


def plot_times(rows: list[Row], path: Path) -> None:
    """Accuracy on the validation images by the time step at which the diffusion model is looked into."""
    measured = [data for data in NAMES if by_variant(rows, data, "diffusion")]
    if not measured:
        return
    figure, panels = plt.subplots(1, len(measured), figsize=(4.5 * len(measured), 3.2), squeeze=False)
    for panel, data in zip(panels[0], measured, strict=True):
        reached = {int(each.removeprefix("t=")): all_ for each, all_ in by_variant(rows, data, "diffusion").items()}
        for time, accuracies in reached.items():
            panel.plot([time] * len(accuracies), accuracies, ".", color="#e07b39")
        means = {time: statistics.mean(accuracies) for time, accuracies in sorted(reached.items())}
        panel.plot(means.keys(), means.values(), color="#e07b39")
        panel.set(title=NAMES[data], xlabel="time step of 1000", ylabel="validation accuracy, %")
        panel.set_xscale("log")
        panel.grid(alpha=0.3)
    save(figure, path)


METACGAN_NAMES = {
    "none": "none: the ten images alone",
    REAL: "real images, the most there is",
    "averages": "averages of two images",
    "cgan": "CGAN",
    "metacgan": "MetaCGAN",
    "glico, new alone": "GLICO, the ten alone",
    "glico, base unlabelled": "GLICO, base classes unlabelled",
    "glico, base labelled": "GLICO, base classes labelled",
}


def metacgan_table(rows: list[Row]) -> str:
    """Means over the seeds, with their standard deviations; of the accuracy also the paired gain on none."""
    figures = {"inception_score": "IS", "fid": "FID", "kid": "KID", "right_class": "in their class, %"}
    titles = [*figures.values(), "accuracy, %", "gain on none", "R² of the ten", "seconds"]
    lines = [f"| images | seeds | {' | '.join(titles)} |", "|---" * (len(titles) + 2) + "|"]
    accuracies = {method: {row["seed"]: row["accuracy"] for row in rows if row["method"] == method} for method in ALL}
    for method in ALL:
        found = [row for row in rows if row["method"] == method]
        if not found:
            lines.append(f"| {METACGAN_NAMES[method]} | {MISSING} |" + " |" * len(titles))
            continue
        digits = {"inception_score": 2, "kid": 2, "r2_of_new": 2, "seconds": 0}
        cells = {
            name: spread([row[name] for row in found if name in row], digits.get(name, 1))
            for name in (*figures, "accuracy", "r2_of_new", "seconds")
        }
        gain = gains(accuracies, method, "none") if method != "none" else {}
        shown = [*(cells[name] for name in figures), cells["accuracy"]]
        shown += [str(Interval.of(gain.values())) if gain else "", cells["r2_of_new"]]
        shown.append("" if method == REAL else cells["seconds"].split(" ±")[0])
        lines.append(f"| {METACGAN_NAMES[method]} | {len(found)} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def spread(values: list[float], digits: int) -> str:
    if not values:
        return ""
    shown = f"{statistics.mean(values):.{digits}f}"
    return shown if len(values) == 1 else f"{shown} ± {statistics.stdev(values):.{digits}f}"


if __name__ == "__main__":
    main()
