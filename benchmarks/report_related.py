"""Fill RELATED.md from results/.

python benchmarks/report_related.py
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from features.heads import HEADS
from latent.images import SOURCES
from measure_accuracy import SAMPLERS
from measure_features import BASELINE, BASELINES, COUNTS, NETWORK, UNCHANGED
from measure_metacgan import ALL, REAL
from shared.runner import Row, read_rows
from shared.tables import ABSENT, MIN_SEEDS, Interval, Scores, comparison, fill, gains, markdown, scores

HERE = Path(__file__).parent
NAMES = {"mnist": "MNIST", "omniglot": "Omniglot", "signs": "signs", "cifar10": "CIFAR-10"}
SETTINGS = ("mnist-5", "omniglot-1", "cifar10-10")
OTHER_CLASS = (
    ("glico-other-class", "plain"),
    ("pixel-other-class", "none"),
    ("glico-other-class", "pixel-other-class"),
    ("glico-other-class+style", "style"),
)
LEARNED_FROM = ("untrained", "augmentations", "lasium-n", "lasium-ro", "lasium-oc", "supervised")
FEATURE_SETS = ("mnist", "cifar10")
SPACES = {
    BASELINE: "network from scratch",
    UNCHANGED: "the same without shifts",
    "pixels": "pixels",
    "pca": "PCA",
    "vae": "VAE",
    "vqvae": "VQ-VAE",
    "dcgan": "DCGAN's discriminator",
    "diffusion": "diffusion UNet",
    "glico": "GLICOFeatures",
}
METACGAN = {
    "none": "no images: the ten images alone",
    REAL: "real images, the most there is",
    "averages": "averages of two images",
    "cgan": "CGAN",
    "metacgan": "MetaCGAN",
    "glico, new alone": "GLICO, the ten alone",
    "glico, base unlabelled": "GLICO, base classes unlabelled",
    "glico, base labelled": "GLICO, base classes labelled",
}
Table = dict[str, dict[int, dict[int, float]]]
"""Accuracy by space, labelled images per class, and seed."""


def main() -> None:
    names = ("encode", "tasks", "features", "metacgan", "accuracy")
    rows = {name: read_rows(HERE / "results" / f"{name}.jsonl") for name in names}
    fill(HERE / "RELATED.md", blocks(rows))


def blocks(rows: dict[str, list[Row]]) -> dict[str, str]:
    results, features = scores(rows["accuracy"]), rows["features"]
    accuracies = {f"features, {data}": accuracy_table(table_of(features, data, "linear")) for data in FEATURE_SETS}
    return {
        "encode": encode_table(rows["encode"]),
        "encode, cost": cost_table(rows["encode"]),
        "samplers": comparison(at_seeds_of(results), SETTINGS, ("none", *SAMPLERS)),
        "other class": comparison(results, SETTINGS, pairs=OTHER_CLASS),
        "tasks": tasks_table(rows["tasks"]),
        "ahead": ahead_table(features, BASELINE),
        "ahead, no shifts": ahead_table(features, UNCHANGED),
        **accuracies,
        "chosen": chosen_table(features),
        "metacgan": metacgan_table(rows["metacgan"]),
    }


def mean(rows: Iterable[Row], key: str) -> float:
    return statistics.mean(row[key] for row in rows)


def encode_table(rows: list[Row]) -> str:
    """A line per set and number of fitted images; means over seeds."""
    groups: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in rows:
        if row["what"] == "r2":
            groups[row["set"], row["count"]].append(row)
    lines = []
    for (name, count), same in sorted(groups.items(), key=lambda each: (list(SOURCES).index(each[0][0]), each[0][1])):
        figures = [mean(same, key) for key in ("r2_fitted", "r2_new", "r2_of_starts")]
        figures.append(statistics.mean(row["quantiles_new"][0] for row in same))
        lines.append([NAMES[name], f"{count:,}", *(f"{figure:.2f}" for figure in figures)])
    heads = ["", "images fitted", "R² of those", "R² of new ones", "of their best starts", "a tenth is under"]
    return markdown(heads, lines)


def cost_table(rows: list[Row]) -> str:
    lines = []
    for name in SOURCES:
        if found := [row for row in rows if (row["what"], row["set"]) == ("cost", name)]:
            figures = [f"{mean(found, f'{which}_milliseconds'):.2f} ms" for which in ("fit", "encode")]
            lines.append([NAMES[name], *figures, f"{mean(found, 'ratio'):.2f}"])
    return markdown(["", "step and image of a fit", "step and start of `encode`", "ratio"], lines)


def at_seeds_of(results: dict[str, Scores], methods: tuple[str, ...] = SAMPLERS[1:]) -> dict[str, Scores]:
    """The scores at the seeds at which one of ``methods`` was run."""
    chosen = {}
    for name in SETTINGS:
        table = results.get(name, {})
        seeds = set().union(*(table.get(method, {}) for method in methods))
        chosen[name] = {each: {s: v for s, v in found.items() if s in seeds} for each, found in table.items()}
    return chosen


def tasks_table(rows: list[Row]) -> str:
    """Means over seeds, with the 95 % interval over all their tasks, and the lowest and the highest seed."""
    rows = [row for row in rows if row["part"] == "test"]
    cases = [(name, n_shot) for name in ("omniglot", "mnist") for n_shot in (1, 5)]
    run, lines = sorted({row["method"] for row in rows}), []
    for method in (each for base in LEARNED_FROM for each in run if base == each.partition(":")[0].partition("+")[0]):
        same = [row for row in rows if row["method"] == method]
        cells = [task_cell([row for row in same if (row["set"], row["n_shot"]) == case]) for case in cases]
        for name in ("omniglot", "mnist"):
            found = [row["pixel_accuracy"] for row in same if row["set"] == name and "pixel_accuracy" in row]
            cells.append(f"{statistics.mean(found):.1f}" if found else "")
        lines.append([learned_from(same[0]), *cells])
    heads = [f"{NAMES[name]}, {n_shot} shot{'s' * (n_shot > 1)}" for name, n_shot in cases]
    return markdown(["", *heads, "Omniglot: its tasks by pixels", "MNIST: its tasks by pixels"], lines)


def task_cell(found: list[Row]) -> str:
    if not found:
        return ABSENT
    half_width = math.sqrt(sum(row["half_width"] ** 2 for row in found)) / len(found)
    values = [row["accuracy"] for row in found]
    return f"{statistics.mean(values):.1f} ± {half_width:.1f} ({min(values):.1f} to {max(values):.1f})"


def learned_from(row: Row) -> str:
    """A method with the parameters it was run with."""
    name = row["method"].partition(":")[0]
    if "swap" not in row:
        return name
    swap = row["swap"]
    return (
        f"{name}, σ = {swap['sampler_std']:g}" if swap["sampler"] == "noise" else f"{name}, α ≤ {swap['max_ratio']:g}"
    )


def table_of(rows: Iterable[Row], data: str, head: str) -> Table:
    """The rows of the test images of a data set; the baseline, which has a head of its own, beside every head.

    Raises:
        ValueError: if two rows are of the same space, count and seed.
    """
    table: Table = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if (row["data"], row["part"]) == (data, "test") and row["head"] in (head, NETWORK):
            scored = table[row["space"]][row["per_class"]]
            if row["seed"] in scored:
                where = f"{row['space']}, {head}, {row['per_class']} per class, seed {row['seed']}"
                raise ValueError(f"two rows of {where}")
            scored[row["seed"]] = row["accuracy"]
    return table


def ahead(table: Table, space: str, count: int, reference: str = BASELINE) -> Interval | None:
    """What a space is ahead of a baseline at the seeds that both have."""
    paired = gains({name: by_count.get(count, {}) for name, by_count in table.items()}, space, reference)
    return Interval.of(paired.values()) if paired else None


def accuracy_table(table: Table) -> str:
    lines = []
    for space, name in SPACES.items():
        cells = []
        for count in COUNTS:
            values, gain = list(table[space][count].values()), ahead(table, space, count)
            is_bold = space not in BASELINES and gain is not None and gain.mean > 0
            value, _, deviation = spread(values, 1).partition(" ")
            cells.append(f"{f'**{value}**' if is_bold else value} {deviation}".strip() or ABSENT)
        lines.append([name, *cells])
    return markdown(["features", *map(str, COUNTS)], lines)


def spread(values: list[float], digits: int) -> str:
    if not values:
        return ""
    shown = f"{statistics.mean(values):.{digits}f}"
    return shown if len(values) == 1 else f"{shown} ± {statistics.stdev(values):.{digits}f}"


def lead(table: Table, space: str, reference: str = BASELINE, *, is_certain: bool) -> int:
    """The count up to which, from the smallest on, a space is ahead of a baseline on average, or certainly; or 0.

    Certain is what a 95 % interval of the paired differences over at least three seeds excludes zero of.
    """
    reached = 0
    for count in COUNTS:
        if (gain := ahead(table, space, count, reference)) is None:
            continue
        if gain.mean <= 0 or (is_certain and (gain.count < MIN_SEEDS or not gain.excludes_zero)):
            break
        reached = count
    return reached


def ahead_table(rows: list[Row], reference: str) -> str:
    cases = [(data, head) for data in FEATURE_SETS for head in HEADS]
    tables, lines = [table_of(rows, data, head) for data, head in cases], []
    for space in (each for each in SPACES if each not in BASELINES):
        leads = [[lead(table, space, reference, is_certain=certain) for certain in (False, True)] for table in tables]
        lines.append([SPACES[space], *(f"{first or ABSENT} ({certain or ABSENT})" for first, certain in leads)])
    return markdown(["features", *(f"{NAMES[data]}, {head}" for data, head in cases)], lines)


def chosen_table(rows: list[Row]) -> str:
    """Accuracies on the validation images of the variants of a space, the best one bold."""
    lines = []
    for data in FEATURE_SETS:
        for space in ("glico", "diffusion"):
            reached: dict[str, list[float]] = defaultdict(list)
            for row in rows:
                if (row["data"], row["space"], row["part"]) == (data, space, "validation"):
                    reached[row["variant"]].append(row["accuracy"])
            means = {variant: statistics.mean(values) for variant, values in reached.items()}
            texts = [f"{each} {value:.1f}" for each, value in means.items()]
            shown = [f"**{t}**" if v == max(means.values()) else t for t, v in zip(texts, means.values(), strict=True)]
            lines.append([NAMES[data], SPACES[space], ", ".join(shown)])
    return markdown(["data", "features", "accuracy on the validation images, of each variant"], lines)


def metacgan_table(rows: list[Row]) -> str:
    """Means over the seeds, with their standard deviations; of the accuracy also the paired gain on no images."""
    figures = {
        "inception_score": ("IS", 2),
        "fid": ("FID", 1),
        "kid": ("KID", 2),
        "right_class": ("in their class, %", 1),
    }
    figures["accuracy"] = ("accuracy, %", 1)
    accuracies = {method: {row["seed"]: row["accuracy"] for row in rows if row["method"] == method} for method in ALL}
    lines = []
    for method in ALL:
        found = [row for row in rows if row["method"] == method]

        def of(name: str, digits: int, found: list[Row] = found) -> str:
            return spread([row[name] for row in found if name in row], digits)

        gain = str(Interval.of(gains(accuracies, method, "none").values())) if method != "none" else ""
        seconds = "" if method == REAL else of("seconds", 0).split(" ±")[0]
        cells = [of(name, digits) for name, (_, digits) in figures.items()]
        lines.append([METACGAN[method], str(len(found)), *cells, gain, of("r2_of_new", 2), seconds])
    heads = [*(text for text, _ in figures.values()), "gain on no images", "R² of the ten", "seconds"]
    return markdown(["images", "seeds", *heads], lines)


if __name__ == "__main__":
    main()
