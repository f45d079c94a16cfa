"""Test accuracy of one small network on a few images a class, with and without a swap.

    python benchmarks/accuracy.py --data FOLDER --per-class 10 --out benchmarks/results/NAME.jsonl

FOLDER holds train/<class>/ and test/<class>/. Every method sees the same images in the same order, with the same
initial weights, shifts, flips and number of optimiser steps, for a seed. Learning rate and weight decay are the same
for all; choose them for the baseline with --tune, which trains on part of the training images and measures on others.
A result already in --out is skipped, so a stopped run continues. Methods: none, pixel (averages of two real images of
the class at the ratio of the swap), or glico with settings of the fit behind a colon, as in
glico:loss=random-vgg16,min_steps=1000.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor
from torch.utils.data import TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2
from wide_resnet import WideResNet

import glico_augment
from glico_augment import GLICOAugment

P, MAX_RATIO, SHIFT = 0.5, 0.4, 4
PROTOCOL = ("per_class", "side", "steps", "batch_size", "depth", "width", "flip", "precision", "tune")
TUNING_GRID = [(lr, weight_decay) for lr in (0.05, 0.1, 0.2) for weight_decay in (5e-4, 5e-3)]


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    train, test = (load(args.data / part, args.side) for part in ("train", "test"))
    done = {key(row) for row in read_rows(args.out)}
    for seed in args.seeds:
        images, labels, rest = split(*train, args.per_class, seed)
        for method, lr, weight_decay in runs(args):
            row = {"data": args.data.name, "seed": seed, "method": method, "lr": lr, "weight_decay": weight_decay}
            row |= {name: getattr(args, name) for name in PROTOCOL}
            if key(row) in done:
                continue
            evaluation = rest if args.tune else test
            start = time.time()
            swap, details = make_swap(method, images, labels, seed, args)
            fitted = time.time()
            row["accuracy"] = train_and_test(images, labels, *evaluation, swap, lr, weight_decay, seed, args)
            row |= details | {"fit_seconds": fitted - start, "train_seconds": time.time() - fitted} | machine()
            with args.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(f"seed {seed} {method} lr {lr:g} wd {weight_decay:g}: {row['accuracy']:.2f} %", flush=True)
    report(args.out)


def runs(args: argparse.Namespace) -> list[tuple[str, float, float]]:
    if args.tune:
        return [("none", lr, weight_decay) for lr, weight_decay in TUNING_GRID]
    return [(method, args.lr, args.weight_decay) for method in args.methods]


def make_swap(method: str, images: Tensor, labels: Tensor, seed: int, args: argparse.Namespace) -> tuple[Any, dict]:
    """A function of a batch, its labels and its indices, and what is to be recorded of it."""
    name, _, settings = method.partition(":")
    if name == "none":
        return (lambda batch, batch_labels: batch), {}
    if name == "pixel":
        return PixelAveraging(images, labels), {}
    overrides = {}
    for item in filter(None, settings.split(",")):
        field, value = item.split("=")
        try:
            overrides[field] = json.loads(value)
        except json.JSONDecodeError:
            overrides[field] = value
    p, max_ratio = overrides.pop("p", P), overrides.pop("max_ratio", MAX_RATIO)
    augment = GLICOAugment.fit(
        TensorDataset(images, labels),
        precision=args.precision,
        seed=seed,
        p=p,
        max_ratio=max_ratio,
        progress=sys.stderr.isatty(),
        **overrides,
    )
    final = {f"final_{name}": values[-1] for name, values in augment.history.items()}
    return augment_batch(augment), {"config": augment.config.to_json(), **final}


def augment_batch(augment: GLICOAugment) -> Any:
    return lambda images, labels: augment(images, labels)[0]


class PixelAveraging:
    """The control: ``(1 − r)·x_i + r·x_j`` of two real images of the class, with the swap's ``p`` and ``r``."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __call__(self, batch: Tensor, labels: Tensor) -> Tensor:
        is_itself = (batch[:, None] == self.images[None]).flatten(2).all(dim=2)
        others = (labels[:, None] == self.labels[None]) & ~is_itself
        partners = self.images[torch.multinomial(others.float(), 1).flatten()]
        ratios = MAX_RATIO * torch.rand(len(batch), 1, 1, 1)
        mixed = (1 - ratios) * batch + ratios * partners
        coins = torch.rand(len(batch), 1, 1, 1) < P
        return torch.where(coins, mixed.round().to(batch.dtype), batch)


