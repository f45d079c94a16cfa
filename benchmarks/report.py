"""Tables and plots from the result files: REPORT.md and plots/*.png.

python benchmarks/report.py
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from accuracy.methods import METHODS
from accuracy.rows import read_rows
from accuracy.settings import SETTINGS, parse_name
from accuracy.trials import Trial
from report_texts import (
    BESIDE_POLICIES,
    CLASSIFIER_WEIGHTS,
    DIGITS,
    EXPLORED,
    FOUR_DRAWS,
    GENERATORS,
    IMAGES,
    INTRODUCTION,
    TRIALS,
    TRIED,
)
from scipy import stats

mpl.use("Agg")

HERE = Path(__file__).parent
CONFIDENCE = 0.95
GPU_SETTINGS = {  # by title
    "CIFAR-10 (JPEG), 10 a class (WRN-16-8, 5000 steps)": "cifar10-10-wrn16-8",
    "CIFAR-10 (JPEG), 50 a class (WRN-16-8, 25000 steps)": "cifar10-50-wrn16-8",
    **{
        f"CIFAR-100, {count} a class (WRN-28-10, 20000 steps)": f"cifar100-{count}-wrn28-10"
        for count in (10, 25, 50, 100)
    },
}
SHORT = ("none", "pixel", "glico", "autoaugment", "glico+autoaugment")
COLOURS = dict(zip(SHORT, ("#777777", "#d8a200", "#0b6cb8", "#b04a9c", "#102a60"), strict=True))

Scores = dict[str, dict[int, float]]
"""Accuracy by method and seed."""


@dataclass(frozen=True)
class Interval:
    """A mean with its standard deviation and the half-width of its confidence interval."""

    mean: float
    deviation: float
    half_width: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Interval:
        """Student's interval of a few values."""
        values = list(values)
        if len(values) < 2:
            return cls(values[0], math.nan, math.nan, 1)
        deviation = statistics.stdev(values)
        half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * deviation / math.sqrt(len(values))
        return cls(statistics.mean(values), deviation, half, len(values))

    @property
    def excludes_zero(self) -> bool:
        return abs(self.mean) > self.half_width

    def __str__(self) -> str:
        if math.isnan(self.half_width):
            return f"{self.mean:+.1f}"
        return f"{self.mean:+.1f} [{self.mean - self.half_width:+.1f}, {self.mean + self.half_width:+.1f}]"


def main() -> None:
    results = even(scores(read_rows(HERE / "results" / "accuracy.jsonl")))
    digits = even(scores(read_rows(HERE / "results" / "digits.jsonl")))
    ablations = scores(read_rows(HERE / "results" / "ablations.jsonl"))
    plots = HERE / "plots"
    plots.mkdir(exist_ok=True)
    plot_gains(results, plots / "gains.png")
    plot_accuracy(results, plots / "accuracy.png")
    sections = [
        INTRODUCTION,
        "## Test accuracy\n",
        "![Paired gains on no augmentation](plots/gains.png)\n",
        *(accuracy_table(title, table) for title, table in results.items()),
        "## Comparisons averaged over the settings\n",
        comparison_table(results),
        DIGITS,
        *(accuracy_table(title, table) for title, table in digits.items()),
        comparison_table(digits),
        "## Accuracy over images a class\n\n![Accuracy over images a class](plots/accuracy.png)\n",
        *exploration_sections(read_rows(HERE / "results" / "exploration.jsonl")),
        *ablation_section(ablations),
        "## Quality of the images\n",
        *image_sections(read_rows(HERE / "results" / "images.jsonl")),
        "## Tuning of the baseline\n",
        tuning_table(read_rows(HERE / "results" / "tuning.jsonl")),
        "## On a GPU\n",
        gpu_table(results),
    ]
    (HERE / "REPORT.md").write_text("\n".join(sections).rstrip() + "\n")
    replace_block(HERE.parent / "README.md", "accuracy", short_table(results))


def scores(rows: list[dict[str, Any]]) -> dict[str, Scores]:
    """Accuracies by setting, method and seed."""
    results: dict[str, Scores] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        results[setting_title(row)][row["method"]][row["seed"]] = row["accuracy"]
    return results


def even(results: dict[str, Scores]) -> dict[str, Scores]:
    """The main methods of each setting at the seeds that all of them have: their means are of the same draws."""
    for table in results.values():
        main_methods = [method for method in SHORT if method in table]
        shared = set.intersection(*(set(table[method]) for method in main_methods))
        for method in main_methods:
            table[method] = {seed: table[method][seed] for seed in sorted(shared)}
    return results


