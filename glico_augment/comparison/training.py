"""Training images as a recipe makes them, and the small network that is trained on them."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from torchvision.transforms import v2

from glico_augment.comparison.recipes import Recipe, padding_of
from glico_augment.config import FitConfig, SwapConfig
from glico_augment.images.values import to_unit
from glico_augment.style.local_style import LocalStyle
from glico_augment.swap.augment import GLICOAugment

_BATCH_SIZE = 10  # in which no augmentation is much better than in batches of 50 (benchmarks/REPORT.md)
_CHUNK = 1000  # images made at a time
N_MADE = 4096  # synthetic images of a training set, and as many of AutoAugment, which every step draws from
_LR, _WEIGHT_DECAY = 0.05, 5e-3
_REHEARSAL = 0.04  # of the steps of one run, to tell how long all will take


class Labelled(NamedTuple):
    """Images ``(n, channels, height, width)`` uint8, labels ``(n,)`` int64 from 0, and the names of the classes."""

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]


class Split(NamedTuple):
    """Which photographs, ``(n,)`` indices, are trained on and which are tested on, at which draw."""

    draw: int
    train: Tensor
    test: Tensor


class Pools(NamedTuple):
    """What batches are drawn from: ``n`` photographs, ``versions`` images made of each, and how good the fit is.

    Attributes:
        photographs: ``(n, channels, height, width)`` uint8.
        labels: ``(n,)`` int64.
        synthetic: ``(versions, n, channels, height, width)`` uint8 or None.
        policed: of the same shape, by AutoAugment, or None.
        style: of the photographs.
        r2: of the fit, or None without one.
    """

    photographs: Tensor
    labels: Tensor
    synthetic: Tensor | None
    policed: Tensor | None
    style: LocalStyle
    r2: float | None


@dataclass(frozen=True)
class Experiment:
    """What is trained and tested on, with which recipes, and how."""

    few: Labelled
    many: Labelled
    recipes: Mapping[str, Recipe]
    steps: int
    fit: Mapping[str, Any]
    flip: bool
    seed: int
    device: torch.device

    def seconds(self, splits: Sequence[Split]) -> float:
        """About how long all runs will take, by a short rehearsal of the first."""
        times = []
        for share in (0.0, 0.0, _REHEARSAL):  # what is done first takes longer
            start = time.monotonic()
            of_fit = self.fit.get("steps", FitConfig.min_steps)
            steps, fit_steps = (max(2, math.ceil(share * count)) for count in (self.steps, of_fit))
            short = replace(self, steps=steps, fit={**self.fit, "steps": fit_steps})
            pools = short.pools(splits[0], share=share)
            for recipe in self.recipes.values():
                short.train(splits[0], pools, recipe)
            times.append(time.monotonic() - start)
        _, fixed, rehearsed = times
        return len(splits) * (fixed + max(0.0, rehearsed - fixed) / _REHEARSAL)

    def pools(self, split: Split, *, share: float = 1.0) -> Pools:
        """The fit of a training set, and the images that the recipes draw from."""
        images, labels = self.few.images[split.train], self.few.labels[split.train]
        versions, few = max(1, math.ceil(share * N_MADE / len(images))), TensorDataset(images, labels)
        synthetic = policed = r2 = None
        with self._own_randomness(split), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a poor fit: its R² is shown
            style = LocalStyle(few)
            if any(recipe.swap for recipe in self.recipes.values()):
                augment = GLICOAugment.fit(
                    few, device=self.device, seed=self.seed + split.draw, progress=False, **self.fit
                )
                synthetic, r2 = _synthetic(augment, images.to(self.device), versions), augment.quality.r2
            if any(recipe.policy for recipe in self.recipes.values()):
                policy = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)
                made = torch.stack([policy(image) for image in images.repeat(versions, 1, 1, 1)])
                policed = made.unflatten(0, (versions, -1)).to(self.device)
        return Pools(images.to(self.device), labels.to(self.device), synthetic, policed, style, r2)

    def train(self, split: Split, pools: Pools, recipe: Recipe) -> Tensor:
        """Which test images a network trained with a recipe classifies rightly, ``(m,)`` bool.

        One draw has one initial network, one order of the images and one shift of each, whatever the recipe draws.
        """
        own = torch.Generator().manual_seed(self.seed + split.draw)
        values = to_unit(pools.photographs)
        mean, std = values.mean((0, 2, 3), keepdim=True), values.std((0, 2, 3), keepdim=True).clamp(min=1e-3)
        count, batch_size = len(values), min(_BATCH_SIZE, len(values))
        passes = math.ceil(self.steps * batch_size / count)
        order = torch.cat([torch.randperm(count, generator=own) for _ in range(passes)])[: self.steps * batch_size]
        with self._own_randomness(split):
            network = _network(values.shape[1], len(self.few.names), min(values.shape[2:])).to(self.device)
            optimizer = torch.optim.SGD(
                network.parameters(), lr=_LR, momentum=0.9, nesterov=True, weight_decay=_WEIGHT_DECAY
            )
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
            for indices in order.split(_CHUNK // batch_size * batch_size):
                images = _drawn(pools, recipe, indices)
                images = (shifted(to_unit(images), flip=self.flip, generator=own) - mean) / std
                labels = pools.labels[indices.to(self.device)]
                for batch, targets in zip(images.split(batch_size), labels.split(batch_size), strict=True):
                    loss = F.cross_entropy(network(batch), targets)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    schedule.step()
        network.eval()
        with torch.no_grad():
            chunks = self.many.images[split.test].split(_CHUNK)
            guesses = [network((to_unit(chunk.to(self.device)) - mean) / std).argmax(1).cpu() for chunk in chunks]
        return torch.cat(guesses) == self.many.labels[split.test]

    @contextmanager
    def _own_randomness(self, split: Split) -> Iterator[None]:
        """Torch's global random numbers, those of this draw; what they were is put back."""
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.seed + split.draw)
            yield


