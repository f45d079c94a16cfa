"""Fill REPORT.md, its plot and the table of the library's README from results/.

python benchmarks/report_accuracy.py
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from measure_fit import COUNTS, KINDS, REAL, SHARES
from measure_tuning import FITS, choose_trainings, fit_name
from shared import tables
from shared.runner import Row, read_rows
from shared.tables import ABSENT, METHOD_NAMES, MIN_SEEDS, Interval, Scores, comparison, gains, markdown, scores, title

mpl.use("Agg")
HERE = Path(__file__).parent
MAIN = ("cifar10-10", "cifar10-50", "signs-5", "signs-10")
OTHERS = ("digits-5", "digits-10", "mnist-5", "mnist-10", "omniglot-1", "omniglot-2", "omniglot-5")
WIDER = tuple(f"cifar10-{count}-{network}" for network in ("wrn16-8", "wrn28-10") for count in (10, 50))
PRACTICAL = tuple(
    f"{name}-wrn16-4" for name in ("cifar10-10", "cifar10-50", "signs-5", "signs-10", "mnist-5", "omniglot-2")
)
WITH_STYLE = ("glico+style", "field+style")
WITH_ALL = ("glico+style+autoaugment", "field+style+autoaugment")
IN_README = ("none", "glico", "field", "style", *WITH_STYLE, "autoaugment", "style+autoaugment", *WITH_ALL, "plain")
PRACTICAL_METHODS = (*IN_README, "pixel", "published", "glico+style+autoaugment-spared")
PRACTICAL_PAIRS = (
    ("glico", "field"),
    ("glico", "plain"),
    ("glico+style", "style"),
    ("glico+style", "field+style"),
    (WITH_ALL[0], "style+autoaugment"),
    WITH_ALL,
)
EVERYWHERE = ("none", "pixel", "style", "plain", "plain+style", "autoaugment")
METHODS = (*EVERYWHERE, "style+autoaugment", "plain+style+autoaugment", "published", "field", "glico", "glico+style")
STYLE_RIVALS = ("color-jitter", "histogram-matching", "fda", "randaugment")
OTHER_RIVALS = ("cutout", "random-erasing", "trivialaugment", "mixup", "cutmix", "cosine-loss", "mixmatch")
TRANSDUCTIVE = ("glico-transductive-train", "glico-transductive-test")
PAIRS = (
    ("pixel", "none"),
    ("style", "none"),
    ("plain", "none"),
    ("plain", "pixel"),
    ("plain+style", "style"),
    ("plain+style", "plain"),
    ("style+autoaugment", "autoaugment"),
    ("plain+style+autoaugment", "style+autoaugment"),
    ("published", "none"),
)
NAMES = METHOD_NAMES | {
    "glico": "GLICO",
    "field": "the same field on pixels, no fit",
    "style": "`LocalStyle`",
    "glico+style": "GLICO + style",
    "field+style": "field on pixels + style",
    "autoaugment": "AutoAugment",
    "style+autoaugment": "style + AutoAugment",
    "glico+style+autoaugment": "GLICO + style + AutoAugment",
    "field+style+autoaugment": "field on pixels + style + AutoAugment",
    "plain": "plain swap (as in the paper)",
}
"""The methods as the README calls them."""
ANSWERS = {
    "GLICO": ("glico", "none"),
    "GLICO, against the same field on pixels": ("glico", "field"),
    "The style": ("style", "none"),
    "GLICO beside the style": ("glico+style", "style"),
    "GLICO beside style and AutoAugment": (WITH_ALL[0], "style+autoaugment"),
    "All three": (WITH_ALL[0], "none"),
    "The plain swap of the paper": ("plain", "none"),
}
AVERAGES = {"average of CIFAR-10 and signs": MAIN}


def main() -> None:
    rows = {path.stem: read_rows(path) for path in (HERE / "results").glob("*.jsonl")}
    tables.fill(HERE / "REPORT.md", blocks(rows) | fit_blocks(rows))
    practical = scores(rows["wide"])
    tables.fill(HERE.parent / "README.md", {"accuracy": readme_table(practical)})
    shown = {name: practical[name] for name in PRACTICAL if name in practical}
    plot_gains(shown, IN_README[1:], HERE / "plots" / "gains.png", columns=3)


def blocks(rows: dict[str, list[Row]]) -> dict[str, str]:
    """Tables of accuracies: of the tuned network, of the narrow one on a CPU and on a GPU, and of wider ones."""
    names = (*MAIN, *OTHERS)
    practical, on_cpu, on_gpu = (scores(rows[each]) for each in ("wide", "accuracy", "accuracy_gpu"))
    fuller, others, devices = by_draws(on_cpu, on_gpu)
    elsewhere = {name: "CPU" if device == "GPU" else "GPU" for name, device in devices.items()}
    answers = "".join(
        f"- {words} (`{method} − {METHOD_NAMES.get(reference, reference)}`): "
        f"{tables.average(practical, PRACTICAL[:2], method, reference)} on CIFAR-10; "
        f"{tables.average(practical, PRACTICAL, method, reference)} on all data.\n"
        for words, (method, reference) in ANSWERS.items()
    )
    over = AVERAGES | {"average of all that have it": names}
    rivals = [("style", rival) for rival in STYLE_RIVALS]
    transductive = [(method, "plain") for method in TRANSDUCTIVE]
    return {
        "answers": answers,
        "practical": comparison(practical, PRACTICAL, PRACTICAL_METHODS),
        "practical, parts": comparison(practical, PRACTICAL, pairs=PRACTICAL_PAIRS),
        "tuning": tuning_table(rows["tuning"]),
        "fit rule": fit_rule_table(rows["tuning"]),
        "accuracy": comparison(fuller, names, METHODS, device=devices),
        "parts": comparison(fuller, names, pairs=PAIRS, averages=over),
        "style rivals": comparison(on_cpu, names[:6], ("style", *STYLE_RIVALS), rivals, averages=AVERAGES),
        "other rivals": comparison(on_cpu, MAIN, ("autoaugment", *OTHER_RIVALS)),
        "unlabelled": comparison(on_cpu, names[:1], TRANSDUCTIVE, transductive),
        "other device": comparison(others, names, METHODS, device=elsewhere),
        "other device, parts": comparison(others, MAIN, pairs=PAIRS, averages=AVERAGES),
        "wider": comparison(on_cpu, WIDER, METHODS),
        "wider, parts": comparison(on_cpu, WIDER, pairs=PAIRS),
    }


def tuning_table(rows: list[Row]) -> str:
    """Every candidate of a training without augmentation, the best first; what was chosen is bold."""
    chosen = {name: (of.width, of.batch_size, of.steps, of.lr) for name, of in choose_trainings(rows).items()}
    found: dict[str, dict[tuple, list[float]]] = {}
    for row in rows:
        if row["method"] == "none":
            name = f"{row['data']}-{row['per_class']}-wrn16-4"
            key = (row["width"], row["batch_size"], row["steps"], row["lr"])
            found.setdefault(name, {}).setdefault(key, []).append(row["accuracy"])
    lines = []
    for name, tried in found.items():
        by_mean = sorted(tried.items(), key=lambda item: -statistics.mean(item[1]))
        shown = [
            f"{'**' * (key == chosen[name])}{statistics.mean(values):.1f}{'**' * (key == chosen[name])} "
            f"({'×'.join(map(str, key[1:3]))}, {key[3]:g}{', twice as wide' * (key[0] == 8)})"
            for key, values in by_mean
        ]
        lines.append([title(name).removesuffix(", wrn16-4"), "; ".join(shown)])
    return markdown(["", "accuracy (batch × steps, learning rate)"], lines)


def fit_rule_table(rows: list[Row]) -> str:
    """Accuracy with each fit, and its R²; the mean over settings decides."""
    found: dict[str, dict[str, list[Row]]] = {fit: {} for fit in FITS}
    for row in rows:
        if row["method"] == "glico":
            found[fit_name(row)].setdefault(f"{row['data']}-{row['per_class']}", []).append(row)
    lines = []
    names = list(found["0.2.0"])
    for fit, tried in found.items():
        means = [statistics.mean(row["accuracy"] for row in tried[name]) for name in names]
        r2 = [statistics.mean(row["r2"] for row in tried[name]) for name in names]
        of = FITS[fit]
        words = f"{fit}: {of['passes']} passes, {of['min_steps']} steps or more, width {of['width']}"
        words += f", {of['side']} px or less" if of["side"] else ""
        cells = [f"{mean:.1f} (R² {each:.2f})" for mean, each in zip(means, r2, strict=True)]
        lines.append([words, *cells, f"{statistics.mean(means):.1f}"])
    return markdown(["fit", *map(title, names), "mean"], lines)


def by_draws(
    on_cpu: dict[str, Scores], on_gpu: dict[str, Scores]
) -> tuple[dict[str, Scores], dict[str, Scores], dict[str, str]]:
    """The settings of each data set on the device with more draws of it; those on the other; the device of the first.

    What counts is the setting and the method with the fewest draws.
    """

    def draws(results: dict[str, Scores], names: Iterable[str]) -> tuple[int, int]:
        # With one image per class there is nothing to average.
        wanted = [(name, each) for name in names for each in EVERYWHERE if (name, each) != ("omniglot-1", "pixel")]
        counts = [len(results.get(name, {}).get(method, {})) for name, method in wanted]
        return min(counts), sum(counts)

    fuller, others, devices = {}, {}, {}
    for name in (*MAIN, *OTHERS):
        of_data = [each for each in (*MAIN, *OTHERS) if each.partition("-")[0] == name.partition("-")[0]]
        of_data = [each for each in of_data if each in on_cpu or each in on_gpu]
        has_more = bool(of_data) and draws(on_gpu, of_data) > draws(on_cpu, of_data)
        for chosen, target in (
            ((on_gpu, fuller), (on_cpu, others)) if has_more else ((on_cpu, fuller), (on_gpu, others))
        ):
            target |= {name: chosen[name]} if name in chosen else {}
        devices[name] = "GPU" if has_more else "CPU"
    return fuller, others, devices


def readme_table(results: dict[str, Scores]) -> str:
    """A line per method: mean accuracy, bold where its gain on no augmentation excludes 0, and of how many draws."""
    settings = {name: results[name] for name in PRACTICAL if name in results}
    lines = []
    for method in IN_README:
        cells = []
        for table in settings.values():
            paired = gains(table, method, "none")
            if len(paired) < MIN_SEEDS:
                cells.append(ABSENT)
                continue
            mean = f"{statistics.mean(table[method][seed] for seed in paired):.1f}"
            is_certain = method != "none" and Interval.of(paired.values()).excludes_zero
            cells.append(f"**{mean}**" if is_certain else mean)
        lines.append([NAMES[method], *cells])
    heads = [title(name).removesuffix(", wrn16-4").replace(" (JPEG)", "") for name in settings]
    draws = [f"{head}, {len(table['none'])} draws" for head, table in zip(heads, settings.values(), strict=True)]
    return markdown(["", *draws], lines)


def plot_gains(results: dict[str, Scores], methods: Sequence[str], path: Path, columns: int = 4) -> None:
    """A panel per setting: every method's paired gain on no augmentation, with its interval."""
    methods = [each for each in methods if any(len(gains(t, each, "none")) >= MIN_SEEDS for t in results.values())]
    lines = math.ceil(len(results) / columns)
    size = (3.6 * columns + 1, (0.3 * len(methods) + 1.2) * lines)
    figure, panels = plt.subplots(lines, columns, figsize=size, sharey=True, squeeze=False)
    for panel in panels.flat[len(results) :]:
        panel.set_visible(False)
    for panel, (name, table) in zip(panels.flat, results.items(), strict=False):
        for place, method in enumerate(reversed(methods)):
            if len(paired := gains(table, method, "none")) >= MIN_SEEDS:
                gain = Interval.of(paired.values())
                colour = "#0b6cb8" if method.startswith("glico") else "#777777"
                panel.errorbar(gain.mean, place, xerr=gain.half_width, fmt="o", color=colour, capsize=3)
        panel.axvline(0, color="black", linewidth=0.8)
        panel.set_title(title(name), fontsize=9)
        panel.set_xlabel("gain on no augmentation, points (95 % interval)", fontsize=8)
        panel.grid(axis="x", alpha=0.3)
        panel.set_yticks(range(len(methods)), list(reversed(methods)))
        panel.set_ylim(-0.6, len(methods) - 0.4)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def fit_blocks(rows: dict[str, list[Row]]) -> dict[str, str]:
    """Tables of how well fits learn, of what a style changes and of the forms of the swap."""
    r2, lines = scores((row for row in rows["accuracy"] if "r2" in row), "r2"), []
    for name in MAIN:
        ranges = [sorted(r2.get(name, {}).get(method, {}).values()) for method in ("plain", "published")]
        lines.append([title(name), *(f"{v[0]:.2f} to {v[-1]:.2f} ({len(v)})" if v else ABSENT for v in ranges)])
    heads = ["data", "judge's accuracy", *(f"s = {share:g}" for share in SHARES)]
    figures = ("judge_accuracy", *(f"changed_{share:g}" for share in SHARES))
    styles = ([row["data"], *(f"{row[figure]:.1f} %" for figure in figures)] for row in rows["style"])
    return {
        "fits": markdown(["", "plain", "published"], lines),
        "real fits": real_table(rows["fits"]),
        "extreme fits": extreme_table(rows["fits"]),
        "style": markdown(heads, styles),
        "forms": forms_table(rows["forms"]),
    }


