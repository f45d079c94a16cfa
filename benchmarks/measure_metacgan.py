"""Images of new classes from ten each, with base classes to learn from: MetaCGAN, CGAN and ours.

    python benchmarks/measure_metacgan.py --data DATA --out benchmarks/results/metacgan.jsonl

Of MNIST, 0 to 4 are base classes with all their training images, 5 to 9 new ones with ten. Every method makes as many
images of each new class, which are judged by a network trained on other images (Inception Score, FID, KID, and how many
it puts in their class) and by what they are worth: the accuracy on the test part of a network trained on the ten images
a class, each replaced with probability ½ by a made one of its class. A row that is in --out already is skipped; the
images are kept in --fits. With --pictures FOLDER those of the first seed are shown beside each other.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import json
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accuracy.data import Split
from accuracy.rows import append_row, machine, read_rows
from accuracy.settings import Setting, parse_fields
from accuracy.swaps import PixelAveraging
from accuracy.training import Batches, accuracy, cross_entropy, train
from features import baseline
from features.baseline import three_channels
from features.pools import Labelled, ranks
from measure_images import Judge
from rivals import metacgan
from rivals.new_classes import World, load_world, replace_half
from torch import Tensor
from torch.utils.data import TensorDataset
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from glico_augment import GLICOAugment
from glico_augment.images.values import from_unit

Row = dict[str, Any]


def wanted_labels(world: World, args: argparse.Namespace) -> Tensor:
    return world.new[1].unique().repeat_interleave(args.made)


def by_gan(world: World, args: argparse.Namespace, seed: int, *, has_meta_net: bool) -> tuple[Tensor, Row]:
    size = metacgan.Size(**args.gan)
    sample = metacgan.train(
        world.base, world.new, has_meta_net=has_meta_net, size=size, device=torch.device(args.device)
    )
    return torch.cat([sample(labels) for labels in wanted_labels(world, args).split(250)]), {}


def by_averages(world: World, args: argparse.Namespace, seed: int) -> tuple[Tensor, Row]:
    images, labels = world.new
    swap = PixelAveraging(Split(images, labels, images, labels), p=1)
    wanted = wanted_labels(world, args)
    chosen = torch.tensor([int(torch.multinomial((labels == each).float(), 1)) for each in wanted])
    return swap(images[chosen], wanted, chosen), {}


def by_fit(world: World, args: argparse.Namespace, seed: int, *, base: str) -> tuple[Tensor, Row]:
    """Ours: ``base`` is ``"none"``, ``"unlabelled"`` or ``"labelled"``, and how the base classes enter the fit."""
    images, labels = world.new
    options: Row = {"seed": seed, "device": args.device, "progress": False, **args.fit}
    if base == "none":
        options["steps"] = args.fit_alone_steps
    elif base == "unlabelled":
        options["unlabeled"] = list(world.base[0])
    else:
        images, labels = torch.cat([images, world.base[0]]), torch.cat([labels, world.base[1]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a fit that has not learned: its R² is in the row
        augment = GLICOAugment.fit(TensorDataset(images, labels), **options)
    made, _ = augment.synthesize(wanted_labels(world, args))
    rows = torch.arange(len(world.new[1]))
    real = world.new[0] / 255
    error = (augment.reconstruct(rows) - real).square().sum()
    r2 = 1 - (error / (real - real.mean(dim=0)).square().sum()).item()
    return from_unit(made, torch.uint8), {
        "r2_of_new": r2,
        "r2": augment.quality.r2,
        "fit_config": augment.record.config.to_json(),
    }


REAL = "real"
METHODS: dict[str, Callable[..., tuple[Tensor, Row]]] = {
    "averages": by_averages,
    "cgan": functools.partial(by_gan, has_meta_net=False),
    "metacgan": functools.partial(by_gan, has_meta_net=True),
    "glico, new alone": functools.partial(by_fit, base="none"),
    "glico, base unlabelled": functools.partial(by_fit, base="unlabelled"),
    "glico, base labelled": functools.partial(by_fit, base="labelled"),
}
ALL = ("none", REAL, *METHODS)
"""``none`` makes nothing; ``real`` are further real images, half of the reference: what could be reached."""


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    done = {(row["method"], row["seed"]) for row in read_rows(args.out)}
    for seed in args.seeds:
        world = load_world(args.data, args.n_base, args.per_class, seed)
        wanted = [method for method in args.methods if (method, seed) not in done]
        judge = train_judge(world, args, seed) if wanted else None
        for method in wanted:
            row = {"method": method, "seed": seed} | measure(world, method, seed, judge, args)
            append_row(args.out, row | settings_of(method, args) | machine(torch.device(args.device)))
            print({name: value for name, value in row.items() if name != "seconds"}, flush=True)
    if args.pictures is not None:
        picture(args)


def settings_of(method: str, args: argparse.Namespace) -> Row:
    common = {"per_class": args.per_class, "n_made": args.made, "classifier_steps": args.classifier_steps}
    common["judge_steps"] = args.judge_steps
    if method in ("cgan", "metacgan"):
        return common | {"size": dataclasses.asdict(metacgan.Size(**args.gan))}
    if method == "glico, new alone":
        return common | {"fit": args.fit | {"steps": args.fit_alone_steps}}
    return common | ({"fit": args.fit} if method.startswith("glico") else {})


def measure(world: World, method: str, seed: int, judge: Judge, args: argparse.Namespace) -> Row:
    if method == "none":
        return {"accuracy": test_accuracy(world, None, args, seed)}
    start = time.perf_counter()
    made, labels, reference, details = images_of(world, method, seed, args)
    seconds = time.perf_counter() - start
    scores = judged(made, labels, reference, judge)
    return scores | {"accuracy": test_accuracy(world, (made, labels), args, seed), "seconds": seconds} | details


def images_of(world: World, method: str, seed: int, args: argparse.Namespace) -> tuple[Tensor, Tensor, Tensor, Row]:
    """Images of the new classes, their labels, the real ones to compare them with, and details."""
    real, labels = world.reference
    half = ranks(labels, seed) % 2 == 0
    if method == REAL:
        return real[~half], labels[~half], real[half], {}
    identity = [method, seed, args.n_base, args.made, settings_of(method, args)]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    path = args.fits / f"metacgan-{digest}.pt"
    if not path.exists():
        torch.manual_seed(seed)
        made, details = METHODS[method](world, args, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"made": made, "details": details}, path)
    kept = torch.load(path, weights_only=True)
    return kept["made"], wanted_labels(world, args), real[half], kept["details"]


def train_judge(world: World, args: argparse.Namespace, seed: int) -> Judge:
    images, labels = world.judged_by
    split = Split(three_channels(images), labels, three_channels(images[:1]), labels[:1]).to(torch.device(args.device))
    setting = Setting("mnist", 0, steps=args.judge_steps, weight_decay=5e-4, batched=True)
    batches = Batches(split, flip=False, batched=True)
    network = train(split, setting, batches, cross_entropy, seed, lr=setting.lr, weight_decay=setting.weight_decay)
    return Judge(network, batches).eval()


def judged(made: Tensor, labels: Tensor, reference: Tensor, judge: Judge) -> Row:
    """Scores of uint8 images ``(k, 1, height, width)``; those of real images stand for what can be reached."""
    device = judge.batches.images.device
    made, reference = three_channels(made).to(device), three_channels(reference).to(device)
    shape = tuple(made.shape[1:])
    subset = min(len(made), len(reference), 100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it keeps all features
        fid = FrechetInceptionDistance(feature=judge, input_img_size=shape)
        kid = KernelInceptionDistance(feature=judge, subset_size=subset, subsets=50)
    torch.manual_seed(0)
    for metric in (fid.to(device), kid.to(device)):
        metric.update(reference, real=True)
        metric.update(made, real=False)
    with torch.no_grad():
        shares = judge.network.head(judge(made)).softmax(dim=1).cpu()
    return {
        "inception_score": inception_score(shares),
        "fid": fid.compute().item(),
        "kid": kid.compute()[0].item(),
        "right_class": 100 * (shares.argmax(dim=1) == labels).float().mean().item(),
        "n_reference": len(reference),
    }


def inception_score(shares: Tensor) -> float:
    """``exp(E[KL(p(y|x) ‖ p(y))])`` of ``p(y|x)``, ``(k, classes)``: from 1 to as many as classes."""
    mean = shares.mean(dim=0, keepdim=True)
    kl = torch.xlogy(shares, shares).sum(dim=1) - torch.xlogy(shares, mean.expand_as(shares)).sum(dim=1)
    return math.exp(kl.mean().item())


def test_accuracy(world: World, made: Labelled | None, args: argparse.Namespace, seed: int) -> float:
    """Of the benchmarks' network on the ten images a class; as many steps whatever is made."""
    first = int(world.new[1].min())
    images, labels = three_channels(world.new[0]), world.new[1] - first
    split = Split(images, labels, three_channels(world.test[0]), world.test[1] - first).to(torch.device(args.device))
    setting = baseline.setting_of("mnist", args.per_class, args.classifier_steps)
    swap = None if made is None else replace_half(three_channels(made[0]), made[1] - first)
    batches = Batches(split, setting.flip, swap, batched=True)
    network = train(split, setting, batches, cross_entropy, seed, lr=setting.lr, weight_decay=setting.weight_decay)
    return accuracy(network, batches, split.eval_images, split.eval_labels)


