"""What the swap and LocalStyle cost a data loader and a batch, and a fit against the plain way of doing it.

    python benchmarks/measure_speed.py --out benchmarks/results/speed.jsonl

Every ratio is of two things timed in turn in this process, each by torch.utils.benchmark: the median over rounds of the
ratio within a round, and the quartiles. Images are random; nothing is read from disk.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from accuracy.rows import append_row, machine, read_rows
from speed.plain_fit import PlainFit
from speed.samples import KINDS, N_CLASSES, Samples, random_images
from torch import Tensor
from torch.utils.benchmark import Timer
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from glico_augment import FitConfig, GLICOAugment, LocalStyle, SyntheticBank
from glico_augment.data.image_set import read_image_set
from glico_augment.fit.loop import Fit
from glico_augment.fit.quality import measure as quality

SIDES = {"start": (), "batch": (32, 100), "fit": (32, 64), "loader": (32, 100, 224)}
"""The parts, and the sides of their images."""
WAYS = ("bank", "bank and refresh", "fresh", "style")
STEPS = 10  # of a fit, timed together
FIT_STEPS = 200  # after which its quality is looked at

Pair = tuple[Callable[[], Any], Callable[[], Any]]


@dataclass(frozen=True)
class Case:
    """One figure: ``{name: value}`` says which; of what ``make`` returns, the first over the second is measured.

    ``is_rate`` turns the ratio of times into one of speeds.
    """

    identity: dict[str, Any]
    make: Callable[[], Pair]
    is_rate: bool
    rounds: int
    details: Callable[[], dict[str, Any]] = dict
    warm_up: int = 1


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    cases = {"start": start_cases, "batch": batch_cases, "fit": fit_cases, "loader": loader_cases}
    for part in args.parts:
        for case in cases[part](device, args.sides or SIDES[part], args):
            here = {key: value for key, value in machine(device).items() if key in ("machine", "torch")}
            identity = {"part": part, **case.identity, "device": device.type, "threads": args.threads, **here}
            if any(identity.items() <= row.items() for row in read_rows(args.out)):
                continue
            row = identity | measure(case, device, args.rounds or case.rounds) | case.details()
            append_row(args.out, row | machine(device))
            shown = ", ".join(f"{key} {value}" for key, value in case.identity.items())
            print(f"{part}, {shown}: {row['ratio']:.3f}", flush=True)


def measure(case: Case, device: torch.device, rounds: int) -> dict[str, Any]:
    """The two callables by turns, after calls to warm up; on a GPU the median times themselves as well."""
    subject, reference = case.make()
    timers = [Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads()) for run in (subject, reference)]
    for timer in timers:
        timer.timeit(case.warm_up)
    times = [tuple(timer.timeit(1).median for timer in timers) for _ in range(rounds)]
    ratios = [theirs / ours if case.is_rate else ours / theirs for ours, theirs in times]
    low, middle, high = statistics.quantiles(ratios, n=4)
    row: dict[str, Any] = {"ratio": middle, "low": low, "high": high, "rounds": rounds}
    if device.type == "cuda":
        ours, theirs = (1000 * statistics.median(column) for column in zip(*times, strict=True))
        row |= {"milliseconds": ours, "reference_milliseconds": theirs}
    return row


@lru_cache(maxsize=1)
def quick_fit(count: int, side: int, kind: str, fit_side: int, device: torch.device) -> GLICOAugment:
    """Default networks after one pass over :func:`random_images`: what they have learned changes no cost."""
    dataset = Samples(*random_images(count, side), kind=kind)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the generator has not learned")
        return GLICOAugment.fit(dataset, epochs=1, image_size=fit_side, device=device, progress=False)


def batch_cases(device: torch.device, sides: list[int], args: argparse.Namespace) -> list[Case]:
    """The swap of a batch against one bare generator pass over the swapped images; swap and style against v2's."""
    cases = []
    for side in sides:
        for batch_size in args.batches:
            for transform, reference in (
                ("swap", "generator"),
                ("swap", "cutmix"),
                ("style", "color jitter"),
                ("style", "cutmix"),
            ):
                identity = {"side": side, "batch": batch_size, "transform": transform, "against": reference}
                # A GPU has a graph for each number of swapped images, so it takes some calls to have all.
                warm_up, rounds = (100, 100) if device.type == "cuda" else (1, 15)
                make = partial(batch_pair, identity, device)
                cases.append(Case(identity, make, is_rate=False, rounds=rounds, warm_up=warm_up))
    return cases


