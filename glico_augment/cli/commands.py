"""What the commands of ``glico`` do."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset, Subset
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS, default_loader
from torchvision.utils import save_image

from glico_augment.cli.demo import demo
from glico_augment.config import FitConfig, SwapConfig
from glico_augment.errors import DivergenceError
from glico_augment.files.atomic import check_writable, write_atomically
from glico_augment.fit.ranks import process_group
from glico_augment.images import convert, values
from glico_augment.images.identity import digest
from glico_augment.pictures.grids import save_grid
from glico_augment.pictures.paths import paths, positions_of, random_pairs, with_ends
from glico_augment.report.page import check_name, write_report
from glico_augment.swap.augment import GLICOAugment

# What a wrong input raises. Anything else is a defect of this library and keeps its traceback.
USER_ERRORS = (ValueError, TypeError, OSError, DivergenceError, ModuleNotFoundError)


def fit(args: argparse.Namespace) -> None:
    """``glico fit FOLDER -o FILE``, alone or under ``torchrun``."""
    check_writable(args.output)
    dataset: ImageFolder | Subset[Any] = image_folder(args.folder)
    if args.per_class is not None:
        dataset = random_images_per_class(dataset, args.per_class, seed=args.seed)
    unlabeled = None if args.unlabeled is None else ImageFiles(args.unlabeled)
    names = {field.name for config in (FitConfig, SwapConfig) for field in dataclasses.fields(config)}
    settings = {name: value for name, value in vars(args).items() if name in names}
    with process_group(args.device) as ranks:
        augment = GLICOAugment.fit(
            dataset,
            preset=args.preset,
            unlabeled=unlabeled,
            device=args.device,
            seed=args.seed,
            progress=not args.quiet,
            checkpoint=args.checkpoint,
            num_workers=args.workers,
            **settings,
        )
        if ranks.is_first:
            augment.save(args.output)
            print(f"{augment!r}\nwritten to {args.output}")


def inspect(args: argparse.Namespace) -> None:
    """``glico inspect FILE``."""
    augment = GLICOAugment.load(args.file)
    codes, record = augment.codes, augment.record
    channels, height, width = augment.generator.image_shape
    counts = torch.bincount(codes.class_indices).tolist()
    rows = {
        "images": f"{codes.n_labeled} labelled, {len(codes) - codes.n_labeled} unlabelled",
        "size": f"{height} × {width}, {channels} channels",
        "codes": f"{len(codes)} on the unit sphere in R^{codes.latent_dim}",
        "generator": f"{sum(value.numel() for value in augment.generator.parameters()):,} parameters",
        "quality": _shown_quality(augment),
        "swap": f"p {augment.p:g}, ratio up to {augment.max_ratio:g}, {augment.interpolation}, "
        f"noise {augment.noise_std:g}",
        "fingerprint": record.fingerprint,
        "seed": record.seed,
        "steps": len(record.losses),
        "restarts": record.restarts,
        **{f"final {name}": f"{values[-1]:.4f}" for name, values in augment.history.items() if values},
        **{f"setting {name}": value for name, value in augment.config.to_json().items()},
        **{
            f"class {name}": f"{count} images, R² {r2:.3f}"
            for name, count, r2 in zip(augment.classes, counts, augment.quality.per_class, strict=True)
        },
    }
    width_of_names = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{width_of_names}}  {value}")


def _shown_quality(augment: GLICOAugment) -> str:
    quality = augment.quality
    worst = ", ".join(map(str, quality.worst[:5]))
    verdict = " (the images are not learned: fit again, longer or at a lower rate)" if quality.is_poor else ""
    return f"R² {quality.r2:.3f} of the reconstructions{verdict}, worst images {worst}"


def sample(args: argparse.Namespace) -> None:
    """``glico sample FILE -o DIR|GRID.png``."""
    augment = GLICOAugment.load(args.file)
    if "max_ratio" in args:
        augment.max_ratio = args.max_ratio
    generator = torch.Generator().manual_seed(args.seed)
    images, labels = augment.synthesize(n_per_class=args.n_per_class, generator=generator)
    if args.output.suffix.lower() in IMG_EXTENSIONS:
        save_grid(images, args.output, columns=args.n_per_class, scale=args.scale)
        print(f"{len(images)} images in {args.output}, a row a class: {', '.join(augment.classes)}")
        return
    _check_folder_names(augment.classes)
    _, positions = torch.unique(labels, return_inverse=True)
    for index, (image, position) in enumerate(zip(images, positions.tolist(), strict=True)):
        folder = args.output / augment.classes[position]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{index % args.n_per_class:05d}.png"
        write_atomically(path, lambda partial, image=image: save_image(image, partial))  # type: ignore[misc]
    print(f"{len(images)} images in {args.output}{os.sep}<class>{os.sep}")


def _check_folder_names(names: tuple[str, ...]) -> None:
    """Class names come from a file, which may be anybody's."""
    unfit = [name for name in names if name in ("", ".", "..") or Path(name).name != name or "\\" in name]
    if unfit or len(set(names)) < len(names):
        raise ValueError(f"the class names {', '.join(map(repr, unfit or names))} cannot be folders; write a .png grid")


