"""The commands and options of ``glico``. Importing it imports no torch."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from glico_augment import __version__
from glico_augment.cli.completion import SHELLS, PrintCompletion
from glico_augment.config import (
    DEFAULT_SIDE,
    LOSS_NAMES,
    PRESETS,
    SAMPLERS,
    FitConfig,
    SwapConfig,
)

_LARGEST_SEED = 2**63 - 1  # of torch
_MOST_WORKERS = 1024


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``glico``."""
    parser = argparse.ArgumentParser(
        prog="glico", description="Generative augmentation for small labelled image sets (GLICO)."
    )
    parser.add_argument("--version", action="version", version=f"glico-augment {__version__}")
    parser.add_argument(
        "--print-completion", action=PrintCompletion, choices=SHELLS, help="print the script by which a shell completes"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_fit(commands)
    inspect = _add_command(commands, "inspect", "Say what a fitted file holds.")
    inspect.add_argument("file", type=Path, metavar="FILE", help="a file that `glico fit` wrote")
    inspect.add_argument("--json", action="store_true", help="as JSON")
    _add_sample(commands)
    _add_interpolate(commands)
    _add_report(commands)
    _add_demo(commands)
    return parser


def options_of(command: str) -> dict[str, str]:
    """The long option of each argument of a command, by the argument's name in Python."""
    commands = next(action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    options = {
        action.dest: action.option_strings[-1]
        for action in commands.choices[command]._actions
        if action.option_strings and action.dest != "help"
    }
    return options | {name: options[dest] for name, dest in (("num_workers", "workers"),) if dest in options}


def _add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, description: str
) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=description, description=description, formatter_class=_HelpFormatter)


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        has_none = action.default is None or action.default is False  # 0 is one
        return action.help if has_none else super()._get_help_string(action)


def _add_fit(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    fit = _add_command(commands, "fit", "Fit GLICO to FOLDER/<class>/<image>.")
    fit.add_argument("folder", type=Path, metavar="FOLDER", help="images in one folder a class")
    fit.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="safetensors file to write")
    fit.add_argument("--preset", choices=PRESETS, default="default", help="settings to start from")
    fit.add_argument("--per-class", type=_between(1), metavar="N", help="use N random images of each class")
    fit.add_argument("--unlabeled", type=Path, metavar="FOLDER", help="further images, in any subfolders")
    fit.add_argument("--device", help="cuda, mps or cpu; the best at hand if left out")
    fit.add_argument("--seed", type=_seed, default=0, help="of everything random")
    fit.add_argument("--workers", type=_between(0, _MOST_WORKERS), default=0, help="processes that read the images")
    fit.add_argument("--skip-broken", action="store_true", help="leave out images that cannot be read, and list them")
    fit.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="write the state here, also when stopped, and continue from it"
    )
    fit.add_argument(
        "--checkpoint-every",
        type=_between(1),
        default=argparse.SUPPRESS,
        metavar="STEPS",
        help="steps between writes (default: 200)",
    )
    fit.add_argument("--quiet", action="store_true", help="neither progress nor log")
    settings = fit.add_argument_group("settings of the fit", "Those left out come from the preset.")
    for name, kind in {
        "epochs": int,
        "min_steps": int,
        "steps": int,
        "batch_size": int,
        "latent_dim": int,
        "class_cosine": float,
        "noise_dim": int,
        "noise_std": float,
        "generator_width": int,
        "classifier_width": int,
        "classifier_weight": float,
        "pixel_weight": float,
        "squared_weight": float,
        "lr": float,
        "code_lr": float,
        "adam_beta1": float,
        "vgg_weights": Path,
    }.items():
        _add_setting(settings, name, FitConfig, type=kind)
    _add_setting(settings, "loss", FitConfig, choices=LOSS_NAMES)
    _add_setting(settings, "loss_weights", FitConfig, type=_numbers, metavar="NUMBER,NUMBER")
    _add_setting(settings, "schedule", FitConfig, choices=("cosine", "step", "constant"))
    _add_setting(settings, "precision", FitConfig, choices=("auto", "float32", "bfloat16"))
    _add_setting(settings, "image_size", FitConfig, type=_size, metavar="SIDE|HEIGHTxWIDTH")
    swap = fit.add_argument_group("settings of the swap", "Kept in the file; they can be changed after the fit.")
    _add_setting(swap, "p", SwapConfig, "probability that an image is swapped", type=float)
    _add_setting(swap, "max_ratio", SwapConfig, "how far to go to the partner", type=float)
    _add_setting(swap, "sampler", SwapConfig, "where images lie about their anchors", choices=SAMPLERS)
    _add_setting(swap, "sampler_std", SwapConfig, 'spread of "noise"', type=float)
    _add_setting(swap, "min_angle", SwapConfig, 'least angle, in radians, of "random-out"', type=float)


def _add_setting(
    group: argparse._ArgumentGroup,
    name: str,
    config: type[FitConfig] | type[SwapConfig],
    description: str = "",
    **options: Any,
) -> None:
    """An option for a field of a config, whose help says what the presets have."""
    default, published = (getattr(preset, name) for preset in (config(), config.published()))
    shown = _defaults_by_images().get(name) or (
        f"{default}" if default == published else f"{default}; published: {published}"
    )
    shown = f"{description}, default preset: {shown}" if description else f"default preset: {shown}"
    group.add_argument(f"--{name.replace('_', '-')}", default=argparse.SUPPRESS, help=shown, **options)


