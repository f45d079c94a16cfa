"""Tables and plots from results/accuracy*.jsonl: REPORT.md, plots/*.png and the table of the README.

python benchmarks/report.py
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from accuracy.paired import FEWEST, Interval, Scores, average_gain, gains, scores
from accuracy.rows import read_rows
from report_plots import plot_accuracy, plot_gains

HERE = Path(__file__).parent
MAIN = ("cifar10-10", "cifar10-50", "signs-5", "signs-10")
OTHERS = ("digits-5", "digits-10", "mnist-5", "mnist-10", "omniglot-1", "omniglot-2", "omniglot-5")
GPU = tuple(f"cifar10-{count}-{network}" for network in ("wrn16-8", "wrn28-10") for count in (10, 50))
LATER = tuple(f"cifar100-{count}-wrn28-10" for count in (10, 25, 50, 100))
DATA = {"cifar10": "CIFAR-10 (JPEG)", "cifar100": "CIFAR-100", "mnist": "MNIST"}
EVERYWHERE = ("none", "pixel", "style", "glico", "glico+style", "autoaugment")
METHODS = (*EVERYWHERE, "style+autoaugment", "glico+style+autoaugment", "published")
ON_GPU = ("none", "pixel", "style", "glico", "autoaugment", "style+autoaugment", "glico+style+autoaugment", "published")
IN_README = (*EVERYWHERE, "glico+style+autoaugment")
RIVALS = ("color-jitter", "histogram-matching", "fda", "randaugment")
FITS = ("glico", "published")
TRANSDUCTIVE = ("glico-transductive-train", "glico-transductive-test")
SHOWN = (*METHODS, *RIVALS, *TRANSDUCTIVE)
PARTS = (
    ("pixel", "none"),
    ("style", "none"),
    ("glico", "none"),
    ("glico", "pixel"),
    ("glico+style", "style"),
    ("glico+style", "glico"),
    ("style+autoaugment", "autoaugment"),
    ("glico+style+autoaugment", "style+autoaugment"),
    ("published", "none"),
)
ANSWERS = {
    "The swap": ("glico", "none"),
    "The swap, against averages of two images": ("glico", "pixel"),
    "The style": ("style", "none"),
    "The swap beside the style": ("glico+style", "style"),
    "The swap beside style and AutoAugment": ("glico+style+autoaugment", "style+autoaugment"),
}
ANCHORS = (
    # Accuracy of others without outside data at 10 and at 50 a class, of CIFAR-10 itself unless said.
    ("tuned baseline, WRN-16-8 (GEM benchmark, 2022)", None, "55 to 58"),
    ("GLICO (Azuri & Weinshall 2020)", None, "56.2"),
    ("a scaled model and long schedules (Brigato & Mougiakakou 2023)", None, "66.5"),
    ("ChimeraMix, WRN-28-10 (Reinders et al. 2022), ciFAIR-10", "47.6", "67.3"),
    ("ChimeraMix and AutoAugment, ciFAIR-10", "49.8", "70.1"),
)
MISSING, UNPLANNED = "not yet run", "–"

HOW_TO_READ = f"""\
Made by `python benchmarks/report.py` from `results/accuracy_gpu.jsonl` and `results/accuracy.jsonl`. The protocol is in
[README.md](README.md), what was tried on the way in [EXPLORATION.md](EXPLORATION.md). A data set is of one device, that
with more draws of its rarest method; the other's rows stand further down and are not mixed in. A seed fixes the
training images drawn, the initial weights, their order, shifts and flips, the same for every method. So differences are
paired: the mean over the seeds that both methods have, with Student's 95 % interval in brackets, and in parentheses how
many seeds, where not as many as none has. An average is over the settings with at least {FEWEST} seeds, each on its
device, at the seeds that all of these have. Where the interval of a difference leaves out 0, it is **bold**, a gain or
a loss; intervals are not widened for being many, so that one in twenty would be bold by chance.
"""
ACCURACY_TEXT = """\
In %, and the gain on none. On a GPU (an H100 or an H200) fit and training are in bfloat16, and shifts, flips and
AutoAugment are drawn for whole batches; on a CPU they are in float32 and image by image. The training images are the
same. In the first 163 rows of the GPU's file, up to seed 3, torch's own convolutions took the place of cuDNN's.
"""
OTHER_TEXT = """\
Other random numbers of the same distributions than above, on the same training images. Accuracy in %, and the gain on
none; then what each part gives.
"""
GPU_TEXT = """\
Wider networks, by `bash benchmarks/gpu.sh OUT pack accuracy report`: `wrn16-8` with the optimiser of the GEM
benchmark's tuned baseline, `wrn28-10` with ChimeraMix's training (dropout 0.3, 7,800 steps). Accuracy in %, and the
gain on none; then what each part gives.
"""
ANCHORS_TEXT = """\
What others reach on CIFAR-10 without outside data, in %, to be held against these rows with care: they are scored
on 10,000 test images, these rows on 5,000, and these images went through JPEG.
"""

FITS_TEXT = """\
R² of the reconstructions, lowest to highest, and of how many fits; on a CPU. Under 0.5 a fit warns. `published` has a
VGG of random weights here, and as many passes as the paper.
"""


def main() -> None:
    rows = read_rows(HERE / "results" / "accuracy.jsonl")
    results = scores(rows)
    plots = HERE / "plots"
    plots.mkdir(exist_ok=True)
    on_gpu = scores(read_rows(HERE / "results" / "accuracy_gpu.jsonl"))
    fuller, _, devices = by_draws(results, on_gpu)
    measured = {title(name): table for name, table in only(fuller, listed(fuller)).items()}
    plot_gains(measured, METHODS[1:], plots / "gains.png")
    plot_accuracy(by_data(fuller), plots / "accuracy.png")
    (HERE / "REPORT.md").write_text(f"{report(results, on_gpu)}\n{fits_section(rows)}")
    replace_block(HERE.parent / "README.md", "accuracy", readme_table(fuller, devices))


def report(results: dict[str, Scores], on_gpu: dict[str, Scores]) -> str:
    """REPORT.md.

    Args:
        results: of a CPU, and of wider networks.
        on_gpu: of the small network on a GPU, where everything else of its settings is the same.
    """
    fuller, others, devices = by_draws(results, on_gpu)
    unseen = sorted({method for table in (*results.values(), *on_gpu.values()) for method in table} - {*SHOWN})
    sections = [
        f"# Does it help?\n\n{answers(fuller)}",
        HOW_TO_READ,
        f"## Test accuracy\n\n{ACCURACY_TEXT}\n{accuracy_table(fuller, listed(fuller), METHODS, devices)}",
        "![Paired gains on no augmentation](plots/gains.png)\n",
        f"## What each part gives\n\n{parts_table(fuller)}",
        "## Rivals of the style\n\nAccuracy, gain on none, and style less its rival, on a CPU.\n\n"
        f"{rivals_table(results)}",
        "## Unlabelled images\n\nThe fit codes and rebuilds images without labels as well: others of the training\n"
        f"part, or those that are scored. CIFAR-10, 10 a class, on a CPU.\n\n{transductive_table(results)}",
        "## Accuracy over images a class\n\n![Accuracy over images a class](plots/accuracy.png)\n",
        f"## The same on the other device\n\n{OTHER_TEXT}\n{other_table(others, devices)}\n{other_parts(others)}",
        f"## Wider networks, on a GPU\n\n{GPU_TEXT}\n{gpu_table(results)}\n{gpu_parts_table(results)}\n{ANCHORS_TEXT}\n"
        f"{anchors_table()}\n{later_table(results)}",
        f"## Not printed\n\nOther methods of these files: {', '.join(unseen) or 'none'}.\n",
    ]
    return "\n".join(sections)


def by_draws(
    on_cpu: dict[str, Scores], on_gpu: dict[str, Scores]
) -> tuple[dict[str, Scores], dict[str, Scores], dict[str, str]]:
    """The settings of each data set on the device with more draws of it; those on the other; the device of the first.

    What counts is the setting and the method with the fewest draws.
    """

    def draws(results: dict[str, Scores], names: list[str]) -> tuple[int, int]:
        counts = [
            len(results.get(name, {}).get(method, {}))
            for name in names
            for method in EVERYWHERE
            if absence(name, method) == MISSING
        ]
        return min(counts), sum(counts)

    fuller, others, devices = dict(on_cpu), {}, dict.fromkeys(on_cpu, "CPU")
    settings: dict[str, list[str]] = defaultdict(list)
    for name in (*MAIN, *OTHERS):
        if name in on_cpu or name in on_gpu:
            settings[name.partition("-")[0]].append(name)
    for names in settings.values():
        has_more = draws(on_gpu, names) > draws(on_cpu, names)
        chosen, rest = (on_gpu, on_cpu) if has_more else (on_cpu, on_gpu)
        for name in names:
            fuller.pop(name, None)
            fuller |= only(chosen, [name])
            others |= only(rest, [name])
            devices[name] = "GPU" if has_more else "CPU"
    return fuller, others, devices


def title(name: str) -> str:
    """``cifar10-50`` as a reader says it."""
    data, count, *network = name.split("-", 2)
    return ", ".join([DATA.get(data, data.capitalize()), f"{count} a class", *network])


def listed(results: dict[str, Scores]) -> list[str]:
    """The settings in order: those planned, then whatever else was run."""
    planned = [*MAIN, *OTHERS]
    return planned + [name for name in results if name not in (*planned, *GPU)]


def only(results: dict[str, Scores], names: Collection[str]) -> dict[str, Scores]:
    return {name: results[name] for name in names if name in results}


def by_data(results: dict[str, Scores]) -> dict[str, dict[int, Scores]]:
    """The settings of the small network by data and images a class."""
    tables: dict[str, dict[int, Scores]] = defaultdict(dict)
    for name, table in only(results, MAIN + OTHERS).items():
        tables[title(name).partition(",")[0]][int(name.partition("-")[2])] = table
    return tables


def answers(results: dict[str, Scores]) -> str:
    """The comparisons that decide, averaged over settings."""
    return "".join(
        f"- {words} (`{method} − {reference}`): {average(results, MAIN, method, reference)} on CIFAR-10 and signs; "
        f"{average(results, MAIN + OTHERS, method, reference)} on all data.\n"
        for words, (method, reference) in ANSWERS.items()
    )


def accuracy_table(
    results: dict[str, Scores], names: Collection[str], methods: Collection[str], devices: dict[str, str]
) -> str:
    return markdown(
        ["", "device", "seeds", *methods],
        (
            [title(name), devices[name] if name in results else "", str(seeds(results, name))]
            + [accuracy(results, name, method) for method in methods]
            for name in names
        ),
    )


def readme_table(results: dict[str, Scores], devices: dict[str, str]) -> str:
    return markdown(
        ["", *IN_README],
        (
            [f"{title(name)}, {seeds(results, name)} seeds{', CPU' if devices[name] == 'CPU' else ''}"]
            + [shown(results, name, method) for method in IN_README]
            for name in listed(results)
            if seeds(results, name) >= FEWEST
        ),
    )


def shown(results: dict[str, Scores], name: str, method: str) -> str:
    """An accuracy of the README, where a figure without a spread has no place."""
    count = len(results[name].get(method, {}))
    return MISSING if 0 < count < FEWEST else accuracy(results, name, method)


def parts_table(results: dict[str, Scores]) -> str:
    lines = [[title(name), *(difference(results, name, *pair) for pair in PARTS)] for name in listed(results)]
    lines.append(["average of CIFAR-10 and signs", *(average(results, MAIN, *pair) for pair in PARTS)])
    lines.append(["average of all that have it", *(average(results, MAIN + OTHERS, *pair) for pair in PARTS)])
    lines.append(["settings, of them bold gains, bold losses", *(tally(results, *pair) for pair in PARTS)])
    return markdown(["", *(f"{method} − {reference}" for method, reference in PARTS)], lines)


def rivals_table(results: dict[str, Scores]) -> str:
    names = [name for name in listed(results) if name in MAIN or results.get(name, {}).keys() & {*RIVALS}]
    methods = ("style", *RIVALS)
    pairs = [("style", rival) for rival in RIVALS]
    lines = [
        [
            title(name),
            *(accuracy(results, name, method) for method in methods),
            *(difference(results, name, *pair) for pair in pairs),
        ]
        for name in names
    ]
    averages = [average(results, MAIN, *pair) for pair in [*((method, "none") for method in methods), *pairs]]
    lines.append(["average of CIFAR-10 and signs, gains on none alone", *averages])
    return markdown(["", *methods, *(f"{method} − {rival}" for method, rival in pairs)], lines)


def transductive_table(results: dict[str, Scores]) -> str:
    name = "cifar10-10"
    cells = {
        method: (accuracy(results, name, method), difference(results, name, method, "glico")) for method in TRANSDUCTIVE
    }
    return markdown(
        ["", "accuracy, gain on none", "gain on glico"], ([method, *pair] for method, pair in cells.items())
    )


def fits_section(rows: Iterable[dict[str, Any]]) -> str:
    r2 = scores(row | {"accuracy": row["r2"]} for row in rows if "r2" in row)
    lines = []
    for name in MAIN:
        ranges = [sorted(r2.get(name, {}).get(method, {}).values()) for method in FITS]
        lines.append(
            [title(name), *(f"{each[0]:.2f} to {each[-1]:.2f} ({len(each)})" if each else MISSING for each in ranges)]
        )
    return f"## Did the fits learn their images?\n\n{FITS_TEXT}\n{markdown(['', *FITS], lines)}"


def other_table(results: dict[str, Scores], devices: dict[str, str]) -> str:
    methods = [method for method in METHODS if any(method in table for table in results.values())]
    names = [name for name in (*MAIN, *OTHERS) if seeds(results, name) > 1]
    return accuracy_table(results, names, methods, {name: "CPU" if devices[name] == "GPU" else "GPU" for name in names})


def other_parts(results: dict[str, Scores]) -> str:
    pairs = [pair for pair in PARTS if all(any(method in table for table in results.values()) for method in pair)]
    lines = [[title(name), *(difference(results, name, *pair) for pair in pairs)] for name in MAIN]
    lines.append(["average of CIFAR-10 and signs", *(average(results, MAIN, *pair) for pair in pairs)])
    return markdown(["", *(f"{method} − {reference}" for method, reference in pairs)], lines)


def gpu_table(results: dict[str, Scores]) -> str:
    return markdown(
        ["", "seeds", *ON_GPU],
        (
            [title(name), str(seeds(results, name)), *(accuracy(results, name, method) for method in ON_GPU)]
            for name in GPU
        ),
    )


def gpu_parts_table(results: dict[str, Scores]) -> str:
    pairs = [pair for pair in PARTS if {*pair} <= {*ON_GPU}]
    return markdown(
        ["", *(f"{method} − {reference}" for method, reference in pairs)],
        ([title(name), *(difference(results, name, *pair) for pair in pairs)] for name in GPU),
    )


def anchors_table() -> str:
    return markdown(["", "10 a class", "50 a class"], ([what, few or "", many] for what, few, many in ANCHORS))


def later_table(results: dict[str, Scores]) -> str:
    command = "`python benchmarks/measure_accuracy.py --data DATA --settings {} --seeds 0 1 2 --out {}`"
    out = "benchmarks/results/accuracy.jsonl"
    lines = ([title(name), "above" if name in results else MISSING, command.format(name, out)] for name in LATER)
    return markdown(["setting", "", "command"], lines)


def accuracy(results: dict[str, Scores], name: str, method: str) -> str:
    """Mean accuracy and gain, both at the seeds that none has as well."""
    table = results.get(name, {})
    if method == "none" and "none" in table:
        return f"{statistics.mean(table['none'].values()):.1f}"
    paired = gains(table, method, "none")
    if not paired:
        return absence(name, method)
    mean = statistics.mean(table[method][seed] for seed in paired)
    return f"{mean:.1f}, {Interval.of(paired.values())}{fewer_seeds(table, paired)}"


def difference(results: dict[str, Scores], name: str, method: str, reference: str) -> str:
    table = results.get(name, {})
    paired = gains(table, method, reference)
    if not paired:
        return absence(name, method, reference)
    return emphasised(Interval.of(paired.values())) + fewer_seeds(table, paired)


def average(results: dict[str, Scores], names: Collection[str], method: str, reference: str) -> str:
    interval, averaged = average_gain(only(results, names), method, reference)
    return f"{emphasised(interval)} ({len(averaged)} settings, {interval.count} seeds)" if interval else MISSING


def tally(results: dict[str, Scores], method: str, reference: str) -> str:
    """How many settings have enough seeds, and how many of their intervals are above 0 and below it."""
    paired = [gains(table, method, reference) for table in only(results, MAIN + OTHERS).values()]
    intervals = [Interval.of(by_seed.values()) for by_seed in paired if len(by_seed) >= FEWEST]
    is_gain = [interval.mean > 0 for interval in intervals if interval.excludes_zero]
    return f"{len(intervals)}, {is_gain.count(True)}, {is_gain.count(False)}" if intervals else MISSING


def absence(name: str, *methods: str) -> str:
    """What stands for a run that there is not."""
    if name.endswith("-1") and "pixel" in methods:  # with one image a class there is nothing to average
        return UNPLANNED
    return UNPLANNED if name in OTHERS and not {*methods} <= {*EVERYWHERE} else MISSING


def emphasised(interval: Interval) -> str:
    return f"**{interval}**" if interval.excludes_zero else str(interval)


def seeds(results: dict[str, Scores], name: str) -> int:
    return len(results.get(name, {}).get("none", {}))


def fewer_seeds(table: Scores, paired: dict[int, float]) -> str:
    return "" if len(paired) == len(table.get("none", {})) else f" ({len(paired)})"


def markdown(header: list[str], lines: Iterable[list[str]]) -> str:
    texts = [f"| {' | '.join(line)} |\n" for line in (header, *lines)]
    return "".join([texts[0], "|---" * len(header) + "|\n", *texts[1:]])


def replace_block(path: Path, name: str, text: str) -> None:
    """Put ``text`` between the comments ``<!-- name -->`` and ``<!-- end name -->`` of a file."""
    before, start, rest = path.read_text().partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- end {name} -->")
    if not (start and end):
        raise ValueError(f"{path} has no block between <!-- {name} --> and <!-- end {name} -->")
    path.write_text(before + start + text + end + after)


if __name__ == "__main__":
    main()