def interpolate(args: argparse.Namespace) -> None:
    """``glico interpolate FILE -o GRID.png``."""
    augment = GLICOAugment.load(args.file)
    names = None if args.classes is None else args.classes.split(",")
    positions = positions_of(augment, names).repeat_interleave(args.pairs)
    pairs = random_pairs(augment, positions, generator=torch.Generator().manual_seed(args.seed))
    rows = paths(augment, *pairs, steps=args.steps)
    columns = args.steps
    if args.data is not None:
        real = [_real_images(augment, args.data, indices) for indices in pairs]
        rows = with_ends(real[0], rows, real[1])
        columns += 2
    save_grid(rows, args.output, columns=columns, scale=args.scale)
    print(f"{len(positions)} paths of {args.steps} images in {args.output}")


def report(args: argparse.Namespace) -> None:
    """``glico report FILE -o PAGE.html``."""
    check_name(args.output)
    check_writable(args.output)
    augment = GLICOAugment.load(args.file)
    names = None if args.data is None else _file_names(augment, args.data)
    write_report(augment, args.output, title=args.file.name, names=names)
    print(f"report on {args.file} in {args.output}; it shows training images")


def _file_names(augment: GLICOAugment, folder: Path) -> dict[int, str]:
    """The file of each fitted image, relative to a folder, by the hash of its pixels."""
    dataset = image_folder(folder)
    indices_of: dict[int, list[int]] = {}
    for index, value in enumerate(augment.record.digests[: augment.codes.n_labeled].tolist()):
        indices_of.setdefault(value, []).append(index)
    names = {
        index: Path(path).relative_to(folder).as_posix()
        for (path, _), (image, _) in zip(dataset.samples, dataset, strict=True)
        for index in indices_of.get(digest(convert.to_uint8(image)), [])
    }
    if not names:
        raise ValueError(f"{folder} holds none of the fitted images")
    return names


def _real_images(augment: GLICOAugment, folder: Path, indices: torch.Tensor) -> torch.Tensor:
    """The fitted images ``indices``, found in a folder by their hash, ``(k, channels, height, width)`` in [0, 1]."""
    wanted = {int(augment.record.digests[index]): index for index in indices.tolist()}
    found: dict[int, torch.Tensor] = {}
    for image, _ in image_folder(folder):
        canonical = convert.to_uint8(image)
        if (index := wanted.get(digest(canonical))) is not None:
            found[index] = values.like_shape(values.to_unit(canonical)[None], augment.generator.image_shape)[0]
    if missing := [index for index in indices.tolist() if index not in found]:
        raise ValueError(
            f"{folder} does not hold {len(missing)} of the images that {len(indices)} paths start or end at"
        )
    return torch.stack([found[index] for index in indices.tolist()])


class ImageFiles(Dataset[Any]):
    """The image files of a folder and its subfolders, without labels.

    Args:
        folder: searched for the file types that ``ImageFolder`` reads.

    Raises:
        FileNotFoundError: if there is no such folder, or no image in it.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise FileNotFoundError(f"no such folder: {folder}")
        self.files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS)
        if not self.files:
            raise FileNotFoundError(f"no images in {folder}; expected files ending in {', '.join(IMG_EXTENSIONS)}")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Any:
        return default_loader(str(self.files[index]))


def image_folder(folder: Path) -> ImageFolder:
    """``ImageFolder``, with an error for a folder that is none."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}")
    return ImageFolder(folder)


def random_images_per_class(dataset: Any, count: int, *, seed: int) -> Subset[Any]:
    """``count`` random images of each class of an ``ImageFolder``.

    Raises:
        ValueError: if a class has fewer.
    """
    generator = torch.Generator().manual_seed(seed)
    targets = torch.tensor(dataset.targets)
    chosen: list[int] = []
    for label, name in enumerate(dataset.classes):
        members = (targets == label).nonzero().flatten()
        if len(members) < count:
            raise ValueError(f"{count} images a class were asked for, but class {name!r} has {len(members)}")
        chosen += members[torch.randperm(len(members), generator=generator)[:count]].tolist()
    return Subset(dataset, chosen)


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "fit": fit,
    "inspect": inspect,
    "sample": sample,
    "interpolate": interpolate,
    "report": report,
    "demo": demo,
}
