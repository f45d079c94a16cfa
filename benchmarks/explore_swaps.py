"""Swaps that were tried beside the library's, on held-out training images: warps, poses, styles, other generators.

    python benchmarks/explore_swaps.py --data DATA --out benchmarks/results/exploration.jsonl \\
        --settings signs-5 --seeds 100 --kinds none pixel morph style-3

A warp is a smooth field of displacements, learned for each image so that the difference of two fields carries one
image of a class onto another. Each kind but ``none`` replaces an image with probability 0.5; ``r`` and ``s`` are
uniform in [0, 1]:

====================  ==================================================================================================
pixel                 the average ``(1 − r)·x_i + r·x_j`` of two images of a class
morph                 the same, each warped to the place where ``r`` puts it
pose                  ``x_i`` warped ``s`` of the way to ``x_j``
morph-other-pose      a morph, warped on by ``s`` of the difference of two images of any class
affine                rotation, scale, shear and shift of ``x_i``
style-G, pixel-style-G  ``x_i``, or an average, with its style taken ``s`` of the way to any image's, on G × G cells
style-own-class-1     the same towards an image of its class
modes-K, pixel-modes-K  the same with K principal components of what images differ by from the mean of their class
shared-D              ``x_i + G(c, z) − G(c, z_i)``: G is told the class c, so codes, of D dimensions, need only say
                      the rest; ``z`` is ``s`` of the way to the code of any image
generator-style-G     ``G(z_inter)`` of the library's fit, then a style
mixed-style-G         an average or ``G(z_inter)`` of the library's fit, by the toss of a coin, then a style
residual-style-G      ``x_i + G(z_inter) − G(z_i)``, then a style
both-style-G          ``G(z_inter)`` with both ends' errors, ``(1 − r)·(x_i − G(z_i)) + r·(x_j − G(z_j))``, then a style
blend-style-G         what is coarser than 8 pixels from ``G(z_inter)``, the rest from the average, then a style
====================  ==================================================================================================

Fields after a colon change one thing, as in ``pixel-style-3:p=0.25`` or ``mixed-style-3:classifier_weight=0``: those of
:class:`Options`, of :class:`Trial`, and of the fit.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accuracy.data import Split, make_split
from accuracy.methods import METHODS
from accuracy.rows import append_row, machine
from accuracy.settings import Setting, find_setting, parse_name
from accuracy.training import Batches, accuracy, train
from accuracy.trials import Trial, fit_trial
from torch import Tensor
from torchvision.transforms import v2

from glico_augment import FitConfig
from glico_augment.losses import build_loss
from glico_augment.model.generator import Generator
from glico_augment.model.model import GLICOModel
from glico_augment.model.sphere import slerp
from glico_augment.swap.draw import SwapSettings

KINDS = ["none", "pixel", "morph", "pose", "morph-other-pose", "affine", "style-own-class-1"]
GENERATED = ("generator-", "mixed-", "residual-", "both-", "blend-")
KINDS += [f"{base}style-{grid}" for base in ("", "pixel-", *GENERATED) for grid in (1, 2, 3, 6)]
KINDS += [f"{base}modes-{count}" for base in ("", "pixel-") for count in (4, 8, 16, 32)]
KINDS += [f"{base}shared-{dim}" for base in ("", "pixel-") for dim in (4, 8, 16)]


@dataclass(frozen=True)
class Options:
    """What the fields after a colon change.

    Attributes:
        p: probability of a swap.
        style: ``s`` is uniform in ``[0, style]``.
        stop: share of the training after which nothing is swapped any more.
        spare: leave synthetic images out of the policy.
        policy_p: probability of the policy, where it applies.
        refresh: estimate the statistics of batch normalisation anew, after the training, from real images.
    """

    p: float = 0.5
    style: float = 1.0
    stop: float = 1.0
    spare: bool = False
    policy_p: float = 1.0
    refresh: bool = False


def partners(labels: Tensor, indices: Tensor) -> Tensor:
    """Another image of the class of each."""
    same = (labels[:, None] == labels[None]).float().fill_diagonal_(0)
    return torch.multinomial(same[indices], 1).flatten()


def warp(images: Tensor, fields: Tensor) -> Tensor:
    """``x(u + f(u))`` with fields ``(k, 2, rows, columns)`` in units of half the image."""
    identity = torch.eye(2, 3).expand(len(images), 2, 3)
    grid = F.affine_grid(identity, list(images.shape), align_corners=False)
    fine = F.interpolate(fields, images.shape[-2:], mode="bicubic", align_corners=True)
    return F.grid_sample(images, grid + fine.permute(0, 2, 3, 1), padding_mode="reflection", align_corners=False)


def learn_fields(images: Tensor, labels: Tensor, *, cells: int = 4, steps: int = 400, smooth: float = 0.03) -> Tensor:
    """A field an image, by Adam on the distance of warped images to others of their class, coarse to fine."""
    fields = torch.nn.Parameter(torch.zeros(len(images), 2, cells, cells))
    optimizer = torch.optim.Adam([fields], lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        start = torch.randint(len(images), (64,))
        end = partners(labels, start)
        x, y = images[start], images[end]
        for _ in range(int(3 * (1 - step / steps))):
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        distance = (warp(x, fields[end] - fields[start]) - y).abs().mean() / (x - y).abs().mean()
        bends = fields.diff(dim=2).square().mean() + fields.diff(dim=3).square().mean()
        loss = distance + smooth * cells**2 * bends + 0.1 * smooth * fields.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return fields.detach()


def restyle(images: Tensor, others: Tensor, ratios: Tensor, grid: int) -> Tensor:
    """The library's style transfer with another number of cells, means and deviations interpolated cubically."""

    def style(x: Tensor) -> tuple[Tensor, Tensor]:
        means = F.adaptive_avg_pool2d(x, grid)
        stds = (F.adaptive_avg_pool2d(x.square(), grid) - means.square()).clamp(min=4e-4).sqrt()
        size = x.shape[-2:]
        return tuple(F.interpolate(value, size, mode="bicubic", align_corners=False) for value in (means, stds))

    means, stds = style(images)
    other_means, other_stds = style(others)
    stds = stds.clamp(min=0.02)
    return (images - means) / stds * torch.lerp(stds, other_stds, ratios) + torch.lerp(means, other_means, ratios)


