"""What the commands of ``glico`` do."""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import PIL.Image
import torch
from torch import Tensor
from torch.utils.data import Subset

from glico_augment.checks import shown
from glico_augment.cli.compare import compare, demo
from glico_augment.cli.outputs import check_fit_outputs, check_grid, is_image_name, make_class_folders
from glico_augment.config import FitConfig, SwapConfig
from glico_augment.data.folders import ClassFolders, ImageFiles, folder_as_fitted, random_per_class, read_files
from glico_augment.errors import DivergenceError
from glico_augment.files.atomic import check_writable, write_atomically
from glico_augment.fit.distributed import process_group
from glico_augment.fit.progress import logger
from glico_augment.images import values
from glico_augment.pictures.grids import save_grid
from glico_augment.pictures.plots import paths, positions_of, random_pairs, with_ends
from glico_augment.report import check_name, write_report
from glico_augment.swap.augment import GLICOAugment
from glico_augment.synthesis.recognition import Recognizer

USER_ERRORS = (
    ValueError,
    TypeError,
    OSError,
    ModuleNotFoundError,
    DivergenceError,
    MemoryError,
    torch.OutOfMemoryError,
)
"""What a wrong input raises. Anything else is a defect of this library and keeps its traceback."""

_CHUNK_SIZE = 256  # images made at once


def fit(args: argparse.Namespace) -> None:
    """``glico fit FOLDER -o FILE``, alone or under ``torchrun``."""
    check_fit_outputs(args.output, args.checkpoint)
    dataset: Any = ClassFolders(args.folder)
    if args.per_class is not None:
        chosen = random_per_class(torch.tensor(dataset.targets), dataset.classes, args.per_class, seed=args.seed)
        dataset = Subset(dataset, chosen.tolist())
    unlabeled = None if args.unlabeled is None else ImageFiles(args.unlabeled)
    names = {*FitConfig.names(), *SwapConfig.names()}
    settings: Any = {name: value for name, value in vars(args).items() if name in names}
    has_bar = importlib.util.find_spec("tqdm") is not None
    with process_group(args.device) as group, _log_shown(logging.WARNING if args.quiet else logging.INFO):
        augment = GLICOAugment.fit(
            dataset,
            preset=args.preset,
            unlabeled=unlabeled,
            device=args.device,
            seed=args.seed,
            progress=has_bar and not args.quiet,
            checkpoint=args.checkpoint,
            checkpoint_every=args.checkpoint_every,
            num_workers=args.workers,
            on_error="skip" if args.skip_broken else "raise",
            **settings,
        )
        if group.is_first:
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
        write: Callable[..., None] = print
        with suppress(ImportError):
            from tqdm import tqdm

            write = tqdm.write  # above the bar
        write(f"glico: {shown(record.getMessage())}", file=sys.stderr)


def inspect(args: argparse.Namespace) -> None:
    """``glico inspect FILE``."""
    found = facts(GLICOAugment.load(args.file))
    print(json.dumps(found, indent=2) if args.json else table(found))


def facts(augment: GLICOAugment) -> dict[str, Any]:
    """What a fitted file holds, as JSON values. Without labels all images are unlabelled, and there are no classes."""
    codes, record, quality = augment.codes, augment.record, augment.quality
    channels, height, width = augment.generator.image_shape
    counts = torch.bincount(codes.class_indices).tolist()
    classes = zip(augment.classes, codes.classes.tolist(), counts, quality.per_class, strict=True)
    n_labeled = codes.n_labeled if record.is_labeled else 0
    return {
        "images": n_labeled,
        "unlabeled": len(codes) - n_labeled,
        "channels": channels,
        "height": height,
        "width": width,
        "latent_dim": codes.latent_dim,
        "parameters": sum(value.numel() for value in augment.generator.parameters()),
        "r2": quality.r2,
        "is_learned": not quality.is_poor,
        "verdict": augment.fitted.verdict,
        "worst_images": list(quality.worst),
        "swap": {**augment.swap.to_json(), "max_ratio": augment.max_ratio, "noise_std": augment.noise_std},
        "swap_in_words": augment.swap.description,
        "fingerprint": record.fingerprint,
        "seed": record.seed,
        "steps": len(record.losses),
        "restarts": record.restarts,
        "final_losses": {name: values[-1] for name, values in augment.history.items() if values},
        "settings": augment.config.to_json(),
        "classes": [
            {"name": name, "label": label, "images": count, "r2": r2}
            for name, label, count, r2 in (classes if record.is_labeled else ())
        ],
    }


