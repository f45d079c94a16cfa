"""How well the default fit learns images of every kind: R² of its reconstructions.

    python benchmarks/measure_fit.py --data DATA --out benchmarks/results/fits.jsonl

Real sets at five seeds, each of which draws other images, and made-up extremes at one. With --before CHECKOUT every
real set is also fitted by the library of that checkout, in turn with this one, for the ratio of their times. A row that
is in --out already is skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accuracy.data import load_omniglot, make_split
from accuracy.digits import digits
from accuracy.rows import append_row, machine, read_rows
from torch import Tensor
from torch.utils.data import TensorDataset

Images = tuple[Tensor, Tensor]


def folder(data: str, per_class: int, side: int | None, *, is_grey: bool = False) -> Callable[[Path, int], Images]:
    def load(root: Path, seed: int) -> Images:
        split = make_split(root, data, side, per_class, seed, "test")
        return split.images[:, :1] if is_grey else split.images, split.labels

    return load


def omniglot(*, is_inverted: bool) -> Callable[[Path, int], Images]:
    """136 characters × 5 drawers, grey, 32 pixels; strokes are black on white unless inverted."""

    def load(root: Path, seed: int) -> Images:
        images, labels = load_omniglot(root / "omniglot" / "background", 32)[0]
        order = torch.randperm(10, generator=torch.Generator().manual_seed(seed))[:5]
        images, labels = images[:, :1].unflatten(0, (-1, 10))[:, order], labels.unflatten(0, (-1, 10))[:, order]
        return (255 - images if is_inverted else images).flatten(0, 1), labels.flatten()

    return load


def small_digits(root: Path, seed: int) -> Images:
    (images, labels), _ = digits()
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    chosen = torch.cat([order[labels[order] == label][:10] for label in range(10)])
    return images[chosen], labels[chosen]


REAL = {
    "MNIST, 28 px, 10 a class": folder("mnist", 10, None, is_grey=True),
    "Omniglot, white on black, 32 px, 136 × 5": omniglot(is_inverted=True),
    "Omniglot, black on white, 32 px, 136 × 5": omniglot(is_inverted=False),
    "digits, 8 px, 10 a class": small_digits,
    "signs, 64 px, 10 a class": folder("signs", 10, 64),
    "CIFAR-10, 32 px, 10 a class": folder("cifar10", 10, None),
}


def coarse(side: int, value: Callable[[Tensor], Tensor]) -> Callable[[int, torch.Generator], Tensor]:
    """Squares of a quarter of the side, each of a value made of a uniform number, in each of three channels."""

    def make(count: int, generator: torch.Generator) -> Tensor:
        return (
            value(torch.rand(count, 3, 4, 4, generator=generator))
            .round()
            .repeat_interleave(side // 4, 2)
            .repeat_interleave(side // 4, 3)
        )

    return make


def extreme(kind: str, count: int) -> Images:
    """Made-up images: 32 × 32, or 16 × 16 where there are 1,000."""
    generator = torch.Generator().manual_seed(0)
    side = 16 if count == 1000 else 32
    kinds: dict[str, Callable[[int, torch.Generator], Tensor]] = {
        "nearly constant": lambda n, g: torch.randint(127, 130, (n, 3, side, side), generator=g),
        "one bright pixel": lambda n, g: (
            torch.zeros(n, 1, side * side)
            .scatter(2, torch.randint(side * side, (n, 1, 1), generator=g), 255)
            .unflatten(2, (side, side))
        ),
        "two grey levels": lambda n, g: coarse(side, lambda u: 100 + (u < 0.5).float())(n, g)[:, :1],
        "very dark": coarse(side, lambda u: 5 * u),
        "very light": coarse(side, lambda u: 255 - 5 * u),
        "saturated": coarse(side, lambda u: 255 * (u < 0.5)),
    }
    return kinds[kind](count, generator).to(torch.uint8), torch.arange(count) % 2


KINDS = ("nearly constant", "one bright pixel", "two grey levels", "very dark", "very light", "saturated")


def fit(images: Tensor, labels: Tensor, seed: int, device: str = "cpu") -> dict[str, Any]:
    """A default fit of whatever library is imported: R², computed here, and seconds."""
    from glico_augment import GLICOAugment

    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a fit that has not learned: it is what is measured
        augment = GLICOAugment.fit(TensorDataset(images, labels), seed=seed, device=device, progress=False)
    seconds = time.perf_counter() - start
    real = images / 255
    error, distance = (augment.reconstruct() - real).square().sum(), (real - real.mean(dim=0)).square().sum()
    restarts = getattr(augment.record, "restarts", None)
    return {
        "r2": 1 - (error / distance).item(),
        "restarts": restarts,
        "seconds": seconds,
        "steps": len(augment.record.losses),
    }


def load(name: str, count: int | None, root: Path, seed: int) -> Images:
    return REAL[name](root, seed) if count is None else extreme(name, count)


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    if args.one is not None:  # in a process of its own, with the library of another checkout
        name, seed = json.loads(args.one)
        print(json.dumps(fit(*load(name, None, args.data, seed), seed)))
        return
    done = {
        (row["set"], row["count"], row["seed"], row["library"], row.get("device", "cpu")) for row in read_rows(args.out)
    }
    plan = [(name, None, seed) for seed in args.seeds for name in REAL]
    plan += [(kind, count, 0) for count in (2, 20, 1000) for kind in KINDS]
    for name, count, seed in plan:
        if not any(part in name for part in args.only):
            continue
        libraries = ["this"] + (["before"] if args.before is not None and count is None else [])
        for library in libraries:
            if (name, count, seed, library, args.device) in done:
                continue
            row = {"set": name, "count": count, "seed": seed, "library": library, "device": args.device}
            if library == "before":
                row |= before(name, seed, args)
            else:
                row |= fit(*load(name, count, args.data, seed), seed, args.device)
            append_row(args.out, row | machine(torch.device(args.device)))
            print(
                f"{name}, n {count or ''}, seed {seed}, {library}: R² {row['r2']:.3f}, {row['seconds']:.0f} s",
                flush=True,
            )


def before(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--data", args.data, "--out", args.out, "--threads", args.threads]
    command += ["--one", json.dumps([name, seed])]
    environment = {**os.environ, "PYTHONPATH": str(args.before)}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the folders of images")
    parser.add_argument("--out", type=Path, required=True, help="result file, appended to")
    parser.add_argument("--seeds", type=int, nargs="+", default=range(5))
    parser.add_argument("--only", nargs="+", default=[""], help="parts of the names of sets")
    parser.add_argument("--before", type=Path, help="checkout of an earlier library, to compare times with")
    parser.add_argument("--device", default="cpu", help="of this library's fits; that of --before is the CPU")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
