"""``glico demo`` measures what the swap does to the accuracy of a small classifier on a few images a class."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from glico_augment.cli.grids import paths, random_pairs, save_grid
from glico_augment.data.image_set import read_image_set
from glico_augment.devices import choose_device
from glico_augment.files.format import check_writable
from glico_augment.swap.augment import GLICOAugment

_BATCH_SIZE = 50
_GRID_HEIGHT = 80  # pixels of a row of the grid, about


def demo(args: argparse.Namespace) -> None:
    """Fit, train with and without the swap on the same budget, compare, and draw paths between images."""
    check_writable(args.output)
    device = choose_device(args.device)
    train, test, names = digits() if args.data is None else _folder(args.data)
    print(
        f"{args.per_class} training images of each of {len(names)} classes, {len(test[1])} test images, "
        f"{args.steps} steps with random shifts for every classifier"
    )
    gains = []
    for seed in range(args.seeds):
        few = _few(*train, args.per_class, names, seed)
        augment = GLICOAugment.fit(TensorDataset(*few), device=device, seed=seed, epochs=None, min_steps=args.fit_steps)
        without = _accuracy(TensorDataset(*few), few[0], test, args.steps, seed, device)
        with_swap = _accuracy(augment.wrap(TensorDataset(*few)), few[0], test, args.steps, seed, device)
        gains.append((without, with_swap))
        print(f"images and seed {seed}: {without:.1f} % without the swap, {with_swap:.1f} % with it", flush=True)
    without, with_swap = (statistics.mean(column) for column in zip(*gains, strict=True))
    differences = [after - before for before, after in gains]
    spread = f" ± {statistics.stdev(differences):.1f}" if len(differences) > 1 else ""
    gain = f"{with_swap - without:+.1f}{spread} points"
    print(f"mean of {args.seeds}: {without:.1f} % without, {with_swap:.1f} % with, {gain}")
    scale = max(1, _GRID_HEIGHT // augment.generator.image_shape[1])
    generator = torch.Generator().manual_seed(0)
    pairs = random_pairs(augment, torch.arange(len(names)), generator=generator)
    save_grid(paths(augment, *pairs, steps=10), args.output, columns=10, scale=scale)
    print(f"paths between two training images of each class: {args.output}")


Split = tuple[Tensor, Tensor]


def digits() -> tuple[Split, Split, tuple[str, ...]]:
    """Scikit-learn's handwritten digits, half to train on and half to test: uint8 images, labels, and class names.

    Raises:
        ModuleNotFoundError: without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ModuleNotFoundError(
            "the digits of the demo come with scikit-learn: pip install 'glico-augment[demo]', or --data FOLDER"
        ) from error
    loaded = load_digits()
    images = torch.from_numpy(loaded.images * (255 / 16)).round().to(torch.uint8)[:, None]
    labels = torch.from_numpy(loaded.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, test = order.tensor_split(2)
    return (images[train], labels[train]), (images[test], labels[test]), tuple(map(str, range(10)))


def _folder(folder: Path) -> tuple[Split, Split, tuple[str, ...]]:
    for part in ("train", "test"):
        if not (folder / part).is_dir():
            raise FileNotFoundError(f"no such folder: {folder / part} (expected {folder} to hold train/ and test/)")
    train, test = ImageFolder(folder / "train"), ImageFolder(folder / "test")
    if train.classes != test.classes:
        raise ValueError(f"train/ and test/ hold different classes: {train.classes} and {test.classes}")
    train_set = read_image_set(train)
    test_set = read_image_set(test, image_size=train_set.image_shape[1:])
    return (train_set.images, train_set.labels), (test_set.images, test_set.labels), tuple(train.classes)


def _few(images: Tensor, labels: Tensor, count: int, names: tuple[str, ...], seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for label, name in enumerate(names):
        members = (labels == label).nonzero().flatten()
        if len(members) < count:
            raise ValueError(f"--per-class {count}: class {name!r} has {len(members)} training images")
        chosen.append(members[torch.randperm(len(members), generator=generator)[:count]])
    indices = torch.cat(chosen)
    return images[indices], labels[indices]


def _accuracy(dataset: Any, images: Tensor, test: Split, steps: int, seed: int, device: torch.device) -> float:
    """Train a classifier from the same start and return its accuracy on ``test`` in percent."""
    torch.manual_seed(seed)
    side = images.shape[-1]
    network = _network(images.shape[1], int(test[1].max()) + 1, side).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    shift = v2.RandomCrop(images.shape[-2:], padding=max(1, side // 8), padding_mode="edge")
    for batch, labels in _batches(dataset, steps):
        shifted = torch.stack([shift(image) for image in batch]).to(device)
        loss = F.cross_entropy(network(shifted.float() / 255), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        guesses = [network(chunk.to(device).float() / 255).argmax(1).cpu() for chunk in test[0].split(256)]
    return 100 * (torch.cat(guesses) == test[1]).float().mean().item()


def _batches(dataset: Any, steps: int) -> Iterator[list[Tensor]]:
    sampler = RandomSampler(dataset, num_samples=steps * min(_BATCH_SIZE, len(dataset)))
    yield from DataLoader(dataset, batch_size=min(_BATCH_SIZE, len(dataset)), sampler=sampler)


def _network(channels: int, n_classes: int, side: int) -> nn.Module:
    """Convolutions that halve the image until it is small, 32 channels wide and wider."""
    layers: list[nn.Module] = [nn.BatchNorm2d(channels)]
    width_in, width = channels, 32
    while True:
        layers += [nn.Conv2d(width_in, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        width_in, width = width, min(2 * width, 128)
        if side < 6:
            break
        layers.append(nn.MaxPool2d(2))
        side //= 2
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width_in, n_classes))
