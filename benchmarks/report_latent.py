"""Tables of LATENT.md, between their markers, from results/encode.jsonl, accuracy.jsonl and tasks.jsonl.

python benchmarks/report_latent.py
"""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

from accuracy.paired import scores
from accuracy.rows import read_rows
from latent.images import SOURCES
from report import MISSING, accuracy, difference, markdown, replace_block, title

HERE = Path(__file__).parent
NAMES = {"mnist": "MNIST, 28 px", "omniglot": "Omniglot, 28 px", "signs": "signs, 32 px", "cifar10": "CIFAR-10, 32 px"}
SETTINGS = ("mnist-5", "omniglot-1", "cifar10-10")
SAMPLERS = ("glico", "glico-noise", "glico-random-out", "glico-other-class")
OTHER_CLASS = (
    ("glico-other-class", "glico"),
    ("pixel-other-class", "none"),
    ("glico-other-class", "pixel-other-class"),
    ("glico-other-class+style", "style"),
)
"""A method, and the one whose accuracy is taken off."""
METHODS = ("untrained", "augmentations", "lasium-n", "lasium-ro", "lasium-oc", "supervised")
Row = dict[str, Any]


def main() -> None:
    page = HERE / "LATENT.md"
    encoded, tasks = (read_rows(HERE / "results" / f"{name}.jsonl") for name in ("encode", "tasks"))
    results = scores(read_rows(HERE / "results" / "accuracy.jsonl"))
    replace_block(page, "encode", encode_table(encoded))
    replace_block(page, "cost", cost_table(encoded))
    replace_block(page, "samplers", sampler_table(results))
    replace_block(page, "other class", other_class_table(results))
    replace_block(page, "tasks", tasks_table(tasks))
    replace_block(page, "tried", tried_table(tasks))


def encode_table(rows: list[Row]) -> str:
    """A line a set and a number of fitted images; means over seeds."""
    lines = []
    for name in SOURCES:
        found = [row for row in rows if (row["what"], row["set"]) == ("r2", name)]
        for count in sorted({row["count"] for row in found}):
            same = [row for row in found if row["count"] == count]
            tenth = statistics.mean(row["quantiles_new"][0] for row in same)
            figures = [f"{mean(same, key):.2f}" for key in ("r2_fitted", "r2_new", "r2_of_starts")]
            lines.append([NAMES[name], str(count), *figures, f"{tenth:.2f}"])
        if not found:
            lines.append([NAMES[name], MISSING, "", "", "", ""])
    heads = ["", "images fitted", "R² of those", "R² of new ones", "of their best starts", "a tenth is under"]
    return markdown(heads, lines)


def cost_table(rows: list[Row]) -> str:
    lines = []
    for name in SOURCES:
        found = [row for row in rows if (row["what"], row["set"]) == ("cost", name)]
        figures = [f"{mean(found, f'{which}_milliseconds'):.2f} ms" for which in ("fit", "encode")] if found else []
        lines.append([NAMES[name], *(figures or [MISSING, ""]), f"{mean(found, 'ratio'):.2f}" if found else ""])
    return markdown(["", "step and image of a fit", "step and start of `encode`", "ratio"], lines)


def sampler_table(results: dict[str, Any]) -> str:
    """At the seeds that other samplers than GLICO's were run at."""
    lines = []
    for name in SETTINGS:
        table = results.get(name, {})
        seeds = set().union(*(table.get(method, {}) for method in SAMPLERS[1:]))
        same = {
            method: {seed: reached for seed, reached in by_seed.items() if seed in seeds}
            for method, by_seed in table.items()
        }
        cells = [accuracy({name: same}, name, method) if seeds else MISSING for method in ("none", *SAMPLERS)]
        lines.append([title(name), str(len(seeds)), *cells])
    return markdown(["", "draws", "none", *SAMPLERS], lines)


def other_class_table(results: dict[str, Any]) -> str:
    lines = [
        [title(name), *(difference(results, name, method, reference) for method, reference in OTHER_CLASS)]
        for name in SETTINGS
        if any(results.get(name, {}).get(method) for method, _ in OTHER_CLASS)
    ]
    return markdown(["", *(f"{method} − {reference}" for method, reference in OTHER_CLASS)], lines)


def tasks_table(rows: list[Row]) -> str:
    """Means over seeds, with the 95 % interval over all their tasks, and the lowest and the highest seed."""
    rows = [row for row in rows if row["part"] == "test"]
    heads = [(name, n_shot) for name in ("omniglot", "mnist") for n_shot in (1, 5)]
    lines = []
    run = sorted({row["method"] for row in rows})
    for method in [each for base in METHODS for each in ([text for text in run if base_of(text) == base] or [base])]:
        cells = [
            cell([row for row in rows if (row["set"], row["n_shot"], row["method"]) == (*head, method)])
            for head in heads
        ]
        lines.append([named(rows, method), *cells, *(by_pixels(rows, name, method) for name in ("omniglot", "mnist"))])
    names = {"omniglot": "Omniglot", "mnist": "MNIST"}
    shown = [f"{names[name]}, {n_shot} shot{'s' * (n_shot > 1)}" for name, n_shot in heads]
    return markdown(["", *shown, *(f"{names[name]}: its tasks by pixels" for name in ("omniglot", "mnist"))], lines)


def by_pixels(rows: list[Row], name: str, method: str) -> str:
    """Accuracy of the nearest mean image in the tasks that are learned from."""
    same = [row for row in rows if (row["set"], row["method"]) == (name, method)]
    found = [row["pixel_accuracy"] for row in same if "pixel_accuracy" in row]
    return f"{statistics.mean(found):.1f}" if found else ""


def base_of(method: str) -> str:
    """``lasium-n`` of ``lasium-n+augmentations:sampler_std=0.5``."""
    return method.partition(":")[0].partition("+")[0]


def cell(found: list[Row]) -> str:
    if not found:
        return MISSING
    half_width = math.sqrt(sum(row["half_width"] ** 2 for row in found)) / len(found)
    values = [row["accuracy"] for row in found]
    spread = f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else " (1 seed)"
    return f"{statistics.mean(values):.1f} ± {half_width:.1f}{spread}"


def named(rows: list[Row], method: str) -> str:
    """A method with the parameters it was run with."""
    swap = next((row["swap"] for row in rows if row["method"] == method and "swap" in row), None)
    if swap is None:
        return method.partition(":")[0]
    strength = f"σ = {swap['sampler_std']:g}" if swap["sampler"] == "noise" else f"α ≤ {swap['max_ratio']:g}"
    return f"{method.partition(':')[0]}, {strength}"


def tried_table(rows: list[Row]) -> str:
    tried = [row for row in rows if row["part"] == "validation" and row["n_shot"] == 1]
    lines = [
        [NAMES[row["set"]], named([row], row["method"]), f"{row['accuracy']:.1f} ± {row['half_width']:.1f}",
         *(f"{row[key]:.1f}" if key in row else "" for key in ("train_accuracy", "pixel_accuracy")),
         str(row["max_fit_steps"]) if "swap" in row else ""]
        for row in tried
    ]  # fmt: skip
    heads = [
        "",
        "learned from",
        "real validation tasks, 1 shot",
        "its own last training tasks",
        "those by pixels",
        "steps of the fit",
    ]
    return markdown(heads, lines) if lines else f"{MISSING}\n"


def mean(rows: list[Row], key: str) -> float:
    return statistics.mean(row[key] for row in rows)


if __name__ == "__main__":
    main()
