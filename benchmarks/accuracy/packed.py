"""A folder of images in one file: the bytes of its files as they are, in a zip archive that compresses nothing."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder


def pack(folder: Path, parts: tuple[str, ...], path: Path) -> int:
    """Write the images of ``folder/<part>/<class>/`` to ``path``, in the order in which ``ImageFolder`` has them.

    Returns:
        How many they are.
    """
    listed = [Path(name) for part in parts for name, _ in ImageFolder(folder / part).samples]
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as archive:
        for name in listed:
            # Neither time nor owner, so that the same images make the same file.
            archive.writestr(zipfile.ZipInfo(name.relative_to(folder).as_posix()), name.read_bytes())
    unfinished.replace(path)
    return len(listed)


class PackedFolder(Dataset):
    """One part of what :func:`pack` wrote: the images and labels of the ``ImageFolder``, in its order.

    Args:
        path: the archive.
        part: ``"train"``, say.
        transform: of an RGB image.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it has no images of that part.
    """

    def __init__(self, path: Path, part: str, transform: Callable[[PIL.Image.Image], Any]) -> None:
        if not path.exists():
            raise FileNotFoundError(f"there is neither a folder {path.with_suffix('')} nor {path}, the same packed")
        self.transform = transform
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.startswith(f"{part}/")]
            self.contents = [archive.read(name) for name in names]
        if not names:
            raise ValueError(f"{path} has no images in {part}/")
        classes = {folder: index for index, folder in enumerate(dict.fromkeys(name.split("/")[1] for name in names))}
        self.labels = [classes[name.split("/")[1]] for name in names]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if index >= len(self):
            raise IndexError(index)  # what ends a loop over the images
        image = PIL.Image.open(io.BytesIO(self.contents[index])).convert("RGB")
        return self.transform(image), self.labels[index]