def learn_modes(images: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Principal directions ``(count, pixels)`` of deviations from class means, and the coordinates of the images."""
    deviations = (images - class_means(images, labels)).flatten(1)
    directions = torch.linalg.svd(deviations, full_matrices=False)[2][:count]
    return directions, deviations @ directions.T


def class_means(images: Tensor, labels: Tensor) -> Tensor:
    """The mean image of the class of each."""
    return torch.stack([images[labels == label].mean(0) for label in labels.unique()])[labels]


class SharedCodes(torch.nn.Module):
    """A generator that is told the class; codes of the unit sphere say the rest."""

    def __init__(self, images: Tensor, labels: Tensor, dim: int, *, steps: int = 600, noise_std: float = 0.1) -> None:
        super().__init__()
        self.classes = F.one_hot(labels).float()
        self.generator = Generator(dim + self.classes.shape[1], 0, tuple(images.shape[1:]))
        self.codes = torch.nn.Parameter(F.normalize(torch.randn(len(images), dim), dim=1))
        groups = [{"params": self.generator.parameters(), "lr": 2e-3}, {"params": [self.codes], "lr": 2e-2}]
        optimizer = torch.optim.Adam(groups)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        loss = build_loss(FitConfig(), tuple(images.shape[1:]))
        loss.calibrate([images])
        for _ in range(steps):
            batch = torch.randperm(len(images))[:32]
            codes = F.normalize(self.codes[batch] + noise_std * torch.randn(len(batch), dim), dim=1)
            with torch.autocast("cpu", torch.bfloat16):
                made = self(codes, batch)
                distance = loss(made.float(), images[batch])
            optimizer.zero_grad()
            distance.backward()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                self.codes.copy_(F.normalize(self.codes, dim=1))
        self.requires_grad_(False)

    def forward(self, codes: Tensor, indices: Tensor) -> Tensor:
        dim = codes.shape[1]
        scale = (dim / (dim + self.classes.shape[1])) ** 0.5  # the generator's own is for its whole input
        return self.generator(torch.cat([codes * scale, self.classes[indices] * scale / dim**0.5 * 2], dim=1))

    def move(self, indices: Tensor, others: Tensor, ratios: Tensor) -> Tensor:
        """What changes in the images ``indices`` on the way to the codes of ``others``."""
        ends = slerp(self.codes[indices], self.codes[others], ratios.flatten())
        return self(ends, indices) - self(self.codes[indices], indices)


class Swap:
    """One of the kinds above."""

    def __init__(self, split: Split, kind: str, options: Options, model: GLICOModel | None) -> None:
        self.images, self.labels, self.kind, self.options = split.images / 255, split.labels, kind, options
        self.share_done: Callable[[], float] = lambda: 0.0
        needs_fields = kind in ("morph", "pose", "morph-other-pose")
        self.fields = learn_fields(self.images, self.labels) if needs_fields else None
        size = int(kind.rpartition("-")[2]) if kind[-1].isdigit() else 0
        self.modes = learn_modes(self.images, self.labels, size) if "modes" in kind else None
        self.shared = SharedCodes(self.images, self.labels, size) if "shared" in kind else None
        self.model = model
        if self.model is not None:
            every = torch.arange(len(self.images))
            with torch.no_grad():
                self.errors = self.images - self.model.generator(self.model.codes(every))

    def __call__(self, images: Tensor, labels: Tensor, indices: Tensor) -> Tensor:
        p = self.options.p if self.share_done() < self.options.stop else 0
        rows = (torch.rand(len(images)) < p).nonzero().flatten()
        with torch.autocast("cpu", enabled=False):
            made = self.make(indices[rows]).clamp(0, 1)
        return images.index_copy(0, rows, (255 * made).round().to(torch.uint8))

    def make(self, anchors: Tensor) -> Tensor:
        ends = partners(self.labels, anchors)
        x, y = self.images[anchors], self.images[ends]
        r, s = torch.rand(2, len(anchors), 1, 1, 1)
        s = s * self.options.style
        if self.kind == "affine":
            return random_affine(x)
        if self.fields is not None:
            path = self.fields[ends] - self.fields[anchors]
            if self.kind == "pose":
                return warp(x, s * path)
            more = torch.zeros_like(path)
            if self.kind == "morph-other-pose":
                other = torch.randint(len(self.images), (len(anchors),))
                more = s * (self.fields[partners(self.labels, other)] - self.fields[other])
            return torch.lerp(warp(x, r * path + more), warp(y, (r - 1) * path + more), r)
        base = self.base(x, y, anchors, ends, r)
        other = torch.randint(len(self.images), (len(anchors),))
        if self.modes is not None:
            directions, places = self.modes
            return base + s * ((places[other] - places[anchors]) @ directions).view_as(base)
        if self.shared is not None:
            return base + self.shared.move(anchors, other, s)
        if "style" not in self.kind:
            return base
        others = y if "own-class" in self.kind else self.images[torch.randint(len(self.images), (len(anchors),))]
        return restyle(base, others, s, grid=int(self.kind.rpartition("-")[2]))

    def base(self, x: Tensor, y: Tensor, anchors: Tensor, ends: Tensor, r: Tensor) -> Tensor:
        """The image before its style."""
        if self.model is None:
            return torch.lerp(x, y, r) if self.kind.startswith("pixel") else x
        noise = self.model.noise(len(anchors), SwapSettings.noise_std)
        made = self.model.interpolate(anchors, ends, r.flatten(), noise)
        average = torch.lerp(x, y, r)
        if self.kind.startswith("mixed"):
            return torch.where(torch.rand_like(r) < 0.5, average, made)
        if self.kind.startswith("blend"):
            made = average + coarse(made - average)
        if self.kind.startswith("residual"):
            made = made + self.errors[anchors]
        if self.kind.startswith("both"):
            made = made + torch.lerp(self.errors[anchors], self.errors[ends], r)
        return made.clamp(0, 1)


def fit(split: Split, setting: Setting, seed: int, fields: tuple[tuple[str, Any], ...]) -> GLICOModel:
    """The library's networks and codes, or those of a :class:`Trial`."""
    trial, fields = Trial.split_fields(dict(fields))
    return fit_trial(split, setting, seed, trial, FitConfig(precision="bfloat16", **fields)).model


@torch.no_grad()
def refresh_statistics(network: torch.nn.Module, batches: Batches, passes: int = 10) -> None:
    """Means and variances of batch normalisation from shifted real images, none of them swapped."""
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    network.train()
    for _ in range(passes):
        for indices in torch.randperm(len(batches.images)).split(50):
            network(batches(indices))
    network.eval()


def coarse(images: Tensor, side: int = 8) -> Tensor:
    """What is left after averaging over squares of ``side`` pixels."""
    small = F.avg_pool2d(images, side)
    return F.interpolate(small, images.shape[-2:], mode="bicubic", align_corners=False)


def random_affine(images: Tensor) -> Tensor:
    """Up to 15°, 15 % of scale, 0.2 of shear and a tenth of the side."""
    count = len(images)
    angles, scales, shears = ((2 * torch.rand(count) - 1) * most for most in (0.26, 0.15, 0.2))
    scales = scales + 1
    shifts = (2 * torch.rand(count, 2) - 1) * 0.2
    top = torch.stack([scales * angles.cos(), shears - scales * angles.sin(), shifts[:, 0]], dim=1)
    bottom = torch.stack([scales * angles.sin(), scales * angles.cos(), shifts[:, 1]], dim=1)
    grid = F.affine_grid(torch.stack([top, bottom], dim=1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--settings", nargs="+", required=True)
    parser.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE", help="changes to the settings")
    parser.add_argument("--seeds", type=int, nargs="+", required=True, help="of the images drawn")
    parser.add_argument("--trainings", type=int, nargs="+", default=[0], help="seeds of the training")
    parser.add_argument("--kinds", nargs="+", required=True, help="KIND or KIND:field=value,…")
    parser.add_argument("--policy", default="none", choices=["none", "autoaugment", "randaugment"])
    args = parser.parse_args()
    if unknown := {text.partition(":")[0] for text in args.kinds} - set(KINDS):
        parser.error(f"--kinds must be of {', '.join(KINDS)}; got {', '.join(unknown)}")
    policy = METHODS[args.policy].policy
    for name in args.settings:
        setting = find_setting(name, args.set)
        for seed in args.seeds:
            place = (args.data, setting.data, setting.side, setting.per_class, seed)
            split = make_split(*place, "validation")
            fitted = functools.cache(functools.partial(fit, split, setting, seed))
            for training in args.trainings:
                for text in args.kinds:
                    torch.manual_seed(training)
                    kind, fields = parse_name(text)
                    own = {name: fields.pop(name) for name in list(fields) if name in Options.__dataclass_fields__}
                    options = Options(**own)
                    if fields and not kind.startswith(GENERATED):
                        parser.error(f"{kind} has no fit that could take {', '.join(fields)}")
                    model = fitted(tuple(fields.items())) if kind.startswith(GENERATED) else None
                    swap = None if kind == "none" else Swap(split, kind, options, model)
                    transform = policy and policy()
                    if transform is not None and options.policy_p < 1:
                        transform = v2.RandomApply([transform], p=options.policy_p)
                    batches = Batches(split, setting.flip, swap, transform, spare=options.spare)
                    if swap is not None:
                        swap.share_done = lambda batches=batches: batches.share_done
                    rates = {"lr": setting.lr, "weight_decay": setting.weight_decay}
                    network = train(split, setting, batches, METHODS["none"].objective, training, **rates)
                    if options.refresh:
                        refresh_statistics(network, Batches(split, setting.flip))
                    score = accuracy(network, batches, split.eval_images, split.eval_labels)
                    row = dataclasses.asdict(setting) | {"kind": text, "seed": seed, "training": training}
                    row |= {"policy": args.policy, "accuracy": score}
                    append_row(args.out, row | machine(torch.device("cpu")))
                    print(f"{name}, seed {seed}, training {training}, {text}, {args.policy}: {score:.1f} %", flush=True)


if __name__ == "__main__":
    main()
