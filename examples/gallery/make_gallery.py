"""Draw what a classifier sees in place of a photograph: the pictures of the README and of this folder.

    python examples/gallery/make_gallery.py DATA

DATA holds ``signs/train/<class>/``, ``cifar10/train/<class>/``, ``mnist/train/<class>/`` and
``omniglot/background/<class>/``. Every fit has the default settings and a few images per class.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Subset
from torchvision.datasets import ImageFolder
from torchvision.io import write_png
from torchvision.transforms import v2

from glico_augment import GLICOAugment, LocalStyle, load_image

HERE = Path(__file__).parent
TILE = 96  # pixels of an image in a picture
SETS: dict[str, tuple[str, int, Sequence[str]]] = {
    "signs": ("signs/train", 10, ()),
    "cifar10": ("cifar10/train", 10, ()),
    "mnist": ("mnist/train", 10, ()),
    "omniglot": (
        "omniglot/background",
        5,
        [f"{alphabet}_character0{index}" for alphabet in ("Balinese", "Greek", "Korean", "Latin") for index in (1, 2)],
    ),
}
"""Folder, images per class in the fit, and the classes to show: all where none is named."""


def main(data: Path) -> None:
    for name, (folder, per_class, classes) in SETS.items():
        images = ImageFolder(data / folder, loader=load_image)
        chosen = [index for label in range(len(images.classes)) for index in few_of(images, label, per_class)]
        train = Subset(images, chosen)
        augment = GLICOAugment.fit(train, class_names=images.classes)
        print(f"{name}: {augment}")
        shown = [images.class_to_idx[each] for each in classes] or range(len(images.classes))
        places = [label * per_class for label in shown]
        torch.manual_seed(0)
        photographs = [images[chosen[place]][0] for place in places]
        swapped = augment.wrap(train, class_names=images.classes)
        swapped.p = 1.0
        swaps = [[swapped[place][0] for place in places] for _ in range(3)]
        style = LocalStyle(train, p=1.0)
        styled = [[style(image) for image in photographs] for _ in range(3)]
        save([photographs, *swaps], HERE / f"{name}_swap.png")
        save([photographs, *styled], HERE / f"{name}_style.png")


def few_of(images: ImageFolder, label: int, count: int) -> list[int]:
    """The first images of a class."""
    return [index for index, each in enumerate(images.targets) if each == label][:count]


def save(rows: Sequence[Sequence[object]], path: Path) -> None:
    """Write rows of images as one grid, the first row apart from the others."""
    to_tile = v2.Compose([v2.ToImage(), v2.RGB(), v2.Resize((TILE, TILE), v2.InterpolationMode.NEAREST_EXACT)])
    strips = [torch.cat([framed(to_tile(image)) for image in row], dim=2) for row in rows]
    gap = torch.full((3, 8, strips[0].shape[2]), 255, dtype=torch.uint8)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        write_png(torch.cat([strips[0], gap, *strips[1:]], dim=1), str(Path(folder) / path.name))
        (Path(folder) / path.name).replace(path)


def framed(tile: Tensor) -> Tensor:
    """An image with one white pixel about it."""
    return torch.nn.functional.pad(tile, (1, 1, 1, 1), value=255)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    main(parser.parse_args().data)
