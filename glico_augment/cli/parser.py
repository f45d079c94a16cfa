"""The commands and options of ``glico``. Importing it imports no torch."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from glico_augment import __version__, checks
from glico_augment.config import MAX_SIDE_PUBLISHED, PRESETS, FitConfig, SwapConfig

_MAX_SEED = 2**63 - 1  # of torch
_MAX_WORKERS = 1024
_FILE_HELP = "a file that `glico fit` wrote"
_DEVICE_HELP = "cuda, mps or cpu; the best at hand if left out"
_SETTINGS = {field.name: field for config in (SwapConfig, FitConfig) for field in dataclasses.fields(config)}
_METAVARS = {
    "int": "N",
    "float": "NUMBER",
    "bool": "true|false",
    "str": "FILE",  # one without choices
    "tuple[float, ...]": "NUMBER,NUMBER",
    "int | tuple[int, int]": "SIDE|HEIGHTxWIDTH",
}
"""What stands for a value in the usage of an option, by the type of its setting."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``glico``."""
    parser = argparse.ArgumentParser(
        prog="glico", description="Generative augmentation for small labelled image sets (GLICO)."
    )
    parser.add_argument("--version", action="version", version=f"glico-augment {__version__}")
    parser.add_argument(
        "--print-completion",
        action=_PrintCompletion,
        choices=("bash", "zsh", "tcsh"),
        help="print the script that completes commands and options in a shell",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    descriptions = {
        _add_fit: "Fit GLICO to FOLDER/<class>/<image>.",
        _add_inspect: "Say what a fitted file holds.",
        _add_sample: "Draw synthetic images.",
        _add_interpolate: "Draw a grid of paths between two images of each class.",
        _add_report: "Write one HTML page that shows what a file holds and how good it is.",
        _add_compare: "Train a small network with each of six recipes on your images; say which helps.",
        _add_demo: "Compare recipes on handwritten digits, and draw what they are swapped for.",
    }
    for add_options, text in descriptions.items():
        name = add_options.__name__.removeprefix("_add_")
        add_options(commands.add_parser(name, help=text, description=text, formatter_class=_HelpFormatter))
    return parser


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        has_none = action.default is None or action.default is False  # 0 is one
        return action.help if has_none else super()._get_help_string(action)


def _add_fit(fit: argparse.ArgumentParser) -> None:
    fit.add_argument("folder", type=Path, metavar="FOLDER", help="images in one folder per class")
    fit.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="safetensors file to write")
    fit.add_argument("--preset", choices=PRESETS, default="default", help="settings to start from")
    fit.add_argument("--per-class", type=_integer(1), metavar="N", help="use N random images of each class")
    fit.add_argument("--unlabeled", type=Path, metavar="FOLDER", help="further images, in any subfolders")
    fit.add_argument("--device", help=_DEVICE_HELP)
    fit.add_argument("--seed", type=_integer(0, _MAX_SEED), default=0, help="of everything random")
    fit.add_argument("--workers", type=_integer(0, _MAX_WORKERS), default=0, help="processes that read the images")
    fit.add_argument("--skip-broken", action="store_true", help="leave out images that cannot be read, and list them")
    fit.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="write the state here, also when stopped, and continue from it"
    )
    fit.add_argument("--checkpoint-every", type=_integer(1), default=200, metavar="STEPS", help="steps between writes")
    fit.add_argument("--quiet", action="store_true", help="neither progress nor log")
    presets = f"Those left out come from the preset; its values for images of {MAX_SIDE_PUBLISHED} pixels are shown."
    group = fit.add_argument_group("settings of the fit", presets)
    _add_settings(group, FitConfig(), FitConfig.published(None))
    group = fit.add_argument_group("settings of the swap", f"Kept in the file, and may be changed later. {presets}")
    _add_settings(group, SwapConfig(), SwapConfig.published())


def _add_settings(group: argparse._ArgumentGroup, default: FitConfig | SwapConfig, published: Any) -> None:
    """An option for each field of a config, whose help has the values of both presets; ``noise_std`` is of the fit."""
    for field in dataclasses.fields(default):
        if _SETTINGS[field.name] is not field:
            continue
        values = [_as_text(getattr(preset, field.name)) for preset in (default, published)]
        shown = values[0] if values[0] == values[1] else f"{values[0]}; published: {values[1]}"
        group.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=_reader(field.metadata["check"]),
            choices=field.metadata["choices"] or None,
            metavar=None if field.metadata["choices"] else _METAVARS.get(str(field.type).removesuffix(" | None")),
            default=argparse.SUPPRESS,
            help=f"{field.metadata['help']} (default: {shown})".replace("%", "%%"),
        )


def _add_inspect(inspect: argparse.ArgumentParser) -> None:
    inspect.add_argument("file", type=Path, metavar="FILE", help=_FILE_HELP)
    inspect.add_argument("--json", action="store_true", help="as JSON")


def _add_sample(sample: argparse.ArgumentParser) -> None:
    sample.add_argument("file", type=Path, metavar="FILE", help=_FILE_HELP)
    sample.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR|GRID.png", help="a folder per class, or one PNG grid"
    )
    sample.add_argument("-n", "--n-per-class", type=_integer(1), default=8, help="images of each class")
    sample.add_argument(
        "--max-ratio",
        type=_reader(_SETTINGS["max_ratio"].metadata["check"]),
        default=argparse.SUPPRESS,
        help="how far to go to the partner; that of FILE if left out",
    )
    sample.add_argument("--scale", type=_integer(1), default=1, help="enlarge the grid this many times")
    sample.add_argument("--seed", type=_integer(0, _MAX_SEED), default=0, help="of the draw")


