"""Tables from results/fits.jsonl and results/style.jsonl, between their markers in FITS.md and STYLE.md.

python benchmarks/report_fit.py
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from accuracy.rows import read_rows
from measure_fit import KINDS, REAL
from measure_style import SHARES
from report import MISSING, replace_block

HERE = Path(__file__).parent
DEVICES = ("cpu", "cuda")
Row = dict[str, Any]


def main() -> None:
    all_rows = read_rows(HERE / "results" / "fits.jsonl")
    rows = [row for row in all_rows if row["library"] == "this"]
    replace_block(HERE / "FITS.md", "real", real_table(rows))
    replace_block(HERE / "FITS.md", "before", before_table(all_rows))
    for device in DEVICES:
        of_device = [row for row in rows if row.get("device", "cpu") == device]
        replace_block(HERE / "FITS.md", f"extremes {device}", extreme_table(of_device))
    replace_block(HERE / "STYLE.md", "changed", style_table(read_rows(HERE / "results" / "style.jsonl")))


def real_table(rows: list[Row]) -> str:
    lines = ["| set | device | seeds | lowest R² | mean R² | starts again |", "|---|---|---|---|---|---|"]
    for name in REAL:
        for device in DEVICES:
            found = [row for row in rows if (row["set"], row.get("device", "cpu")) == (name, device)]
            if not found:
                lines.append(f"| {name} | {device} | {MISSING} | | | |")
                continue
            values, restarts = [row["r2"] for row in found], sum(row["restarts"] for row in found)
            figures = f"{len(found)} | {min(values):.3f} | {statistics.mean(values):.3f} | {restarts}"
            lines.append(f"| {name} | {device} | {figures} |")
    return "\n".join(lines) + "\n"


def before_table(rows: list[Row]) -> str:
    """Each fit of the earlier library beside that of this one, made just before it."""
    lines = ["| set | seed | R² before | R² | time over that before |", "|---|---|---|---|---|"]
    for old in (row for row in rows if row["library"] == "before"):
        new = next(row for row in rows if row["library"] == "this" and is_same_fit(row, old))
        figures = f"{old['r2']:.3f} | {new['r2']:.3f} | {new['seconds'] / old['seconds']:.2f}"
        lines.append(f"| {old['set']} | {old['seed']} | {figures} |")
    return "\n".join(lines) + "\n"


def is_same_fit(row: Row, other: Row) -> bool:
    names = ("set", "count", "seed")
    return all(row[name] == other[name] for name in names) and row.get("device", "cpu") == other["device"]


def extreme_table(rows: list[Row]) -> str:
    counts = (2, 20, 1000)
    lines = [f"| made-up images | {' | '.join(f'n = {count}' for count in counts)} |", "|---|---|---|---|"]
    for kind in KINDS:
        cells = []
        for count in counts:
            found = [row for row in rows if (row["set"], row["count"]) == (kind, count)]
            again = f" ({found[0]['restarts']} starts again)" if found and found[0]["restarts"] else ""
            cells.append(f"{found[0]['r2']:.3f}{again}" if found else MISSING)
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def style_table(rows: list[Row]) -> str:
    heads = " | ".join(f"s = {share:g}" for share in SHARES)
    lines = [f"| data | judge's accuracy | {heads} |", "|---|---|---|---|---|---|"]
    for row in rows:
        cells = " | ".join(f"{row[f'changed_{share:g}']:.1f} %" for share in SHARES)
        lines.append(f"| {row['data']} | {row['judge_accuracy']:.1f} % | {cells} |")
    return "\n".join(lines) + "\n" if rows else f"{MISSING}\n"


if __name__ == "__main__":
    main()
