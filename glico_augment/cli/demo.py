"""``glico demo`` measures what the swap, a style and both do to a small classifier on a few images per class."""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from torchvision.transforms import v2

from glico_augment.cli.outputs import check_grid
from glico_augment.data.folders import ClassFolders, random_per_class
from glico_augment.data.image_set import read_image_set
from glico_augment.devices import check_memory, choose_device, memory_of
from glico_augment.fit.progress import duration
from glico_augment.fit.run import MAX_STEPS
from glico_augment.pictures.grids import save_grid
from glico_augment.pictures.plots import paths, random_pairs
from glico_augment.style.local_style import LocalStyle
from glico_augment.swap.augment import GLICOAugment

_COLUMNS = 10
_ROW_HEIGHT = 80  # pixels of a row of the grid, about
_MAX_SINGLE_THREAD_PIXELS = 16 * 16  # of an image; more threads cost more than they give on such small ones
_BATCH_SIZE = 50

Change = Callable[[Tensor, Tensor], "tuple[Tensor, Tensor]"]
"""From uint8 images ``(k, channels, height, width)`` and their labels to both."""


class Splits(NamedTuple):
    """Images and labels to draw from and to test on, and the names of the classes, whose labels count from 0."""

    train: TensorDataset
    test: TensorDataset
    names: Sequence[str]


