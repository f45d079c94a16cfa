"""Few-shot accuracy on real images of a network that was trained on tasks of synthetic ones, and of its rivals.

    pip install easyfsl
    python benchmarks/measure_tasks.py --data DATA --out benchmarks/results/tasks.jsonl

EasyFSL's prototypical network on Conv-4 learns from --episodes tasks and is scored on --tasks real ones of the test
part, the same for every method of a seed: Omniglot's alphabets of evaluation, or the ten classes of other MNIST images.
All but the supervised one learn from the same --count images without their labels. A method is NAME or
NAME:field=value,… with fields of the swap: max_ratio (α), sampler_std (σ), min_angle (ε); "+augmentations" behind NAME
augments the queries of synthetic tasks as well. With --part validation the real tasks are of training images that were
not fitted. A row that is in --out is skipped, and fits are kept in --fits.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from accuracy.rows import append_row, machine, read_rows
from accuracy.settings import parse_name
from latent.episodes import Episode, augment, augmented, real
from latent.fits import fitted
from latent.images import Images, load, split
from latent.networks import conv4, pixel_accuracy, score, train
from latent.processes import run_all

from glico_augment import GLICOAugment, SyntheticTasks

SETS = ("omniglot", "mnist")
SAMPLERS = {"lasium-n": "noise", "lasium-ro": "random-out", "lasium-oc": "other-class"}
METHODS = ("untrained", "augmentations", *SAMPLERS, "supervised")
AUGMENTED = "+augmentations"
FIT_SEED = 0  # one fit for all networks
UNSEEN = 10**6  # added to a seed, for tasks of the same kind that are not learned from
PIXEL_EPISODES = 50


def main() -> None:
    args = parse_args()
    for method in args.methods:
        check_method(method)
    run_all(run, [(args, name, method, seed) for seed in args.seeds for name in args.sets for method in args.methods],
            args.jobs)  # fmt: skip


def check_method(text: str) -> None:
    name, fields = parse_name(text)
    sampler = name.removesuffix(AUGMENTED)
    if name not in METHODS and sampler not in SAMPLERS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {name!r}")
    if fields and sampler not in SAMPLERS:
        raise ValueError(f"{name} takes no fields; got {text!r}")


def run(args: argparse.Namespace, name: str, method: str, seed: int) -> None:
    """Train one network and score it with 1 and with 5 shots, a row each."""
    torch.set_num_threads(args.threads)
    row = {"set": name, "method": method, "seed": seed, "part": args.part, "count": args.count, "n_way": args.n_way}
    row |= {"episodes": args.episodes, "train_query": args.train_query, "train_shot": 1, "width": args.width}
    row |= {"query": args.query, "tasks": args.tasks, "max_fit_steps": args.fit_steps}
    done = read_rows(args.out)
    if all(any((row | {"n_shot": n_shot}).items() <= each.items() for each in done) for n_shot in args.shots):
        return
    everything = load_once(args.data, name, "train")
    chosen, others = split(everything, args.count, FIT_SEED)
    scored = load_once(args.data, name, "test") if args.part == "test" else others
    torch.manual_seed(seed)  # of the weights, and of the tasks of SyntheticTasks
    backbone = conv4(everything.images.shape[1], args.width).to(args.device)
    figures: dict[str, Any] = {}
    if method != "untrained":
        episodes, figures = make_episodes(args, method, chosen, everything, seed)
        unseen, _ = make_episodes(args, method, chosen, everything, seed + UNSEEN)
        figures["pixel_accuracy"] = pixel_accuracy(unseen, min(PIXEL_EPISODES, args.episodes))
        figures |= train(backbone, episodes, args.episodes, args.device)
    for n_shot in args.shots:
        scores = score(backbone, scored, args.n_way, n_shot, args.query, args.tasks, seed, args.device)
        append_row(args.out, row | {"n_shot": n_shot} | scores | figures | machine(torch.device(args.device)))
        print(
            f"{name}, {method}, seed {seed}, {n_shot} shots: {scores['accuracy']:.1f} ± {scores['half_width']:.1f} %, "
            f"{figures.get('train_accuracy', 0):.1f} % of training tasks, "
            f"{figures.get('pixel_accuracy', 0):.1f} % by pixels, {figures.get('train_seconds', 0):.0f} s",
            flush=True,
        )


load_once = lru_cache(maxsize=2)(load)


def make_episodes(
    args: argparse.Namespace, method: str, chosen: Images, everything: Images, seed: int
) -> tuple[Iterable[Any], dict[str, Any]]:
    """What a method learns from, and what to record of it."""
    shape = (args.n_way, 1, args.train_query, seed)
    if method == "supervised":
        return real(everything, *shape), {}
    if method == "augmentations":
        return augmented(chosen.images, *shape), {}
    name, fields = parse_name(method)
    augment, figures = fitted(chosen.images, FIT_SEED, args.fit_steps, args.fits, args.device)
    tasks = synthetic(augment, name.removesuffix(AUGMENTED), fields, shape, args.device)
    figures |= {"swap": tasks.augment.swap.replace(sampler=tasks.sampler, min_angle=tasks.min_angle).to_json()}
    return (with_augmentations(tasks, seed) if name.endswith(AUGMENTED) else as_floats(tasks)), figures


def synthetic(
    augment: GLICOAugment, name: str, fields: dict[str, Any], shape: tuple[int, ...], device: str
) -> SyntheticTasks:
    augment.swap = augment.swap.replace(**fields)
    n_way, n_shot, n_query, seed = shape
    options = {"min_angle": augment.min_angle, "seed": seed, "device": device}
    return SyntheticTasks(augment, n_way, n_shot, n_query, sampler=SAMPLERS[name], **options)


def as_floats(tasks: SyntheticTasks) -> Iterator[Episode]:
    for support, support_labels, query, query_labels, _ in tasks:
        yield Episode(support / 255, support_labels, query / 255, query_labels)


def with_augmentations(tasks: SyntheticTasks, seed: int) -> Iterator[Episode]:
    generator = torch.Generator().manual_seed(seed)
    for episode in as_floats(tasks):
        yield episode._replace(query_images=augment(episode.query_images, generator))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the folders of images")
    parser.add_argument("--out", type=Path, required=True, help="result file, appended to")
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--methods", nargs="+", default=METHODS, help="NAME or NAME:field=value,…")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2), help="of weights and tasks")
    parser.add_argument("--part", choices=["test", "validation"], default="test", help="what to score on")
    parser.add_argument("--count", type=int, default=1000, help="images fitted, and augmented")
    parser.add_argument("--fit-steps", type=int, default=1500, help="at most, where the defaults ask for more")
    parser.add_argument("--n-way", type=int, default=5)
    parser.add_argument("--shots", type=int, nargs="+", default=(1, 5), help="of the tasks that are scored")
    parser.add_argument("--query", type=int, default=15, help="images a class of the tasks that are scored")
    parser.add_argument("--train-query", type=int, default=5, help="images a class of the tasks that are learned from")
    parser.add_argument("--episodes", type=int, default=300, help="to learn from")
    parser.add_argument("--tasks", type=int, default=1000, help="to score on")
    parser.add_argument("--width", type=int, default=64, help="channels of Conv-4")
    parser.add_argument("--fits", type=Path, default=Path("fits"), help="folder of fits")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--threads", type=int, default=1, help="threads a process")
    return parser.parse_args()


if __name__ == "__main__":
    main()
