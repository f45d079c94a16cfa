"""Compare recipes of augmentation on one's own images, which are held out of fits and training to be tested on.

What is compared is paired: for all recipes of a run the photographs, their order and shifts, and the initial weights
are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from glico_augment import checks
from glico_augment.checks import shown
from glico_augment.comparison.recipes import NONE, RECIPES, Recipe
from glico_augment.comparison.result import Comparison
from glico_augment.comparison.training import Experiment, Labelled, Split
from glico_augment.config import FitConfig
from glico_augment.data.folders import random_per_class
from glico_augment.data.image_set import read_image_set
from glico_augment.data.sources import as_dataset
from glico_augment.devices import check_memory, choose_device, cpu_by_default, memory_of
from glico_augment.fit.run import MAX_STEPS
from glico_augment.images.values import promote_channels
from glico_augment.optional import advancing


def compare(
    train: Any,
    test: Any = None,
    *,
    recipes: Mapping[str, Recipe] = RECIPES,
    per_class: int | None = None,
    draws: int | None = None,
    folds: int = 5,
    steps: int = 2000,
    image_size: int | tuple[int, int] = 32,
    fit: Mapping[str, Any] | None = None,
    flip: bool = False,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Comparison:
    """Train a small network with each recipe of augmentation, and score it on images that were held out.

    Args:
        train: labelled photographs, as :meth:`GLICOAugment.fit` takes them: a dataset, or a folder of class folders.
        test: others to test on; None for cross-validation by stratified folds, each with a fit of its own.
        recipes: by name, :data:`NONE` among them.
        per_class: train on so many random images of each class, others at each draw; None for all.
        draws: how often all is repeated with other weights, order and folds; None for 1 with folds, and else 5.
        folds: at least 2.
        steps: of SGD, with batches of 10 images.
        image_size: side or ``(height, width)`` that images are brought to.
        fit: settings of :class:`FitConfig` and :class:`SwapConfig` that differ from their defaults.
        flip: whether images are mirrored at random too, in all recipes: only where a mirror image is of the same class.
        seed: of everything random.
        device: where to work; None picks CUDA, MPS or the CPU.
        progress: print how long it will take, and show a bar where tqdm is installed.

    Raises:
        TypeError, ValueError: for images that cannot be read or compared; the message says what was expected.
    """
    draws = checks.integer(1)("draws", (1 if test is None else 5) if draws is None else draws)
    steps = checks.integer(1, high=MAX_STEPS)("steps", steps)
    if NONE not in recipes:
        raise ValueError(f"recipes must have {NONE!r}, which the others are compared with; got {', '.join(recipes)}")
    device = choose_device(device)
    with cpu_by_default():
        few = _read(train, image_size)
        many = few if test is None else _read_test(test, few)
        folds = checks.integer(2, high=len(few.labels))("folds", folds)
        split = _in_folds(few, folds, draws, seed) if test is None else _in_two(few, many, draws)
        splits = [_with_few(each, few, per_class, seed) for each in split]
        experiment = Experiment(few, many, recipes, steps, dict(fit or {}), flip, seed, device)
        if progress:
            wait = duration(experiment.seconds(splits))
            print(f"{len(splits)} runs of {len(recipes)} recipes take about {wait} on {device.type}", flush=True)
        return _run(experiment, splits, draws, progress)


def _run(experiment: Experiment, splits: Sequence[Split], draws: int, progress: bool) -> Comparison:
    """Fit, train and test at every split."""
    recipes, count = experiment.recipes, len(experiment.many.labels)
    hits = {name: torch.zeros(draws, count, dtype=torch.bool) for name in recipes}
    runs = torch.zeros(draws, count, dtype=torch.int64)
    r2: list[float] = []
    with advancing("compare", len(splits) * (1 + len(recipes)), unit="part", enabled=progress) as advance:
        for run, split in enumerate(splits):
            runs[split.draw, split.test] = run
            pools = experiment.pools(split)
            r2 += [] if pools.r2 is None else [pools.r2]
            advance()
            for name, recipe in recipes.items():
                hits[name][split.draw, split.test] = experiment.train(split, pools, recipe)
                advance()
    height, width = experiment.few.images.shape[-2:]
    return Comparison(hits, runs, r2, (height, width))


def _read(dataset: Any, image_size: int | tuple[int, int], channels: int | None = None) -> Labelled:
    """Images at one size, grey or RGB, as AutoAugment knows no transparency."""
    source = as_dataset(dataset)
    size = FitConfig(image_size=image_size).image_size
    height, width = (size, size) if isinstance(size, int) else size or (1, 1)
    needed, memory = 3 * len(source) * height * width, memory_of(torch.device("cpu"))
    check_memory(needed, f"a comparison of {len(source):,} images", "lower the image size", memory=memory)
    read = read_image_set(source, image_size=(height, width), channels=channels)
    found, positions = read.labels.unique(return_inverse=True)
    names = [str(label) if name is None else name for label, name in zip(found.tolist(), read.class_names, strict=True)]
    if not read.is_labeled or len(names) < 2:
        what = f"one class, {shown(names[0])}" if read.is_labeled else "no labels"
        raise ValueError(f"a comparison needs labelled images of two classes or more; these have {what}")
    n_channels = read.images.shape[1]
    if n_channels > 4:
        raise ValueError(f"a comparison is of grey or RGB images; these have {n_channels} channels")
    images = promote_channels(read.images, 1 if n_channels < 3 else 3)
    return Labelled(images, positions, tuple(names))


def _read_test(dataset: Any, few: Labelled) -> Labelled:
    height, width = few.images.shape[-2:]
    many = _read(dataset, (height, width), few.images.shape[1])
    if few.names != many.names:
        differ = [
            f"only {part} has {', '.join(map(shown, names))}"
            for part, names in (
                ("the training part", [name for name in few.names if name not in many.names]),
                ("the test part", [name for name in many.names if name not in few.names]),
            )
            if names
        ]
        raise ValueError(f"training and test images must be of the same classes; {' and '.join(differ)}")
    return many


def _in_folds(few: Labelled, folds: int, draws: int, seed: int) -> Iterator[Split]:
    """Stratified folds, others at each draw, each tested on once."""
    for name, count in zip(few.names, torch.bincount(few.labels).tolist(), strict=True):
        if count < 2:
            raise ValueError(
                f"class {shown(name)} has {count} image, and folds need 2 of each class, one of them to test on: add "
                "images, or give a test folder"
            )
    for draw in range(draws):
        order = torch.randperm(len(few.labels), generator=torch.Generator().manual_seed(seed + draw))
        order = order[few.labels[order].argsort(stable=True)]
        fold = torch.empty_like(order)
        fold[order] = torch.arange(len(order)) % folds
        for each in range(folds):
            yield Split(draw, (fold != each).nonzero().flatten(), (fold == each).nonzero().flatten())


def _in_two(few: Labelled, many: Labelled, draws: int) -> Iterator[Split]:
    for draw in range(draws):
        yield Split(draw, torch.arange(len(few.labels)), torch.arange(len(many.labels)))


def _with_few(split: Split, few: Labelled, per_class: int | None, seed: int) -> Split:
    """A split with so many random training images of each class."""
    if per_class is None:
        return split
    chosen = random_per_class(few.labels[split.train], few.names, per_class, seed=seed + split.draw)
    return split._replace(train=split.train[chosen])


def duration(seconds: float) -> str:
    """A time in words, in the largest unit of which there are two: ``"4 minutes"``."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}s"
    whole = max(1, round(seconds))
    return f"{whole} second{'s' * (whole > 1)}"