def _synthetic(augment: GLICOAugment, images: Tensor, versions: int) -> Tensor:
    """Of each photograph on the device so many synthetic images, at its size, ``(versions, n, …)`` uint8."""
    made = []
    anchors = torch.arange(len(images), device=images.device).repeat(versions)
    labels = augment.codes.labels.to(images.device)
    for rows in anchors.split(_CHUNK):
        params = augment.make_params(labels[rows], anchors=rows)
        made.append(augment.transform_photographs(params, images))
    return torch.cat(made).unflatten(0, (versions, -1))


def _drawn(pools: Pools, recipe: Recipe, indices: Tensor) -> Tensor:
    """The photographs at ``indices``, ``(k,)``, swapped and changed by a recipe: uint8 ``(k, …)`` on their device."""
    coins = torch.rand(len(indices)).to(pools.labels.device)
    p = SwapConfig.p if recipe.swap else 0.0
    images = pools.photographs[indices.to(coins.device)]
    for made, low, high in ((pools.synthetic, 0.0, p), (pools.policed, p, p + (1 - p) * recipe.policy)):
        rows = ((coins >= low) & (coins < high)).nonzero().flatten()
        if made is not None and len(rows):
            versions = torch.randint(len(made), rows.shape).to(rows.device)
            images[rows] = made[versions, indices.to(rows.device)[rows]]
    return pools.style(images) if recipe.style else images


def shifted(images: Tensor, *, flip: bool, generator: torch.Generator | None = None) -> Tensor:
    """Each of ``(k, channels, height, width)`` as ``v2.RandomCrop`` with padding and, with ``flip``, a flip make it."""
    count, _, height, width = images.shape
    largest = padding_of((height, width))
    down, right = torch.randint(2 * largest + 1, (2, count, 1), generator=generator)
    rows, columns = down + torch.arange(height), right + torch.arange(width)
    if flip:
        columns = torch.where(torch.rand(count, 1, generator=generator) < 0.5, columns.flip(1), columns)
    each = torch.arange(count)[:, None, None]
    places = (each, rows[:, :, None], columns[:, None])
    each, rows, columns = (place.to(images.device) for place in places)
    return F.pad(images, [largest] * 4)[each, :, rows, columns].permute(0, 3, 1, 2)


def _network(channels: int, n_classes: int, side: int) -> nn.Module:
    """Convolutions, 16 channels wide to 64, that halve the image until it is small; a large one by its first stride."""
    stride = 2 if side > 16 else 1
    layers: list[nn.Module] = _convolution(channels, 16, stride)
    width, side = 16, side // stride
    while side >= 6:
        layers += [*_convolution(width, min(2 * width, 64)), nn.MaxPool2d(2)]
        width, side = min(2 * width, 64), side // 2
    layers += _convolution(width, 64)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, n_classes))


def _convolution(width_in: int, width: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
