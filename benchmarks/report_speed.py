"""Write SPEED.md and its plots from results/speed.jsonl and results/growth.jsonl.

python benchmarks/report_speed.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from accuracy.rows import read_rows

HERE = Path(__file__).parent
INTRODUCTION = """# What does it cost?

Made by `python benchmarks/report_speed.py` from `results/speed.jsonl` and `results/growth.jsonl`. Every ratio is
of two things timed in turn in one process, the median over rounds with its quartiles in brackets. Images are
random and in memory; `speed/plain_fit.py` is the reference of the fit.
"""
COMMAND = "python benchmarks/measure_speed.py --out benchmarks/results/speed.jsonl"
PARTS = {
    "loader": (
        "Data loader",
        """Images per second of a loader over the wrapped dataset, over those of the same loader unwrapped, with
RandomCrop, flip, AutoAugment and conversion to a float tensor; above 1 would be faster. `bank`: a `SyntheticBank`,
between refreshes; `bank and refresh`: with the refresh, on the same device, after every pass; `fresh`: images are made
in the loader. JPEG samples are files in memory. `fit side`: of fits smaller than the images.""",
    ),
    "batch": (
        "Batch transform",
        """Time of `augment(images, labels)` over that of the reference: one bare generator pass over half as many
codes, the number of images swapped on average, or torchvision's `v2.CutMix` and `v2.MixUp` on the batch. With a
`pixel_share` of 0 every synthetic image is generated; with 0.9, the default, nine in ten are averages of pixels.""",
    ),
    "fit": (
        "Fit",
        """Steps per second of the fit over those of the plain way: two generator passes a step, upsampling before