def demo(args: argparse.Namespace) -> None:
    """For several draws of the training images, fit and train each row on the same budget; compare; draw paths."""
    real = [] if args.data is None else [args.data / part for part in ("train", "test")]
    check_grid(args.output, images=_COLUMNS, shape=(3, 1, 1), real=real)
    for option, steps in (("--steps", args.steps), ("--fit-steps", args.fit_steps)):
        if steps > MAX_STEPS:
            raise ValueError(f"{option} must be at most {MAX_STEPS:,}; got {steps:,}")
    device = choose_device(args.device)
    splits = read_splits(args.data, args.image_size)
    height, width = splits.test.tensors[0].shape[-2:]
    if device.type == "cpu" and height * width <= _MAX_SINGLE_THREAD_PIXELS:
        torch.set_num_threads(1)
    print(
        f"{args.per_class} training images of each of {len(splits.names)} classes, {len(splits.test)} test images, "
        f"{height} × {width} pixels, {args.steps} steps "
        f"with shifts of up to {_largest_shift(width)} pixels for every classifier"
    )
    accuracies: dict[str, list[float]] = {}
    qualities: list[float] = []
    start = time.monotonic()
    for seed in range(args.seeds):
        indices = random_per_class(splits.train.tensors[1], splits.names, args.per_class, seed=seed)
        few = TensorDataset(*splits.train[indices])
        augment = GLICOAugment.fit(few, device=device, seed=seed, min_steps=args.fit_steps)
        qualities.append(augment.quality.r2)
        for name, change in rows(few, augment).items():
            found = accuracy(few, change, splits, steps=args.steps, seed=seed, device=device)
            accuracies.setdefault(name, []).append(found)
        shown = ", ".join(f"{name} {values[-1]:.1f} %" for name, values in accuracies.items())
        left = (time.monotonic() - start) / (seed + 1) * (args.seeds - seed - 1)
        wait = f"; about {duration(left)} to go" if left else ""
        print(f"draw {seed + 1} of {args.seeds}: {shown}; R² of the fit {qualities[-1]:.3f}{wait}", flush=True)
    print(summary(accuracies))
    print(f"R² of the fits: {statistics.mean(qualities):.3f} on average, {min(qualities):.3f} at worst")
    pairs = random_pairs(augment, torch.arange(len(splits.names)), generator=torch.Generator().manual_seed(0))
    images = paths(augment, *pairs, steps=_COLUMNS)
    save_grid(images, args.output, columns=_COLUMNS, scale=max(1, _ROW_HEIGHT // height))
    print(f"paths between two training images of each class, by the last fit: {args.output}")


def rows(few: TensorDataset, augment: GLICOAugment) -> dict[str, Change]:
    """What each row does to a batch: nothing, the swap, another image's style, and the swap and then the style."""
    style = LocalStyle(few)
    return {"none": v2.Identity(), "glico": augment, "style": style, "both": v2.Compose([augment, style])}


def summary(accuracies: Mapping[str, Sequence[float]]) -> str:
    """Mean accuracy of each row, its gain on the first with the half-width of its 95 % interval, and a verdict."""
    first, *others = accuracies
    count = len(accuracies[first])
    lines = [f"{'':<6} {'accuracy':>9}  gain on {first}", f"{first:<6} {statistics.mean(accuracies[first]):7.1f} %"]
    kinds: dict[str, list[str]] = {"better beyond the noise": [], "worse beyond the noise": [], "within the noise": []}
    for name in others:
        gain, half = gain_and_interval(accuracies[first], accuracies[name])
        interval = "" if math.isinf(half) else f" ± {half:.1f}"
        lines.append(f"{name:<6} {statistics.mean(accuracies[name]):7.1f} %  {gain:+5.1f}{interval}")
        better_or_worse = "better beyond the noise" if gain > 0 else "worse beyond the noise"
        kinds["within the noise" if abs(gain) <= half else better_or_worse].append(name)
    verdict = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names)
    compared = f"against {first}, by 95 % intervals (±) over {count} draws: {verdict}"
    return "\n".join([*lines, compared if count > 1 else "one draw says nothing about the noise"])


def gain_and_interval(before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    """The mean of the paired differences and half of its 95 % interval (Student's), infinite for one pair."""
    differences = [with_it - without for without, with_it in zip(before, after, strict=True)]
    if len(differences) < 2:
        return differences[0], math.inf
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return statistics.mean(differences), _student(len(differences) - 1) * error


def _student(degrees: int) -> float:
    """The 97.5 % quantile of Student's distribution, to a hundredth; scipy is no dependency."""
    small = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
    return small[degrees - 1] if degrees <= len(small) else 1.96 + 2.37 / degrees + 2.82 / degrees**2


def read_splits(root: Path | None, image_size: int | tuple[int, int] | None) -> Splits:
    """The images of ``root/train`` and ``root/test``, or scikit-learn's handwritten digits, half of them to test on.

    Raises:
        ModuleNotFoundError: for the digits, without scikit-learn.
        FileNotFoundError, ValueError: if a folder is missing, classes differ, or the images do not fit into memory.
    """
    train, test, names = _digits() if root is None else _folders(root)
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size or (1, 1)
    count, memory = len(train) + len(test), memory_of(torch.device("cpu"))
    check_memory(count * height * width, f"a demo with {count} images", "lower --image-size", memory=memory)
    few = read_image_set(train, image_size=image_size)
    many = read_image_set(test, image_size=few.image_shape[1:], channels=few.image_shape[0])
    return Splits(TensorDataset(few.images, few.labels), TensorDataset(many.images, many.labels), names)


def _digits() -> tuple[TensorDataset, TensorDataset, Sequence[str]]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ModuleNotFoundError(
            "the digits of the demo come with scikit-learn: pip install 'glico-augment[demo]', or --data FOLDER"
        ) from error
    loaded = load_digits()
    images = torch.from_numpy(loaded.images * (255 / 16)).round().to(torch.uint8)[:, None]
    labels = torch.from_numpy(loaded.target)
    halves = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).tensor_split(2)
    train, test = (TensorDataset(images[half], labels[half]) for half in halves)
    return train, test, [str(digit) for digit in range(10)]


def _folders(root: Path) -> tuple[ClassFolders, ClassFolders, Sequence[str]]:
    for part in ("train", "test"):
        if not (root / part).is_dir():
            raise FileNotFoundError(f"no such folder: {root / part} (expected {root} to hold train/ and test/)")
    train, test = ClassFolders(root / "train"), ClassFolders(root / "test")
    if train.classes != test.classes:
        raise ValueError(f"train/ and test/ hold different classes: {train.classes} and {test.classes}")
    return train, test, train.classes


def accuracy(
    few: TensorDataset, change: Change, splits: Splits, *, steps: int, seed: int, device: torch.device
) -> float:
    """Train a classifier on batches of a few images, each of them changed; its accuracy on the test images in percent.

    One seed gives one initial network, one order of the images and one shift of each, whatever the change draws.
    """
    torch.manual_seed(seed)
    own_numbers = torch.Generator().manual_seed(seed)
    all_images, all_labels = few.tensors
    channels, *sides = all_images.shape[1:]
    network = _network(channels, len(splits.names), min(sides)).to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    batch_size = min(_BATCH_SIZE, len(few))
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        while len(order) < batch_size:
            order = torch.cat([order, torch.randperm(len(few), generator=own_numbers)])
        indices, order = order[:batch_size], order[batch_size:]
        images, labels = change(all_images[indices].to(device), all_labels[indices].to(device))
        shifted = random_shift(images.float() / 255, generator=own_numbers)
        loss = F.cross_entropy(network(shifted), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    test_images, test_labels = splits.test.tensors
    with torch.no_grad():
        guesses = [network(chunk.to(device).float() / 255).argmax(1).cpu() for chunk in test_images.split(256)]
    return 100 * (torch.cat(guesses) == test_labels).float().mean().item()


def random_shift(images: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Move each float image ``(k, channels, height, width)`` at random in both directions, repeating its edge."""
    count, _, height, width = images.shape
    largest = _largest_shift(width)
    padded = F.pad(images, [largest] * 4, mode="replicate")
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (k, channels, shifts, shifts, height, width)
    down, right = torch.randint(2 * largest + 1, (2, count), generator=generator).to(images.device)
    return windows[torch.arange(count, device=images.device), :, down, right]


def _largest_shift(width: int) -> int:
    return width // 16


def _network(channels: int, n_classes: int, side: int) -> nn.Module:
    """Convolutions, 16 channels wide to 64, that halve the image until it is small; a large one by its first stride."""
    stride = 2 if side > 16 else 1
    layers: list[nn.Module] = [nn.BatchNorm2d(channels), *_convolution(channels, 16, stride)]
    width, side = 16, side // stride
    while side >= 6:
        layers += [*_convolution(width, min(2 * width, 64)), nn.MaxPool2d(2)]
        width, side = min(2 * width, 64), side // 2
    layers += _convolution(width, 64)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, n_classes))


def _convolution(width_in: int, width: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
