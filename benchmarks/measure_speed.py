"""What the swap and LocalStyle cost a data loader and a batch, and a fit against the plain way of doing it.

    python benchmarks/measure_speed.py --out benchmarks/results/speed.jsonl

Every ratio is of two things timed in turn in this process, each by torch.utils.benchmark: the median over rounds of the
ratio within a round, and the quartiles. Images are random; nothing is read from disk.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import warnings
from functools import lru_cache, partial
from itertools import product

import torch
from shared.runner import Row, arguments, machine, run
from speed.fits import r2_after, start_fit, start_plain_fit
from speed.timing import KINDS, N_CLASSES, Action, Samples, random_images, ratio
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from glico_augment import GLICOAugment, LocalStyle, SyntheticBank

SIDES = {"start": (None,), "batch": (32, 100), "fit": (32, 64), "loader": (32, 100, 224)}
"""The parts, and the sides of their images."""
WAYS = ("bank", "bank and refresh", "fresh", "style")
PAIRS = (("swap", "generator"), ("swap", "cutmix"), ("style", "color jitter"), ("style", "cutmix"))
STEPS = 10  # of a fit, timed together
HELP = "import sys; from glico_augment.cli.parser import build_parser; build_parser().format_help()"
STARTS = {
    "import glico_augment": "import glico_augment",
    "import and take GLICOAugment": "from glico_augment import GLICOAugment",
    "glico --help": f"{HELP}; assert 'torch' not in sys.modules",
}


def main() -> None:
    args = arguments(
        __doc__,
        has_data=False,
        threads=(torch.get_num_threads(), "threads of this process"),
        parts=(list(SIDES), "of the benchmark"),
        sides=([int], "of the images; those of each part if left out"),
        batches=([128], "images per batch"),
        workers=([0, 2], "of the loaders"),
        samples=(list(KINDS), "of the loaders"),
        ways=(list(WAYS), "of the loaders to come by images"),
        fit_side=(int, "side of the loaders' fits; that of the images if left out"),
        images=(int, "images of a loader or a fit, if not as many as usual"),
        rounds=(int, "at least 2, if not as many as usual"),
        fit_steps=(200, "after which the quality of a fit is taken"),
    )
    here = {name: value for name, value in machine(torch.device(args.device)).items() if name in ("machine", "torch")}
    here |= {"device": torch.device(args.device).type, "threads": args.threads}
    run(args, [unit | here for part in args.parts for unit in units_of(part, args)], measure)


def units_of(part: str, args: argparse.Namespace) -> list[Row]:
    if part == "start":
        return [{"part": part, "what": what, "against": "import torchvision"} for what in STARTS]
    units = []
    for side in args.sides or SIDES[part]:
        unit = {"part": part, "side": side}
        if part == "fit":
            units.append(unit | {"images": args.images or 100, "against": "plain fit"})
        elif part == "batch":
            pairs = product(args.batches, PAIRS)
            units += [unit | {"batch": size, "transform": what, "against": against} for size, (what, against) in pairs]
        else:
            unit["images"] = args.images or (1000 if side <= 32 else 400 if side <= 128 else 200)
            for kind, workers, size, way in product(args.samples, args.workers, args.batches, args.ways):
                fit_side = {} if way == "style" else {"fit_side": args.fit_side or side}
                units.append(unit | {"samples": kind, "workers": workers, "batch": size, "way": way} | fit_side)
    return units


def measure(args: argparse.Namespace, unit: Row) -> Row:
    part, device, figures = unit["part"], torch.device(args.device), {}
    if part == "start":
        subject, reference = (partial(execute, code) for code in (STARTS[unit["what"]], "import torchvision"))
        rounds = 9
    elif part == "fit":
        dataset = TensorDataset(*random_images(unit["images"], unit["side"]))
        for name, start in (("r2", start_fit), ("plain_r2", start_plain_fit)):
            fit = start(dataset, device, steps=args.fit_steps)
            figures[name] = r2_after(fit, args.fit_steps, dataset.tensors[0].to(device))
        fits = [start(dataset, device, steps=10_000) for start in (start_fit, start_plain_fit)]
        subject, reference = (partial(make_steps, fit) for fit in fits)
        rounds = 9
    elif part == "batch":
        subject, reference = batch_pair(unit, device)
        rounds = 100 if device.type == "cuda" else 15
    else:
        subject, reference = loader_pair(unit, device)
        rounds = 7 if unit["side"] <= 32 else 5
    # A GPU has a graph, and a CPU convolutions, for each number of swapped images: it takes some calls to have all.
    warm_up = 100 if part == "batch" else 1
    is_rate = part in ("loader", "fit")
    return ratio(subject, reference, args.rounds or rounds, is_rate=is_rate, warm_up=warm_up) | figures


def execute(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def make_steps(fit: object) -> None:
    for _ in range(STEPS):
        fit.step()


@lru_cache(maxsize=1)
def quick_fit(count: int, side: int, kind: str, fit_side: int, device: torch.device) -> GLICOAugment:
    """Default networks after one pass over :func:`random_images`: what they have learned changes no cost."""
    dataset = Samples(*random_images(count, side), kind=kind)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the generator has not learned")
        return GLICOAugment.fit(dataset, epochs=1, image_size=fit_side, device=device, progress=False)


def batch_pair(unit: Row, device: torch.device) -> tuple[Action, Action]:
    """The swap of a batch against one bare generator pass over the swapped images; swap and style against v2's."""
    side, batch_size = unit["side"], unit["batch"]
    images, labels = random_images(100, side)
    order = torch.arange(batch_size) % len(images)
    batch, targets = (images[order] / 255).to(device), labels[order].to(device)  # floats, as v2.CutMix wants them
    subject, references = partial(LocalStyle(TensorDataset(images, labels)), batch), {}
    if unit["transform"] == "swap":
        augment = quick_fit(len(images), side, "tensor", side, device)
        subject, model = partial(augment, batch, targets), augment.model_on(device)
        codes = model.codes(order[: batch_size // 2].to(device))  # as many as are swapped on average
        references["generator"] = torch.no_grad()(partial(model.generator, codes))
    references["cutmix"] = partial(v2.CutMix(num_classes=N_CLASSES), batch, targets)
    references["color jitter"] = partial(v2.ColorJitter(0.4, 0.4, 0.4, 0.1), batch)
    return subject, references[unit["against"]]


def loader_pair(unit: Row, device: torch.device) -> tuple[Action, Action]:
    """A loader of augmented images against the same loader of the images as they are; a pass over the set each."""
    side, kind, way = (unit[name] for name in ("side", "samples", "way"))
    images, labels = random_images(unit["images"], side)
    steps = [v2.RandomCrop(side, padding=side // 8), v2.RandomHorizontalFlip(), v2.AutoAugment(), v2.ToImage()]
    steps.append(v2.ToDtype(torch.float32, scale=True))
    plain, bank = Samples(images, labels, kind=kind, transform=v2.Compose(steps)), None
    if way == "style":
        style = LocalStyle(TensorDataset(images, labels))
        changed = Samples(images, labels, kind=kind, transform=v2.Compose([style, *steps]))
    else:
        augment = quick_fit(len(images), side, kind, unit["fit_side"], device)
        bank = None if way == "fresh" else SyntheticBank(augment, per_image=2, device=device)
        changed = augment.wrap(Samples(images, labels, kind=kind), transform=v2.Compose(steps), bank=bank)
    workers = unit["workers"]
    options = {"shuffle": True, "num_workers": workers, "persistent_workers": workers > 0}
    loaders = [DataLoader(data, unit["batch"], **options) for data in (changed, plain)]

    def run_changed() -> None:
        exhaust(loaders[0])
        if way == "bank and refresh":
            bank.refresh()

    return run_changed, partial(exhaust, loaders[1])


def exhaust(loader: DataLoader) -> None:
    for _ in loader:
        pass


if __name__ == "__main__":
    main()
