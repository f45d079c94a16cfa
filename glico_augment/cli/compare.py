"""``glico compare`` says which augmentation helps on a folder of photographs; ``glico demo`` does so on digits."""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch
from torch.utils.data import Subset, TensorDataset

from glico_augment.checks import shown
from glico_augment.cli.outputs import check_grid
from glico_augment.comparison.compare import compare as compare_recipes
from glico_augment.comparison.recipes import NONE, RECIPES, padding_of
from glico_augment.comparison.result import Comparison
from glico_augment.data.folders import random_per_class
from glico_augment.files.atomic import check_writable, write_atomically
from glico_augment.optional import import_optional
from glico_augment.swap.augment import GLICOAugment

# Chosen on other draws: those of glico demo --seed 100 --draws 8.
_DEMO: dict[str, Any] = {"per_class": 3, "steps": 600, "image_size": 8, "fit": {"steps": 80}}
_DEMO_RECIPES = (NONE, "style", "GLICO")
_DEMO_DPI = 150
_INSTALL = "pip install 'glico-augment[demo]'"


def compare(args: argparse.Namespace) -> None:
    """``glico compare FOLDER``."""
    if args.output is not None:
        if args.output.suffix.lower() != ".json":
            raise ValueError(f"-o {args.output}: the figures are written as JSON; give a name that ends in .json")
        check_writable(args.output)
    names = ("per_class", "draws", "folds", "steps", "image_size", "flip", "seed", "device")
    settings = {name: getattr(args, name) for name in names}
    found = compare_recipes(args.folder, args.test, **settings)
    print(_shown(found, flip=args.flip))
    if found.best is not None:
        code = RECIPES[found.best].code(str(args.folder), found.size, flip=args.flip)
        print(f"{found.best} in Python:\n\n{code}\n")
    if args.output is not None:
        paths = {"folder": str(args.folder), "test": None if args.test is None else str(args.test)}
        text = json.dumps({"settings": paths | settings, **found.to_json()}, indent=2)
        write_atomically(args.output, lambda partial: partial.write_text(f"{text}\n", encoding="utf-8"))
        print(f"figures in {shown(str(args.output))}")


def demo(args: argparse.Namespace) -> None:
    """``glico demo``: the same on scikit-learn's handwritten digits, and a picture of what the swap does to them."""
    check_grid(args.output, images=1, shape=(3, 1, 1))
    import_optional("matplotlib", f"the picture of the demo needs matplotlib: {_INSTALL}")
    train, test = digits()
    torch.set_num_threads(1)  # more of them cost more than they give on such small images
    recipes = {name: RECIPES[name] for name in _DEMO_RECIPES}
    settings = {"draws": args.draws, "seed": args.seed, "device": args.device}
    print(f"{_DEMO['per_class']} training images of each of 10 handwritten digits, {len(test)} to test on")
    print(_shown(compare_recipes(train, test, recipes=recipes, **_DEMO, **settings), flip=False))
    names = [str(digit) for digit in range(10)]
    few = Subset(train, random_per_class(train.tensors[1], names, _DEMO["per_class"], seed=args.seed).tolist())
    augment = GLICOAugment.fit(few, device=args.device, seed=args.seed, progress=False, **_DEMO["fit"])
    figure = augment.plot_swaps(generator=torch.Generator().manual_seed(args.seed))
    write_atomically(args.output, lambda partial: figure.savefig(partial, dpi=_DEMO_DPI))
    print(f"photographs and what they are swapped for: {shown(str(args.output))}")
    print("On photographs of your own: glico compare FOLDER")


def digits() -> tuple[TensorDataset, TensorDataset]:
    """Scikit-learn's handwritten digits, 8 × 8 pixels: 300 to draw from, and 1,497 to test on.

    Raises:
        ModuleNotFoundError: without scikit-learn.
    """
    datasets = import_optional("sklearn.datasets", f"the digits come with scikit-learn: {_INSTALL}")
    loaded = datasets.load_digits()
    images = torch.from_numpy(loaded.images * (255 / 16)).round().to(torch.uint8)[:, None]
    labels = torch.from_numpy(loaded.target)
    first, second = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).tensor_split([300])
    return TensorDataset(images[first], labels[first]), TensorDataset(images[second], labels[second])


def _shown(found: Comparison, *, flip: bool) -> str:
    height, width = found.size
    moved = f"shifted by up to {padding_of(found.size)} pixels and {'mirrored at random' if flip else 'never mirrored'}"
    how = f"The same network with every recipe, on images of {height} × {width} pixels, {moved}."
    if found.r2:
        how += f"\nR² of the fits: {sum(found.r2) / len(found.r2):.3f} on average, {min(found.r2):.3f} at worst."
    return f"\n{found.table()}\n\n{how}\n{found.verdict()}"
