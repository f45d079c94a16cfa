"""Quality of the images that the library's fit makes between codes, beside the control's and real ones.

    python benchmarks/measure_images.py --data DATA --out benchmarks/results/images.jsonl

Features and labels come from a wide residual network trained on training images that the fit has not seen, since the
Inception network cannot be had offline: figures compare among themselves, not with other papers'. Distances are taken
to the test images; with ``--part validation`` to half of the unseen training images, the other half training the judge.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import torch
from accuracy.data import Split, make_split
from accuracy.rows import append_row, machine, read_rows
from accuracy.settings import CPU_SETTINGS, SEEDS, Setting, find_setting, parse_name
from accuracy.swaps import PixelAveraging, fitted
from accuracy.training import Batches, cross_entropy, train
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from glico_augment import GLICOAugment
from glico_augment.images.values import from_unit

N_IMAGES = 2000
JUDGE_STEPS = 1000
REAL, AVERAGES = "real training images", "pixel averaging"
FITS: dict[str, dict[str, Any]] = {"glico": {}, "glo": {"classifier_weight": 0}}
"""Fields of the fit, by name."""


class Judge(nn.Module):
    """Features and predictions of a network for uint8 images."""

    def __init__(self, network: nn.Module, batches: Batches) -> None:
        super().__init__()
        self.network, self.batches = network, batches
        self.num_features = network.head.in_features

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        chunks = images.split(250)
        return torch.cat([self.network.features(self.batches.normalize(chunk)) for chunk in chunks])

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        return self.network.head(self(images)).argmax(1)


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    done = {(row["setting"], row["seed"], row["source"], row["part"]) for row in read_rows(args.out)}
    for name in args.settings:
        for seed in args.seeds:
            wanted = [source for source in args.sources if (name, seed, source, args.part) not in done]
            if wanted:
                measure(name, seed, wanted, args)


def measure(name: str, seed: int, wanted: list[str], args: argparse.Namespace) -> None:
    setting = find_setting(name, [])
    place = (args.data, setting.data, setting.side, setting.per_class, seed)
    split, unseen = make_split(*place, "test"), make_split(*place, "validation")
    if args.part == "validation":
        split, unseen = halves(unseen)
    judge = train_judge(Split(unseen.eval_images, unseen.eval_labels, split.eval_images, split.eval_labels), setting)
    for source in wanted:
        images, labels, details = make_images(source, split, seed, setting, args.fits)
        row = {
            "setting": name,
            "seed": seed,
            "source": source,
            "part": args.part,
            "judge": f"WRN-10-1, {len(unseen.eval_images)} images",
        }
        row |= quality(images, labels, split, judge) | details
        append_row(args.out, row | machine(torch.device("cpu")))
        print(
            f"{name}, seed {seed}, {source}: KID {row['kid']:.3f}, right class {row['right_class']:.0f} %", flush=True
        )


def halves(split: Split) -> tuple[Split, Split]:
    """The same training images, each with every other of those that are scored."""
    return tuple(
        Split(split.images, split.labels, split.eval_images[first::2], split.eval_labels[first::2]) for first in (0, 1)
    )


def train_judge(split: Split, setting: Setting) -> Judge:
    setting = dataclasses.replace(setting, steps=JUDGE_STEPS, weight_decay=5e-4)
    batches = Batches(split, setting.flip)
    network = train(split, setting, batches, cross_entropy, 0, lr=setting.lr, weight_decay=setting.weight_decay)
    return Judge(network, batches).eval()


def make_images(source: str, split: Split, seed: int, setting: Setting, fits: Path) -> tuple[Tensor, Tensor, dict]:
    """uint8 images, as many of each class, their labels and what to record of the fit."""
    order = torch.arange(N_IMAGES) % len(split.images)
    labels = split.labels[order]
    torch.manual_seed(seed)
    if source == REAL:
        return split.images, split.labels, {}
    if source == AVERAGES:
        return PixelAveraging(split, p=1)(split.images[order], labels, order), labels, {}
    name, fields = parse_name(source)
    augment, _ = fitted(split, seed, setting.fit | FITS[name] | fields, fits)
    torch.manual_seed(seed)
    made = augment.transform(augment.make_params(labels, anchors=order))
    return from_unit(made, torch.uint8), labels, angles(augment) | {"r2": augment.quality.r2}


def quality(images: Tensor, labels: Tensor, split: Split, judge: Judge) -> dict[str, float]:
    fid = FrechetInceptionDistance(feature=judge, input_img_size=tuple(images.shape[1:]))
    kid = KernelInceptionDistance(feature=judge, subset_size=min(len(images), 100), subsets=50)
    torch.manual_seed(0)
    for metric in (fid, kid):
        metric.update(split.eval_images, real=True)
        metric.update(images, real=False)
    features = judge(images)
    return {
        "n_images": len(images),
        "fid": fid.compute().item(),
        "kid": kid.compute()[0].item(),
        "right_class": 100 * (judge.predict(images) == labels).float().mean().item(),
        "nearest_training_image": nearest_other(images, split.images),
        "diversity": within_class_distance(features, labels) / within_class_distance(*test_features(split, judge)),
    }


def test_features(split: Split, judge: Judge) -> tuple[Tensor, Tensor]:
    return judge(split.eval_images), split.eval_labels


def nearest_other(images: Tensor, others: Tensor) -> float:
    """Mean root-mean-square distance of pixels in [0, 1] to the nearest of ``others`` that is not the image itself."""
    distances = torch.cdist(images.flatten(1).float(), others.flatten(1).float()) / (255 * images[0].numel() ** 0.5)
    if images is others:
        distances.fill_diagonal_(float("inf"))
    return distances.min(dim=1).values.mean().item()


def within_class_distance(features: Tensor, labels: Tensor) -> float:
    """Mean distance of two images of one class in the judge's features."""
    classes = [features[labels == label] for label in labels.unique()]
    return torch.stack([torch.pdist(members).mean() for members in classes]).mean().item()


def angles(augment: GLICOAugment) -> dict[str, float]:
    """Mean angle in degrees between two codes of one class, and of two."""
    codes = augment.codes.codes[: augment.codes.n_labeled]
    same = augment.codes.labels[:, None] == augment.codes.labels[None]
    degrees = (codes @ codes.T).clamp(-1, 1).acos().rad2deg()
    is_pair = ~torch.eye(len(codes), dtype=torch.bool)
    return {
        "angle_within": degrees[same & is_pair].mean().item(),
        "angle_between": degrees[~same].mean().item(),
    }


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the folders of images")
    parser.add_argument("--out", type=Path, required=True, help="result file, appended to")
    parser.add_argument("--settings", nargs="+", default=CPU_SETTINGS)
    parser.add_argument(
        "--sources", nargs="+", default=[REAL, AVERAGES, *FITS], help="NAME or NAME:field=value,… of the fit"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS[:3])
    parser.add_argument("--part", choices=["test", "validation"], default="test", help="what to compare with")
    parser.add_argument("--fits", type=Path, default=Path("fits"), help="folder of fitted models")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