def setting_title(row: dict[str, Any]) -> str:
    names = {
        "cifar10": "CIFAR-10 (JPEG)",
        "CIFAR100": "CIFAR-100",
        "signs": "Sign Language Digits, 48 px",
        "digits": "Handwritten digits, 32 px",
    }
    protocol = f"WRN-{row['depth']}-{row['width']}, {row['steps']} steps"
    return f"{names.get(row['data'], row['data'])}, {row['per_class']} a class ({protocol})"


def short(title: str) -> str:
    """A setting's title without its network."""
    return title.partition(" (WRN")[0]


def gains(table: Scores, method: str, reference: str = "none") -> list[float]:
    """Paired differences over the seeds that both have."""
    return list(gains_by_seed(table, method, reference).values())


def gains_by_seed(table: Scores, method: str, reference: str) -> dict[int, float]:
    seeds = sorted(table[method].keys() & table[reference].keys())
    return {seed: table[method][seed] - table[reference][seed] for seed in seeds}


def average_gain(results: dict[str, Scores], method: str, reference: str) -> Interval | None:
    """Of the settings at each seed first: draws of one seed share images, so that settings are not independent."""
    if not all({method, reference} <= table.keys() for table in results.values()):
        return None
    by_setting = [gains_by_seed(table, method, reference) for table in results.values()]
    shared = set.intersection(*(set(by_seed) for by_seed in by_setting))
    return Interval.of(statistics.mean(by_seed[seed] for by_seed in by_setting) for seed in sorted(shared))


def ordered(table: Scores) -> list[str]:
    known = [method for method in METHODS if method in table]
    return known + [method for method in table if method not in METHODS]


def accuracy_table(title: str, table: Scores, reference: str = "none") -> str:
    lines = [f"### {title}\n", f"| method | accuracy | gain on {reference} | seeds |", "|---|---|---|---|"]
    for method in ordered(table):
        values = Interval.of(table[method].values())
        paired = gains(table, method, reference)
        gain = "" if method == reference or not paired else str(Interval.of(paired))
        shown = f"{values.mean:.1f} ± {values.deviation:.1f}" if values.count > 1 else f"{values.mean:.1f}"
        lines.append(f"| {method} | {shown} | {gain} | {values.count} |")
    return "\n".join(lines) + "\n"


