"""Fill SPEED.md from results/speed.jsonl, growth.jsonl and roofline.jsonl.

python benchmarks/report_speed.py
"""

from __future__ import annotations

from pathlib import Path

from shared.runner import Row, read_rows
from shared.tables import fill, markdown, where

HERE = Path(__file__).parent
COLUMNS = {
    "loader": ("side", "samples", "workers", "batch", "images", "way", "fit_side"),
    "batch": ("side", "batch", "transform", "against"),
    "fit": ("side", "images", "r2", "plain_r2"),
    "start": ("what",),
}
"""What is shown of the rows of each part, beside device, milliseconds and ratio."""
GROWTH = {"step": "fit step", "draw": "draw of a swap", "save": "save, per image", "load": "load, per image"}
DEVICES = {"cpu": "CPU", "cuda": "GPU"}
IN_SHORT = (
    ("loader at 32 px, images made ahead (`SyntheticBank`), rate", {"part": "loader", "side": 32, "way": "bank"}),
    ("loader at 32 px, made ahead and anew after each pass, rate", {"side": 32, "way": "bank and refresh"}),
    ("loader at 32 px, images made in the loader, rate", {"part": "loader", "side": 32, "way": "fresh"}),
    ("loader at 100 and 224 px, images made ahead, rate", {"part": "loader", "way": "bank", "side": (100, 224)}),
    ("swap of a batch, time over a bare generator pass", {"transform": "swap", "against": "generator"}),
    ("swap of a batch, time over `v2.CutMix`", {"transform": "swap", "against": "cutmix"}),
    ("style of a batch, time over `v2.ColorJitter`", {"transform": "style", "against": "color jitter"}),
    ("fit, rate over the plain way", {"part": "fit"}),
    ("import, time over `import torchvision`", {"what": "import and take GLICOAugment"}),
)


def main() -> None:
    speed, growth, roofline = (
        read_rows(HERE / "results" / f"{name}.jsonl") for name in ("speed", "growth", "roofline")
    )
    fill(HERE / "SPEED.md", blocks(speed, growth, roofline))


def blocks(speed: list[Row], growth: list[Row], roofline: list[Row]) -> dict[str, str]:
    made = {"in short": in_short(speed, growth)}
    for part in COLUMNS:
        made[part] = table([row for row in speed if row["part"] == part], COLUMNS[part])
    return made | {"growth": growth_table(growth), "share of the machine": roofline_table(roofline)}


def in_short(speed: list[Row], growth: list[Row]) -> str:
    """Lowest and highest median of each kind of figure, by device."""
    lines = []
    for text, wanted in IN_SHORT:
        found = [row for row in speed if all(is_in(row.get(name), value) for name, value in wanted.items())]
        lines.append([text, *(extent(row["ratio"] for row in found if row["device"] == each) for each in DEVICES)])
    largest = max((row["images"] for row in growth), default=0)
    for name, text in GROWTH.items():
        figures = [(row["device"], row[name]["ratio"]) for row in growth if row["images"] > 500]
        cells = [extent(value for device, value in figures if device == each) for each in DEVICES]
        lines.append([f"{text}, at up to {largest:,} images over 500", *cells])
    return markdown(["", *DEVICES.values()], lines)


def is_in(value: object, wanted: object) -> bool:
    return value in wanted if isinstance(wanted, tuple) else value == wanted


def extent(values: object) -> str:
    texts = [f"{value:.2f}" for value in sorted(values)]
    return " to ".join(dict.fromkeys([texts[0], texts[-1]])) if texts else ""


def table(rows: list[Row], columns: tuple[str, ...]) -> str:
    order = [name for name in ("side", "samples", "workers", "batch") if name in columns]
    lines = []
    for row in sorted(rows, key=lambda row: [row["device"], *(row[name] for name in order)]):
        cells = [cell(row.get(name, "")) for name in (*columns, "milliseconds", "reference_milliseconds")]
        lines.append([*cells[: len(columns)], DEVICES[row["device"]], *cells[len(columns) :], shown(row)])
    heads = [name.replace("_", " ").replace("r2", "R²") for name in columns]
    return f"{markdown([*heads, 'device', 'ms', 'reference, ms', 'ratio'], lines)}\n{where(rows)}\n"


def cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def shown(figure: dict[str, float]) -> str:
    return f"{figure['ratio']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"


def growth_table(rows: list[Row]) -> str:
    lines = []
    for row in rows:
        ratios = [shown(row[name]) for name in (*GROWTH, "load_over_read")]
        lines.append([DEVICES[row["device"]], f"{row['images']:,}", f"{row['classes']:,}", *ratios])
    heads = ["device", "images", "classes", *GROWTH.values(), "load over read"]
    return f"{markdown(heads, lines)}\n{where(rows)}\n"


def roofline_table(rows: list[Row]) -> str:
    lines = []
    for row in rows:
        shape = [DEVICES.get(row[name], str(row[name])) for name in ("what", "device", "precision", "batch", "side")]
        sizes = [f"{row['milliseconds']:.2f}", f"{row['gflop']:.1f}", f"{row['megabytes']:.0f}"]
        arithmetic = f"{row['arithmetic']:.1%} of {row['peak_tflops']:.0f} TFLOP/s"
        lines.append([*shape, *sizes, arithmetic, f"{row['bandwidth']:.1%} of {row['peak_gb_a_second']:.0f} GB/s"])
    sizes = ["batch", "side", "ms", "GFLOP", "MB"]
    heads = ["", "device", "precision", *sizes, "of the arithmetic", "of the bandwidth"]
    return f"{markdown(heads, lines)}\n{where(rows)}\n"


if __name__ == "__main__":
    main()
