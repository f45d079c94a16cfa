"""What the tests of the benchmarks share: toy data sets, and scripts called in this process."""

import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from shared.data import pack
from shared.runner import read_rows

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TOY_FIT = {"min_steps": 2, "epochs": 1, "generator_width": 4}


def random_pictures(count, side=16, seed=0):
    return torch.randint(
        0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def save_folder(folder, classes, per_class, *, side=16, seed=0, suffix="png"):
    """Images of classes, no two alike, whose names do not sort as numbers."""
    for index, pixels in enumerate(random_pictures(len(classes) * per_class, side, seed)):
        path = folder / classes[index % len(classes)]
        path.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path / f"{7 + index}.{suffix}")


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """``cifar10`` (two classes of 8 and 2), ``omniglot`` (six of 8) and ``mnist`` (four, each bright in a quarter)."""
    root = tmp_path_factory.mktemp("data")
    for part, per_class in (("train", 8), ("test", 2)):
        save_folder(root / "cifar10" / part, ("dog", "cat"), per_class, seed=per_class, suffix="jpg")
    for part, seed in (("background", 0), ("evaluation", 1)):
        save_folder(root / "omniglot" / part, [f"character{number}" for number in range(6)], 8, side=28, seed=seed)
    generator = torch.Generator().manual_seed(0)
    for part, per_class in (("train", 12), ("test", 4)):
        for label in range(4):
            folder = root / "mnist" / part / str(label)
            folder.mkdir(parents=True)
            for number in range(per_class):
                pixels = torch.randint(0, 30, (16, 16), generator=generator)
                pixels[8 * (label // 2) :, 8 * (label % 2) :][:8, :8] += 150
                Image.fromarray(pixels.to(torch.uint8).numpy()).save(folder / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def packed(root, tmp_path_factory):
    """``cifar10`` in one file."""
    folder = tmp_path_factory.mktemp("packed")
    assert pack(root / "cifar10", folder / "cifar10.zip") == 20
    return folder


@pytest.fixture
def called(root, tmp_path, monkeypatch):
    """The rows of a script after a run on the CPU, with this data and a folder of fits."""

    def call(script, *options, data=root, out=tmp_path / "rows.jsonl"):
        arguments = [f"--out={out}", "--device=cpu", f"--fits={tmp_path / 'fits'}"]
        arguments += [f"--data={data}"] if data else []
        monkeypatch.setattr(sys, "argv", [f"{script.__name__}.py", *arguments, *map(str, options)])
        script.main()
        return read_rows(out)

    return call
