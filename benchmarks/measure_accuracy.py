"""Test accuracy of a small network on a few images a class, for every method, seed and setting asked for.

    python benchmarks/measure_accuracy.py --data DATA --out benchmarks/results/accuracy.jsonl

DATA holds the folders of images, DATA/cifar10/train/<class>/ and so on, or DATA/cifar10.zip as pack_data.py makes it.
Every method sees the same training images in the same order with the same initial weights, shifts and flips for a seed.
A result that is in --out already is skipped, and a training that --minutes stopped, or that was killed, is kept in
--fits, so a stopped run goes on with the same command; several machines may each do some settings or seeds. The exit
status is 75 if --minutes has left something to do.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from accuracy.data import Split, make_split
from accuracy.methods import METHODS, Method, find_method
from accuracy.pause import Pause
from accuracy.rows import append_row, identity, key, machine, read_rows
from accuracy.settings import CPU_SETTINGS, SEEDS, Setting, find_setting
from accuracy.swaps import GLICOSwap, PixelAveraging, StyleChange, fitted
from accuracy.training import Batches, Swap, accuracy, precision, train
from torch import Tensor

from glico_augment import SwapConfig

N_UNLABELED = 2000
UNFINISHED = 75  # what sysexits.h has for "try again later"


@dataclass(frozen=True)
class Job:
    """Runs that share training images, and perhaps a fit, and so are made by one process."""

    setting: Setting
    seed: int
    methods: tuple[str, ...]
    part: str
    optimizers: tuple[tuple[float, float], ...]


def main() -> None:
    args = parse_args()
    jobs = plan(args)
    print(f"{sum(len(job.methods) * len(job.optimizers) for job in jobs)} runs to make", file=sys.stderr)
    deadline = time.monotonic() + 60 * args.minutes
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(run, job, args, deadline): job for job in jobs}
        failed = []
        try:
            for future in as_completed(futures):
                if error := future.exception():
                    failed.append(error)
                    print(f"{futures[future]} failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(jobs)} jobs failed, as said above") from failed[0]
    if left := sum(len(job.methods) * len(job.optimizers) for job in plan(args)):
        print(f"{left} runs left: the same command goes on", file=sys.stderr)
        sys.exit(UNFINISHED)


def plan(args: argparse.Namespace) -> list[Job]:
    """What is not in the result file yet, seed by seed, so that a stopped table is even."""
    done = {key(row) for row in read_rows(args.out)}
    jobs = []
    for settings, methods, seeds in args.grid:
        for seed, name in product(seeds, settings):
            setting = find_setting(name, args.set)
            optimizers = tuple(
                (lr, decay) for lr in args.lr or [setting.lr] for decay in args.decay or [setting.weight_decay]
            )
            groups: dict[str, list[str]] = {}
            for text in methods:
                method = find_method(text)
                group = f"{method.fit} {method.unlabeled}" if method.swap == "glico" else text
                runs = {key(identity(setting, text, seed, args.part, *optimizer)) for optimizer in optimizers}
                if not runs <= done:
                    groups.setdefault(group, []).append(text)
                    done |= runs  # which a later grid may have as well
            jobs += [Job(setting, seed, tuple(group), args.part, optimizers) for group in groups.values()]
    return jobs


def run(job: Job, args: argparse.Namespace, deadline: float) -> None:
    """Make the runs of one job that are still wanted, a row each."""
    device = torch.device(args.device)
    torch.set_num_threads(args.threads)
    done = {key(row) for row in read_rows(args.out)}
    setting = job.setting
    split = make_split(args.data, setting.data, setting.side, setting.per_class, job.seed, job.part).to(device)
    for text in job.methods:
        for lr, decay in job.optimizers:
            row = identity(setting, text, job.seed, job.part, lr, decay)
            if key(row) in done or time.monotonic() > deadline:
                continue
            method = find_method(text)
            start = time.perf_counter()
            swap, details = make_swap(method, split, job, args.data, args.fits)
            fit_seconds = time.perf_counter() - start
            policy, erase = method.policy and method.policy(), method.erase and method.erase()
            if method.reference is not None:
                policy = method.reference(split.images)
            style = StyleChange(split) if method.style else None
            options = {"spare": method.spare, "batched": setting.batched}
            batches = Batches(split, setting.flip, swap, style, policy, erase, **options)
            pause = Pause(args.fits / f"{hashlib.sha256(key(row).encode()).hexdigest()[:16]}.training", deadline)
            optimizer = {"lr": lr, "weight_decay": decay}
            network = train(split, setting, batches, method.objective, job.seed, **optimizer, pause=pause)
            if network is None:
                return
            row["accuracy"] = accuracy(network, batches, split.eval_images, split.eval_labels)
            row |= details | {"fit_seconds": fit_seconds, "train_seconds": pause.seconds}
            append_row(args.out, row | {"precision": precision(device)} | machine(device))
            pause.forget()
            print(
                f"{setting.data} {setting.per_class} a class, seed {job.seed}, {text}: {row['accuracy']:.1f} %",
                flush=True,
            )


def make_swap(method: Method, split: Split, job: Job, data: Path, fits: Path) -> tuple[Swap | None, dict[str, Any]]:
    settings = method.swap_settings or {}
    if method.swap == "pixel":
        return PixelAveraging(split, **settings), {}
    if method.swap == "glico":
        unlabeled = None if method.unlabeled is None else further_images(data, job, method.unlabeled)
        augment, details = fitted(split, job.seed, job.setting.fit | (method.fit or {}), fits, unlabeled)
        augment.swap = SwapConfig().replace(**settings)  # today's defaults, not those of the file
        return GLICOSwap(augment), details | {"swap": augment.swap.to_json()}
    return None, {}


def further_images(data: Path, job: Job, which: str) -> Tensor:
    """2,000 images to fit without their labels: of the training part beside those drawn, or of those to be scored."""
    setting = job.setting
    part = "rest" if which == "train" else job.part
    others = make_split(data, setting.data, setting.side, setting.per_class, job.seed, part)
    chosen = torch.randperm(len(others.eval_images), generator=torch.Generator().manual_seed(job.seed))[:N_UNLABELED]
    return others.eval_images[chosen]


def parse_grid(text: str) -> tuple[list[str], list[str], list[int]]:
    try:
        settings, methods, seeds = (part.split() for part in text.split("/"))
        return settings, methods, [int(seed) for seed in seeds]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected 'SETTING… / METHOD… / SEED…', got {text!r}") from None


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the folders of images")
    parser.add_argument("--out", type=Path, required=True, help="result file, appended to")
    parser.add_argument("--settings", nargs="+", help="by name, or FOLDER-COUNT; the first four if left out")
    parser.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE", help="changes to the settings")
    parser.add_argument("--methods", nargs="+", help="NAME or NAME:field=value,…; all if left out")
    parser.add_argument("--seeds", type=int, nargs="+", help="0 to 4 if left out")
    grid_help = "'SETTING… / METHOD… / SEED…' in place of these three; may be given several times, the first come first"
    parser.add_argument("--grid", type=parse_grid, action="append", help=grid_help)
    parser.add_argument("--part", choices=["test", "validation"], default="test", help="what to score on")
    parser.add_argument("--lr", type=float, nargs="+", help="to tune, with --part validation")
    parser.add_argument("--decay", type=float, nargs="+", help="to tune, with --part validation")
    parser.add_argument("--fits", type=Path, default=Path("fits"), help="folder of fits and unfinished trainings")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--threads", type=int, default=1, help="threads a process")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after this many")
    args = parser.parse_args()
    if args.grid and (args.settings or args.methods or args.seeds):
        parser.error("--grid has settings, methods and seeds: leave --settings, --methods and --seeds out")
    args.grid = args.grid or [(args.settings or CPU_SETTINGS, args.methods or list(METHODS), args.seeds or SEEDS)]
    return args


if __name__ == "__main__":
    main()