def _add_interpolate(interpolate: argparse.ArgumentParser) -> None:
    interpolate.add_argument("file", type=Path, metavar="FILE", help=_FILE_HELP)
    interpolate.add_argument("-o", "--output", type=Path, required=True, metavar="GRID.png", help="PNG to write")
    interpolate.add_argument("--steps", type=_integer(2), default=8, help="images per path")
    interpolate.add_argument("--pairs", type=_integer(1), default=1, help="paths per class")
    interpolate.add_argument("--classes", metavar="NAME,NAME", help="these classes only")
    interpolate.add_argument(
        "--data", type=Path, metavar="FOLDER", help="the fitted images: puts the real ones at both ends of a path"
    )
    interpolate.add_argument("--scale", type=_integer(1), default=1, help="enlarge the grid this many times")
    interpolate.add_argument("--seed", type=_integer(0, _MAX_SEED), default=0, help="of the choice of images")


def _add_report(report: argparse.ArgumentParser) -> None:
    report.add_argument("file", type=Path, metavar="FILE", help=_FILE_HELP)
    report.add_argument("-o", "--output", type=Path, required=True, metavar="PAGE.html", help="page to write")
    report.add_argument(
        "--data", type=Path, metavar="FOLDER", help="the fitted images: puts the names of their files on the page"
    )


def _add_compare(compare: argparse.ArgumentParser) -> None:
    compare.add_argument("folder", type=Path, metavar="FOLDER", help="images in one folder per class")
    compare.add_argument(
        "--test", type=Path, metavar="FOLDER", help="images to test on, alike; cross-validation if left out"
    )
    compare.add_argument("--folds", type=_integer(2), default=5, help="of the cross-validation, each with its own fit")
    compare.add_argument(
        "--draws",
        type=_integer(1),
        metavar="N",
        help="repeat with other weights and folds; 1 if left out, 5 with --test",
    )
    compare.add_argument("--per-class", type=_integer(1), metavar="N", help="train on N random images of each class")
    compare.add_argument("--steps", type=_integer(1), default=2000, help="optimiser steps of each network")
    compare.add_argument(
        "--image-size",
        type=_reader(_SETTINGS["image_size"].metadata["check"]),
        default=32,
        metavar="SIDE|HEIGHTxWIDTH",
        help="size to bring the images to",
    )
    compare.add_argument(
        "--flip", action="store_true", help="mirror at random in every recipe; not for digits, signs or text"
    )
    compare.add_argument("--seed", type=_integer(0, _MAX_SEED), default=0, help="of everything random")
    compare.add_argument("--device", help=_DEVICE_HELP)
    compare.add_argument("-o", "--output", type=Path, metavar="FILE.json", help="JSON file for the figures")


def _add_demo(demo: argparse.ArgumentParser) -> None:
    demo.add_argument("--draws", type=_integer(1), default=10, help="draws of the training images")
    demo.add_argument("--seed", type=_integer(0, _MAX_SEED), default=0, help="of everything random")
    demo.add_argument("--device", help=_DEVICE_HELP)
    demo.add_argument("-o", "--output", type=Path, default=Path("glico_demo.png"), help="picture to write")


def _integer(low: int, high: int | None = None) -> Callable[[str], Any]:
    return _reader(checks.integer(low, high=high))


def _reader(check: checks.Check) -> Callable[[str], Any]:
    """The ``type`` of an option: the first Python value that its text may stand for and ``check`` takes."""

    def read(text: str) -> Any:
        values = list(_values(text))
        for value in values:
            with suppress(TypeError, ValueError):
                return check("value", value)
        try:
            check("value", values[0])
        except (TypeError, ValueError) as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read


def _values(text: str) -> Iterator[Any]:
    """The Python values that a text may stand for: True, None, 64, 0.5, the size 64x96, the numbers 1,0.5, a string."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        yield words[text.lower()]
    with suppress(ValueError):
        yield int(text)
    with suppress(ValueError):
        yield float(text)
    with suppress(ValueError):
        yield tuple(int(side) for side in text.lower().split("x"))
    with suppress(ValueError):
        yield tuple(float(number) for number in text.split(","))
    yield text


def _as_text(value: Any) -> str:
    """The text for which :func:`_values` yields a value."""
    return ",".join(f"{each:g}" for each in value) if isinstance(value, tuple) else str(value).lower()


class _PrintCompletion(argparse.Action):
    """An option that prints the completion script of a shell, made by shtab (the extra ``cli``), and exits."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        """Print it; without shtab, say how to get it."""
        try:
            shtab = import_module("shtab")
        except ModuleNotFoundError:
            parser.exit(1, "glico: error: completion needs shtab: pip install 'glico-augment[cli]'\n")
        commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
        for command in commands.choices.values():
            for action in command._actions:
                if action.type is Path or action.metavar == "FILE":
                    action.complete = shtab.DIRECTORY if action.metavar == "FOLDER" else shtab.FILE
        print(shtab.complete(parser, values))
        parser.exit()
