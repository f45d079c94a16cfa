"""Images of new classes from ten each, with base classes to learn from: MetaCGAN, CGAN and ours.

    python benchmarks/measure_metacgan.py --data DATA --out benchmarks/results/metacgan.jsonl

Of MNIST, 0 to 4 are base classes with all their training images, 5 to 9 new ones with ten. Every method makes as many
images of each new class, which are judged by a network trained on other images (Inception Score, FID, KID, and how many
it puts in their class) and by what they are worth: the accuracy on the test part of a network trained on the ten images
per class, each replaced with probability ½ by a made one of its class. Images are kept in --fits. With --pictures
FOLDER those of the first seed are shown beside each other.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
import warnings
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

import torch
from features.pools import as_split, score_from_scratch, setting_of, three_channels
from rivals import metacgan
from shared.data import Labelled, load_parts, ranks
from shared.fits import fitted, kept, to_bytes
from shared.methods import PixelAveraging
from shared.runner import Row, arguments, parse_fields, run
from shared.settings import Setting
from shared.training import Batches, Swap, cross_entropy, train
from torch import Tensor, nn

from glico_augment.pictures.grids import save_grid

REAL, AVERAGES = "real", "averages"
GANS = {"cgan": False, "metacgan": True}
"""Whether a MetaNet makes the weights."""
FITS = ("glico, new alone", "glico, base unlabelled", "glico, base labelled")
MADE = (AVERAGES, *GANS, *FITS)
ALL = ("none", REAL, *MADE)
"""``none`` makes nothing; ``real`` are further real images, half of the reference: what could be reached."""


@dataclass(frozen=True)
class World:
    """The images of a seed, uint8 grey: of base classes; drawn of the new ones; further ones of these to compare with;
    of all classes, to train the judge on; and of the new classes, to test on.
    """

    base: Labelled
    new: Labelled
    reference: Labelled
    judged_by: Labelled
    test: Labelled


def load_world(root: Path, n_base: int, per_class: int, seed: int) -> World:
    """The world of a seed, which draws ``per_class`` images of each class from ``n_base`` on.

    The new classes' images that are not drawn go half to the judge, half to the reference. The methods see all training
    images of the base classes, so the judge learns those classes from the test part.
    """
    train_part, test_part = load_parts(root, "mnist", None)
    (images, labels), (test_images, test_labels) = ((part[0][:, :1], part[1]) for part in (train_part, test_part))
    is_base, is_base_test, rank = labels < n_base, test_labels < n_base, ranks(labels, seed)
    is_drawn = ~is_base & (rank < per_class)
    is_reference = ~is_base & ~is_drawn & (rank % 2 == 0)
    is_judge = ~is_base & ~is_drawn & ~is_reference
    of_judge = [(images[is_judge], labels[is_judge]), (test_images[is_base_test], test_labels[is_base_test])]
    return World(
        (images[is_base], labels[is_base]),
        (images[is_drawn], labels[is_drawn]),
        (images[is_reference], labels[is_reference]),
        tuple(torch.cat(parts) for parts in zip(*of_judge, strict=True)),
        (test_images[~is_base_test], test_labels[~is_base_test]),
    )


world_of = lru_cache(maxsize=1)(load_world)


class Judge(nn.Module):
    """Features and predictions of a network for uint8 images, in the place of the Inception network."""

    def __init__(self, network: nn.Module, batches: Batches) -> None:
        super().__init__()
        self.network, self.batches = network, batches
        self.num_features = network.head.in_features

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        chunks = images.split(250)
        return torch.cat([self.network.features(self.batches.normalize(chunk)) for chunk in chunks])


def main() -> None:
    args = arguments(
        __doc__,
        methods=(list(ALL), "of making images"),
        per_class=(10, "images of a new class"),
        n_base=(5, "classes from 0 that are base classes"),
        made=(200, "images to make of each new class"),
        gan=([str], "FIELD=VALUE of rivals.metacgan.Size"),
        fit=(["steps=2000", "generator_width=16"], "FIELD=VALUE of FitConfig"),
        fit_alone_steps=(600, "of a fit without base classes"),
        classifier_steps=(200, "of the network trained on the images"),
        judge_steps=(300, "of the judge"),
        pictures=(Path, "folder of the picture; none is made without"),
    )
    run(args, [{"method": method, "seed": seed} for seed, method in product(args.seeds, args.methods)], measure)
    if args.pictures is not None:
        picture(args)


def settings_of(method: str, args: argparse.Namespace) -> Row:
    row = {"per_class": args.per_class, "n_made": args.made, "classifier_steps": args.classifier_steps}
    row["judge_steps"] = args.judge_steps
    if method in GANS:
        row["size"] = dataclasses.asdict(metacgan.Size(**parse_fields(args.gan or [])))
    if method in FITS:
        row["fit"] = parse_fields(args.fit) | ({"steps": args.fit_alone_steps} if method == FITS[0] else {})
    return row


def measure(args: argparse.Namespace, unit: Row) -> Row:
    method, seed = unit["method"], unit["seed"]
    world = world_of(args.data, args.n_base, args.per_class, seed)
    if method == "none":
        return {"accuracy": test_accuracy(world, None, args, seed)} | settings_of(method, args)
    start = time.perf_counter()
    made, labels, reference, details = images_of(world, method, seed, args)
    details |= settings_of(method, args) | {"seconds": time.perf_counter() - start}
    judge = judge_of(args.data, args.n_base, args.per_class, seed, args.judge_steps, args.device)
    scores = judged(made, labels, reference, judge)
    return scores | {"accuracy": test_accuracy(world, (made, labels), args, seed)} | details


def images_of(world: World, method: str, seed: int, args: argparse.Namespace) -> tuple[Tensor, Tensor, Tensor, Row]:
    """Images of the new classes, their labels, the real ones to compare them with, and details."""
    real, labels = world.reference
    half = ranks(labels, seed) % 2 == 0
    if method == REAL:
        return real[~half], labels[~half], real[half], {}
    wanted = world.new[1].unique().repeat_interleave(args.made)
    identity = [method, seed, args.n_base, args.made, settings_of(method, args)]

    def make() -> tuple[Tensor, Row]:
        torch.manual_seed(seed)
        makers = dict.fromkeys(GANS, by_gan) | {AVERAGES: by_averages}
        return makers.get(method, by_fit)(world, wanted, method, seed, args)

    made, details = kept(args.fits, "metacgan", identity, make)
    return made, wanted, real[half], details


def by_gan(world: World, wanted: Tensor, method: str, seed: int, args: argparse.Namespace) -> tuple[Tensor, Row]:
    size, device = metacgan.Size(**parse_fields(args.gan or [])), torch.device(args.device)
    sample = metacgan.train(world.base, world.new, has_meta_net=GANS[method], size=size, device=device)
    return torch.cat([sample(labels) for labels in wanted.split(250)]), {}


def by_averages(world: World, wanted: Tensor, method: str, seed: int, args: argparse.Namespace) -> tuple[Tensor, Row]:
    images, labels = world.new
    swap = PixelAveraging(as_split(world.new, world.new), p=1)
    chosen = torch.tensor([int(torch.multinomial((labels == each).float(), 1)) for each in wanted])
    return swap(three_channels(images[chosen]), wanted, chosen)[:, :1], {}


def by_fit(world: World, wanted: Tensor, method: str, seed: int, args: argparse.Namespace) -> tuple[Tensor, Row]:
    """Ours, without the base classes, with them as unlabelled images, or with them and their labels."""
    (images, labels), unlabeled = world.new, None
    if method == "glico, base unlabelled":
        unlabeled = world.base[0]
    elif method == "glico, base labelled":
        images, labels = torch.cat([images, world.base[0]]), torch.cat([labels, world.base[1]])
    options = {"seed": seed, "unlabeled": unlabeled, "device": args.device} | settings_of(method, args)["fit"]
    augment, record = fitted(images, labels, args.fits, **options)
    made, _ = augment.synthesize(wanted)
    real = world.new[0] / 255
    error = (augment.reconstruct(torch.arange(len(real))) - real).square().sum()
    r2 = 1 - (error / (real - real.mean(dim=0)).square().sum()).item()
    return to_bytes(made), {"r2_of_new": r2, "r2": record["r2"], "fit_config": record["config"]}


@lru_cache(maxsize=1)
def judge_of(root: Path, n_base: int, per_class: int, seed: int, steps: int, device: str) -> Judge:
    world = world_of(root, n_base, per_class, seed)
    split = as_split(world.judged_by, world.judged_by).to(torch.device(device))
    setting = Setting("mnist", 0, steps=steps, weight_decay=5e-4, batched=True)
    batches = Batches(split, flip=False, batched=True)
    return Judge(train(split, setting, batches, cross_entropy, seed), batches).eval()


def judged(made: Tensor, labels: Tensor, reference: Tensor, judge: Judge) -> Row:
    """Scores of uint8 images ``(k, 1, height, width)``; those of real images stand for what can be reached."""
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    device = judge.batches.images.device
    made, reference = three_channels(made).to(device), three_channels(reference).to(device)
    subset = min(len(made), len(reference), 100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it keeps all features
        fid = FrechetInceptionDistance(feature=judge, input_img_size=tuple(made.shape[1:]))
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
    """``exp(E[KL(p(y|x) ‖ p(y))])`` of ``p(y|x)``, ``(k, classes)``: from 1 to the number of classes."""
    mean = shares.mean(dim=0, keepdim=True)
    kl = torch.xlogy(shares, shares).sum(dim=1) - torch.xlogy(shares, mean.expand_as(shares)).sum(dim=1)
    return math.exp(kl.mean().item())


def test_accuracy(world: World, made: Labelled | None, args: argparse.Namespace, seed: int) -> float:
    """Of the benchmarks' network on the ten images per class; as many steps whatever is made."""
    first = int(world.new[1].min())
    split = as_split((world.new[0], world.new[1] - first), (world.test[0], world.test[1] - first))
    swap = None if made is None else replace_half(three_channels(made[0]), made[1] - first)
    setting = setting_of("mnist", args.per_class, args.classifier_steps)
    return score_from_scratch(split.to(torch.device(args.device)), setting, seed, swap, is_shifted=True)


def replace_half(made: Tensor, made_labels: Tensor) -> Swap:
    """A swap of half of the images for random ones of ``made`` of their class."""
    members = made_labels[None] == torch.arange(int(made_labels.max()) + 1)[:, None]

    def swap(images: Tensor, labels: Tensor, indices: Tensor) -> Tensor:
        chosen = torch.multinomial(members[labels.cpu()].float(), 1).flatten()
        coins = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
        return torch.where(coins, made[chosen].to(images.device), images)

    return swap


def picture(args: argparse.Namespace, shown: int = 6) -> None:
    """What each method makes of the first seed's images, below the real ones: a line per method, six per class."""
    world = load_world(args.data, args.n_base, args.per_class, args.seeds[0])
    lines = [world.new, *(images_of(world, name, args.seeds[0], args)[:2] for name in args.methods if name in MADE)]
    pictures = [images[labels == label][:shown] for images, labels in lines for label in labels.unique()]
    args.pictures.mkdir(parents=True, exist_ok=True)
    columns = sum(len(each) for each in pictures) // len(lines)
    save_grid(torch.cat(pictures) / 255, args.pictures / "metacgan.png", columns=columns, scale=1)


if __name__ == "__main__":
    main()
