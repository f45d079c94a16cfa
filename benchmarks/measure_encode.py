"""How well `augment.encode` draws images that were not fitted, beside those that were, and what its steps cost.

    python benchmarks/measure_encode.py --data DATA --out benchmarks/results/encode.jsonl

Fits are without labels, on --counts random images of the training part, or on all where there are fewer; the others
are of the test part: other photographs of the classes, and for Omniglot characters of other alphabets. With --plots, a
picture of each fit has some of them over what the generator makes of their codes. A row that is in --out is skipped,
and fits are kept in --fits.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from accuracy.rows import append_row, machine, read_rows
from latent.fits import fitted
from latent.images import SOURCES, load, split
from latent.processes import run_all
from torch.utils.data import TensorDataset

from glico_augment import FitConfig, GLICOAugment
from glico_augment.data.image_set import read_image_set
from glico_augment.fit.loop import Fit
from glico_augment.images.values import to_unit
from glico_augment.pictures.grids import save_grid

ROUNDS = 5
SHOWN = 12


def main() -> None:
    args = parse_args()
    units = []
    for seed in args.seeds:
        units += [(args, "r2", name, count, seed) for count in args.counts for name in args.sets]
        units += [(args, "cost", name, min(args.counts), seed) for name in args.sets]
    run_all(run, units, args.jobs)


def run(args: argparse.Namespace, what: str, name: str, count: int, seed: int) -> None:
    torch.set_num_threads(args.threads)
    train = load_once(args.data, name, "train")
    chosen, _ = split(train, count, seed)
    row = {"what": what, "set": name, "count": len(chosen), "seed": seed, "device": args.device}
    row |= {"steps": args.steps, "starts": args.starts, "images": args.images, "max_fit_steps": args.fit_steps}
    if any(row.items() <= done.items() for done in read_rows(args.out)):
        return
    others, _ = split(load_once(args.data, name, "test"), args.images, seed)
    measure = measure_cost if what == "cost" else measure_r2
    row |= measure(args, name, chosen, others, seed)
    append_row(args.out, row | machine(torch.device(args.device)))
    print({key: value for key, value in row.items() if key not in ("device", "max_fit_steps")}, flush=True)


load_once = lru_cache(maxsize=2)(load)


def measure_r2(args: argparse.Namespace, name: str, chosen: Any, others: Any, seed: int) -> dict[str, Any]:
    augment, figures = fitted(chosen.images, seed, args.fit_steps, args.fits, args.device)
    options = {"starts": args.starts, "seed": seed, "device": args.device, "progress": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a fit that has not learned: its R² is in the row
        start = time.perf_counter()
        found = augment.encode(others.images, steps=args.steps, **options)
        seconds = time.perf_counter() - start
        nearest = augment.encode(others.images, steps=0, **options)
    if args.plots is not None:
        args.plots.mkdir(parents=True, exist_ok=True)
        pictures = torch.cat([to_unit(others.images[:SHOWN]), found.reconstructions[:SHOWN]])
        save_grid(pictures, args.plots / f"encode-{name}-{len(chosen)}.png", columns=min(SHOWN, len(others)), scale=2)
    quantiles = found.per_image.quantile(torch.tensor([0.1, 0.5, 0.9])).tolist()
    return figures | {
        "r2_new": found.r2,
        "r2_of_starts": nearest.r2,
        "quantiles_new": quantiles,
        "encode_seconds": seconds,
    }


def measure_cost(args: argparse.Namespace, name: str, chosen: Any, others: Any, seed: int) -> dict[str, Any]:
    """Time of a step and image of ``encode``, of one of its starts, over that of a default fit with labels."""
    dataset = TensorDataset(chosen.images, chosen.labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a fit that has not learned, which this one need not
        augment = GLICOAugment.fit(dataset, steps=2, seed=seed, device=args.device, progress=False)
    image_set = read_image_set(dataset)
    config = FitConfig().resolved(len(chosen), image_set.image_shape)
    fit = Fit(image_set, config, device=torch.device(args.device), seed=seed)
    new = others.images[: fit.batch_size]
    options = {"starts": args.starts, "seed": seed, "device": args.device, "progress": False}

    def encode(steps: int) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return timed(lambda: augment.encode(new, steps=steps, **options), args.device)

    fit.step()
    encode(1)
    ratios, encode_times, fit_times = [], [], []
    for _ in range(ROUNDS):  # in turn, so that a slow minute is in both
        fit_times.append(timed(lambda: [fit.step() for _ in range(4)], args.device) / (4 * fit.batch_size))
        encode_times.append((encode(4) - encode(0)) / (4 * len(new) * args.starts))
        ratios.append(encode_times[-1] / fit_times[-1])
    return {
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "encode_milliseconds": 1e3 * statistics.median(encode_times),
        "fit_milliseconds": 1e3 * statistics.median(fit_times),
    }


def timed(action: Any, device: str) -> float:
    def wait() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)

    wait()
    start = time.perf_counter()
    action()
    wait()
    return time.perf_counter() - start


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the folders of images")
    parser.add_argument("--out", type=Path, required=True, help="result file, appended to")
    parser.add_argument("--sets", nargs="+", default=list(SOURCES), choices=list(SOURCES))
    parser.add_argument("--counts", type=int, nargs="+", default=(50, 200, 1000), help="fitted images")
    parser.add_argument("--fit-steps", type=int, default=1500, help="at most, where the defaults ask for more")
    parser.add_argument("--images", type=int, default=48, help="new images to encode")
    parser.add_argument("--steps", type=int, default=100, help="of encode")
    parser.add_argument("--starts", type=int, default=4, help="of encode")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0,))
    parser.add_argument("--fits", type=Path, default=Path("fits"), help="folder of fits")
    parser.add_argument("--plots", type=Path, help="folder of pictures, none if left out")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--threads", type=int, default=1, help="threads a process")
    return parser.parse_args()


if __name__ == "__main__":
    main()
