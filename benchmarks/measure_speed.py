"""What the swap costs a data loader and a batch, and a fit against the plain way of doing it.

    python benchmarks/measure_speed.py --out benchmarks/results/speed.jsonl

Every ratio is of two things timed in turn in this process, each by torch.utils.benchmark: the median over rounds of the
ratio within a round, and the quartiles. Images are random; nothing is read from disk.
"""

from __future__ import annotations

import argparse
import io
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import PIL.Image
import torch
import torchvision
from accuracy.rows import append_row, machine, read_rows
from speed.plain_fit import PlainFit
from torch import Tensor
from torch.utils.benchmark import Timer
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision.io import encode_jpeg
from torchvision.transforms import v2
from torchvision.transforms.functional import to_pil_image

from glico_augment import FitConfig, GLICOAugment, SyntheticBank
from glico_augment.data.image_set import read_image_set
from glico_augment.fit.loop import Fit
from glico_augment.swap.draw import SwapSettings

N_CLASSES = 10
STEPS = 10  # of a fit, timed together
WAYS = ("bank", "bank and refresh", "fresh")


@dataclass(frozen=True)
class Case:
    """One figure: ``{name: value}`` says which; ``subject`` over ``reference`` is measured.

    ``is_rate`` turns the ratio of times into one of speeds.
    """

    identity: dict[str, Any]
    make: Callable[[], tuple[Callable[[], Any], Callable[[], Any]]]
    is_rate: bool
    rounds: int
    details: Callable[[], dict[str, Any]] = dict


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    cases = {"batch": batch_cases, "loader": loader_cases, "fit": fit_cases, "start": start_cases}
    for part in args.parts:
        for case in cases[part](device, args):
            here = {key: value for key, value in machine(device).items() if key in ("machine", "torch")}
            identity = {"part": part, **case.identity, "device": device.type, "threads": args.threads, **here}
            if any(identity.items() <= row.items() for row in read_rows(args.out)):
                continue
            row = identity | measure(case, device) | case.details()
            append_row(args.out, row | machine(device))
            print(
                ", ".join(f"{key} {value}" for key, value in case.identity.items()), f": {row['ratio']:.3f}", flush=True
            )


def measure(case: Case, device: torch.device) -> dict[str, Any]:
    """The two callables by turns, after a warm-up of each; on a GPU the median times themselves as well."""
    subject, reference = case.make()
    timers = [Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads()) for run in (subject, reference)]
    for timer in timers:
        timer.timeit(1)
    times = [tuple(timer.timeit(1).median for timer in timers) for _ in range(case.rounds)]
    ratios = [theirs / ours if case.is_rate else ours / theirs for ours, theirs in times]
    low, middle, high = statistics.quantiles(ratios, n=4)
    row: dict[str, Any] = {"ratio": middle, "low": low, "high": high, "rounds": case.rounds}
    if device.type == "cuda":
        ours, theirs = (1000 * statistics.median(column) for column in zip(*times, strict=True))
        row |= {"milliseconds": ours, "reference_milliseconds": theirs}
    return row


class Samples(Dataset):
    """Images in memory: ``"PIL"`` images, uint8 ``"tensor"`` or ``"JPEG"`` files, decoded when asked for."""

    def __init__(self, images: Tensor, labels: Tensor, *, kind: str, transform: Any = None) -> None:
        self.images: Any = images
        self.read: Callable[[Any], Any] = _as_is
        if kind == "PIL":
            self.images = [to_pil_image(image) for image in images]
        elif kind == "JPEG":
            self.images, self.read = [encode_jpeg(image).numpy().tobytes() for image in images], _decode
        self.labels = labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.read(self.images[index])
        return (image if self.transform is None else self.transform(image)), self.labels[index]


def _as_is(image: Any) -> Any:
    return image


def _decode(content: bytes) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(content)).convert("RGB")


