"""What the commands of ``glico`` do."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import PIL.Image
import torch
from torch import Tensor

from glico_augment.checks import shown
from glico_augment.cli.demo import demo
from glico_augment.cli.facts import facts, table
from glico_augment.cli.outputs import check_fit_outputs, check_grid, is_grid, make_class_folders
from glico_augment.config import FitConfig, SwapConfig
from glico_augment.data.folders import ClassFolders, ImageFiles, random_images_per_class, read_files
from glico_augment.errors import DivergenceError
from glico_augment.files.atomic import check_writable, write_atomically
from glico_augment.fit.progress import logger
from glico_augment.fit.ranks import process_group
from glico_augment.images import values
from glico_augment.pictures.grids import save_grid
from glico_augment.pictures.paths import paths, positions_of, random_pairs, with_ends
from glico_augment.report.page import check_name, write_report
from glico_augment.swap.augment import GLICOAugment

# What a wrong input raises. Anything else is a defect of this library and keeps its traceback.
USER_ERRORS = (
    ValueError,
    TypeError,
    OSError,
    DivergenceError,
    ModuleNotFoundError,
    MemoryError,
    torch.OutOfMemoryError,
)

_IMAGES_A_CHUNK = 256  # made at a time


def fit(args: argparse.Namespace) -> None:
    """``glico fit FOLDER -o FILE``, alone or under ``torchrun``."""
    check_fit_outputs(args.output, args.checkpoint)
    images = ClassFolders(args.folder)
    count = args.per_class
    dataset = images if count is None else random_images_per_class(images, count, seed=args.seed)
    unlabeled = None if args.unlabeled is None else ImageFiles(args.unlabeled)
    names = {field.name for config in (FitConfig, SwapConfig) for field in dataclasses.fields(config)}
    settings = {name: value for name, value in vars(args).items() if name in {*names, "checkpoint_every"}}
    has_bar = importlib.util.find_spec("tqdm") is not None
    with process_group(args.device) as ranks, _log_shown(logging.WARNING if args.quiet else logging.INFO):
        augment = GLICOAugment.fit(
            dataset,
            preset=args.preset,
            unlabeled=unlabeled,
            device=args.device,
            seed=args.seed,
            progress=has_bar and not args.quiet,
            checkpoint=args.checkpoint,
            num_workers=args.workers,
            on_error="skip" if args.skip_broken else "raise",
            **settings,
        )
        if ranks.is_first:
            augment.save(args.output)
            print(f"{augment!r}\nwritten to {shown(str(args.output))}")
            print(f"in Python: GLICOAugment.load({str(args.output)!r}).wrap({str(args.folder)!r}, transform=...)")


@contextmanager
def _log_shown(level: int) -> Iterator[None]:
    """The log of the library on standard error, beside a bar if there is one."""
    handler = _LogHandler(level)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class _LogHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        line = f"glico: {shown(record.getMessage())}"
        try:
            from tqdm import tqdm
        except ImportError:
            print(line, file=sys.stderr, flush=True)
        else:
            tqdm.write(line, file=sys.stderr)


def inspect(args: argparse.Namespace) -> None:
    """``glico inspect FILE``."""
    found = facts(GLICOAugment.load(args.file))
    print(json.dumps(found, indent=2) if args.json else table(found))


def sample(args: argparse.Namespace) -> None:
    """``glico sample FILE -o DIR|GRID.png``."""
    augment = GLICOAugment.load(args.file)
    if "max_ratio" in args:
        augment.max_ratio = args.max_ratio
    generator = torch.Generator().manual_seed(args.seed)
    count = args.n_per_class * len(augment.classes)
    if is_grid(args.output):
        check_grid(args.output, images=count, shape=augment.generator.image_shape, scale=args.scale)
        images, _ = augment.synthesize(n_per_class=args.n_per_class, generator=generator)
        save_grid(images, args.output, columns=args.n_per_class, scale=args.scale)
        names = ", ".join(map(shown, augment.classes))
        print(f"{count} images in {shown(str(args.output))}, a row a class: {names}")
        return
    folders = make_class_folders(args.output, augment.classes, per_class=args.n_per_class)
    for label, folder in zip(augment.codes.classes, folders, strict=True):
        for start in range(0, args.n_per_class, _IMAGES_A_CHUNK):
            wanted = min(_IMAGES_A_CHUNK, args.n_per_class - start)
            images, _ = augment.synthesize(label.expand(wanted), generator=generator)
            for index, image in enumerate(images, start):
                _save_image(image, folder / f"{index:05d}.png")
    print(f"{count} images in {shown(str(args.output))}{os.sep}<class>{os.sep}")


def _save_image(image: Tensor, path: Path) -> None:
    """Write an image ``(channels, height, width)`` in ``[0, 1]`` as a PNG of as many channels."""
    pixels = values.from_unit(image, torch.uint8).permute(1, 2, 0).numpy()
    picture = PIL.Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    write_atomically(path, picture.save)


def interpolate(args: argparse.Namespace) -> None:
    """``glico interpolate FILE -o GRID.png``."""
    augment = GLICOAugment.load(args.file)
    positions = positions_of(augment, None if args.classes is None else args.classes.split(","))
    columns = args.steps + (0 if args.data is None else 2)
    check_grid(
        args.output,
        images=len(positions) * args.pairs * columns,
        shape=augment.generator.image_shape,
        scale=args.scale,
        real=[] if args.data is None else [args.data],
    )
    positions = positions.repeat_interleave(args.pairs)
    pairs = random_pairs(augment, positions, generator=torch.Generator().manual_seed(args.seed))
    real = None if args.data is None else _real_images(augment, args.data, torch.cat(pairs))
    rows = paths(augment, *pairs, steps=args.steps)
    if real is not None:
        first, last = real.chunk(2)
        rows = with_ends(first, rows, last)
    save_grid(rows, args.output, columns=columns, scale=args.scale)
    print(f"{len(positions)} paths of {args.steps} images in {shown(str(args.output))}")


def _real_images(augment: GLICOAugment, folder: Path, indices: Tensor) -> Tensor:
    """The fitted images ``indices``, found in a folder by their hash, ``(k, channels, height, width)`` in [0, 1]."""
    keys = augment.record.digests[indices].tolist()
    found: dict[int, Tensor] = {}
    for read in read_files(ImageFiles(folder)):
        if (key := read.digests.get(augment.record.image_shape[0], 0)) in keys:
            found[key] = values.like_shape(values.to_unit(read.image)[None], augment.generator.image_shape)[0]
    if missing := len(set(keys) - set(found)):
        raise ValueError(
            f"{shown(str(folder))} does not hold {missing} of the {len(set(keys))} images that paths start or end at"
        )
    return torch.stack([found[key] for key in keys])


def report(args: argparse.Namespace) -> None:
    """``glico report FILE -o PAGE.html``."""
    check_name(args.output)
    check_writable(args.output)
    augment = GLICOAugment.load(args.file)
    names = None if args.data is None else _file_names(augment, args.data)
    write_report(augment, args.output, title=args.file.name, names=names)
    print(f"report on {shown(str(args.file))} in {shown(str(args.output))}; it shows training images")


def _file_names(augment: GLICOAugment, folder: Path) -> dict[int, str]:
    """The file of each fitted image, relative to a folder, by the hash of its pixels."""
    indices_of: dict[int, list[int]] = {}
    for index, value in enumerate(augment.record.digests[: augment.codes.n_labeled].tolist()):
        indices_of.setdefault(value, []).append(index)
    files = ImageFiles(folder)
    names = {
        index: Path(files.samples[read.index][0]).relative_to(folder).as_posix()
        for read in read_files(files)
        for index in indices_of.get(read.digests.get(augment.record.image_shape[0], 0), [])
    }
    if not names:
        raise ValueError(f"{shown(str(folder))} holds none of the fitted images")
    return names


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "fit": fit,
    "inspect": inspect,
    "sample": sample,
    "interpolate": interpolate,
    "report": report,
    "demo": demo,
}