def table(found: dict[str, Any]) -> str:
    """:func:`facts` as lines of a name and a value, with control characters and line breaks escaped."""
    swap, worst = found["swap"], ", ".join(map(str, found["worst_images"][:5]))
    rows = [
        ("verdict", found["verdict"]),
        ("images", f"{found['images']} labelled, {found['unlabeled']} unlabelled"),
        ("size", f"{found['height']} × {found['width']}, {found['channels']} channels"),
        ("codes", f"{found['images'] + found['unlabeled']} on the unit sphere in R^{found['latent_dim']}"),
        ("generator", f"{found['parameters']:,} parameters"),
        ("quality", f"R² {found['r2']:.3f} of the reconstructions, worst images {worst}"),
        ("a swap lies", found["swap_in_words"]),
        *((f"swap {name}", value) for name, value in swap.items()),
        *((name, found[name]) for name in ("fingerprint", "seed", "steps", "restarts")),
        *((f"final {name}", f"{value:.4f}") for name, value in found["final_losses"].items()),
        *((f"setting {name}", value) for name, value in found["settings"].items()),
        *((f"class {each['name']}", f"{each['images']} images, R² {each['r2']:.3f}") for each in found["classes"]),
    ]
    printable = [(shown(name), shown(str(value))) for name, value in rows]
    width = max(len(name) for name, _ in printable)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in printable)


def sample(args: argparse.Namespace) -> None:
    """``glico sample FILE -o DIR|GRID.png``."""
    augment = GLICOAugment.load(args.file)
    if "max_ratio" in args:
        augment.max_ratio = args.max_ratio
    generator = torch.Generator().manual_seed(args.seed)
    count = args.n_per_class * len(augment.classes)
    if is_image_name(args.output):
        check_grid(args.output, images=count, shape=augment.generator.image_shape, scale=args.scale)
        images, _ = augment.synthesize(n_per_class=args.n_per_class, generator=generator)
        save_grid(images, args.output, columns=args.n_per_class, scale=args.scale, names=augment.classes)
        names = ", ".join(map(shown, augment.classes))
        print(f"{count} images in {shown(str(args.output))}, a row per class: {names}")
        return
    folders = make_class_folders(args.output, augment.classes, per_class=args.n_per_class)
    for label, folder in zip(augment.codes.classes, folders, strict=True):
        for start in range(0, args.n_per_class, _CHUNK_SIZE):
            wanted = min(_CHUNK_SIZE, args.n_per_class - start)
            images, _ = augment.synthesize(label.expand(wanted), generator=generator)
            for index, image in enumerate(images, start):
                _save_image(image, folder / f"{index:05d}.png")
    print(f"{count} images in {shown(str(args.output))}{os.sep}<class>{os.sep}")


def _save_image(image: Tensor, path: Path) -> None:
    """Write an image ``(channels, height, width)`` in ``[0, 1]`` as a PNG of as many channels."""
    picture = PIL.Image.fromarray(values.from_unit(image, torch.uint8).permute(1, 2, 0).squeeze(2).numpy())
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
    first, last = random_pairs(augment, positions, generator=torch.Generator().manual_seed(args.seed))
    if args.data is not None:
        ends = {*first.tolist(), *last.tolist()}
        if missing := len(ends - _fitted_files(augment, args.data).keys()):
            raise ValueError(
                f"{args.data} does not hold {missing} of the {len(ends)} images that paths start or end at"
            )
    rows = paths(augment, first, last, steps=args.steps)
    if args.data is not None:
        rows = with_ends(values.to_unit(augment.images[first]), rows, values.to_unit(augment.images[last]))
    names = [augment.classes[position] for position in positions.tolist()]
    save_grid(rows, args.output, columns=columns, scale=args.scale, names=names)
    print(f"{len(positions)} paths of {args.steps} images in {shown(str(args.output))}")


def report(args: argparse.Namespace) -> None:
    """``glico report FILE -o PAGE.html``."""
    check_name(args.output)
    check_writable(args.output)
    augment = GLICOAugment.load(args.file)
    names = None if args.data is None else _fitted_files(augment, args.data)
    if names == {}:
        raise ValueError(f"{args.data} holds none of the fitted images")
    write_report(augment, args.output, title=args.file.name, names=names)
    print(f"report on {shown(str(args.file))} in {shown(str(args.output))}; it shows training images")


def _fitted_files(augment: GLICOAugment, folder: Path) -> dict[int, str]:
    """The fitted labelled images that a folder holds: the index of each, and its file relative to the folder."""
    indices_of: dict[int, list[int]] = defaultdict(list)
    for index, digest in enumerate(augment.record.digests[: augment.codes.n_labeled].tolist()):
        indices_of[digest].append(index)
    recognizer = Recognizer(augment.record, augment.codes)
    files = folder_as_fitted(ImageFiles(folder), recognizer.is_fitted)
    return {
        index: Path(files.samples[read.index][0]).relative_to(folder).as_posix()
        for read in read_files(files)
        for index in indices_of.get(read.digests.get(recognizer.channels, 0), ())
    }


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    command.__name__: command for command in (fit, inspect, sample, interpolate, report, compare, demo)
}