def real_table(rows: list[Row]) -> str:
    lines = []
    for name in REAL:
        if found := [row for row in rows if row["set"] == name]:
            values, steps = [row["r2"] for row in found], str(found[0]["steps"])
            lines.append([name, str(len(found)), steps, f"{min(values):.3f}", f"{statistics.mean(values):.3f}"])
    return markdown(["set", "seeds", "steps", "lowest R²", "mean R²"], lines)


def extreme_table(rows: list[Row]) -> str:
    found, lines = {(row["set"], row["count"]): row for row in rows}, []
    for kind in KINDS:
        made = [found.get((kind, count)) for count in COUNTS]
        again = [f" ({row['restarts']} starts again)" if row and row["restarts"] else "" for row in made]
        lines.append([kind, *(f"{r['r2']:.3f}{more}" if r else ABSENT for r, more in zip(made, again, strict=True))])
    return markdown(["made-up images", *(f"n = {count}" for count in COUNTS)], lines)


def forms_table(rows: list[Row]) -> str:
    """Mean gains of the forms of the swap, the best first; those without the second draw last."""
    accuracies: dict[str, Scores] = {}
    for row in rows:
        form = row["form"]
        if form != "none":
            form += f", up to {row['max_ratio']:g}, c {row['class_cosine']:g}"
        accuracies.setdefault(form, {}).setdefault(row["setting"], {})[row["seed"]] = row["accuracy"]
    names, none, lines = ("mnist-5", "signs-5", "omniglot-2", "cifar10-10"), accuracies.pop("none"), []
    for form, table in accuracies.items():
        paired = [gains({"form": table.get(name, {}), "none": none[name]}, "form", "none") for name in names]
        means = [statistics.mean(each.values()) if each else math.nan for each in paired]
        mean, draws = statistics.mean(each for each in means if each == each), max(map(len, paired))
        lines.append((-draws, -mean, form if draws > 1 else f"{form} (draw 100)", [*means, mean]))
    cells = ([form, *("not run" if each != each else f"{each:+.1f}" for each in v)] for _, _, form, v in sorted(lines))
    return markdown(["", *(title(name) for name in names), "mean"], cells)


if __name__ == "__main__":
    main()
