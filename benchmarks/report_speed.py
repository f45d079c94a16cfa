"""Write SPEED.md and its plots from results/speed.jsonl, growth.jsonl and roofline.jsonl.

python benchmarks/report_speed.py
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from accuracy.rows import read_rows

HERE = Path(__file__).parent
INTRODUCTION = """# What does it cost?

Made by `python benchmarks/report_speed.py` from `results/speed.jsonl`, `growth.jsonl` and `roofline.jsonl`. Every ratio
is of two things timed in turn in one process, the median over rounds with its quartiles in brackets. Images are
random and in memory; `speed/plain_fit.py` is the reference of the fit.
"""
COMMAND = "python benchmarks/measure_speed.py --out benchmarks/results/speed.jsonl"
GROWTH_COMMAND = "python benchmarks/measure_growth.py --out benchmarks/results/growth.jsonl"
ROOFLINE_COMMAND = "python benchmarks/measure_roofline.py --out benchmarks/results/roofline.jsonl"
RESULTS = ("speed", "growth", "roofline")
NOT_YET = "not yet run"
PARTS = {
    "loader": (
        "Data loader",
        """Images per second of a loader over the wrapped dataset, over those of the same loader unwrapped, with
RandomCrop, flip, AutoAugment and conversion to a float tensor; above 1 would be faster. `bank`: a `SyntheticBank`,
between refreshes; `bank and refresh`: with the refresh, on the same device, after every pass; `fresh`: images are made
in the loader; `style`: no swap, but `LocalStyle` before the other transforms. JPEG samples are files in memory.
`fit side`: of fits smaller than the images.""",
    ),
    "batch": (
        "Batch transform",
        """Time over that of the reference. `swap`: `augment(images, labels)`, over one bare generator pass of half as
many codes, the number of images swapped on average, or over torchvision's `v2.CutMix`, which mixes a batch with itself.
On CUDA the swap is one graph and the bare pass is launched kernel by kernel, so that a ratio can be under 1.
`style`: `LocalStyle` on the batch, over `v2.ColorJitter`, which draws once for the whole batch, or `v2.CutMix`.""",
    ),
    "fit": (
        "Fit",
        """Steps per second of the fit over those of the plain way: two generator passes a step, upsampling before
