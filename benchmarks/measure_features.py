"""Accuracy of small heads on features learned without labels, over the labelled images a class.

    python benchmarks/measure_features.py --data DATA --out benchmarks/results/features.jsonl

A space of features is learned once a data set, from the images of its training part without their labels. For every
seed images are drawn from them, as many of each class, and a head learns their labels. Of a space with variants (time
steps, layers) the one is taken whose linear head is best on the validation images at 16 a class; those rows are kept as
well, and how many of the nearest neighbours of a test image are of its class. A row that is in --out already is
skipped; features are kept in --fits. With --pictures FOLDER the test images of every space are shown as UMAP (McInnes
et al. 2018) lays them out.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accuracy.rows import append_row, machine, read_rows
from accuracy.settings import parse_fields
from features import baseline, heads
from features.pools import Pool, load_pool
from features.spaces import SPACES, Effort
from torch import Tensor

COUNTS = (1, 2, 4, 8, 16, 32, 64)
NEIGHBOURS = "neighbours"
"""Part of a result file, beside ``validation`` and ``test``."""
CHOOSE_AT = 16
"""Labelled images a class at which a variant is chosen; the most there are, where those are fewer."""
BASELINE, UNCHANGED, NETWORK = "scratch", "scratch, no shifts", "network"
"""Spaces and head of a network that learns from the labelled images alone, shifted (and flipped) or as they are."""
BASELINES = (BASELINE, UNCHANGED)
Row = dict[str, Any]


class Features:
    """The features of a pool's images: of those that may be drawn, of validation and of test images."""

    def __init__(self, pool: Pool, data: str, space: str, args: argparse.Namespace) -> None:
        self.pool, self.space, self.args = pool, space, args
        self.drawn = torch.cat([pool.draw(seed, max(args.per_class)) for seed in args.seeds]).unique()
        identity = [data, space, args.feature_seed, args.seeds, max(args.per_class), args.validation, args.test]
        identity.append(args.effort.of(space))
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
        self.path = args.fits / f"features-{data}-{space}-{digest}.pt"

    @functools.cached_property
    def content(self) -> dict[str, Any]:
        """``variants``, three tensors ``(n, d)`` by name, and what to ``record`` of the training."""
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(self.make(), self.path)
        return torch.load(self.path, weights_only=True)

    def make(self) -> dict[str, Any]:
        args, start = self.args, time.perf_counter()
        torch.manual_seed(args.feature_seed)
        images = self.pool.train[0]
        space = SPACES[self.space](images, args.effort, args.feature_seed, torch.device(args.device))
        trained = time.perf_counter()
        parts = [images[self.drawn], self.pool.validation[0], self.pool.test[0]]
        described = space.describe(torch.cat(parts))
        sizes = [len(part) for part in parts]
        seconds = {"training": trained - start, "features": time.perf_counter() - trained}
        record = space.details | {f"seconds_of_{name}": round(value, 1) for name, value in seconds.items()}
        variants = {name: list(values.float().split(sizes)) for name, values in described.items()}
        return {"variants": variants, "record": record}

    def parts(self, variant: str, seed: int, per_class: int) -> list[heads.Examples]:
        """Features and labels of the images drawn, of the validation and of the test images."""
        labelled, validation, test = self.content["variants"][variant]
        rows, pool = self.pool.draw(seed, per_class), self.pool
        examples = (labelled[torch.searchsorted(self.drawn, rows)], pool.train[1][rows])
        return [examples, (validation, pool.validation[1]), (test, pool.test[1])]


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    for data in args.sets:
        pool = load_pool(args.data, data, args.validation, args.test)
        for space in args.spaces:
            measure(pool, data, space, args)
        if args.pictures is not None:
            picture(pool, data, args)


def measure(pool: Pool, data: str, space: str, args: argparse.Namespace) -> None:
    """Add the rows of a space that are not there yet."""
    names = ("data", "space", "head", "per_class", "seed", "feature_seed")
    known = read_rows(args.out)
    done = {tuple(row[name] for name in names) for row in known if row["part"] == "test"}
    identity = {"data": data, "space": space, "feature_seed": args.feature_seed}
    units = [
        identity | {"head": head, "per_class": per_class, "seed": seed}
        for seed in args.seeds
        for per_class in args.per_class
        for head in ([NETWORK] if space in BASELINES else heads.HEADS)
    ]
    wanted = [unit for unit in units if tuple(unit[name] for name in names) not in done]
    wants_neighbours = space not in BASELINES and not any(
        row["part"] == NEIGHBOURS and identity.items() <= row.items() for row in known
    )
    if not wanted and not wants_neighbours:
        return
    common = {"unlabelled": len(pool.train[0]), "n_validation": len(pool.validation[0]), "n_test": len(pool.test[0])}
    common |= {
        "effort": args.effort.of(BASELINE if space in BASELINES else space),
        "scikit_learn": version("scikit-learn"),
        **machine(torch.device(args.device)),
    }
    if space in BASELINES:
        for unit in wanted:
            add(args.out, unit | {"variant": "", "part": "test"} | score_baseline(pool, unit, args) | common)
        return
    features = Features(pool, data, space, args)
    variant = choose(features, args, common | identity)
    for unit in wanted:
        scored = heads.score(unit["head"], *features.parts(variant, unit["seed"], unit["per_class"]), unit["seed"])
        size = features.content["variants"][variant][0].shape[1]
        row = unit | {"variant": variant, "part": "test", "n_features": size} | scored
        add(args.out, row | features.content["record"] | common)
    if wants_neighbours:
        for each, (_, _, tested) in features.content["variants"].items():
            share = heads.share_of_neighbours(tested, pool.test[1])
            row = identity | {"part": NEIGHBOURS, "variant": each, "share": share, "n_neighbours": heads.N_NEIGHBOURS}
            append_row(args.out, row | common)
            print(f"{data}, {space} {each}: {share:.1f} % of the neighbours are of the class", flush=True)


