"""The training of the main table, tuned for no augmentation, and then the cheapest fit that keeps the accuracy.

    python benchmarks/measure_tuning.py --data DATA --out benchmarks/results/tuning.jsonl --chosen chosen.json

Both are chosen on images of the training part that were not drawn, at draws that no table uses, by one rule: of the
candidates whose mean accuracy is within half a point of the reference, the one that computes least. The reference of a
training is the best candidate of its setting; a network twice as wide, which computes four times as much, is measured
beside them and not chosen. The reference of a fit is that of version 0.2.0, and its mean is taken over all settings.
--chosen is a file for measure_accuracy.py --chosen.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from measure_accuracy import identity, measure
from shared.runner import Row, arguments, read_rows, run
from shared.settings import Setting, find_setting

TOLERANCE = 0.5
GEM = 4.55e-4
"""Learning rate per image of a batch, of GEM's tuned baseline."""

_CIFAR_10 = [
    (4, 10, 2000, 1), (4, 10, 2000, 2), (4, 10, 5000, 0.5), (4, 10, 5000, 1), (4, 10, 5000, 2),
    (4, 25, 2000, 1), (4, 25, 2000, 2), (4, 50, 1000, 1), (4, 50, 1000, 2),
    (4, 50, 2000, 0.5), (4, 50, 2000, 1), (4, 50, 2000, 2), (8, 10, 5000, 1), (8, 50, 1000, 1),
]  # fmt: skip
_CIFAR_50 = [
    (4, 10, 10_000, 1), (4, 25, 4000, 1), (4, 50, 2000, 1), (4, 50, 2000, 2),
    (4, 50, 4000, 0.5), (4, 50, 4000, 1), (4, 50, 4000, 2), (8, 50, 2000, 1),
]  # fmt: skip
_SMALL = [(4, 10, 2000, 1), (4, 10, 2000, 4), *((4, 50, steps, rate) for steps in (600, 1200) for rate in (1, 2, 4))]
_OMNIGLOT = [(4, 50, steps, rate) for steps in (1200, 2400) for rate in (1, 2, 4)]
TRAININGS: Mapping[str, list[tuple[int, int, int, float]]] = {
    "cifar10-10-wrn16-4": _CIFAR_10,
    "cifar10-50-wrn16-4": _CIFAR_50,
    "signs-5-wrn16-4": _SMALL,
    "mnist-5-wrn16-4": _SMALL,
    "omniglot-2-wrn16-4": _OMNIGLOT,
}
"""Width of the network, batch size, steps, and learning rate in multiples of GEM's for the batch."""

SAME = {"signs-10-wrn16-4": "signs-5-wrn16-4"}
"""Settings that are trained as another is."""

FITS: Mapping[str, dict[str, Any]] = {
    "0.2.0": {"passes": 100, "min_steps": 600, "width": 32, "side": None},
    "half": {"passes": 50, "min_steps": 300, "width": 32, "side": None},
    "short": {"passes": 40, "min_steps": 250, "width": 32, "side": 32},
    "short and narrow": {"passes": 40, "min_steps": 250, "width": 16, "side": 32},
    "shorter": {"passes": 25, "min_steps": 150, "width": 32, "side": 32},
}
"""Passes over the set, fewest steps, width of the generator and largest side of the images."""
FITTED = ("cifar10-10-wrn16-4", "cifar10-50-wrn16-4", "signs-5-wrn16-4", "mnist-5-wrn16-4")
N_CLASSES = {"omniglot": 136}  # of the others 10
SIDES = {"mnist": 28}  # where the setting leaves the images as they are, and they are not of 32 pixels
BATCH = 32


def main() -> None:
    args = arguments(__doc__, chosen=(Path, "file to write the chosen settings to"))
    run(args, units("none", [training(name, *each) for name in TRAININGS for each in TRAININGS[name]], args), measure)
    chosen = choose_trainings(read_rows(args.out))
    run(args, units("glico", [with_fit(chosen[name], fit) for name in FITTED for fit in FITS], args), measure)
    fit = choose_fit(read_rows(args.out))
    print(f"the cheapest fit that keeps the accuracy: {fit}")
    if args.chosen is not None:
        whole = {name: dataclasses.asdict(with_fit(each, fit)) for name, each in chosen.items()}
        args.chosen.write_text(json.dumps(whole, indent=1))


def training(name: str, width: int, batch_size: int, steps: int, rate: float) -> Setting:
    lr = float(f"{GEM * batch_size * rate:.2g}")
    changes = {"width": width, "batch_size": batch_size, "steps": steps, "lr": lr, "fit": {}}
    return dataclasses.replace(find_setting(name, []), **changes)


def fit_fields(setting: Setting, fit: str) -> dict[str, Any]:
    """Fields of the fit that is called ``fit``."""
    of = FITS[fit]
    n_images = setting.per_class * N_CLASSES.get(setting.data, 10)
    steps = max(of["min_steps"], math.ceil(of["passes"] * n_images / min(BATCH, n_images)))
    side = setting.side or SIDES.get(setting.data, 32)
    return {"steps": steps, "generator_width": of["width"], "image_size": min(side, of["side"] or side)}


def with_fit(setting: Setting, fit: str) -> Setting:
    return dataclasses.replace(setting, fit=fit_fields(setting, fit))


def units(method: str, settings: list[Setting], args: argparse.Namespace) -> list[Row]:
    """What computes most comes first, so that all processes end together."""
    by_cost = sorted(settings, key=lambda each: -each.steps * each.batch_size * each.width**2)
    return [identity(each, method, seed, "validation") for each in by_cost for seed in args.seeds]


def choose_trainings(rows: list[Row]) -> dict[str, Setting]:
    """The training of each setting."""
    fields, chosen = [field.name for field in dataclasses.fields(Setting)], {}
    for name in TRAININGS:
        of = find_setting(name, [])
        tried: dict[str, list[float]] = defaultdict(list)
        for row in rows:
            is_candidate = row["method"] == "none" and row["width"] == of.width
            if is_candidate and (row["data"], row["per_class"]) == (of.data, of.per_class):
                tried[json.dumps({field: row[field] for field in fields})].append(row["accuracy"])
        costs = {key: Setting(**json.loads(key)) for key in tried}
        best = max(map(statistics.mean, tried.values()))
        chosen[name] = costs[cheapest(tried, {key: each.steps * each.batch_size for key, each in costs.items()}, best)]
    for name, source in SAME.items():
        chosen[name] = dataclasses.replace(chosen[source], per_class=find_setting(name, []).per_class)
    return chosen


def choose_fit(rows: list[Row]) -> str:
    tried: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row["method"] == "glico":
            tried[fit_name(row)].append(row["accuracy"])
    costs = {fit: of["passes"] * of["width"] ** 2 * (of["side"] or 48) ** 2 for fit, of in FITS.items()}
    return cheapest(tried, costs, statistics.mean(tried["0.2.0"]))


def fit_name(row: Row) -> str:
    setting = find_setting(f"{row['data']}-{row['per_class']}-wrn16-4", [])
    return next(fit for fit in FITS if fit_fields(setting, fit) == row["fit"])


def cheapest(tried: Mapping[Any, list[float]], costs: Mapping[Any, float], reference: float) -> Any:
    """Of the candidates whose mean is at most :data:`TOLERANCE` below the reference, the one of the least cost."""
    means = {key: statistics.mean(values) for key, values in tried.items()}
    kept = [key for key, mean in means.items() if mean >= reference - TOLERANCE]
    return min(kept, key=lambda key: (costs[key], -means[key]))


if __name__ == "__main__":
    main()
