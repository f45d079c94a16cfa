"""The runner of every script that measures: arguments, rows that are there already, processes and a time limit.

A measurement is a list of units and a function. A unit is a dictionary that identifies one result; the function returns
its figures. A row of the result file, one JSON object per line, is both, with machine, versions and command. A unit
that has its row is skipped, so a stopped measurement goes on with the same command.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torchvision

import glico_augment

UNFINISHED = 75  # what sysexits.h has for "try again later"
UNSAID = {"dropout": 0.0, "batched": False, "device": "cpu"}
"""What holds of rows that are older than these fields."""

Row = dict[str, Any]
Measure = Callable[[argparse.Namespace, Row], "Row | list[Row] | None"]
"""Figures of a unit: one row, several, or None if the time was over before they were there."""


def arguments(doc: str | None, *, has_data: bool = True, **options: tuple[Any, str]) -> argparse.Namespace:
    """The command line: what all scripts take, and ``options`` of this one.

    Args:
        doc: the help.
        has_data: whether ``--data`` is required.
        options: default and help by name. A list takes several values, a type in place of a value means no default,
            and False is a flag.
    """
    common = {
        "out": (Path, "result file, appended to"),
        "seeds": ([0, 1, 2], "one or several"),
        "fits": (Path("fits"), "folder of fits and unfinished trainings"),
        "device": ("cuda" if torch.cuda.is_available() else "cpu", "where to compute"),
        "threads": (1, "threads per process"),
        "jobs": (1, "processes"),
        "minutes": (float("inf"), "stop after as many, with exit status 75 if something is left"),
    }
    if has_data:
        common["data"] = (Path, "folder of the folders of images")
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, (default, text) in (common | options).items():
        if default is False:
            parser.add_argument(f"--{name.replace('_', '-')}", action="store_true", help=text)
            continue
        is_list = isinstance(default, list)
        example = default[0] if is_list else default
        kind = example if isinstance(example, type) else type(example)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=kind,
            nargs="+" if is_list else None,
            default=None if isinstance(example, type) else default,
            required=name in ("out", "data"),
            help=text,
        )
    args = parser.parse_args()
    args.deadline = time.monotonic() + 60 * args.minutes
    return args


def run(args: argparse.Namespace, units: Iterable[Row], measure: Measure) -> None:
    """Measure the units that ``args.out`` has no row of, in their order.

    Of several processes, one that fails does not keep the others from being measured.

    Raises:
        SystemExit: with status 75 if the time was too short.
        RuntimeError: if a unit failed.
    """
    units = list(units)
    wanted = missing(args.out, units)
    print(f"{len(wanted)} of {len(units)} to measure", file=sys.stderr)
    failed = []

    if args.jobs == 1:
        for unit in wanted:
            make(args, unit, measure)
    else:
        with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
            futures = {pool.submit(make, args, unit, measure): unit for unit in wanted}
            try:
                for future in as_completed(futures):
                    if error := future.exception():
                        failed.append(error)
                        print(f"{futures[future]} failed: {error!r}", file=sys.stderr, flush=True)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(wanted)} failed, as said above") from failed[0]
    if left := missing(args.out, wanted):
        print(f"{len(left)} left: the same command goes on", file=sys.stderr)
        sys.exit(UNFINISHED)


def make(args: argparse.Namespace, unit: Row, measure: Measure) -> None:
    """Measure one unit, if there is time, and append its rows."""
    torch.set_num_threads(args.threads)
    if time.monotonic() > args.deadline:
        return
    made = measure(args, unit)
    for figures in [made] if isinstance(made, dict) else made or []:
        append_row(args.out, unit | figures | machine(torch.device(args.device)))
        print(
            ", ".join(
                f"{name} {value}" for name, value in (unit | figures).items() if not isinstance(value, dict | list)
            )
        )


def missing(path: Path, units: Sequence[Row]) -> list[Row]:
    """The units that have no row in a file, each once."""
    rows, left = read_rows(path), []
    for unit in units:
        if unit not in left and not any(is_of(row, unit) for row in rows):
            left.append(unit)
    return left


def is_of(row: Row, unit: Row) -> bool:
    return all(row.get(name, UNSAID.get(name)) == value for name, value in unit.items())


def read_rows(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append_row(path: Path, row: Row) -> None:
    """One write of a whole line, so that processes that append at once do not mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def machine(device: torch.device) -> Row:
    """Where and how a row was made. Folders in the command are cut to their names."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    processor = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    is_path = ["/" in argument and " / " not in argument for argument in sys.argv]  # and no grid
    words = [Path(each).name if cut else each for each, cut in zip(sys.argv, is_path, strict=True)][1:]
    return {
        "machine": torch.cuda.get_device_name(device) if device.type == "cuda" else processor,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "python": platform.python_version(),
        "glico_augment": glico_augment.__version__,
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words]),
    }


def parse_name(text: str) -> tuple[str, Row]:
    """``"NAME:a=1,b=x"`` as ``NAME`` and ``{"a": 1, "b": "x"}``."""
    name, _, items = text.partition(":")
    return name, parse_fields([item for item in items.split(",") if item])


def parse_fields(items: Iterable[str]) -> Row:
    """``["a=1", "b=x"]`` as ``{"a": 1, "b": "x"}``: values are JSON, and text where they are not."""
    fields = {}
    for item in items:
        name, separator, value = item.partition("=")
        if not separator:
            raise ValueError(f"expected field=value, got {item!r}")
        try:
            fields[name] = json.loads(value)
        except json.JSONDecodeError:
            fields[name] = value
    return fields
