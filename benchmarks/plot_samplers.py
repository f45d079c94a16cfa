"""A picture of each sampler: an anchor, its reconstruction, and images that the sampler makes about it.

    python benchmarks/plot_samplers.py --data DATA --out benchmarks/plots

Of the fits of the accuracy tables, which are kept in --fits; a row is a sampler, in the order of --methods.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from accuracy.data import make_split
from accuracy.methods import find_method
from accuracy.settings import find_setting
from accuracy.swaps import fitted

from glico_augment.images.values import to_unit
from glico_augment.pictures.grids import save_grid

METHODS = ("glico", "glico-noise", "glico-random-out", "glico-other-class")


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    for name in args.settings:
        setting = find_setting(name, args.set)
        split = make_split(args.data, setting.data, setting.side, setting.per_class, args.seed, "test")
        augment, figures = fitted(split, args.seed, setting.fit, args.fits)
        anchor = torch.tensor([args.anchor % len(split.labels)])
        pictures = []
        for text in args.methods:
            augment.swap = augment.swap.replace(**find_method(text).swap_settings or {})
            anchors = anchor.expand(args.samples)
            params = augment.make_params(
                split.labels[anchors], anchors=anchors, generator=torch.Generator().manual_seed(args.seed)
            )
            pictures += [to_unit(split.images[anchor]), augment.reconstruct(anchor), augment.transform(params)]
        path = args.out / f"samplers-{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_grid(torch.cat(pictures), path, columns=args.samples + 2, scale=2)
        print(f"{path.name}: R² of the fit {figures['r2']:.3f}")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the folders of images")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--settings", nargs="+", default=("mnist-5", "omniglot-1", "cifar10-10"))
    parser.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE", help="changes to the settings")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--anchor", type=int, default=11, help="index of the training image")
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--fits", type=Path, default=Path("fits"), help="folder of fits")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
