"""Test accuracy of a small network on a few images per class, for every method, seed and setting asked for.

    python benchmarks/measure_accuracy.py --data DATA --out benchmarks/results/accuracy.jsonl

DATA holds the folders of images, DATA/cifar10/train/<class>/ and so on, or DATA/cifar10.zip as shared/data.py packs it.
Every method sees the same training images in the same order with the same initial weights, shifts and flips for a seed.
A training that --minutes stopped, or that was killed, is kept in --fits and goes on with the same command. With
--samplers FOLDER a picture of each sampler is made instead: a training image, its reconstruction, and images about it.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from itertools import product
from pathlib import Path

import torch
from shared.data import make_split
from shared.fits import fitted
from shared.methods import METHODS, find_method, make_batches
from shared.pause import Pause
from shared.runner import Row, arguments, run
from shared.settings import CPU_SETTINGS, Setting, find_setting
from shared.training import accuracy, precision, train

from glico_augment.pictures.grids import save_grid

SAMPLERS = ("plain", "glico-noise", "glico-random-out", "glico-other-class")


def main() -> None:
    args = arguments(
        __doc__,
        settings=(list(CPU_SETTINGS), "by name, or FOLDER-COUNT"),
        methods=(list(METHODS), "NAME or NAME:field=value,…"),
        grid=([str], "'SETTING… / METHOD… / SEED…' in place of these and the seeds, one or several in turn"),
        set=([str], "FIELD=VALUE, changes to the settings"),
        chosen=(Path, "file of measure_tuning.py with settings that stand in place of those of their names"),
        part=("test", "what to score on: test or validation"),
        lr=([float], "learning rates to tune, with --part validation"),
        decay=([float], "weight decays to tune, with --part validation"),
        samplers=(Path, "folder of pictures of the samplers, which are made in place of measuring"),
    )
    if args.samplers is not None:
        for name in args.settings:
            picture(name, args)
        return
    run(args, plan(args), measure)


def plan(args: argparse.Namespace) -> list[Row]:
    """The runs, seed by seed, so that a stopped table is even.

    Raises:
        ValueError: for a grid that is none, or a name or field that does not exist.
    """
    grids = [parse_grid(text) for text in args.grid or []] or [(args.settings, args.methods, args.seeds)]
    chosen = json.loads(args.chosen.read_text()) if args.chosen else {}
    units = []
    for settings, methods, seeds in grids:
        for seed, name, text in product(seeds, settings, methods):
            setting = Setting(**chosen[name]) if name in chosen else find_setting(name, args.set or [])
            find_method(text)
            for lr, decay in product(args.lr or [setting.lr], args.decay or [setting.weight_decay]):
                units.append(identity(dataclasses.replace(setting, lr=lr, weight_decay=decay), text, seed, args.part))
    return units


def identity(setting: Setting, method: str, seed: int, part: str) -> Row:
    """The fields that tell one run from another."""
    return dataclasses.asdict(setting) | {"method": method, "seed": seed, "part": part}


def parse_grid(text: str) -> tuple[list[str], list[str], list[int]]:
    try:
        settings, methods, seeds = (part.split() for part in text.split("/"))
        return settings, methods, [int(seed) for seed in seeds]
    except ValueError:
        raise ValueError(f"expected 'SETTING… / METHOD… / SEED…', got {text!r}") from None


def measure(args: argparse.Namespace, unit: Row) -> Row | None:
    """One training, scored; None if the time was over before its end."""
    setting = Setting(**{field.name: unit[field.name] for field in dataclasses.fields(Setting)})
    seed, part, device = unit["seed"], unit["part"], torch.device(args.device)
    split = make_split(args.data, setting.data, setting.side, setting.per_class, seed, part).to(device)
    method = find_method(unit["method"])
    batches, record = make_batches(method, split, setting, seed, part, args)
    digest = hashlib.sha256(json.dumps(unit, sort_keys=True).encode()).hexdigest()[:16]
    pause = Pause(args.fits / f"{digest}.training", args.deadline)
    network = train(split, setting, batches, method.objective, seed, pause=pause)
    if network is None:
        return None
    row = {"accuracy": accuracy(network, batches, split.eval_images, split.eval_labels)}
    pause.forget()
    return row | record | {"train_seconds": pause.seconds, "precision": precision(device)}


def picture(name: str, args: argparse.Namespace, anchor: int = 11, samples: int = 10) -> None:
    """A row per sampler: a training image, its reconstruction, and what the sampler makes of it."""
    setting = find_setting(name, args.set or [])
    split = make_split(args.data, setting.data, setting.side, setting.per_class, args.seeds[0], "test")
    augment, _ = fitted(split.images, split.labels, args.fits, seed=args.seeds[0], **setting.fit)
    chosen = torch.tensor([anchor % len(split.labels)])
    pictures = []
    for text in SAMPLERS:
        augment.swap = augment.swap.replace(**find_method(text).swap_settings)
        torch.manual_seed(args.seeds[0])
        made, _ = augment.make(split.labels[chosen].repeat(samples), anchors=chosen.repeat(samples))
        pictures += [split.images[chosen] / 255, augment.reconstruct(chosen), made]
    args.samplers.mkdir(parents=True, exist_ok=True)
    save_grid(torch.cat(pictures), args.samplers / f"samplers-{name}.png", columns=samples + 2, scale=2)


if __name__ == "__main__":
    main()