convolution, and dense Adam, not fused, over all codes; in float32, as the fit on a CPU is, with features of the real
images taken anew.
`error` and `plain error`: mean absolute error of the rebuilt pixels after 200 steps of each.""",
    ),
    "start": ("Start", "Time in a new process over that of `import torchvision`."),
}
HIDDEN = {"part", "ratio", "low", "high", "rounds", "command", "device", "machine", "threads", "torch", "torchvision"}
HIDDEN |= {"python", "glico_augment"}
GROWTH = {"step": "fit step", "draw": "draw of a swap", "save": "save, an image", "load": "load, an image"}


def main() -> None:
    speed, growth = (read_rows(HERE / "results" / name) for name in ("speed.jsonl", "growth.jsonl"))
    sections = [INTRODUCTION, in_short(speed, growth)]
    for part, (title, text) in PARTS.items():
        rows = [row for row in speed if row["part"] == part]
        if rows:
            sections.append(f"## {title}\n\n{text}\n\n{table(rows)}")
        if part == "loader":
            plot_loader(rows, HERE / "plots" / "loader.png")
            sections.append("![Data loader](plots/loader.png)\n")
    if growth:
        plot_growth(growth, HERE / "plots" / "growth.png")
        sections.append(growth_section(growth))
    sections.append(gpu_section(speed))
    (HERE / "SPEED.md").write_text("\n".join(sections))


def in_short(speed: list[dict[str, Any]], growth: list[dict[str, Any]]) -> str:
    """The range of each kind of figure over its rows, by device."""
    lines = [
        "## In short",
        "",
        "Lowest and highest median of the rows below.",
        "",
        "| | device | ratio |",
        "|---|---|---|",
    ]
    for device in sorted({row["device"] for row in speed}):

        def line(title: str, device: str = device, **chosen: Any) -> None:
            rows = [row for row in speed if row["device"] == device and chosen.items() <= row.items()]
            if rows:
                lines.append(f"| {title} | {device} | {extent([row['ratio'] for row in rows])} |")

        for side in sorted({row["side"] for row in speed if row["part"] == "loader"}):
            for way in ("bank", "bank and refresh", "fresh"):
                line(f"loader, {side} px, {way}, rate", part="loader", side=side, fit_side=side, swap=way)
                line(f"loader, {side} px, fit at 64, {way}, rate", part="loader", side=side, fit_side=64, swap=way)
        for share in (0.9, 0.0):
            line(f"batch, pixel share {share}, time over the generator's", against="generator", pixel_share=share)
        line("fit, rate over the plain way's", part="fit")
        line("import glico_augment, and take GLICOAugment, time", what="import and take GLICOAugment")
    for name, title in GROWTH.items():
        lines.append(
            f"| growth: {title}, from 500 images to 50,000 | cpu | {extent([row[name]['ratio'] for row in growth])} |"
        )
    return "\n".join(lines) + "\n"


def extent(values: list[float]) -> str:
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"


def table(rows: list[dict[str, Any]]) -> str:
    hidden = HIDDEN - {"device"} if len({row["device"] for row in rows}) > 1 else HIDDEN
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in hidden]
    order = [name for name in ("device", "side", "samples", "workers", "batch") if name in rows[0]]
    rows = sorted(rows, key=lambda row: [row[name] for name in order])
    lines = ["| " + " | ".join(names).replace("_", " ") + " | ratio |", "|---" * (len(names) + 1) + "|"]
    for row in rows:
        cells = [
            f"{value:.4f}" if isinstance(value, float) and name != "pixel_share" else str(value)
            for name, value in ((name, row.get(name, "")) for name in names)
        ]
        lines.append(f"| {' | '.join(cells)} | {shown(row)} |")
    lines.append(f"\n{where(rows)}\n")
    return "\n".join(lines)


def shown(figure: dict[str, float]) -> str:
    return f"{figure['ratio']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"


def where(rows: list[dict[str, Any]]) -> str:
    machines = sorted({(row["machine"], row["threads"], row["torch"], row["torchvision"]) for row in rows})
    return "; ".join(
        f"{machine}, {threads} threads, torch {torch}, torchvision {torchvision}"
        for machine, threads, torch, torchvision in machines
    )


def growth_section(rows: list[dict[str, Any]]) -> str:
    lines = [
        "## Growth\n",
        "Each over the same on 500 images of 10 classes, 32×32: 1 is flat. Memory: the peak of a fit above that on 500",
        "images, beside what more images as uint8, and more codes with their two moments, take.\n",
        "| images | classes | "
        + " | ".join(GROWTH.values())
        + " | load over read | peak MiB | images MiB | codes MiB |",
        "|---" * (len(GROWTH) + 6) + "|",
    ]
    for row in rows:
        cells = [shown(row[name]) for name in (*GROWTH, "load_over_read")]
        sizes = [f"{row[name]:.0f}" for name in ("peak_mib", "images_mib", "codes_mib")]
        lines.append(f"| {row['images']} | {row['classes']} | " + " | ".join([*cells, *sizes]) + " |")
    return "\n".join([*lines, f"\n{where(rows)}\n", "![Growth](plots/growth.png)\n"])


def gpu_section(rows: list[dict[str, Any]]) -> str:
    state = "see above" if any(row["device"] == "cuda" for row in rows) else "not yet run"
    return "## On a GPU\n\n| part | | command |\n|---|---|---|\n" + "".join(
        f"| {title} | {state} | `{COMMAND} --device cuda --parts {part}` |\n"
        for part, (title, _) in PARTS.items()
        if part != "start"
    )


def plot_loader(rows: list[dict[str, Any]], path: Path) -> None:
    """A panel a kind of sample and number of workers with three sides: the rate over the side."""

    def key_of(row: dict[str, Any]) -> tuple[str, int]:
        return row["samples"], row["workers"]

    rows = [row for row in rows if row["fit_side"] == row["side"]]
    sides = {key: {row["side"] for row in rows if key_of(row) == key} for key in map(key_of, rows)}
    panels = sorted(key for key, measured in sides.items() if len(measured) > 2)
    figure, axes = plt.subplots(1, len(panels), figsize=(3.4 * len(panels), 3.6), sharey=True, squeeze=False)
    for axis, (samples, workers) in zip(axes[0], panels, strict=True):
        chosen = [row for row in rows if key_of(row) == (samples, workers)]
        for way, colour in (("bank", "tab:blue"), ("bank and refresh", "tab:orange"), ("fresh", "tab:green")):
            for batch, style in zip(sorted({row["batch"] for row in chosen}), ("-", "--", ":"), strict=False):
                line = sorted(
                    (row["side"], row["ratio"], row["low"], row["high"])
                    for row in chosen
                    if row["swap"] == way and row["batch"] == batch
                )
                if not line:
                    continue
                x, middle, low, high = zip(*line, strict=True)
                axis.plot(x, middle, style, marker="o", color=colour, label=f"{way}, batch {batch}")
                axis.fill_between(x, low, high, alpha=0.15, color=colour)
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set(title=f"{samples}, {workers} workers", xlabel="side, pixels", ylim=(0, 1.4))
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("rate, over the unwrapped loader's")
    axes[0][0].legend(fontsize=7)
    save(figure, path)


def plot_growth(rows: list[dict[str, Any]], path: Path) -> None:
    """Ratios to 500 images over the number of images, a line a number of classes."""
    figure, axes = plt.subplots(1, len(GROWTH), figsize=(3.4 * len(GROWTH), 3.4), sharey=True)
    for axis, (name, title) in zip(axes, GROWTH.items(), strict=True):
        for classes in sorted({row["classes"] for row in rows}):
            line = sorted((row["images"], row[name]["ratio"]) for row in rows if row["classes"] == classes)
            axis.plot(*zip(*line, strict=True), marker="o", label=f"{classes} classes")
        axis.axhspan(0.8, 1.2, alpha=0.1, color="black")
        axis.set(title=title, xscale="log", xlabel="images")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("over that of 500 images")
    axes[0].legend(fontsize=7)
    save(figure, path)


def save(figure: plt.Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
