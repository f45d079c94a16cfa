"""Folders of images, one folder per class, and what to say of a folder that is something else."""

from __future__ import annotations

import copy
import os
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import PIL.Image
import PIL.ImageFile
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import pil_loader

from glico_augment.checks import shown
from glico_augment.data.reading import Sample, read_sample, read_samples
from glico_augment.data.samples import PLAIN
from glico_augment.errors import warn
from glico_augment.images.pil import load_image

_TRAINING = ("train", "training")
_SPLITS = (*_TRAINING, "test", "testing", "val", "valid", "validation")
_RECOGNISED = 20  # images that a loader is chosen by


class ClassFolders(ImageFolder):
    """The images of ``FOLDER/<class>/<image>``, in any subfolders, in torchvision's order, read by :func:`load_image`.

    Files of every format that Pillow reads; hidden files and folders are left out. Links to folders are followed, but
    a folder that links lead to more than once is read once.

    Warns:
        UserWarning: of other files that are left out.

    Raises:
        FileNotFoundError, NotADirectoryError: if there is no such folder, or a class has no images.
        ValueError: if it does not hold one folder per class, or one folder is two classes.
    """

    def __init__(self, folder: Path) -> None:
        _check_is_folder(folder)
        super().__init__(folder, loader=load_image)

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        """The visible folders, each of which must hold an image."""
        root = Path(directory)
        names = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        files = [entry.name for entry in root.iterdir() if entry.is_file() and not entry.name.startswith(".")]
        loose = sorted(filter(_is_image, files))
        _check_splits(root, names)
        if len(names) < 2:
            found = f"one folder, {shown(names[0])}" if names else "no folders"
            images = f", and images that lie in none ({_some(loose)})" if loose else ""
            raise ValueError(
                f"{shown(str(root))} holds {found}{images}; expected one folder per class, of two classes or more: "
                "FOLDER/<class>/<image>"
            )
        if loose:
            warn(f"images in no class folder are left out: {_some(loose)}")
        return names, {name: label for label, name in enumerate(names)}

    @staticmethod
    def make_dataset(directory: str | Path, class_to_idx: dict[str, int], *_: Any, **__: Any) -> list[tuple[str, int]]:
        """The file and label of each image, in torchvision's order."""
        folders = {name: Path(directory, name) for name in class_to_idx}
        name_of = {os.path.realpath(folder): name for name, folder in folders.items()}
        if twice := [name for name, folder in folders.items() if name_of[os.path.realpath(folder)] != name]:
            raise ValueError(f"the class folder {shown(twice[0])} is a link to another, or the other to it: remove it")
        visited = {os.path.realpath(directory), *name_of}
        own = {path for folder in folders.values() for path in _real_folders(folder)}
        found = {name: _files(folder, visited, own) for name, folder in folders.items()}
        if empty := {name: others for name, (images, others) in found.items() if not images}:
            others = [path for each in empty.values() for path in each]
            raise FileNotFoundError(
                f"class folders without images: {_some([*empty])}; fill or remove them{_left_out(others)}"
            )
        _warn_of_left_out(Path(directory), [path for _, others in found.values() for path in others])
        return [(path, class_to_idx[name]) for name, (images, _) in found.items() for path in images]


class ImageFiles(Dataset[PIL.Image.Image]):
    """The image files of a folder and its subfolders, as of one class of :class:`ClassFolders`, without labels.

    Warns:
        UserWarning: of other files that are left out.

    Raises:
        FileNotFoundError, NotADirectoryError: if there is no such folder, or no image in it.
    """

    def __init__(self, folder: Path) -> None:
        _check_is_folder(folder)
        self.loader: Callable[[str], PIL.Image.Image] = load_image
        images, others = _files(folder, {os.path.realpath(folder)}, _real_folders(folder))
        self.samples = [(path, None) for path in images]
        if not images:
            raise FileNotFoundError(f"no images in {shown(str(folder))}{_left_out(others)}")
        _warn_of_left_out(folder, others)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> PIL.Image.Image:
        return self.loader(self.samples[index][0])


_Folder = TypeVar("_Folder", ClassFolders, ImageFiles)


def read_files(files: ImageFiles) -> Iterator[Sample]:
    """The images of a folder that can be read, as a fit reads them."""
    return read_samples(files, PLAIN, with_labels=False, unreadable=[])


def folder_as_fitted(folder: _Folder, is_fitted: Callable[[Any, int | None], bool]) -> _Folder:
    """The folder, read by the loader under which most of a sample of its images are recognised.

    They are recognised as grey or as RGB whatever loader read them; but torchvision's own, the one of a plain
    ``ImageFolder``, gives other pixels of 16-bit files, and of those that an EXIF tag says to turn.

    Args:
        folder: a :class:`ClassFolders` or :class:`ImageFiles`.
        is_fitted: whether an image, as it is read, was fitted under a label; None where the folder has no labels.
    """
    by_loader = [copy.copy(folder), copy.copy(folder)]
    for each, loader in zip(by_loader, (load_image, pil_loader), strict=True):
        each.loader = loader
    return max(by_loader, key=lambda each: _n_fitted(each, is_fitted))  # the first where both have as many


