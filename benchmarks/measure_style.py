"""What a transfer of style changes: how often a judge sees another class, for each share of the way.

    python benchmarks/measure_style.py --data DATA --out benchmarks/results/style.jsonl

The judge is the benchmarks' network, trained on the whole training part of a data set, with shifts (and flips). Every
test image that it puts in its class is moved the share s of the way to the style of a random training image.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from accuracy.data import Split, load_parts
from accuracy.rows import append_row, machine, read_rows
from accuracy.settings import SETTINGS
from accuracy.training import Batches, cross_entropy, train
from torch.utils.data import TensorDataset

from glico_augment import LocalStyle
from glico_augment.style import transfer_style

SHARES = (0.25, 0.5, 0.75, 1.0)
JUDGED = ("digits-10", "mnist-10", "omniglot-5", "signs-10", "cifar10-50")


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    done = {(row["data"], row["seed"]) for row in read_rows(args.out)}
    for name in args.settings:
        setting = replace(SETTINGS[name], steps=args.steps)
        if (setting.data, args.seed) in done:
            continue
        (images, labels), (test_images, test_labels) = load_parts(args.data, setting.data, setting.side)
        split = Split(images, labels, test_images, test_labels)
        batches = Batches(split, setting.flip)
        rates = {"lr": setting.lr, "weight_decay": setting.weight_decay}
        judge = train(split, setting, batches, cross_entropy, args.seed, **rates)

        def classes(shown: torch.Tensor, judge=judge, batches=batches) -> torch.Tensor:
            with torch.no_grad():
                return torch.cat([judge(batches.normalize(chunk)).argmax(1) for chunk in shown.split(250)])

        is_right = classes(test_images) == test_labels
        known, known_labels = test_images[is_right], test_labels[is_right]
        styles = LocalStyle(TensorDataset(images)).styles
        generator = torch.Generator().manual_seed(args.seed)
        chosen = styles[torch.randint(len(styles), (len(known),), generator=generator)]
        row = {"data": setting.data, "seed": args.seed, "judge_accuracy": 100 * is_right.float().mean().item()}
        for share in SHARES:
            moved = transfer_style(known / 255, chosen, torch.full((len(known),), share))
            changed = classes((moved * 255).round().to(torch.uint8)) != known_labels
            row[f"changed_{share:g}"] = 100 * changed.float().mean().item()
        append_row(args.out, row | {"steps": args.steps} | machine(torch.device("cpu")))
        print(row, flush=True)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the folders of images")
    parser.add_argument("--out", type=Path, required=True, help="result file, appended to")
    parser.add_argument("--settings", nargs="+", default=JUDGED, help="by name; images a class are not counted here")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1200, help="of the judge")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
