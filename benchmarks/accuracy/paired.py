"""Accuracies by setting, method and seed, and what they differ by at the same seed."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from scipy import stats

from accuracy.rows import said

CONFIDENCE = 0.95
FEWEST = 3
"""Seeds that a setting has in an average, and in the README."""

TRAINING = ("side", "flip", "dropout", "steps", "batch_size", "lr", "weight_decay", "batched", "part")
"""What the rows of one setting must agree in to be compared."""

Scores = dict[str, dict[int, float]]
"""Accuracy by method and seed."""


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


def setting_name(row: dict[str, Any]) -> str:
    """The name that ``measure_accuracy.py --settings`` knows it by."""
    network = "" if (row["depth"], row["width"]) == (10, 1) else f"-wrn{row['depth']}-{row['width']}"
    return f"{row['data'].lower()}-{row['per_class']}{network}"


def scores(rows: Iterable[dict[str, Any]]) -> dict[str, Scores]:
    """Accuracies by setting.

    Raises:
        ValueError: if two rows are of the same setting, method and seed, or rows of a setting were trained differently.
    """
    results: dict[str, Scores] = defaultdict(lambda: defaultdict(dict))
    trainings: dict[str, list[Any]] = {}
    for row in rows:
        name, method, seed = setting_name(row), row["method"], row["seed"]
        training = [said(row, field) for field in TRAINING]
        if trainings.setdefault(name, training) != training:
            raise ValueError(f"{name}, {method}: {', '.join(TRAINING)} {training}, elsewhere {trainings[name]}")
        if seed in results[name][method]:
            raise ValueError(f"{name}, {method}: two rows of seed {seed}")
        results[name][method][seed] = row["accuracy"]
    return {name: dict(table) for name, table in results.items()}


def gains(table: Scores, method: str, reference: str) -> dict[int, float]:
    """Differences at the seeds that both have."""
    scored, compared = table.get(method, {}), table.get(reference, {})
    return {seed: scored[seed] - compared[seed] for seed in sorted(scored.keys() & compared.keys())}


def average_gain(results: dict[str, Scores], method: str, reference: str) -> tuple[Interval | None, list[str]]:
    """Over the settings that have both at enough seeds, and which these are.

    The mean over settings is taken at each seed that all of them have: two settings of one data set draw the same
    images at a seed, so they are not independent.
    """
    by_setting = {name: gains(table, method, reference) for name, table in results.items()}
    by_setting = {name: by_seed for name, by_seed in by_setting.items() if len(by_seed) >= FEWEST}
    shared = set.intersection(*map(set, by_setting.values())) if by_setting else set()
    if not shared:
        return None, list(by_setting)
    means = [statistics.mean(by_seed[seed] for by_seed in by_setting.values()) for seed in sorted(shared)]
    return Interval.of(means), list(by_setting)