convolution, and dense Adam, not fused, over all codes; in float32, as the fit on a CPU is, with features of the real
images taken anew. Start, losses, clipping, order of the images and noise are the same.
`r2` and `plain r2`: R² of the rebuilt images after 200 steps of each.""",
    ),
    "start": ("Start", "Time in a new process over that of `import torchvision`."),
}
HIDDEN = {"part", "ratio", "low", "high", "rounds", "command", "device", "machine", "threads", "torch", "torchvision"}
HIDDEN |= {"python", "glico_augment"}
GROWTH = {"step": "fit step", "draw": "draw of a swap", "save": "save, an image", "load": "load, an image"}
WAYS = {"bank": "tab:blue", "bank and refresh": "tab:orange", "fresh": "tab:green", "style": "tab:gray"}


@dataclass(frozen=True)
class Line:
    """One kind of figure, ``chosen`` by its fields, and what its medians are wanted to be.

    ``device`` alone has it, where it is given; ``figure`` is the field of the row that is looked at.
    """

    title: str
    chosen: dict[str, Any]
    at_least: float | None = None
    at_most: float | None = None
    device: str | None = None
    figure: str = "ratio"

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f"at least {self.at_least:g}"
        return "" if self.at_most is None else f"at most {self.at_most:g}"

    def meets(self, ratio: float) -> bool:
        return (self.at_least is None or ratio >= self.at_least) and (self.at_most is None or ratio <= self.at_most)

    def written(self, speed: list[dict[str, Any]], device: str) -> str | None:
        """The line of a device; None where there is nothing to say."""
        if self.device not in (None, device):
            return None
        wanted = self.chosen | {"device": device}
        ratios = [row[self.figure] for row in speed if wanted.items() <= row.items()]
        if not ratios:
            return f"| {self.title} | {device} | {NOT_YET} | {self.target} | |" if self.target else None
        met = f"{sum(map(self.meets, ratios))} of {len(ratios)}" if self.target else ""
        return f"| {self.title} | {device} | {extent(ratios)} | {self.target} | {met} |"


def lines_in_short() -> list[Line]:
    lines = []
    for side in (32, 100, 224):
        loader = {"part": "loader", "side": side}
        fitted = loader | {"fit_side": side}
        lines += [
            Line(f"loader, {side} px, bank, rate", fitted | {"way": "bank"}, at_least=0.9),
            Line(f"loader, {side} px, bank and refresh, rate", fitted | {"way": "bank and refresh"}),
            Line(f"loader, {side} px, fresh, rate", fitted | {"way": "fresh"}, at_least=0.5 if side == 32 else None),
            Line(f"loader, {side} px, fit at 64, bank, rate", loader | {"fit_side": 64, "way": "bank"}),
            Line(f"loader, {side} px, fit at 64, fresh, rate", loader | {"fit_side": 64, "way": "fresh"}),
            Line(f"loader, {side} px, style, rate", loader | {"way": "style"}),
        ]
    for side in (32, 100):
        batch = {"part": "batch", "side": side}
        swap, style = ({"transform": transform} | batch for transform in ("swap", "style"))
        lines += [
            Line(f"batch, {side} px, swap, time over the generator's", swap | {"against": "generator"}, at_most=1.2),
            Line(f"batch, {side} px, style, time over v2.ColorJitter's", style | {"against": "color jitter"}),
        ]
    on_gpu = {"part": "loader", "side": 32, "workers": 16, "way": "bank and refresh"}
    swap = {"part": "batch", "side": 32, "batch": 128, "transform": "swap", "against": "generator"}
    lines += [
        Line("loader, 32 px, 16 workers, bank and refresh, rate", on_gpu, at_least=0.95, device="cuda"),
        Line("batch of 128, 32 px, swap, milliseconds", swap, at_most=1, device="cuda", figure="milliseconds"),
        Line("fit, rate over the plain way's", {"part": "fit"}, at_least=5, device="cuda"),
    ]
    start = {"part": "start", "what": "import and take GLICOAugment"}
    lines.append(Line("fit, rate over the plain way's", {"part": "fit"}, device="cpu"))
    lines.append(Line("import glico_augment, and take GLICOAugment, time", start))
    return lines


def main() -> None:
    speed, growth, roofline = (read_rows(HERE / "results" / f"{name}.jsonl") for name in RESULTS)
    plots = HERE / "plots"
    (HERE / "SPEED.md").write_text(report(speed, growth, roofline))
    plot_loader([row for row in speed if row["part"] == "loader"], plots / "loader.png")
    plot_growth(growth, plots / "growth.png")


def report(speed: list[dict[str, Any]], growth: list[dict[str, Any]], roofline: list[dict[str, Any]]) -> str:
    sections = [INTRODUCTION, in_short(speed, growth)]
    for part, (title, text) in PARTS.items():
        rows = [row for row in speed if row["part"] == part]
        body = table(rows) if rows else missing(f"{COMMAND} --parts {part}")
        sections.append(f"## {title}\n\n{text}\n\n{body}")
        if part == "loader" and panels(rows):
            sections.append("![Data loader](plots/loader.png)\n")
    sections += [growth_section(growth), roofline_section(roofline), gpu_section(speed)]
    return "\n".join(sections)


def in_short(speed: list[dict[str, Any]], growth: list[dict[str, Any]]) -> str:
    """The range of each kind of figure over its rows, by device, beside its target."""
    written = [
        "## In short",
        "",
        "Lowest and highest median of the rows below, and how many of these medians meet the target.",
        "",
        "| | device | figure | target | met by |",
        "|---|---|---|---|---|",
    ]
    for device in ("cpu", "cuda"):
        written += [text for line in lines_in_short() if (text := line.written(speed, device))]
    for device in ("cpu", "cuda"):
        rows = [row for row in growth if device_of(row) == device and row["images"] > 500]
        largest = max((row["images"] for row in rows), default=50_000)
        for name, title in GROWTH.items():
            ratios = extent([row[name]["ratio"] for row in rows]) if rows else NOT_YET
            written.append(f"| growth: {title}, from 500 images to {largest:,} | {device} | {ratios} | | |")
    return "\n".join(written) + "\n"


def device_of(row: dict[str, Any]) -> str:
    """Of a row of growth.jsonl, the older of which do not say it."""
    return row.get("device", "cpu")


def missing(command: str) -> str:
    return f"{NOT_YET.capitalize()}: `{command}`\n"


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
            f"{value:.3f}" if isinstance(value, float) else str(value)
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
        "images, beside what more images as uint8, and more codes with their moments and visits, take.\n",
    ]
    if not rows:
        return "\n".join([*lines, missing(GROWTH_COMMAND)])
    lines += [
        "| device | images | classes | "
        + " | ".join(GROWTH.values())
        + " | load over read | peak MiB | images MiB | codes MiB |",
        "|---" * (len(GROWTH) + 7) + "|",
    ]
    for row in rows:
        cells = [shown(row[name]) for name in (*GROWTH, "load_over_read")]
        sizes = [f"{row[name]:.0f}" for name in ("peak_mib", "images_mib", "codes_mib")]
        lines.append(
            f"| {device_of(row)} | {row['images']} | {row['classes']} | " + " | ".join([*cells, *sizes]) + " |"
        )
    return "\n".join([*lines, f"\n{where(rows)}\n", "![Growth](plots/growth.png)\n"])


def roofline_section(rows: list[dict[str, Any]]) -> str:
    lines = [
        "## Share of the machine\n",
        "Floating-point operations and bytes of operators, counted from shapes, over the measured time, as shares of",
        "what a large matrix product and a large copy reach in the same process. Bytes are those of operators one by",
        "one, so that caches and fusion can take the share of the bandwidth above 1. Of a swap one call is counted,",
        "and the time is that of calls on average, which make other numbers of images; on the H200 the count was that",
        "of a graph, whose number is rounded up.\n",
    ]
    if not rows:
        return "\n".join([*lines, missing(ROOFLINE_COMMAND)])
    lines += [
        "| | device | precision | batch | side | ms | GFLOP | MB | of the arithmetic | of the bandwidth |",
        "|---" * 10 + "|",
    ]
    for row in rows:
        shape = " | ".join(str(row[name]) for name in ("what", "device", "precision", "batch", "side"))
        sizes = f"{row['milliseconds']:.2f} | {row['gflop']:.1f} | {row['megabytes']:.0f}"
        arithmetic = f"{row['arithmetic']:.1%} of {row['peak_tflops']:.0f} TFLOP/s"
        bandwidth = f"{row['bandwidth']:.1%} of {row['peak_gb_a_second']:.0f} GB/s"
        lines.append(f"| {shape} | {sizes} | {arithmetic} | {bandwidth} |")
    return "\n".join([*lines, f"\n{where(rows)}\n"])


def gpu_section(rows: list[dict[str, Any]]) -> str:
    measured = {row["part"] for row in rows if row["device"] == "cuda"}
    return "## On a GPU\n\n| part | | command |\n|---|---|---|\n" + "".join(
        f"| {title} | {'see above' if part in measured else NOT_YET} | `{COMMAND} --device cuda --parts {part}` |\n"
        for part, (title, _) in PARTS.items()
        if part != "start"
    )


def panels(rows: list[dict[str, Any]]) -> dict[tuple[int, str], list[dict[str, Any]]]:
    """The rows to plot, by workers and kind of sample: on a CPU, at three sides or more."""
    found: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["device"] == "cpu" and row.get("fit_side", row["side"]) == row["side"]:
            found.setdefault((row["workers"], row["samples"]), []).append(row)
    return {key: chosen for key, chosen in found.items() if len({row["side"] for row in chosen}) > 2}


def plot_loader(rows: list[dict[str, Any]], path: Path) -> None:
    """The rate over the side: a row of panels a number of workers, a column a kind of sample."""
    chosen = panels(rows)
    if not chosen:
        return
    workers, kinds = (sorted(set(values)) for values in zip(*chosen, strict=True))
    size = (3.4 * len(kinds), 3.2 * len(workers))
    figure, axes = plt.subplots(len(workers), len(kinds), figsize=size, sharex=True, sharey=True, squeeze=False)
    for line, n_workers in zip(axes, workers, strict=True):
        for axis, kind in zip(line, kinds, strict=True):
            draw_panel(axis, chosen.get((n_workers, kind), []))
            axis.set(title=f"{kind}, {n_workers} workers", xlabel="side, pixels", ylim=(0, 1.4))
        line[0].set_ylabel("rate, over the unwrapped loader's")
    axes[0][0].legend(fontsize=7)
    save(figure, path)


def draw_panel(axis: plt.Axes, rows: list[dict[str, Any]]) -> None:
    for way, colour in WAYS.items():
        for batch, style in zip(sorted({row["batch"] for row in rows}), ("-", "--", ":"), strict=False):
            line = sorted(
                (row["side"], row["ratio"], row["low"], row["high"])
                for row in rows
                if row["way"] == way and row["batch"] == batch
            )
            if line:
                x, middle, low, high = zip(*line, strict=True)
                axis.plot(x, middle, style, marker="o", color=colour, label=f"{way}, batch {batch}")
                axis.fill_between(x, low, high, alpha=0.15, color=colour)
    axis.axhline(1, color="black", linewidth=0.8)
    axis.grid(alpha=0.3)


def plot_growth(rows: list[dict[str, Any]], path: Path) -> None:
    """Ratios to 500 images over the number of images, a line a number of classes."""
    if not rows:
        return
    figure, axes = plt.subplots(1, len(GROWTH), figsize=(3.4 * len(GROWTH), 3.4), sharey=True)
    for axis, (name, title) in zip(axes, GROWTH.items(), strict=True):
        for device, classes in sorted({(device_of(row), row["classes"]) for row in rows}):
            chosen = [row for row in rows if (device_of(row), row["classes"]) == (device, classes)]
            line = sorted((row["images"], row[name]["ratio"]) for row in chosen)
            style = {"cpu": "-", "cuda": "--"}[device]
            axis.plot(*zip(*line, strict=True), style, marker="o", label=f"{classes} classes, {device}")
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
