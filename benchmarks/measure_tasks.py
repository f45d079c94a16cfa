"""Few-shot accuracy on real images of a network that was trained on tasks of synthetic ones, and of its rivals.

    pip install easyfsl
    python benchmarks/measure_tasks.py --data DATA --out benchmarks/results/tasks.jsonl --episodes 150

EasyFSL's prototypical network on Conv-4 learns from --episodes tasks and is scored on --tasks real ones of the test
part, the same for every method of a seed: Omniglot's alphabets of evaluation, or the ten classes of other MNIST images.
All but the supervised one learn from the same --count images without their labels. A method is NAME or
NAME:field=value,… with fields of the swap: max_ratio (α), sampler_std (σ), min_angle (ε); "+augmentations" behind NAME
augments the queries of synthetic tasks as well. With --part validation the real tasks are of training images that were
not fitted. Fits are kept in --fits.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from itertools import product

import torch
from latent.images import load, split
from latent.tasks import Episode, augment, augmented, conv4, pixel_accuracy, real, score, train
from shared.data import Labelled
from shared.fits import fitted_without_labels
from shared.runner import Row, arguments, parse_name, run

from glico_augment import SyntheticTasks

SETS = ("omniglot", "mnist")
SAMPLERS = {"lasium-n": "noise", "lasium-ro": "random-out", "lasium-oc": "other-class"}
METHODS = ("untrained", "augmentations", *SAMPLERS, "lasium-n+augmentations", "supervised")
AUGMENTED = "+augmentations"
FIT_SEED = 0  # one fit for all networks
UNSEEN = 10**6  # added to a seed, for tasks of the same kind that are not learned from
PIXEL_EPISODES = 50


def main() -> None:
    args = arguments(
        __doc__,
        sets=(list(SETS), "data sets"),
        methods=(list(METHODS), "NAME or NAME:field=value,…"),
        part=("test", "what to score on: test or validation"),
        count=(1000, "images fitted, and augmented"),
        fit_steps=(1500, "at most, where the defaults ask for more"),
        n_way=(5, "classes of a task"),
        shots=([1, 5], "of the tasks that are scored"),
        query=(15, "images per class of the tasks that are scored"),
        train_query=(5, "images per class of the tasks that are learned from"),
        episodes=(300, "to learn from"),
        tasks=(1000, "to score on"),
        width=(64, "channels of Conv-4"),
    )
    for method in args.methods:
        check_method(method)
    common = {name: getattr(args, name) for name in ("part", "count", "n_way", "episodes", "train_query", "width")}
    common |= {"query": args.query, "tasks": args.tasks, "train_shot": 1, "max_fit_steps": args.fit_steps}
    combinations = product(args.seeds, args.sets, args.methods)
    run(args, [{"set": name, "method": text, "seed": seed} | common for seed, name, text in combinations], measure)


def check_method(text: str) -> None:
    name, fields = parse_name(text)
    sampler = name.removesuffix(AUGMENTED)
    if name not in METHODS and sampler not in SAMPLERS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {name!r}")
    if fields and sampler not in SAMPLERS:
        raise ValueError(f"{name} takes no fields; got {text!r}")


def measure(args: argparse.Namespace, unit: Row) -> list[Row]:
    """Train one network and score it with each number of shots, a row each."""
    name, method, seed = unit["set"], unit["method"], unit["seed"]
    everything = load(args.data, name, "train")
    chosen, others = split(everything, args.count, FIT_SEED)
    scored = load(args.data, name, "test") if args.part == "test" else others
    torch.manual_seed(seed)  # of the weights, and of the tasks of SyntheticTasks
    backbone = conv4(everything[0].shape[1], args.width).to(args.device)
    figures: Row = {}
    if method != "untrained":
        episodes, figures = make_episodes(args, method, chosen, everything, seed)
        unseen, _ = make_episodes(args, method, chosen, everything, seed + UNSEEN)
        figures["pixel_accuracy"] = pixel_accuracy(unseen, min(PIXEL_EPISODES, args.episodes))
        figures |= train(backbone, episodes, args.episodes, args.device)
    rows = []
    for n_shot in args.shots:
        scores = score(backbone, scored, args.n_way, n_shot, args.query, args.tasks, seed, args.device)
        rows.append({"n_shot": n_shot} | scores | figures)
    return rows


def make_episodes(
    args: argparse.Namespace, method: str, chosen: Labelled, everything: Labelled, seed: int
) -> tuple[Iterable[Episode], Row]:
    """What a method learns from, and what to record of it."""
    shape = (args.n_way, 1, args.train_query)
    if method == "supervised":
        return real(everything, *shape, seed), {}
    if method == "augmentations":
        return augmented(chosen[0], *shape, seed), {}
    name, fields = parse_name(method)
    fit, figures = fitted_without_labels(chosen[0], args.fit_steps, args.fits, seed=FIT_SEED, device=args.device)
    fit.swap = fit.swap.replace(**fields)
    options = {"sampler": SAMPLERS[name.removesuffix(AUGMENTED)], "min_angle": fit.min_angle}
    tasks = SyntheticTasks(fit, *shape, seed=seed, device=args.device, **options)
    swap = fit.swap.replace(**options)
    figures["swap"] = swap.to_json() | {"max_ratio": swap.largest_ratio}
    return synthetic(tasks, seed, name.endswith(AUGMENTED)), figures


def synthetic(tasks: SyntheticTasks, seed: int, is_augmented: bool) -> Iterator[Episode]:
    generator = torch.Generator().manual_seed(seed)
    for support, support_labels, query, query_labels, _ in tasks:
        query = augment(query / 255, generator) if is_augmented else query / 255
        yield Episode(support / 255, support_labels, query, query_labels)


if __name__ == "__main__":
    main()