def random_images(count: int, side: int) -> tuple[Tensor, Tensor]:
    """Smooth random images and labels."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    images = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    return (255 * images).round().to(torch.uint8), torch.arange(count) % N_CLASSES


def quick_fit(dataset: Dataset, side: int) -> GLICOAugment:
    """Default networks after one pass: what they have learned does not change what they cost."""
    return GLICOAugment.fit(dataset, epochs=1, image_size=side, device="cpu", progress=False)


def batch_cases(device: torch.device, args: argparse.Namespace) -> list[Case]:
    """The swap of a batch against one bare generator pass over the swapped images, v2.CutMix and v2.MixUp."""
    cases = []
    for side in args.sides:
        images, labels = random_images(100, side)
        augment = quick_fit(TensorDataset(images, labels), side)
        for batch_size in args.batches:
            batch = (images[torch.arange(batch_size) % 100] / 255).to(device)  # as v2.MixUp wants them
            targets = labels[torch.arange(batch_size) % 100].to(device)
            codes = augment.codes.codes[: batch_size // 2].to(device)
            codes = codes[torch.arange(batch_size // 2) % len(codes)]
            generator = augment.model_on(device).generator
            mixes = {
                "generator": partial(bare, generator, codes),
                "cutmix": partial(v2.CutMix(num_classes=N_CLASSES), batch, targets),
                "mixup": partial(v2.MixUp(num_classes=N_CLASSES), batch, targets),
            }
            for pixel_share in (SwapSettings.pixel_share, 0.0):
                for reference, run in mixes.items():
                    if reference != "generator" and pixel_share != SwapSettings.pixel_share:
                        continue

                    def make(run=run, augment=augment, b=batch, t=targets, share=pixel_share):
                        augment.pixel_share = share
                        return lambda: augment(b, t), run

                    identity = {"side": side, "batch": batch_size, "pixel_share": pixel_share, "against": reference}
                    cases.append(Case(identity, make, is_rate=False, rounds=15 if side < 128 else 7))
    return cases


@torch.no_grad()
def bare(generator: torch.nn.Module, codes: Tensor) -> Tensor:
    return generator(codes)


def loader_cases(device: torch.device, args: argparse.Namespace) -> list[Case]:
    """A loader over the wrapped dataset against the same loader over the unwrapped one; a pass over the set each."""
    cases = []
    for side in args.sides:
        count = 1000 if side <= 32 else 400 if side <= 128 else 200
        for kind in args.samples:
            for workers in args.workers:
                for batch_size in args.batches:
                    for way in args.ways:
                        identity = {
                            "side": side,
                            "samples": kind,
                            "workers": workers,
                            "batch": batch_size,
                            "swap": way,
                            "pixel_share": SwapSettings.pixel_share,
                            "fit_side": args.fit_side or side,
                        }
                        make = loader_pair(identity, count, device)
                        cases.append(Case(identity, make, is_rate=True, rounds=7 if side == 32 else 5))
    return cases


def loader_pair(
    identity: dict[str, Any], count: int, device: torch.device
) -> Callable[[], tuple[Callable[[], Any], Callable[[], Any]]]:
    side, kind, workers, way = (identity[name] for name in ("side", "samples", "workers", "swap"))

    def make() -> tuple[Callable[[], Any], Callable[[], Any]]:
        images, labels = random_images(count, side)
        steps = [v2.RandomCrop(side, padding=side // 8), v2.RandomHorizontalFlip(), v2.AutoAugment(), v2.ToImage()]
        transform = v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True)])
        augment = quick_fit(Samples(images, labels, kind=kind), identity["fit_side"])
        bank = None if way == "fresh" else SyntheticBank(augment, per_image=2, device=device)
        wrapped = augment.wrap(Samples(images, labels, kind=kind), transform=transform, bank=bank)
        plain = Samples(images, labels, kind=kind, transform=transform)
        loaders = [
            DataLoader(data, identity["batch"], shuffle=True, num_workers=workers, persistent_workers=workers > 0)
            for data in (wrapped, plain)
        ]

        def run_wrapped() -> None:
            exhaust(loaders[0])
            if way == "bank and refresh":
                bank.refresh()

        return run_wrapped, lambda: exhaust(loaders[1])

    return make


def exhaust(loader: DataLoader) -> None:
    for _ in loader:
        pass


def fit_cases(device: torch.device, args: argparse.Namespace) -> list[Case]:
    """Steps of the fit against the plain way of making them; final errors after equal steps beside it."""
    cases = []
    for side in args.sides:
        images, labels = random_images(100, side)
        dataset = TensorDataset(images, labels)
        image_set = read_image_set(dataset)
        config = FitConfig(min_steps=10_000, epochs=None)

        def make(image_set=image_set, config=config):
            ours, plain = Fit(image_set, config, device=device, seed=0), PlainFit(image_set, config, device, seed=0)

            def run(fit: Fit | PlainFit) -> Callable[[], None]:
                return lambda: [fit.step() for _ in range(STEPS)]

            return run(ours), run(plain)

        def errors(image_set=image_set) -> dict[str, float]:
            short = FitConfig(epochs=64)  # 200 steps
            made = {}
            for name, fit in (
                ("error", Fit(image_set, short, device=device, seed=0)),
                ("plain_error", PlainFit(image_set, short, device, seed=0)),
            ):
                for _ in range(short.total_steps(len(image_set))):
                    fit.step()
                made[name] = reconstruction_error(fit.model, image_set.images.to(device))
            return made

        cases.append(Case({"side": side, "images": 100, "against": "plain fit"}, make, True, rounds=9, details=errors))
    return cases


@torch.no_grad()
def reconstruction_error(model: torch.nn.Module, images: Tensor) -> float:
    """Mean absolute difference of pixels in [0, 1]."""
    return (model.generator(model.codes.codes) - images / 255).abs().mean().item()


def start_cases(device: torch.device, args: argparse.Namespace) -> list[Case]:
    """Importing the package, and the command line's help, in a new process."""

    def run(code: str) -> Callable[[], Any]:
        return lambda: subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

    help_text = "import sys; from glico_augment.cli.parser import build_parser; build_parser().format_help()"
    pairs = {
        "import glico_augment": ("import glico_augment", "import torchvision"),
        "import and take GLICOAugment": ("from glico_augment import GLICOAugment", "import torchvision"),
        "glico --help": (f"{help_text}; assert 'torch' not in sys.modules", "import torchvision"),
    }
    return [
        Case({"what": what, "against": "import torchvision"}, lambda p=pair: (run(p[0]), run(p[1])), False, rounds=9)
        for what, pair in pairs.items()
    ]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="result file, appended to")
    parser.add_argument("--parts", nargs="+", default=["start", "batch", "fit", "loader"])
    parser.add_argument("--sides", type=int, nargs="+", default=[32, 64, 128], help="of the images")
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128, 512], help="images a batch")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="of the loaders")
    parser.add_argument("--samples", nargs="+", default=["PIL", "tensor", "JPEG"], choices=["PIL", "tensor", "JPEG"])
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS, help="of the loaders to come by images")
    parser.add_argument("--fit-side", type=int, help="side of the loaders' fits; that of the images if left out")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of this process")
    return parser.parse_args()


if __name__ == "__main__":
    assert torchvision.__version__  # loaded before anything is timed
    main()