def picture(args: argparse.Namespace) -> None:
    """What each method makes of the first seed's images, the real ones first: a row a class."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    seed, shown = args.seeds[0], 6
    world = load_world(args.data, args.n_base, args.per_class, seed)
    panels = {"the ten, six of them": world.new}
    for method in args.methods:
        if method in METHODS:
            made, labels, _, _ = images_of(world, method, seed, args)
            panels[method] = (made, labels)
    figure, axes = plt.subplots(1, len(panels), figsize=(2.4 * len(panels), 2.4), squeeze=False)
    for axis, (title, (images, labels)) in zip(axes[0], panels.items(), strict=True):
        lines = [torch.cat(list(images[labels == label][:shown, 0]), dim=1) for label in labels.unique()]
        axis.imshow(torch.cat(lines), cmap="gray", vmin=0, vmax=255)
        axis.set_title(title, fontsize=8)
        axis.set_axis_off()
    args.pictures.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.pictures / "metacgan.png", dpi=110, bbox_inches="tight")
    plt.close(figure)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the folders of images")
    parser.add_argument("--out", type=Path, required=True, help="result file, appended to")
    parser.add_argument("--methods", nargs="+", default=list(ALL), choices=ALL)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the images drawn and all else")
    parser.add_argument("--per-class", type=int, default=10, help="images of a new class")
    parser.add_argument("--n-base", type=int, default=5, help="classes from 0 that are base classes")
    parser.add_argument("--made", type=int, default=200, help="images to make of each new class")
    parser.add_argument("--gan", nargs="*", default=[], help="field=value of rivals.metacgan.Size")
    default = ["steps=2000", "generator_width=16"]
    parser.add_argument("--fit", nargs="*", default=default, help="field=value of FitConfig")
    parser.add_argument("--fit-alone-steps", type=int, default=600, help="of a fit without base classes")
    parser.add_argument("--classifier-steps", type=int, default=200)
    parser.add_argument("--judge-steps", type=int, default=300)
    parser.add_argument("--fits", type=Path, default=Path("fits"), help="folder of the images made")
    parser.add_argument("--pictures", type=Path, help="folder of the picture; none is made without")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    args.gan, args.fit = parse_fields(args.gan), parse_fields(args.fit)
    return args


if __name__ == "__main__":
    main()