@cache
def _defaults_by_images() -> dict[str, str]:
    """What the settings that are None come to, in both presets."""
    many = 10**6
    default, published = FitConfig().resolved(many, (3, DEFAULT_SIDE, DEFAULT_SIDE)), FitConfig.published
    assert default.steps is not None
    assert default.batch_size is not None
    taps = ", ".join(f"{weight:g}" for weight in published(32).loss_weights or ())
    return {
        "epochs": f"{default.steps * default.batch_size // many}, or as many as make --min-steps; "
        f"published: {published().epochs}",
        "steps": "those of the epochs",
        "batch_size": f"{default.batch_size}; published: {published(64).batch_size}, or {published(65).batch_size} "
        "above 64 pixels; at most all images",
        "loss_weights": f"1 for each; published: {taps} at 32 pixels, one tap more at 64 and two above",
        "vgg_weights": "those in torchvision's cache",
        "image_size": f"that of the images, or {DEFAULT_SIDE} where sizes differ",
    }


def _add_sample(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sample = _add_command(commands, "sample", "Draw synthetic images.")
    sample.add_argument("file", type=Path, metavar="FILE", help="a file that `glico fit` wrote")
    sample.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR|GRID.png", help="a folder a class, or one PNG grid"
    )
    sample.add_argument("-n", "--n-per-class", type=_between(1), default=8, help="images of each class")
    sample.add_argument(
        "--max-ratio",
        type=float,
        default=argparse.SUPPRESS,
        help="how far to go to the partner; that of FILE if left out",
    )
    sample.add_argument("--scale", type=_between(1), default=1, help="enlarge the grid this many times")
    sample.add_argument("--seed", type=_seed, default=0, help="of the draw")


def _add_interpolate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    interpolate = _add_command(commands, "interpolate", "Draw a grid of paths between two images of each class.")
    interpolate.add_argument("file", type=Path, metavar="FILE", help="a file that `glico fit` wrote")
    interpolate.add_argument("-o", "--output", type=Path, required=True, metavar="GRID.png", help="PNG to write")
    interpolate.add_argument("--steps", type=_between(2), default=8, help="images a path")
    interpolate.add_argument("--pairs", type=_between(1), default=1, help="paths a class")
    interpolate.add_argument("--classes", metavar="NAME,NAME", help="these classes only")
    interpolate.add_argument(
        "--data", type=Path, metavar="FOLDER", help="the fitted images: puts the real ones at both ends of a path"
    )
    interpolate.add_argument("--scale", type=_between(1), default=1, help="enlarge the grid this many times")
    interpolate.add_argument("--seed", type=_seed, default=0, help="of the choice of images")


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    report = _add_command(commands, "report", "Write one HTML page that shows what a file holds and how good it is.")
    report.add_argument("file", type=Path, metavar="FILE", help="a file that `glico fit` wrote")
    report.add_argument("-o", "--output", type=Path, required=True, metavar="PAGE.html", help="page to write")
    report.add_argument(
        "--data", type=Path, metavar="FOLDER", help="the fitted images: puts the names of their files on the page"
    )


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = _add_command(
        commands, "demo", "Fit, then train a small classifier without and with the swap, a style, and both; compare."
    )
    demo.add_argument(
        "--data", type=Path, metavar="FOLDER", help="with train/ and test/; scikit-learn's digits if left out"
    )
    demo.add_argument(
        "--image-size", type=_size, metavar="SIDE|HEIGHTxWIDTH", help="size to bring the images to; theirs if left out"
    )
    demo.add_argument("--per-class", type=_between(1), default=5, help="training images of each class")
    demo.add_argument("--seeds", type=_between(1), default=7, help="draws of the training images")
    demo.add_argument("--steps", type=_between(1), default=300, help="optimiser steps of a classifier")
    demo.add_argument("--fit-steps", type=_between(1), default=300, help="fewest optimiser steps of a fit")
    demo.add_argument("--device", help="cuda, mps or cpu; the best at hand if left out")
    demo.add_argument("-o", "--output", type=Path, default=Path("glico_demo.png"), help="interpolation grid to write")


def _size(text: str) -> int | tuple[int, int]:
    """``64`` or ``64x96``."""
    try:
        sides = [_between(1)(side) for side in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2):
        raise argparse.ArgumentTypeError(f"must be a side in pixels or HEIGHTxWIDTH, not {text}")
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def _numbers(text: str) -> tuple[float, ...]:
    """``1,1,0.5``."""
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be numbers with commas between them, not {text}") from error


def _between(low: int, high: int | None = None) -> Callable[[str], int]:
    def integer(text: str) -> int:
        value = int(text)
        if value < low:
            raise argparse.ArgumentTypeError(f"must be at least {low}")
        if high is not None and value > high:
            raise argparse.ArgumentTypeError(f"must be at most {high}")
        return value

    return integer


def _seed(text: str) -> int:
    return _between(0, _LARGEST_SEED)(text)