def choose(features: Features, args: argparse.Namespace, common: Row) -> str:
    """The variant whose linear head is best on the validation images, on average over the seeds."""
    variants = features.content["variants"]
    if len(variants) == 1:
        return next(iter(variants))
    count = CHOOSE_AT if CHOOSE_AT in args.per_class else max(args.per_class)
    names = ("data", "space", "variant", "per_class", "seed", "feature_seed")
    known = {tuple(row[name] for name in names): row for row in read_rows(args.out) if row["part"] == "validation"}
    reached: dict[str, list[float]] = {variant: [] for variant in variants}
    for variant in variants:
        for seed in args.seeds:
            unit = common | {"variant": variant, "head": "linear", "per_class": count, "seed": seed}
            row = known.get(tuple(unit[name] for name in names))
            if row is None:
                scored = heads.score("linear", *features.parts(variant, seed, count), seed)
                row = unit | {"part": "validation", "accuracy": scored["validation_accuracy"]}
                row |= {"chosen": scored["chosen"], "n_features": variants[variant][0].shape[1]}
                add(args.out, row)
            reached[variant].append(row["accuracy"])
    return max(reached, key=lambda variant: statistics.mean(reached[variant]))


def score_baseline(pool: Pool, unit: Row, args: argparse.Namespace) -> Row:
    setting = baseline.setting_of(unit["data"], unit["per_class"], args.effort.scratch_steps)
    start, rows = time.perf_counter(), pool.draw(unit["seed"], unit["per_class"])
    is_shifted, device = unit["space"] == BASELINE, torch.device(args.device)
    reached = baseline.score(pool, rows, setting, unit["seed"], device, is_shifted=is_shifted)
    return {"accuracy": reached, "seconds_of_training": round(time.perf_counter() - start, 1)}


def add(path: Path, row: Row) -> None:
    append_row(path, row)
    where = f"{row['data']}, {row['space']} {row['variant']}, {row['head']}, {row['per_class']} a class"
    print(f"{where}, seed {row['seed']}, {row['part']}: {row['accuracy']:.1f} %", flush=True)


def picture(pool: Pool, data: str, args: argparse.Namespace) -> None:
    """The test images as UMAP lays out each space, those of a class in one colour: one grid of panels."""
    from features.pictures import layout, plot_layouts

    panels: dict[str, Tensor] = {}
    for space in args.spaces:
        if space not in BASELINES:
            features = Features(pool, data, space, args)
            variants = features.content["variants"]
            best = choose(features, args, {"data": data, "space": space, "feature_seed": args.feature_seed})
            for variant in sorted({best, "codes"} & variants.keys()):
                panels[f"{space} {variant}".strip()] = layout(variants[variant][2], args.feature_seed)
    plot_layouts(panels, pool.test[1], args.pictures / f"umap-{data}.png")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the folders of images")
    parser.add_argument("--out", type=Path, required=True, help="result file, appended to")
    parser.add_argument("--sets", nargs="+", default=["mnist", "cifar10"])
    parser.add_argument("--spaces", nargs="+", default=[*BASELINES, *SPACES], choices=[*BASELINES, *SPACES])
    parser.add_argument("--per-class", type=int, nargs="+", default=list(COUNTS), help="labelled images")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the draws of labelled images")
    parser.add_argument("--feature-seed", type=int, default=0, help="of what learns the features")
    parser.add_argument("--validation", type=int, default=50, help="training images a class to choose settings on")
    parser.add_argument("--test", type=int, default=100, help="test images a class, at most")
    parser.add_argument("--effort", nargs="*", default=[], help="field=value of features.spaces.Effort")
    parser.add_argument("--fits", type=Path, default=Path("fits"), help="folder of features")
    parser.add_argument("--pictures", type=Path, help="folder of the pictures; none are made without")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    args.effort = Effort(**parse_fields(args.effort))
    return args


if __name__ == "__main__":
    main()