def batch_pair(identity: dict[str, Any], device: torch.device) -> Pair:
    side, batch_size = identity["side"], identity["batch"]
    images, labels = random_images(100, side)
    order = torch.arange(batch_size) % len(images)
    batch, targets = (images[order] / 255).to(device), labels[order].to(device)  # floats, as v2.CutMix wants them
    subject, references = partial(LocalStyle(TensorDataset(images, labels)), batch), {}
    if identity["transform"] == "swap":
        augment = quick_fit(len(images), side, "tensor", side, device)
        subject, model = partial(augment, batch, targets), augment.model_on(device)
        codes = model.codes(order[: batch_size // 2].to(device))  # as many as are swapped on average
        references["generator"] = partial(bare, model.generator, codes)
    references["cutmix"] = partial(v2.CutMix(num_classes=N_CLASSES), batch, targets)
    references["color jitter"] = partial(v2.ColorJitter(0.4, 0.4, 0.4, 0.1), batch)
    return subject, references[identity["against"]]


@torch.no_grad()
def bare(generator: torch.nn.Module, codes: Tensor) -> Tensor:
    return generator(codes)


def loader_cases(device: torch.device, sides: list[int], args: argparse.Namespace) -> list[Case]:
    """A loader of augmented images against the same loader of the images as they are; a pass over the set each."""
    cases = []
    for side in sides:
        count = args.images or (1000 if side <= 32 else 400 if side <= 128 else 200)
        for kind in args.samples:
            for workers in args.workers:
                for batch_size in args.batches:
                    for way in args.ways:
                        identity = {"side": side, "samples": kind, "workers": workers, "batch": batch_size}
                        identity |= {"images": count, "way": way}
                        if way != "style":
                            identity["fit_side"] = args.fit_side or side
                        make = partial(loader_pair, identity, device)
                        cases.append(Case(identity, make, is_rate=True, rounds=7 if side <= 32 else 5))
    return cases


def loader_pair(identity: dict[str, Any], device: torch.device) -> Pair:
    side, kind, way = (identity[name] for name in ("side", "samples", "way"))
    images, labels = random_images(identity["images"], side)
    steps = [v2.RandomCrop(side, padding=side // 8), v2.RandomHorizontalFlip(), v2.AutoAugment(), v2.ToImage()]
    steps.append(v2.ToDtype(torch.float32, scale=True))
    plain, bank = Samples(images, labels, kind=kind, transform=v2.Compose(steps)), None
    if way == "style":
        style = LocalStyle(TensorDataset(images, labels))
        changed = Samples(images, labels, kind=kind, transform=v2.Compose([style, *steps]))
    else:
        augment = quick_fit(len(images), side, kind, identity["fit_side"], device)
        bank = None if way == "fresh" else SyntheticBank(augment, per_image=2, device=device)
        changed = augment.wrap(Samples(images, labels, kind=kind), transform=v2.Compose(steps), bank=bank)
    workers = identity["workers"]
    loaders = [
        DataLoader(data, identity["batch"], shuffle=True, num_workers=workers, persistent_workers=workers > 0)
        for data in (changed, plain)
    ]

    def run_changed() -> None:
        exhaust(loaders[0])
        if way == "bank and refresh":
            bank.refresh()

    return run_changed, partial(exhaust, loaders[1])


def exhaust(loader: DataLoader) -> None:
    for _ in loader:
        pass


def fit_cases(device: torch.device, sides: list[int], args: argparse.Namespace) -> list[Case]:
    """Steps of the fit against the plain way of making them; R² after equal steps beside it."""
    cases = []
    for side in sides:
        image_set = read_image_set(TensorDataset(*random_images(args.images or 100, side)))

        def start(steps: int, image_set=image_set) -> tuple[Fit, PlainFit]:
            config = FitConfig(steps=steps).resolved(len(image_set), image_set.image_shape)
            return Fit(image_set, config, device=device, seed=0), PlainFit(image_set, config, device, seed=0)

        def make(start=start) -> Pair:
            ours, plain = start(10_000)
            return partial(make_steps, ours, STEPS), partial(make_steps, plain, STEPS)

        def r2(start=start, image_set=image_set) -> dict[str, float]:
            made = {}
            for name, fit in zip(("r2", "plain_r2"), start(args.fit_steps), strict=True):
                make_steps(fit, args.fit_steps)
                made[name] = quality(fit.model, image_set.images.to(device)).r2
            return made

        identity = {"side": side, "images": len(image_set), "against": "plain fit"}
        cases.append(Case(identity, make, is_rate=True, rounds=9, details=r2))
    return cases


def make_steps(fit: Fit | PlainFit, count: int) -> None:
    for _ in range(count):
        fit.step()


def start_cases(device: torch.device, sides: list[int], args: argparse.Namespace) -> list[Case]:
    """Importing the package, and the command line's help, in a new process."""

    def run(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

    help_text = "import sys; from glico_augment.cli.parser import build_parser; build_parser().format_help()"
    codes = {
        "import glico_augment": "import glico_augment",
        "import and take GLICOAugment": "from glico_augment import GLICOAugment",
        "glico --help": f"{help_text}; assert 'torch' not in sys.modules",
    }
    return [
        Case(
            {"what": what, "against": "import torchvision"},
            lambda code=code: (partial(run, code), partial(run, "import torchvision")),
            is_rate=False,
            rounds=9,
        )
        for what, code in codes.items()
    ]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="result file, appended to")
    parser.add_argument("--parts", nargs="+", default=tuple(SIDES), choices=tuple(SIDES))
    parser.add_argument("--sides", type=int, nargs="+", help="of the images; those of each part if left out")
    parser.add_argument("--batches", type=int, nargs="+", default=[128], help="images a batch")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="of the loaders")
    parser.add_argument("--samples", nargs="+", default=KINDS, choices=KINDS, help="of the loaders")
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS, help="of the loaders to come by images")
    parser.add_argument("--fit-side", type=int, help="side of the loaders' fits; that of the images if left out")
    parser.add_argument("--images", type=int, help="images of a loader or a fit, if not as many as usual")
    parser.add_argument("--rounds", type=int, help="at least 2, if not as many as usual")
    parser.add_argument("--fit-steps", type=int, default=FIT_STEPS, help="after which the quality of a fit is taken")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of this process")
    return parser.parse_args()


if __name__ == "__main__":
    assert torchvision.__version__  # loaded before anything is timed
    main()
