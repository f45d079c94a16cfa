"""How well the default fit learns images of every kind, and what a transfer of style changes.

    python benchmarks/measure_fit.py --data DATA --out benchmarks/results/fits.jsonl
    python benchmarks/measure_fit.py --data DATA --out benchmarks/results/style.jsonl --style

Fits: R² of the reconstructions, on real sets at five seeds, each of which draws other images, and on made-up extremes
at one. Style: a judge, the benchmarks' network trained on the whole training part, is shown the test images that it
classifies rightly, moved the share s of the way to the style of a random training image.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path

import torch
from shared.data import Labelled, Split, digits, load_omniglot, load_parts, make_split
from shared.runner import Row, arguments, run
from shared.settings import SETTINGS
from shared.training import Batches, cross_entropy, train
from torch import Tensor
from torch.utils.data import TensorDataset

from glico_augment import GLICOAugment, LocalStyle
from glico_augment.style import transfer_style

SHARES = (0.25, 0.5, 0.75, 1.0)
JUDGED = ("digits-10", "mnist-10", "omniglot-5", "signs-10", "cifar10-50")
Load = Callable[[Path, int], Labelled]


def folder(data: str, side: int | None, *, is_grey: bool = False) -> Load:
    def load(root: Path, seed: int) -> Labelled:
        split = make_split(root, data, side, 10, seed, "test")
        return split.images[:, :1] if is_grey else split.images, split.labels

    return load


def omniglot(*, is_inverted: bool) -> Load:
    """136 characters × 5 drawers, grey, 32 pixels; strokes are black on white unless inverted."""

    def load(root: Path, seed: int) -> Labelled:
        images, labels = load_omniglot(root / "omniglot" / "background", 32)[0]
        order = torch.randperm(10, generator=torch.Generator().manual_seed(seed))[:5]
        images, labels = images[:, :1].unflatten(0, (-1, 10))[:, order], labels.unflatten(0, (-1, 10))[:, order]
        return (255 - images if is_inverted else images).flatten(0, 1), labels.flatten()

    return load


def small_digits(root: Path, seed: int) -> Labelled:
    (images, labels), _ = digits()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    chosen = torch.cat([order[labels[order] == label][:10] for label in range(10)])
    return images[chosen], labels[chosen]


REAL: dict[str, Load] = {
    "MNIST, 28 px, 10 per class": folder("mnist", None, is_grey=True),
    "Omniglot, white on black, 32 px, 136 × 5": omniglot(is_inverted=True),
    "Omniglot, black on white, 32 px, 136 × 5": omniglot(is_inverted=False),
    "digits, 8 px, 10 per class": small_digits,
    "signs, 64 px, 10 per class": folder("signs", 64),
    "CIFAR-10, 32 px, 10 per class": folder("cifar10", None),
}
KINDS = ("nearly constant", "one bright pixel", "two grey levels", "very dark", "very light", "saturated")
COUNTS = (2, 20, 1000)


def extreme(kind: str, count: int) -> Labelled:
    """Made-up images: 32 × 32, or 16 × 16 where there are 1,000; most are of squares of a quarter of the side."""
    generator = torch.Generator().manual_seed(0)
    side = 16 if count == 1000 else 32
    if kind == "nearly constant":
        images = torch.randint(127, 130, (count, 3, side, side), generator=generator)
    elif kind == "one bright pixel":
        places = torch.randint(side * side, (count, 1, 1), generator=generator)
        images = torch.zeros(count, 1, side * side).scatter(2, places, 255).unflatten(2, (side, side))
    else:
        uniform = torch.rand(count, 3, 4, 4, generator=generator)
        values = {
            "two grey levels": 100 + (uniform[:, :1] < 0.5).float(),
            "very dark": 5 * uniform,
            "very light": 255 - 5 * uniform,
            "saturated": 255.0 * (uniform < 0.5),
        }[kind]
        images = values.round().repeat_interleave(side // 4, 2).repeat_interleave(side // 4, 3)
    return images.to(torch.uint8), torch.arange(count) % 2


def main() -> None:
    args = arguments(
        __doc__,
        seeds=([0, 1, 2, 3, 4], "of the real sets; a style is measured at the first"),
        only=([""], "parts of the names of sets"),
        style=(False, "measure the style in place of the fit"),
        settings=(list(JUDGED), "whose style is measured; images per class are not counted here"),
        steps=(1200, "of the judge"),
    )
    if args.style:
        units = [{"data": SETTINGS[name].data, "seed": args.seeds[0], "steps": args.steps} for name in args.settings]
        run(args, units, measure_style)
        return
    plan = [(name, None, seed) for seed, name in product(args.seeds, REAL)]
    plan += [(kind, count, 0) for count, kind in product(COUNTS, KINDS)]
    chosen = [each for each in plan if any(part in each[0] for part in args.only)]
    run(args, [{"set": s, "count": n, "seed": seed, "device": args.device} for s, n, seed in chosen], measure_fit)


def measure_fit(args: argparse.Namespace, unit: Row) -> Row:
    name, count, seed = unit["set"], unit["count"], unit["seed"]
    images, labels = extreme(name, count) if count else REAL[name](args.data, seed)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a fit that has not learned: it is what is measured
        augment = GLICOAugment.fit(TensorDataset(images, labels), seed=seed, device=args.device, progress=False)
    figures = {"seconds": time.perf_counter() - start, "steps": len(augment.record.losses)}
    return figures | {"r2": augment.quality.r2, "restarts": augment.record.restarts}


def measure_style(args: argparse.Namespace, unit: Row) -> Row:
    setting = next(each for each in SETTINGS.values() if each.data == unit["data"])
    setting = dataclasses.replace(setting, steps=args.steps, batched=False)
    (images, labels), (test_images, test_labels) = load_parts(args.data, setting.data, setting.side)
    split = Split(images, labels, test_images, test_labels)
    batches = Batches(split, setting.flip)
    judge = train(split, setting, batches, cross_entropy, unit["seed"])

    @torch.no_grad()
    def classes(shown: Tensor) -> Tensor:
        return torch.cat([judge(batches.normalize(chunk)).argmax(1) for chunk in shown.split(250)])

    is_right = classes(test_images) == test_labels
    known, known_labels = test_images[is_right], test_labels[is_right]
    styles = LocalStyle(TensorDataset(images)).styles
    generator = torch.Generator().manual_seed(unit["seed"])
    chosen = styles[torch.randint(len(styles), (len(known),), generator=generator)]
    row = {"judge_accuracy": 100 * is_right.float().mean().item()}
    for share in SHARES:
        moved = transfer_style(known / 255, chosen, torch.full((len(known),), share))
        changed = classes((moved * 255).round().to(torch.uint8)) != known_labels
        row[f"changed_{share:g}"] = 100 * changed.float().mean().item()
    return row


if __name__ == "__main__":
    main()