def short_table(results: dict[str, Scores]) -> str:
    """For the README: the main methods, a line a setting, each with its gain and interval."""
    lines = ["| | " + " | ".join(SHORT) + " |", "|---|" + "---|" * len(SHORT)]
    for title, table in results.items():
        cells = []
        for method in SHORT:
            if method not in table:
                cells.append("")
                continue
            accuracy = f"{statistics.mean(table[method].values()):.1f}"
            paired = gains(table, method)
            cells.append(accuracy if method == "none" else f"{accuracy}, {Interval.of(paired)}")
        lines.append(f"| {short(title)}, {len(table['none'])} seeds | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def replace_block(path: Path, name: str, text: str) -> None:
    """Put ``text`` between the comments ``<!-- name -->`` and ``<!-- end name -->`` of a file."""
    before, start, rest = path.read_text().partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- end {name} -->")
    if not (start and end):
        raise ValueError(f"{path} has no block between <!-- {name} --> and <!-- end {name} -->")
    path.write_text(before + start + text + end + after)


ON_FOUR_DRAWS = ("none", "pixel-style-3", "mixed-style-3", "mixed-style-3:classifier_weight=0.02,prototypes=0.5")
GENERATOR_DRAWS, LATER_DRAWS = range(102, 104), range(102, 106)
POLICIES = {"none": "", "autoaugment": " + AutoAugment", "randaugment": " + RandAugment"}

COMPARISONS = [
    ("glico", "none"),
    ("glico", "pixel"),
    ("glico", "autoaugment"),
    ("glico", "randaugment"),
    ("glico", "trivialaugment"),
    ("glico", "glico-half"),
    ("glico", "glico-pixel-only"),
    ("glico", "glico-style-only"),
    ("glico", "glico-generator-only"),
    ("glico", "glico-published"),
    ("glico+autoaugment", "autoaugment"),
    ("glico+autoaugment", "randaugment"),
    ("glico+autoaugment", "trivialaugment"),
    ("glico+autoaugment", "glico+full-randaugment"),
    ("glico+autoaugment", "glico"),
    ("glico+autoaugment", "glico+full-autoaugment"),
    ("glico+full-autoaugment", "autoaugment"),
    ("glico+full-autoaugment", "glico"),
    ("glico+full-autoaugment", "glico-then-autoaugment"),
    ("glico+full-randaugment", "randaugment"),
    ("glico+full-randaugment", "glico"),
    ("glico-then-autoaugment", "autoaugment"),
    ("glico-then-autoaugment", "pixel-then-autoaugment"),
    ("glico-then-autoaugment", "glico-half-then-autoaugment"),
    ("glico-half", "glico-half-lerp"),
    ("glico-half", "glico-half-no-style"),
    ("glico-half", "glico-half-no-noise"),
    ("glico-half", "glo-half"),
    ("glico-half+cutmix", "cutmix"),
]


def comparison_table(results: dict[str, Scores]) -> str:
    lines = ["| | " + " | ".join(map(short, results)) + " | average |", "|---|" + "---|" * (len(results) + 1)]
    for method, reference in COMPARISONS:
        if not any({method, reference} <= table.keys() for table in results.values()):
            continue
        cells = [
            str(Interval.of(gains(table, method, reference))) if {method, reference} <= table.keys() else ""
            for table in results.values()
        ]
        average = average_gain(results, method, reference) or ""
        lines.append(f"| {method} − {reference} | " + " | ".join(cells) + f" | {average} |")
    return "\n".join(lines) + "\n"


def ablation_section(ablations: dict[str, Scores]) -> list[str]:
    if not ablations:
        return []
    return [TRIED, *(accuracy_table(title, table) for title, table in ablations.items())]


def exploration_sections(rows: list[dict[str, Any]]) -> list[str]:
    """A section for the draws that led to the styles, one that judges the generator and one for policies beside it."""
    first = [row for row in rows if row["seed"] not in LATER_DRAWS]
    later = [row for row in rows if row["seed"] in LATER_DRAWS]
    usual = [row for row in later if explored_title(row) == short(setting_title(row))]
    alone = [row for row in usual if row["policy"] == "none" or row["kind"].startswith("mixed")]
    alone = [row for row in alone if row["seed"] in GENERATOR_DRAWS]
    small = [row for row in usual if (row["data"], row["per_class"], row["policy"]) == ("cifar10", 10, "none")]
    on_four = [row for row in small if row["kind"] in ON_FOUR_DRAWS]
    averages = [row for row in later if row["kind"].partition(":")[0] in ("none", "pixel-style-3")]
    return [
        f"{EXPLORED}\n{exploration_table(first)}",
        f"{GENERATORS}\n{exploration_table(alone)}",
        f"{FOUR_DRAWS}\n{exploration_table(on_four)}",
        f"{BESIDE_POLICIES}\n{exploration_table(averages)}",
    ]


def explored_title(row: dict[str, Any]) -> str:
    """A setting's title with what differs from its usual training."""
    usual = next(s for s in SETTINGS.values() if (s.data, s.per_class) == (row["data"], row["per_class"]))
    steps = f", {row['steps']} steps" if row["steps"] != usual.steps else ""
    rate = f", learning rate {row['lr']:g}" if row["lr"] != usual.lr else ""
    return short(setting_title(row)) + steps + rate


def exploration_table(rows: list[dict[str, Any]]) -> str:
    """Mean gain of every kind of swap on none at the same images and training seed."""
    titles = sorted({explored_title(row) for row in rows})
    none = {
        (explored_title(row), row["seed"], row["training"]): row["accuracy"]
        for row in rows
        if row["kind"] == "none" and row["policy"] == "none"
    }
    groups: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        title = explored_title(row)
        kind = row["kind"].replace("none", "") + POLICIES[row["policy"]]
        if (reference := none.get((title, row["seed"], row["training"]))) is not None and kind:
            groups[kind.removeprefix(" + ")][title].append(row["accuracy"] - reference)
    lines = ["| swap | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    for kind in sorted(groups):
        gained = [groups[kind][title] for title in titles]
        cells = [f"{statistics.mean(values):+.1f} ({len(values)})" if values else "" for values in gained]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def tuning_table(rows: list[dict[str, Any]]) -> str:
    """Mean accuracy of none by learning rate and weight decay."""
    groups: dict[tuple[float, float], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[row["lr"], row["weight_decay"]][setting_title(row)].append(row["accuracy"])
    titles = sorted({setting_title(row) for row in rows})
    lines = [
        "Mean accuracy of none on held-out training images, at seeds apart from the final ones. One pair was chosen",
        "for each data set, by its two settings together: 0.1 and 0.005 for CIFAR-10, which at 50 a class was tuned",
        "again at twice the steps, and 0.3 and 0.005 for signs and digits; README.md says why not 0.02.\n",
        "| learning rate | weight decay | " + " | ".join(titles) + " |",
        "|---|---|" + "---|" * len(titles),
    ]
    for (lr, decay), by_title in sorted(groups.items()):
        cells = [f"{statistics.mean(by_title[title]):.1f}" if by_title[title] else "" for title in titles]
        lines.append(f"| {lr:g} | {decay:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


BASELINES = ("pixel averaging", "generator", "generator:classifier_weight=0.02")


def image_sections(rows: list[dict[str, Any]]) -> list[str]:
    test, validation = ([row for row in rows if row["part"] == part] for part in ("test", "validation"))
    tried = [row for row in validation if Trial.split_fields(parse_name(row["source"])[1])[0] != Trial()]
    plain = [row for row in validation if row not in tried]
    settings = {row["setting"] for row in tried}
    tried += [row for row in plain if row["source"] in BASELINES and row["setting"] in settings]
    return [
        f"{IMAGES}\n{image_table(test)}",
        f"{CLASSIFIER_WEIGHTS}\n{image_table(plain)}",
        f"{TRIALS}\n{image_table(tried)}",
    ]


def image_table(rows: list[dict[str, Any]]) -> str:
    columns = {
        "fid": ("FID", ".2f"),
        "kid": ("KID", ".3f"),
        "right_class": ("right class %", ".0f"),
        "nearest_training_image": ("nearest training image", ".3f"),
        "diversity": ("diversity", ".2f"),
        "angle_within": ("angle within", ".0f"),
        "angle_between": ("angle between", ".0f"),
    }
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["setting"], row["source"]].append(row)
    lines = [
        "| setting | images | " + " | ".join(title for title, _ in columns.values()) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    for (setting, source), group in sorted(groups.items(), key=lambda item: item[0][0]):
        cells = []
        for name, (_, form) in columns.items():
            values = [row[name] for row in group if name in row]
            spread = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):{form}}{spread}" if values else "")
        lines.append(f"| {setting} | {source} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def gpu_table(results: dict[str, Scores]) -> str:
    lines = ["| setting | | command |", "|---|---|---|"]
    for title, name in GPU_SETTINGS.items():
        state = "see above" if title in results else "not yet run"
        command = f"python benchmarks/measure_accuracy.py --data DATA --settings {name} --seeds 0 1 2 --jobs 8"
        lines.append(f"| {title} | {state} | `{command} --minutes 9 --out benchmarks/results/accuracy.jsonl` |")
    return "\n".join(lines) + "\n"


def plot_gains(results: dict[str, Scores], path: Path) -> None:
    """A panel a setting: every method's paired gain on none, with its interval."""
    figure, panels = plt.subplots(1, len(results), figsize=(4.2 * len(results), 5.6), sharey=True, squeeze=False)
    methods = [method for method in METHODS if method != "none" and any(method in table for table in results.values())]
    for panel, (title, table) in zip(panels[0], results.items(), strict=True):
        for place, method in enumerate(reversed(methods)):
            if method not in table or not gains(table, method):
                continue
            gain = Interval.of(gains(table, method))
            colour = COLOURS["glico"] if method.startswith("gl") else COLOURS["none"]
            error = 0 if math.isnan(gain.half_width) else gain.half_width
            panel.errorbar(gain.mean, place, xerr=error, fmt="o", color=colour, capsize=3)
        panel.axvline(0, color="black", linewidth=0.8)
        panel.set_title(short(title), fontsize=9)
        panel.set_xlabel("gain on none, points (95 % interval)")
        panel.grid(axis="x", alpha=0.3)
        panel.set_yticks(range(len(methods)), list(reversed(methods)))
    save(figure, path)


def plot_accuracy(results: dict[str, Scores], path: Path) -> None:
    """A panel a data set: accuracy over images a class, with a band of a standard deviation."""
    curves: dict[str, dict[str, dict[int, Interval]]] = defaultdict(lambda: defaultdict(dict))
    for title, table in results.items():
        data, per_class = short(title).rsplit(", ", 1)
        for method in SHORT:
            if method in table:
                curves[data][method][int(per_class.split()[0])] = Interval.of(table[method].values())
    figure, panels = plt.subplots(1, len(curves), figsize=(5 * len(curves), 4), squeeze=False)
    for panel, (data, by_method) in zip(panels[0], curves.items(), strict=True):
        for method, points in by_method.items():
            counts = sorted(points)
            means = [points[count].mean for count in counts]
            bands = [0 if math.isnan(points[count].deviation) else points[count].deviation for count in counts]
            panel.plot(counts, means, marker="o", label=method, color=COLOURS[method])
            low, high = ([m + sign * b for m, b in zip(means, bands, strict=True)] for sign in (-1, 1))
            panel.fill_between(counts, low, high, color=COLOURS[method], alpha=0.12)
        panel.set(title=data, xlabel="training images a class", ylabel="test accuracy, % (band: one deviation)")
        panel.set_xticks(counts)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    save(figure, path)


def save(figure: plt.Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
