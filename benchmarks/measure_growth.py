"""What grows with the number of images and classes, and what does not.

    python benchmarks/measure_growth.py --out benchmarks/results/growth.jsonl

A fit step, a draw of the swap's parameters, and saving and loading are timed on random 32×32 images in turn with the
same on 500 images of 10 classes; saving and loading are per image.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path

import torch
from shared.runner import Row, arguments, run
from speed.fits import start_fit
from speed.timing import ratio

from glico_augment import GLICOAugment

SIDE = 32
BASE = (500, 10)
SIZES = (BASE, (5_000, 10), (5_000, 100), (5_000, 1_000), (50_000, 10), (50_000, 1_000))
STEPS = 20


class RandomImages(torch.utils.data.Dataset):
    """Noise, made when it is asked for."""

    def __init__(self, count: int, n_classes: int) -> None:
        self.count, self.n_classes = count, n_classes

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        generator = torch.Generator().manual_seed(index)
        return torch.randint(0, 256, (3, SIDE, SIDE), generator=generator, dtype=torch.uint8), index % self.n_classes


class World:
    """A fit of some size that has not learned, which changes neither a draw nor a file, and a fit to be timed."""

    def __init__(self, count: int, n_classes: int, folder: Path, device: torch.device) -> None:
        dataset = RandomImages(count, n_classes)
        self.fit = start_fit(dataset, device, steps=100_000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            self.augment = GLICOAugment.fit(dataset, steps=1, device=device, progress=False)
        self.labels = (torch.randint(count, (512,)) % n_classes).to(device)
        self.path = folder / f"{count}-{n_classes}.safetensors"
        self.save()

    def steps(self) -> None:
        for _ in range(STEPS):
            self.fit.step()

    def draw(self) -> None:
        self.augment.make_params(self.labels)

    def save(self) -> None:
        self.augment.save(self.path)

    def load(self) -> None:
        GLICOAugment.load(self.path)

    def read(self) -> None:
        self.path.read_bytes()


def main() -> None:
    args = arguments(__doc__, has_data=False, sizes=([str], "IMAGES,CLASSES, those of the report if left out"))
    sizes = [tuple(map(int, text.split(","))) for text in args.sizes] if args.sizes else SIZES
    device = torch.device(args.device).type
    run(args, [{"images": count, "classes": n, "device": device} for count, n in sizes], measure)


def measure(args: argparse.Namespace, unit: Row) -> Row:
    device, size = torch.device(args.device), (unit["images"], unit["classes"])
    with tempfile.TemporaryDirectory() as folder:
        base, world = World(*BASE, Path(folder), device), World(*size, Path(folder), device)
        share = BASE[0] / size[0]
        return {
            "step": ratio(world.steps, base.steps, 7),
            "draw": ratio(world.draw, base.draw, 31),
            "save": ratio(world.save, base.save, 5, scale=share),
            "load": ratio(world.load, base.load, 5, scale=share),
            "load_over_read": ratio(world.load, world.read, 5),
        }


if __name__ == "__main__":
    main()
