"""How well `augment.encode` draws images that were not fitted, beside those that were, and what its steps cost.

    python benchmarks/measure_encode.py --data DATA --out benchmarks/results/encode.jsonl

Fits are without labels, on --counts random images of the training part, or on all where there are fewer; the others
are of the test part: other photographs of the classes, and for Omniglot characters of other alphabets. With --plots, a
picture of each fit has some of them over what the generator makes of their codes. Fits are kept in --fits.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from latent.images import SOURCES, load, split
from shared.data import Labelled
from shared.fits import fitted_without_labels
from shared.runner import Row, arguments, run
from speed.fits import start_fit
from torch.utils.data import TensorDataset

from glico_augment import GLICOAugment
from glico_augment.pictures.grids import save_grid

ROUNDS, SHOWN = 5, 12


def main() -> None:
    args = arguments(
        __doc__,
        sets=(list(SOURCES), "data sets"),
        counts=([50, 200, 1000], "fitted images"),
        fit_steps=(1500, "at most, where the defaults ask for more"),
        images=(48, "new images to encode"),
        steps=(100, "of encode"),
        starts=(4, "of encode"),
        plots=(Path, "folder of pictures, none if left out"),
    )
    common = {"device": args.device, "steps": args.steps, "starts": args.starts, "images": args.images}
    common["max_fit_steps"] = args.fit_steps
    units = []
    for seed, name in product(args.seeds, args.sets):
        most = len(load(args.data, name, "train")[1])
        counts = dict.fromkeys(min(count, most) for count in args.counts)
        units += [{"what": "r2", "set": name, "count": count, "seed": seed} | common for count in counts]
        units.append({"what": "cost", "set": name, "count": min(counts), "seed": seed} | common)
    run(args, units, measure)


def measure(args: argparse.Namespace, unit: Row) -> Row:
    chosen, _ = split(load(args.data, unit["set"], "train"), unit["count"], unit["seed"])
    others, _ = split(load(args.data, unit["set"], "test"), args.images, unit["seed"])
    options = {"starts": args.starts, "seed": unit["seed"], "device": args.device, "progress": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a fit that has not learned: its R² is in the row
        return (measure_cost if unit["what"] == "cost" else measure_r2)(args, unit, chosen, others, options)


def measure_r2(args: argparse.Namespace, unit: Row, chosen: Labelled, others: Labelled, options: Row) -> Row:
    augment, figures = fitted_without_labels(
        chosen[0], args.fit_steps, args.fits, seed=unit["seed"], device=args.device
    )
    start = time.perf_counter()
    found = augment.encode(others[0], steps=args.steps, **options)
    seconds = time.perf_counter() - start
    nearest = augment.encode(others[0], steps=0, **options)
    if args.plots is not None:
        args.plots.mkdir(parents=True, exist_ok=True)
        pictures = torch.cat([others[0][:SHOWN] / 255, found.reconstructions[:SHOWN]])
        path = args.plots / f"encode-{unit['set']}-{len(chosen[0])}.png"
        save_grid(pictures, path, columns=min(SHOWN, len(others[0])), scale=2)
    quantiles = found.per_image.quantile(torch.tensor([0.1, 0.5, 0.9])).tolist()
    figures |= {"r2_new": found.r2, "r2_of_starts": nearest.r2, "quantiles_new": quantiles}
    return figures | {"encode_seconds": seconds}


def measure_cost(args: argparse.Namespace, unit: Row, chosen: Labelled, others: Labelled, options: Row) -> Row:
    """Time of a step and image of ``encode``, of one of its starts, over that of a default fit with labels."""
    dataset = TensorDataset(*chosen)
    augment = GLICOAugment.fit(dataset, steps=2, seed=unit["seed"], device=args.device, progress=False)
    fit = start_fit(dataset, torch.device(args.device), seed=unit["seed"])
    new = others[0][: fit.batch_size]

    def encode(steps: int) -> float:
        return timed(partial(augment.encode, new, steps=steps, **options), args.device)

    fit.step()
    encode(1)
    ratios, encode_times, fit_times = [], [], []
    for _ in range(ROUNDS):  # in turn, so that a slow minute is in both
        fit_times.append(timed(lambda: [fit.step() for _ in range(4)], args.device) / (4 * fit.batch_size))
        encode_times.append((encode(4) - encode(0)) / (4 * len(new) * args.starts))
        ratios.append(encode_times[-1] / fit_times[-1])
    figures = {"encode_milliseconds": 1e3 * statistics.median(encode_times), "ratios": ratios}
    return figures | {"fit_milliseconds": 1e3 * statistics.median(fit_times), "ratio": statistics.median(ratios)}


def timed(action: Callable[[], Any], device: str) -> float:
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    wait()
    start = time.perf_counter()
    action()
    wait()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
