"""What the reports share: paired differences with their intervals, tables, and the blocks of a page that they fill."""

from __future__ import annotations

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy import stats

from shared.runner import UNSAID, Row

CONFIDENCE = 0.95
MIN_SEEDS = 3
"""Seeds that a setting has in an average, and a method in the README."""
ABSENT = "–"
DATA = {"cifar10": "CIFAR-10 (JPEG)", "cifar100": "CIFAR-100", "mnist": "MNIST"}
METHOD_NAMES = {"none": "no augmentation"}
TRAINING = ("side", "flip", "dropout", "steps", "batch_size", "lr", "weight_decay", "batched", "part")
"""What the rows of one setting must agree in to be compared."""

Scores = dict[str, dict[int, float]]
"""Accuracy by method and seed."""
Pair = tuple[str, str]
"""A method, and the one whose accuracy is taken off."""


@dataclass(frozen=True)
class Interval:
    """A mean and half the width of its confidence interval, NaN for a single value."""

    mean: float
    half_width: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Interval:
        """Student's interval."""
        values = list(values)
        if len(values) == 1:
            return cls(values[0], math.nan, 1)
        t = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
        return cls(statistics.mean(values), t * statistics.stdev(values) / math.sqrt(len(values)), len(values))

    @property
    def excludes_zero(self) -> bool:
        return abs(self.mean) > self.half_width

    def __str__(self) -> str:
        if math.isnan(self.half_width):
            return f"{self.mean:+.1f}"
        return f"{self.mean:+.1f} [{self.mean - self.half_width:+.1f}, {self.mean + self.half_width:+.1f}]"

    @property
    def emphasised(self) -> str:
        return f"**{self}**" if self.excludes_zero else str(self)


def scores(rows: Iterable[Row], figure: str = "accuracy") -> dict[str, Scores]:
    """A figure of the rows, by setting.

    Raises:
        ValueError: if two rows are of the same setting, method and seed, or rows of a setting were trained differently.
    """
    results: dict[str, Scores] = defaultdict(lambda: defaultdict(dict))
    trainings: dict[str, list] = {}
    for row in rows:
        name, method, seed = setting_name(row), row["method"], row["seed"]
        training = [row.get(field, UNSAID.get(field)) for field in TRAINING]
        if trainings.setdefault(name, training) != training:
            raise ValueError(f"{name}, {method}: {', '.join(TRAINING)} {training}, elsewhere {trainings[name]}")
        if seed in results[name][method]:
            raise ValueError(f"{name}, {method}: two rows of seed {seed}")
        results[name][method][seed] = row[figure]
    return {name: dict(table) for name, table in results.items()}


def setting_name(row: Row) -> str:
    """The name that ``measure_accuracy.py --settings`` knows it by."""
    network = "" if (row["depth"], row["width"]) == (10, 1) else f"-wrn{row['depth']}-{row['width']}"
    return f"{row['data'].lower()}-{row['per_class']}{network}"


def title(name: str) -> str:
    """``cifar10-50`` as a reader says it."""
    data, count, *network = name.split("-", 2)
    return ", ".join([DATA.get(data, data.capitalize()), f"{count} per class", *network])


def gains(table: Scores, method: str, reference: str) -> dict[int, float]:
    """Differences at the seeds that both have."""
    scored, compared = table.get(method, {}), table.get(reference, {})
    return {seed: scored[seed] - compared[seed] for seed in sorted(scored.keys() & compared.keys())}


def average_gain(
    results: dict[str, Scores], names: Collection[str], method: str, reference: str
) -> tuple[Interval | None, int]:
    """Over the settings that have both at enough seeds, and how many these are.

    The mean over settings is taken at each seed that all of them have: two settings of one data set draw the same
    images at a seed, so they are not independent.
    """
    by_setting = [gains(results[name], method, reference) for name in names if name in results]
    by_setting = [by_seed for by_seed in by_setting if len(by_seed) >= MIN_SEEDS]
    shared = set.intersection(*map(set, by_setting)) if by_setting else set()
    if not shared:
        return None, len(by_setting)
    return Interval.of(statistics.mean(each[seed] for each in by_setting) for seed in sorted(shared)), len(by_setting)


