"""Accuracy of small heads on features learned without labels, over the labelled images per class.

    python benchmarks/measure_features.py --data DATA --out benchmarks/results/features.jsonl

A space of features is learned once per data set, from the images of its training part without their labels. For every
seed images are drawn from them, as many of each class, and a head learns their labels. Of a space with variants (time
steps, layers) the one is taken whose linear head is best on the validation images at 16 per class; those rows are kept
as well. Features are kept in --fits. With --pictures FOLDER the test images of every space are shown as UMAP (McInnes
et al. 2018) lays them out.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
import warnings
from functools import lru_cache
from itertools import product
from pathlib import Path

import torch
from features import heads
from features.pools import Pool, as_split, load_pool, score_from_scratch, setting_of
from features.spaces import SPACES, effort_of
from shared.fits import kept
from shared.runner import Row, append_row, arguments, is_of, machine, parse_fields, read_rows, run
from torch import Tensor

COUNTS = (1, 2, 4, 8, 16, 32, 64)
CHOOSE_AT = 16
"""Labelled images per class at which a variant is chosen; the most there are, where those are fewer."""
BASELINE, UNCHANGED, NETWORK = "scratch", "scratch, no shifts", "network"
"""Spaces and head of a network that learns from the labelled images alone, shifted (and flipped) or as they are."""
BASELINES = (BASELINE, UNCHANGED)
pool_of = lru_cache(maxsize=2)(load_pool)


def main() -> None:
    args = arguments(
        __doc__,
        sets=(["mnist", "cifar10"], "data sets"),
        spaces=([*BASELINES, *SPACES], "of features"),
        per_class=(list(COUNTS), "labelled images"),
        feature_seed=(0, "of what learns the features"),
        validation=(50, "training images per class to choose settings on"),
        test=(100, "test images per class, at most"),
        effort=([str], "SPACE_FIELD=VALUE of features.spaces.EFFORT"),
        pictures=(Path, "folder of the pictures; none are made without"),
    )
    args.effort = parse_fields(args.effort or [])
    units = []
    for data, space in product(args.sets, args.spaces):
        identity = {"data": data, "space": space, "feature_seed": args.feature_seed}
        shapes = product(args.seeds, args.per_class, [NETWORK] if space in BASELINES else heads.HEADS)
        units += [identity | {"part": "test", "head": h, "per_class": n, "seed": seed} for seed, n, h in shapes]
    run(args, units, measure)
    for data in args.sets if args.pictures is not None else ():
        picture(data, args)


def measure(args: argparse.Namespace, unit: Row) -> Row:
    data, space, device = unit["data"], unit["space"], torch.device(args.device)
    pool = pool_of(args.data, data, args.validation, args.test)
    common = {"unlabelled": len(pool.train[0]), "n_validation": len(pool.validation[0]), "n_test": len(pool.test[0])}
    common["effort"] = effort_of(BASELINE if space in BASELINES else space, args.effort)
    if space in BASELINES:
        rows, start = pool.draw(unit["seed"], unit["per_class"]), time.perf_counter()
        setting = setting_of(data, unit["per_class"], common["effort"]["steps"])
        split = as_split((pool.train[0][rows], pool.train[1][rows]), pool.test).to(device)
        reached = score_from_scratch(split, setting, unit["seed"], is_shifted=space == BASELINE)
        return {"variant": "", "accuracy": reached, "seconds_of_training": time.perf_counter() - start} | common
    content = features_of(args, data, space)
    variant = choose(args, data, space)
    scored = heads.score(
        unit["head"], *examples(args, data, space, variant, unit["seed"], unit["per_class"]), unit["seed"]
    )
    size = content["variants"][variant][0].shape[1]
    return {"variant": variant, "n_features": size} | scored | content["record"] | common


def drawn(pool: Pool, args: argparse.Namespace) -> Tensor:
    """All training images that any seed draws."""
    return torch.cat([pool.draw(seed, max(args.per_class)) for seed in args.seeds]).unique()


def features_of(args: argparse.Namespace, data: str, space: str) -> Row:
    """``variants``: features of drawn, validation and test images by name; and a ``record`` of the training."""
    identity = [data, space, args.feature_seed, args.seeds, max(args.per_class), args.validation, args.test]
    effort = effort_of(space, args.effort)

    def make() -> Row:
        pool, start = pool_of(args.data, data, args.validation, args.test), time.perf_counter()
        torch.manual_seed(args.feature_seed)
        images = pool.train[0]
        describe, record = SPACES[space](images, effort, args.feature_seed, torch.device(args.device))
        trained = time.perf_counter()
        parts = [images[drawn(pool, args)], pool.validation[0], pool.test[0]]
        described = describe(torch.cat(parts))
        record |= {"seconds_of_training": trained - start, "seconds_of_features": time.perf_counter() - trained}
        sizes = [len(part) for part in parts]
        return {
            "variants": {each: list(made.float().split(sizes)) for each, made in described.items()},
            "record": record,
        }

    return kept(args.fits, f"features-{data}-{space}", [*identity, effort], make)


def examples(
    args: argparse.Namespace, data: str, space: str, variant: str, seed: int, per_class: int
) -> list[heads.Examples]:
    """Features and labels of the images drawn, of the validation and of the test images."""
    pool = pool_of(args.data, data, args.validation, args.test)
    labelled, validation, test = features_of(args, data, space)["variants"][variant]
    rows = pool.draw(seed, per_class)
    known = (labelled[torch.searchsorted(drawn(pool, args), rows)], pool.train[1][rows])
    return [known, (validation, pool.validation[1]), (test, pool.test[1])]


def choose(args: argparse.Namespace, data: str, space: str) -> str:
    """The variant whose linear head is best on the validation images, on average over the seeds, which are kept."""
    variants = list(features_of(args, data, space)["variants"])
    if len(variants) == 1:
        return variants[0]
    count = CHOOSE_AT if CHOOSE_AT in args.per_class else max(args.per_class)
    reached: dict[str, list[float]] = {variant: [] for variant in variants}
    known = read_rows(args.out)
    for variant, seed in product(variants, args.seeds):
        unit = {"data": data, "space": space, "feature_seed": args.feature_seed, "part": "validation"}
        unit |= {"variant": variant, "head": "linear", "per_class": count, "seed": seed}
        row = next((row for row in known if is_of(row, unit)), None)
        if row is None:
            scored = heads.score("linear", *examples(args, data, space, variant, seed, count), seed)
            row = unit | {"accuracy": scored["validation_accuracy"], "chosen": scored["chosen"]}
            append_row(args.out, row | {"effort": effort_of(space, args.effort)} | machine(torch.device(args.device)))
        reached[variant].append(row["accuracy"])
    return max(reached, key=lambda variant: statistics.mean(reached[variant]))


def picture(data: str, args: argparse.Namespace, columns: int = 4) -> None:
    """The test images as UMAP lays out each space, those of a class in one colour: one grid of panels."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    panels: dict[str, Tensor] = {}
    for space in (each for each in args.spaces if each not in BASELINES):
        variants = features_of(args, data, space)["variants"]
        for variant in sorted({choose(args, data, space), "codes"} & variants.keys()):
            panels[f"{space} {variant}".strip()] = layout(variants[variant][2], args.feature_seed)
    lines = math.ceil(len(panels) / columns)
    figure, axes = plt.subplots(lines, columns, figsize=(3 * columns, 3.2 * lines), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    labels = pool_of(args.data, data, args.validation, args.test).test[1]
    for axis, (title, places) in zip(axes.flat, panels.items(), strict=False):
        axis.scatter(places[:, 0], places[:, 1], c=labels, cmap="tab10", s=4, linewidths=0)
        axis.set_title(title)
    args.pictures.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.pictures / f"umap-{data}.png", dpi=90, bbox_inches="tight")
    plt.close(figure)


def layout(features: Tensor, seed: int) -> Tensor:
    """Where UMAP puts the rows of ``(n, d)``, brought to one scale, ``(n, 2)``."""
    from umap import UMAP  # needed here alone

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed makes it slower
        mapper = UMAP(n_neighbors=min(15, len(features) - 1), random_state=seed)
        return torch.from_numpy(mapper.fit_transform(heads.scaler(features, "all")(features).numpy()))


if __name__ == "__main__":
    main()
