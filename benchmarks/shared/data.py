"""Images of a setting: loaded once as uint8, and split by seed. A folder of images may be packed in one zip file.

    python benchmarks/shared/data.py DATA OUT/data

packs those that DATA has, for a machine without the folders.
"""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import PIL.Image
import torch
import torchvision
from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

VALIDATION_PER_CLASS = 300
PARTS, OMNIGLOT_PARTS = ("train", "test"), ("background", "evaluation")

Labelled = tuple[Tensor, Tensor]
"""Images uint8 ``(n, channels, height, width)`` and labels ``(n,)`` int64."""


@dataclass(frozen=True)
class Split:
    """Training images of one seed and those that are scored, uint8 ``(n, 3, side, side)`` with int64 labels."""

    images: Tensor
    labels: Tensor
    eval_images: Tensor
    eval_labels: Tensor

    def to(self, device: torch.device) -> Split:
        return Split(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


def make_split(root: Path, data: str, side: int | None, per_class: int, seed: int, part: str) -> Split:
    """Random training images of a :class:`Setting`, and what to score on.

    ``part`` is ``"test"``; ``"validation"``, up to 300 per class of the training images that were not drawn; or
    ``"rest"``, all of those.
    """
    (images, labels), test = load_parts(root, data, side)
    generator = torch.Generator().manual_seed(seed)
    drawn, others = [], []
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        if len(members) < per_class:
            raise ValueError(f"{data} has {len(members)} training images of class {label}, fewer than {per_class}")
        members = members[torch.randperm(len(members), generator=generator)]
        drawn.append(members[:per_class])
        others.append(members[per_class:][: None if part == "rest" else VALIDATION_PER_CLASS])
    chosen, rest = torch.cat(drawn), torch.cat(others)
    scored = test if part == "test" else (images[rest], labels[rest])
    return Split(images[chosen], labels[chosen], *scored)


@lru_cache(maxsize=8)
def load_parts(root: Path, data: str, side: int | None) -> tuple[Labelled, Labelled]:
    """The training and the test part of a data set."""
    if data == "digits":
        first, second = (
            (resized(images.expand(-1, 3, -1, -1), side).contiguous(), labels) for images, labels in digits()
        )
    elif data == "omniglot":
        first, second = load_omniglot(root / data / "background", side)
    elif data in ("CIFAR10", "CIFAR100"):
        download = getattr(torchvision.datasets, data)
        first, second = (stacked(download(root, train=train, download=True), side) for train in (True, False))
    else:
        first, second = (load_images(root / data / part, side) for part in PARTS)
    return first, second


def load_omniglot(folder: Path, side: int | None) -> tuple[Labelled, Labelled]:
    """Every other of the 20 drawers of a character to draw training images from, the others to test on."""
    images, labels = load_images(folder, side)
    first_of_class = torch.cat([torch.zeros(1).long(), labels.bincount().cumsum(0)[:-1]])
    is_train = (torch.arange(len(labels)) - first_of_class[labels]) % 2 == 0
    return (images[is_train], labels[is_train]), (images[~is_train], labels[~is_train])


def digits() -> tuple[Labelled, Labelled]:
    """Scikit-learn's handwritten digits, grey 8 × 8, half to train and half to test on."""
    from sklearn.datasets import load_digits  # needed here alone

    loaded = load_digits()
    images = torch.from_numpy(loaded.images * (255 / 16)).round().to(torch.uint8)[:, None]
    labels = torch.from_numpy(loaded.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, test = order.tensor_split(2)
    return (images[train], labels[train]), (images[test], labels[test])


def load_images(folder: Path, side: int | None) -> Labelled:
    """All images of a folder of classes, packed or not, as RGB, in the order of ``ImageFolder``.

    Raises:
        FileNotFoundError: if there is neither the folder nor its archive.
        ValueError: if the archive has none of its images.
    """
    if folder.is_dir():
        return stacked(ImageFolder(folder), side)
    path = folder.parent.with_suffix(".zip")
    if not path.exists():
        raise FileNotFoundError(f"there is neither a folder {folder.parent} nor {path}, the same packed")
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.startswith(f"{folder.name}/")]
        if not names:
            raise ValueError(f"{path} has no images in {folder.name}/")
        classes = {name: index for index, name in enumerate(dict.fromkeys(name.split("/")[1] for name in names))}
        files = ((io.BytesIO(archive.read(name)), classes[name.split("/")[1]]) for name in names)
        return stacked(((PIL.Image.open(file).convert("RGB"), label) for file, label in files), side)


def stacked(samples: Iterator[tuple[PIL.Image.Image, int]], side: int | None) -> Labelled:
    images, labels = zip(
        *((resized(v2.functional.pil_to_tensor(image), side), label) for image, label in samples), strict=True
    )
    return torch.stack(images), torch.tensor(labels)


def resized(images: Tensor, side: int | None) -> Tensor:
    return images if side is None else v2.functional.resize(images, [side, side], antialias=True)


def ranks(labels: Tensor, seed: int = 0) -> Tensor:
    """The place of each image among those of its class, in a random order."""
    place = torch.empty_like(labels)
    generator = torch.Generator().manual_seed(seed)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        place[members] = torch.randperm(len(members), generator=generator)
    return place


def pack(folder: Path, path: Path) -> int:
    """Write the bytes of all files of ``folder/<part>/<class>/`` to a zip file; how many they are.

    Raises:
        FileNotFoundError: if a part is missing.
    """
    parts = OMNIGLOT_PARTS if (folder / OMNIGLOT_PARTS[0]).is_dir() else PARTS
    listed = [Path(name) for part in parts for name, _ in ImageFolder(folder / part).samples]
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as archive:
        for name in listed:
            # Neither time nor owner, so that the same images make the same file.
            archive.writestr(zipfile.ZipInfo(name.relative_to(folder).as_posix()), name.read_bytes())
    unfinished.replace(path)
    return len(listed)


def main() -> None:
    root, out = map(Path, sys.argv[1:])
    for name in ("signs", "mnist", "omniglot", "cifar10"):
        if (root / name).is_dir():
            print(f"{name}: {pack(root / name, out / f'{name}.zip')} images")


if __name__ == "__main__":
    main()
