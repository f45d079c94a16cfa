"""What the commands write, checked before they work."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import PIL.Image
import torch

from glico_augment.checks import shown
from glico_augment.devices import check_memory, memory_of
from glico_augment.files.atomic import check_writable

_BYTES_A_FILE = 4096  # the block of most file systems


def check_fit_outputs(output: Path, checkpoint: Path | None) -> None:
    """Check the files that a fit writes.

    Raises:
        ValueError: for a name that would mislead, or one name for both.
        OSError: if one cannot be written.
    """
    if output.suffix != ".safetensors":
        raise ValueError(
            f"-o {shown(str(output))}: a fit is written as safetensors; "
            f"name it {shown(str(output.with_suffix('.safetensors')))}"
        )
    check_writable(output)
    if checkpoint is None:
        return
    if _is_image_name(checkpoint):
        raise ValueError(f"--checkpoint {shown(str(checkpoint))}: a checkpoint is no image; give it another name")
    if checkpoint.resolve() == output.resolve() or (
        checkpoint.exists() and output.exists() and checkpoint.samefile(output)
    ):
        raise ValueError(
            f"-o and --checkpoint are the same file, {shown(str(output))}; give the checkpoint another name"
        )
    check_writable(checkpoint)


def check_grid(path: Path, *, images: int, shape: Sequence[int], scale: int = 1, real: Iterable[Path] = ()) -> None:
    """Check the grid of images that is to be written.

    Args:
        path: the file.
        images: in the grid.
        shape: ``(channels, height, width)`` of an image.
        scale: how many times each is enlarged.
        real: folders of training images, among which it must not lie.

    Raises:
        ValueError: for another type than PNG, a place among training images, or more images than memory holds.
        OSError: if it cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise ValueError(f"-o {shown(str(path))}: a grid is written as PNG; give a name that ends in .png")
    check_writable(path)
    for folder in real:
        if folder.resolve() in path.resolve().parents:
            raise ValueError(
                f"-o {shown(str(path))} lies in {shown(str(folder))} and would be read as one of its images; "
                "give another folder"
            )
    channels, height, width = shape
    pixels = images * max(3, channels) * (height + 1) * (width + 1) * scale**2
    check_memory(
        4 * pixels, f"a grid of {images:,} images", "ask for fewer, or a smaller --scale", memory=memory_of(_CPU)
    )


def is_grid(path: Path) -> bool:
    """Whether a name is that of an image file, and not of a folder."""
    return _is_image_name(path)


def make_class_folders(root: Path, names: Sequence[str], *, per_class: int) -> list[Path]:
    """Make a folder for each class, to be filled with ``per_class`` images.

    Raises:
        ValueError: for class names, which come from a file that may be anybody's, that are no names of folders.
        OSError: if a folder cannot be made, leads elsewhere or holds something, or the disk is too small.
    """
    unfit = [name for name in names if name in ("", ".", "..") or Path(name).name != name or set(name) & set("\\\0")]
    if unfit or len(set(names)) < len(names):
        raise ValueError(f"the class names {', '.join(map(repr, unfit or names))} cannot be folders; write a .png grid")
    if root.exists() and not root.is_dir():
        raise NotADirectoryError(f"-o {shown(str(root))} is a file; give a folder, or a name that ends in .png")
    if not root.parent.is_dir():
        raise FileNotFoundError(f"-o {shown(str(root))} cannot be made: there is no folder {shown(str(root.parent))}")
    needed, free = per_class * len(names) * _BYTES_A_FILE, shutil.disk_usage(root.parent).free
    if needed > free:
        raise OSError(
            f"{per_class * len(names):,} images need {needed / 2**30:,.1f} GiB of disk or more, and "
            f"{free / 2**30:,.1f} GiB are free; ask for fewer"
        )
    folders = [root / name for name in names]
    for folder in folders:
        if folder.is_symlink():
            raise OSError(f"{shown(str(folder))} is a link that leads elsewhere; remove it or give another folder")
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise FileExistsError(
                f"{shown(str(folder))} is there and not empty, and its files would stand among the new ones; remove it "
                "or give another folder"
            )
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        check_writable(folder / "image.png")
    return folders


def _is_image_name(path: Path) -> bool:
    return path.suffix.lower() in PIL.Image.registered_extensions()


_CPU = torch.device("cpu")