def average(results: dict[str, Scores], names: Collection[str], method: str, reference: str) -> str:
    interval, count = average_gain(results, names, method, reference)
    return f"{interval.emphasised} ({count} settings, {interval.count} seeds)" if interval else ABSENT


def accuracy(table: Scores, method: str) -> str:
    """Mean accuracy and gain, both at the seeds that ``none`` has as well."""
    if method == "none":
        return f"{statistics.mean(table['none'].values()):.1f}" if "none" in table else ABSENT
    paired = gains(table, method, "none")
    if not paired:
        return ABSENT
    mean = statistics.mean(table[method][seed] for seed in paired)
    return f"{mean:.1f}, {Interval.of(paired.values())}{fewer_seeds(table, paired)}"


def difference(table: Scores, method: str, reference: str) -> str:
    paired = gains(table, method, reference)
    return Interval.of(paired.values()).emphasised + fewer_seeds(table, paired) if paired else ABSENT


def fewer_seeds(table: Scores, paired: dict[int, float]) -> str:
    return "" if len(paired) == len(table.get("none", {})) else f" ({len(paired)})"


def comparison(
    results: dict[str, Scores],
    names: Iterable[str],
    methods: Sequence[str] = (),
    pairs: Sequence[Pair] = (),
    *,
    device: dict[str, str] | None = None,
    averages: dict[str, Collection[str]] | None = None,
) -> str:
    """A line per setting that has results: accuracies of methods with their gains, then paired differences.

    A method or pair has a column if one of the settings has it at three seeds. ``averages`` are further lines, over the
    settings named: gains of methods and differences.
    """
    tables = {name: results[name] for name in names if "none" in results.get(name, {})}
    methods = [each for each in methods if any(len(gains(t, each, "none")) >= MIN_SEEDS for t in tables.values())]
    pairs = [pair for pair in pairs if any(len(gains(table, *pair)) >= MIN_SEEDS for table in tables.values())]
    lines = []
    for name, table in tables.items():
        cells = [accuracy(table, method) for method in methods] + [difference(table, *pair) for pair in pairs]
        if all(cell == ABSENT for cell in cells):
            continue
        lines.append([title(name), *([device[name]] if device else []), str(len(table["none"])), *cells])
    for text, over in (averages or {}).items():
        gained = [(method, "none") for method in methods if method != "none"]
        filler = [""] * (len(lines[0]) - len(methods) - len(pairs) - 1 + ("none" in methods))
        lines.append([text, *filler, *(average(results, over, *pair) for pair in [*gained, *pairs])])
    heads = [METHOD_NAMES.get(method, method) for method in methods]
    heads += [f"{method} − {METHOD_NAMES.get(reference, reference)}" for method, reference in pairs]
    return markdown(["", *(["device"] if device else []), "seeds", *heads], lines)


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    texts = [f"| {' | '.join(line)} |\n" for line in (header, *lines)]
    return "".join([texts[0], "|---" * len(header) + "|\n", *texts[1:]])


def where(rows: Iterable[Row]) -> str:
    """The machines of rows, in a line."""
    names = ("machine", "threads", "torch", "torchvision")
    machines = sorted({tuple(row[name] for name in names) for row in rows})
    return "; ".join("{}, {} threads, torch {}, torchvision {}".format(*each) for each in machines)


def fill(page: Path, blocks: dict[str, str]) -> None:
    """Put texts between the comments ``<!-- name -->`` and ``<!-- end name -->`` of a page.

    Raises:
        ValueError: if the page has not just these blocks.
    """
    text = page.read_text()
    names = re.findall(r"<!-- end (.+?) -->", text)
    if sorted(names) != sorted(blocks):
        raise ValueError(f"{page.name} has the blocks {sorted(names)}; given are {sorted(blocks)}")
    for name, made in blocks.items():
        before, start, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- end {name} -->")
        if not (start and end):
            raise ValueError(f"{page.name} has no block between <!-- {name} --> and <!-- end {name} -->")
        text = before + start + made + end + after
    page.write_text(text)
