"""``glico demo`` measures what the swap, a style and both do to a small classifier on a few images a class."""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torchvision.transforms import v2

from glico_augment.cli import demo_data
from glico_augment.cli.demo_training import Change, accuracy, largest_shift
from glico_augment.cli.outputs import check_grid
from glico_augment.devices import choose_device
from glico_augment.fit.progress import duration
from glico_augment.fit.run import MAX_STEPS
from glico_augment.pictures.grids import save_grid
from glico_augment.pictures.plots import paths, random_pairs
from glico_augment.style.local_style import LocalStyle
from glico_augment.swap.augment import GLICOAugment

_COLUMNS = 10
_GRID_HEIGHT = 80  # pixels of a row of the grid, about
_PIXELS_OF_A_THREAD = 16 * 16  # so small, and more threads cost more than they give, above all on a busy machine


def demo(args: argparse.Namespace) -> None:
    """For several draws of the training images, fit and train each row on the same budget; compare; draw paths."""
    real = [] if args.data is None else [args.data / part for part in ("train", "test")]
    check_grid(args.output, images=_COLUMNS, shape=(3, 1, 1), real=real)
    for option, steps in (("--steps", args.steps), ("--fit-steps", args.fit_steps)):
        if steps > MAX_STEPS:
            raise ValueError(f"{option} must be at most {MAX_STEPS:,}; got {steps:,}")
    device = choose_device(args.device)
    size = (args.image_size, args.image_size) if isinstance(args.image_size, int) else args.image_size
    splits = demo_data.digits(size) if args.data is None else demo_data.folder(args.data, size)
    height, width = splits.test.images.shape[-2:]
    if device.type == "cpu" and height * width <= _PIXELS_OF_A_THREAD:
        torch.set_num_threads(1)
    print(
        f"{args.per_class} training images of each of {len(splits.names)} classes, {len(splits.test)} test images, "
        f"{height} × {width} pixels, {args.steps} steps "
        f"with shifts of up to {largest_shift(width)} pixels for every classifier"
    )
    accuracies: dict[str, list[float]] = {}
    qualities: list[float] = []
    start = time.monotonic()
    for seed in range(args.seeds):
        few = demo_data.draw_few(splits, args.per_class, seed=seed)
        augment = GLICOAugment.fit(few, device=device, seed=seed, min_steps=args.fit_steps)
        qualities.append(augment.quality.r2)
        budget: dict[str, Any] = {"n_classes": len(splits.names), "steps": args.steps, "seed": seed, "device": device}
        for name, change in rows(few, augment).items():
            accuracies.setdefault(name, []).append(accuracy(few, change, splits.test, **budget))
        shown = ", ".join(f"{name} {values[-1]:.1f} %" for name, values in accuracies.items())
        left = (time.monotonic() - start) / (seed + 1) * (args.seeds - seed - 1)
        wait = f"; about {duration(left)} to go" if left else ""
        print(f"draw {seed + 1} of {args.seeds}: {shown}; R² of the fit {qualities[-1]:.3f}{wait}", flush=True)
    print(table(accuracies))
    print(f"R² of the fits: {statistics.mean(qualities):.3f} on average, {min(qualities):.3f} at worst")
    print(verdict(accuracies))
    _draw_paths(augment, args)


def rows(few: demo_data.Images, augment: GLICOAugment) -> dict[str, Change]:
    """What each row does to a batch: nothing, the swap, another image's style, and the swap and then the style."""
    style = LocalStyle(few)
    return {"none": v2.Identity(), "glico": augment, "style": style, "both": v2.Compose([augment, style])}


def table(accuracies: Mapping[str, Sequence[float]]) -> str:
    """Mean accuracy of each row, and its gain on the first with the half-width of its 95 % interval."""
    first, *others = accuracies
    lines = [f"{'':<6} {'accuracy':>9}  gain on {first}", f"{first:<6} {statistics.mean(accuracies[first]):7.1f} %"]
    for name in others:
        gain, half = gain_and_interval(accuracies[first], accuracies[name])
        shown = f"{gain:+5.1f}" if math.isinf(half) else f"{gain:+5.1f} ± {half:.1f}"
        lines.append(f"{name:<6} {statistics.mean(accuracies[name]):7.1f} %  {shown}")
    return "\n".join(lines)


def verdict(accuracies: Mapping[str, Sequence[float]]) -> str:
    """Which gains on the first row are beyond the noise of the draws, and which are not."""
    first, *others = accuracies
    count = len(accuracies[first])
    if count < 2:
        return "one draw says nothing about the noise"
    kinds: dict[str, list[str]] = {"better beyond the noise": [], "worse beyond the noise": [], "within the noise": []}
    for name in others:
        gain, half = gain_and_interval(accuracies[first], accuracies[name])
        better_or_worse = "better beyond the noise" if gain > 0 else "worse beyond the noise"
        kinds["within the noise" if abs(gain) <= half else better_or_worse].append(name)
    said = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names)
    return f"against {first}, by 95 % intervals (±) over {count} draws: {said}"


def gain_and_interval(before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    """The mean of the paired differences and half of its 95 % interval (Student's), infinite for one pair."""
    differences = [with_it - without for without, with_it in zip(before, after, strict=True)]
    if len(differences) < 2:
        return differences[0], math.inf
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return statistics.mean(differences), _student(len(differences) - 1) * error


def _student(degrees: int) -> float:
    """The 97.5 % quantile of Student's distribution, to a hundredth; scipy is no dependency."""
    small = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
    return small[degrees - 1] if degrees <= len(small) else 1.96 + 2.37 / degrees + 2.82 / degrees**2


def _draw_paths(augment: GLICOAugment, args: argparse.Namespace) -> None:
    generator = torch.Generator().manual_seed(0)
    pairs = random_pairs(augment, torch.arange(len(augment.classes)), generator=generator)
    scale = max(1, _GRID_HEIGHT // augment.generator.image_shape[1])
    save_grid(paths(augment, *pairs, steps=_COLUMNS), args.output, columns=_COLUMNS, scale=scale)
    print(f"paths between two training images of each class, by the last fit: {args.output}")