def _n_fitted(folder: ClassFolders | ImageFiles, is_fitted: Callable[[Any, int | None], bool]) -> int:
    """How many images are recognised, of at most 20 spread over the folder that can be read."""
    count = 0
    for index in range(0, len(folder), -(-len(folder) // _RECOGNISED)):
        label = folder.samples[index][1]
        with suppress(TypeError, ValueError):
            count += read_sample(folder, index, PLAIN, lambda image: is_fitted(image, label), with_label=False)[0]  # noqa: B023
    return count


def random_per_class(labels: Tensor, names: Sequence[str], count: int, *, seed: int) -> Tensor:
    """Indices of ``count`` random images of each class, whose labels count from 0; ValueError if one has fewer."""
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for label, name in enumerate(names):
        members = (labels == label).nonzero().flatten()
        if len(members) < count:
            raise ValueError(f"{count} images per class were asked for, but class {name!r} has {len(members)}")
        chosen.append(members[torch.randperm(len(members), generator=generator)[:count]])
    return torch.cat(chosen)


def _real_folders(folder: Path) -> set[str]:
    """The real paths of a folder and its visible subfolders, no link followed."""
    found = set()
    for root, folders, _ in os.walk(os.path.realpath(folder)):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found.add(root)
    return found


def _files(folder: Path, visited: set[str], own: set[str]) -> tuple[list[str], list[str]]:
    """The visible images of a folder and its subfolders, in torchvision's order, and its other visible files.

    Args:
        folder: to look into; links are followed.
        visited: the real paths of folders not to enter, which those that are entered join.
        own: of folders to enter where they are, and through no link.
    """
    base = Path(os.path.realpath(folder))

    def is_new(path: Path) -> bool:
        real = os.path.realpath(path)
        is_known = real in visited or (real in own and Path(real) != base / path.relative_to(folder))
        visited.update(() if is_known else (real,))
        return not is_known

    found = []
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".") and is_new(Path(root, name))]
        found.append((root, sorted(name for name in names if not name.startswith("."))))
    images: list[str] = []
    others: list[str] = []
    for root, names in sorted(found):
        for name in names:
            (images if _is_image(name) else others).append(str(Path(root, name)))
    return images, others


def _warn_of_left_out(folder: Path, others: list[str]) -> None:
    if others:
        warn(f"files in {shown(str(folder))} are no images that can be read{_left_out(others)}")


def _left_out(others: list[str]) -> str:
    """What was left out, by suffix and with some names, and how more would be read; nothing for nothing."""
    if not others:
        return ""
    counts = Counter(Path(path).suffix.lower() or "without a suffix" for path in others)
    kinds = ", ".join(f"{count} {shown(suffix)}" for suffix, count in counts.most_common())
    return (
        f", left out: {kinds} ({_some([Path(path).name for path in others])}). Files with a suffix that Pillow knows "
        "are read, .heic among them after pillow_heif.register_heif_opener()"
    )


def _check_is_folder(folder: Path) -> None:
    """Raise FileNotFoundError or NotADirectoryError, with what to give instead, unless it is a folder."""
    if not folder.exists():
        raise FileNotFoundError(f"no such folder: {shown(str(folder))}")
    if not folder.is_dir():
        is_archive = folder.is_file() and (zipfile.is_zipfile(folder) or tarfile.is_tarfile(folder))
        remedy = "an archive: unpack it and give the folder" if is_archive else "no folder: give one that holds images"
        raise NotADirectoryError(f"{shown(str(folder))} is {remedy}")


def _check_splits(root: Path, names: list[str]) -> None:
    """Raise ValueError where the folders are parts of a data set, and not classes."""
    splits = [name for name in names if name.casefold() in _SPLITS]
    is_nested = any(entry.is_dir() for name in splits for entry in (root / name).iterdir())
    # A class may be called so: of trains, say. Two of them, or one of classes alone, are no classes.
    if not splits or not (len(splits) == len(names) or (is_nested and len(splits) > 1)):
        return
    best = next((name for name in splits if name.casefold() in _TRAINING), splits[0])
    raise ValueError(
        f"{shown(str(root))} holds {_some([f'{name}/' for name in splits])}, which are parts of a data set and no "
        f"classes: give {shown(str(root / best))}, with one folder per class"
    )


def _is_image(path: str) -> bool:
    """Whether the suffix of a file is of a format that Pillow reads, with the plugins that are registered by now."""
    suffix = Path(path).suffix.lower()
    kind = PIL.Image.registered_extensions().get(suffix)
    factory, _ = PIL.Image.OPEN.get(kind, (None, None)) if kind else (None, None)
    is_stub = isinstance(factory, type) and issubclass(factory, PIL.ImageFile.StubImageFile)
    return factory is not None and not is_stub and kind != "MPEG"  # of these Pillow knows the size alone


def _some(names: list[str]) -> str:
    """A few names of a list."""
    return ", ".join(shown(name) for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