def train_and_test(
    images: Tensor,
    labels: Tensor,
    test_images: Tensor,
    test_labels: Tensor,
    swap: Any,
    lr: float,
    weight_decay: float,
    seed: int,
    args: argparse.Namespace,
) -> float:
    """SGD with Nesterov momentum and a cosine schedule; accuracy of the last weights in percent."""
    torch.manual_seed(seed)
    side = images.shape[-1]
    network = WideResNet(int(labels.max()) + 1, depth=args.depth, width=args.width, side=side)
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9, weight_decay=weight_decay, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
    augmentation = [v2.RandomCrop(side, padding=SHIFT), *([v2.RandomHorizontalFlip()] if args.flip else [])]
    # One draw an image: the v2 transforms alone would shift and flip a whole batch alike.
    basic = v2.Compose(augmentation)
    mean = images.float().mean(dim=(0, 2, 3), keepdim=True) / 255
    std = images.float().std(dim=(0, 2, 3), keepdim=True) / 255
    order = torch.empty(0, dtype=torch.int64)
    network.train()
    for step in range(args.steps):
        while len(order) < args.batch_size:
            order = torch.cat([order, torch.randperm(len(images))])
        indices, order = order[: args.batch_size], order[args.batch_size :]
        with torch.random.fork_rng([]):  # so that order, shifts and flips are the same for every method
            torch.manual_seed(seed * 10**6 + step)
            batch = swap(images[indices], labels[indices])
        batch = torch.stack([basic(image) for image in batch]).float() / 255
        with torch.autocast("cpu", torch.bfloat16, enabled=args.precision == "bfloat16"):
            loss = F.cross_entropy(network((batch - mean) / std).float(), labels[indices])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        chunks = [network((chunk.float() / 255 - mean) / std).argmax(1) for chunk in test_images.split(250)]
    return 100 * (torch.cat(chunks) == test_labels).float().mean().item()


def load(folder: Path, side: int | None) -> tuple[Tensor, Tensor]:
    to_tensor = [v2.PILToTensor(), *([v2.Resize((side, side), antialias=True)] if side else [])]
    dataset = ImageFolder(folder, transform=v2.Compose(to_tensor))
    images, labels = zip(*dataset, strict=True)
    return torch.stack(images), torch.tensor(labels)


def split(images: Tensor, labels: Tensor, per_class: int, seed: int) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """``per_class`` random images of each class, and a validation part of as many others, at most 50 a class."""
    generator = torch.Generator().manual_seed(seed)
    chosen, rest = [], []
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        chosen.append(members[:per_class])
        rest.append(members[per_class : per_class + 50])
    indices, others = torch.cat(chosen), torch.cat(rest)
    return images[indices], labels[indices], (images[others], labels[others])


def report(path: Path) -> None:
    """Mean, standard deviation and paired gain over the seeds, a line a method."""
    groups: dict[tuple, dict[int, float]] = {}
    for row in read_rows(path):
        setting = (row["method"], row["data"], row["lr"], row["weight_decay"], *(row[name] for name in PROTOCOL))
        groups.setdefault(setting, {})[row["seed"]] = row["accuracy"]
    print("| data | per class | method | lr, decay | seeds | accuracy % | paired gain on none |\n|" + "---|" * 7)
    for setting, by_seed in groups.items():
        method, data, lr, weight_decay, per_class, *_, tune = setting
        none = groups.get(("none", *setting[1:]), {})
        gains = [by_seed[seed] - none[seed] for seed in by_seed if seed in none]
        gain = "" if method == "none" or not gains else f"{spread(gains)} ({', '.join(f'{g:+.1f}' for g in gains)})"
        label = f"{method} (validation)" if tune else method
        shown = f"{lr:g}, {weight_decay:g}"
        accuracy = spread(list(by_seed.values()))
        print(f"| {data} | {per_class} | {label} | {shown} | {len(by_seed)} | {accuracy} | {gain} |")


def spread(values: list[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"


def read_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def key(row: dict) -> tuple:
    return tuple(row[name] for name in ("data", "seed", "method", "lr", "weight_decay", *PROTOCOL))


def command() -> str:
    """The command line, with the names of files and folders for their places."""
    return shlex.join(Path(argument).name if "/" in argument else argument for argument in sys.argv)


def machine() -> dict:
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    versions |= {"python": platform.python_version(), "glico_augment": glico_augment.__version__}
    return {"machine": model, "threads": torch.get_num_threads(), **versions, "command": command()}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--per-class", type=int, default=10)
    parser.add_argument("--side", type=int, help="resize to this side; native size if left out")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=["none", "pixel", "glico"])
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--weight-decay", type=float, default=5e-3)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--depth", type=int, default=10)
    parser.add_argument("--width", type=int, default=2)
    parser.add_argument("--flip", action="store_true", help="random horizontal flips")
    parser.add_argument("--tune", action="store_true", help="baseline over a grid, on held-out training images")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
