"""What the commands write, checked before they work. Messages are escaped where they are printed."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import PIL.Image
import torch

from glico_augment.devices import check_memory, memory_of
from glico_augment.files.atomic import check_writable

_MIN_FILE_SIZE = 4096  # the block of most file systems


def is_image_name(path: Path) -> bool:
    """Whether a name is that of an image file, and not of a folder."""
    return path.suffix.lower() in PIL.Image.registered_extensions()


def check_fit_outputs(output: Path, checkpoint: Path | None) -> None:
    """Raise ValueError for names of files that a fit is not to write, and OSError if the first cannot be written."""
    if output.suffix != ".safetensors":
        name = output.with_suffix(".safetensors")
        raise ValueError(f"-o {output}: a fit is written as safetensors; name it {name}")
    check_writable(output)
    if checkpoint is not None and is_image_name(checkpoint):
        raise ValueError(f"--checkpoint {checkpoint}: a checkpoint is no image; give it another name")
    if checkpoint is not None and checkpoint.resolve() == output.resolve():
        raise ValueError(f"-o and --checkpoint are the same file, {output}; give the checkpoint another name")


def check_grid(path: Path, *, images: int, shape: Sequence[int], scale: int = 1, real: Iterable[Path] = ()) -> None:
    """Check a PNG of ``images`` images of ``shape``, ``(channels, height, width)``, enlarged ``scale`` times.

    Raises:
        ValueError: for another file type, a place in a folder of ``real`` images, or more images than memory holds.
        OSError: if it cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise ValueError(f"-o {path}: a grid is written as PNG; give a name that ends in .png")
    check_writable(path)
    for folder in real:
        if folder.resolve() in path.resolve().parents:
            raise ValueError(f"-o {path} lies in {folder} and would be read as one of its images; give another folder")
    channels, height, width = shape
    needed = 4 * images * max(3, channels) * (height + 1) * (width + 1) * scale**2
    memory = memory_of(torch.device("cpu"))
    check_memory(needed, f"a grid of {images:,} images", "ask for fewer, or a smaller --scale", memory=memory)


def make_class_folders(root: Path, names: Sequence[str], *, per_class: int) -> list[Path]:
    """Make a folder for each class, to be filled with ``per_class`` images.

    Raises:
        ValueError: for class names, which come from a file that is not trusted, that are no names of folders.
        OSError: if a folder cannot be made, is a link or not empty, or the disk is too small.
    """
    unfit = [name for name in names if name in ("", ".", "..") or Path(name).name != name or set(name) & set("\\\0")]
    if unfit or len(set(names)) < len(names):
        raise ValueError(f"the class names {', '.join(map(repr, unfit or names))} cannot be folders; write a .png grid")
    if root.exists() and not root.is_dir():
        raise NotADirectoryError(f"-o {root} is a file; give a folder, or a name that ends in .png")
    if not root.parent.is_dir():
        raise FileNotFoundError(f"-o {root} cannot be made: there is no folder {root.parent}")
    count, free = per_class * len(names), shutil.disk_usage(root.parent).free / 2**30
    if (needed := count * _MIN_FILE_SIZE / 2**30) > free:
        raise OSError(
            f"{count:,} images need {needed:,.1f} GiB of disk or more, and {free:,.1f} GiB are free; ask for fewer"
        )
    folders = [root / name for name in names]
    for folder in folders:
        if folder.is_symlink():
            raise OSError(f"{folder} is a link that leads elsewhere; remove it or give another folder")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExistsError(
                f"{folder} is there and not empty, and its files would mix with the new ones; remove it or give "
                "another folder"
            )
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    return folders
