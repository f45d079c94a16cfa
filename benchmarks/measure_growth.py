"""What grows with the number of images and classes, and what does not.

    python benchmarks/measure_growth.py --out benchmarks/results/growth.jsonl

A fit step, a draw of the swap's parameters, and saving and loading are timed on random 32×32 images in turn with the
same on 500 images of 10 classes; saving and loading are per image. Peak memory is that of a process of its own, on a
GPU what torch had of its memory.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accuracy.rows import append_row, machine, read_rows
from torch.utils.benchmark import Timer

from glico_augment import FitConfig, GLICOAugment
from glico_augment.data.image_set import ImageSet, read_image_set
from glico_augment.fit.loop import Fit
from glico_augment.fit.quality import measure
from glico_augment.fit.record import FitRecord
from glico_augment.fit.run import Fitted

SIDE = 32
SIZES = ((500, 10), (5_000, 10), (5_000, 100), (5_000, 1_000), (50_000, 10), (50_000, 1_000))
CONFIG = FitConfig(steps=100_000)
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
    """A fit of some size, and an augmentation made of it."""

    def __init__(self, count: int, n_classes: int, folder: Path, device: torch.device) -> None:
        self.count = count
        image_set = read_image_set(RandomImages(count, n_classes))
        self.fit = start_fit(image_set, device)
        # Nothing was learned, which changes neither a draw nor a file; a look at a few images makes a whole record.
        quality = measure(self.fit.model, image_set.images.to(device), limit=64)
        record = dataclasses.replace(FitRecord.of(image_set, self.fit.config, 0), quality=quality)
        self.augment = GLICOAugment(Fitted(copy.deepcopy(self.fit.model), image_set.images, record))
        self.labels = image_set.labels[torch.randint(count, (512,))].to(device)
        self.path = folder / f"{count}-{n_classes}.safetensors"

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
    args = parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    if args.memory:
        print(peak_memory(*args.memory, device))
        return
    done = {(row["images"], row["classes"], row.get("device", "cpu")) for row in read_rows(args.out)}
    with tempfile.TemporaryDirectory() as folder:
        base = World(*SIZES[0], Path(folder), device)
        for count, n_classes in SIZES:
            if (count, n_classes, device.type) in done:
                continue
            world = World(count, n_classes, Path(folder), device)
            world.save()
            base.save()
            share = base.count / count
            row = {
                "images": count,
                "classes": n_classes,
                "device": device.type,
                "step": ratio(world.steps, base.steps, 7),
                "draw": ratio(world.draw, base.draw, 31),
                "save": ratio(world.save, base.save, 5, share),
                "load": ratio(world.load, base.load, 5, share),
                "load_over_read": ratio(world.load, world.read, 5),
                **memory_of(count, n_classes, args.threads, device),
            }
            append_row(args.out, row | machine(device))
            print({key: row[key] for key in ("images", "classes", "step", "draw", "save", "load")}, flush=True)


def ratio(subject: Callable[[], Any], reference: Callable[[], Any], rounds: int, scale: float = 1) -> dict[str, float]:
    """Median and quartiles of the ratio of two times, measured in turn."""
    timers = [Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads()) for run in (subject, reference)]
    for timer in timers:
        timer.timeit(1)
    ratios = [scale * timers[0].timeit(1).median / timers[1].timeit(1).median for _ in range(rounds)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {"ratio": middle, "low": low, "high": high}


def memory_of(count: int, n_classes: int, threads: int, device: torch.device) -> dict[str, float]:
    """MiB that a short fit of this size takes above one of 500 images, and what images and codes take above those.

    Both are measured in processes of their own.
    """
    here = [sys.executable, __file__, "--out", "unused", "--threads", str(threads), "--device", str(device), "--memory"]
    sizes = (SIZES[0], (count, n_classes))
    outputs = [subprocess.run([*here, *map(str, size)], check=True, capture_output=True) for size in sizes]
    base, peak = (float(output.stdout) for output in outputs)
    more = count - SIZES[0][0]
    codes = 4 * more * (3 * CONFIG.latent_dim + 1)  # float32, with their two moments and the visits to each
    return {"peak_mib": peak - base, "images_mib": more * 3 * SIDE**2 / 2**20, "codes_mib": codes / 2**20}


def start_fit(image_set: ImageSet, device: torch.device) -> Fit:
    config = CONFIG.resolved(len(image_set), image_set.image_shape)
    return Fit(image_set, config, device=device, seed=0)


def peak_memory(count: int, n_classes: int, device: torch.device) -> float:
    """Peak MiB of this process after a few steps of a fit: resident, or of the GPU."""
    image_set = read_image_set(RandomImages(count, n_classes))
    fit = start_fit(image_set, device)
    for _ in range(5):
        fit.step()
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    # Not getrusage: its peak outlives the exec that started this process.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="result file, appended to")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory", type=int, nargs=2, metavar=("IMAGES", "CLASSES"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
