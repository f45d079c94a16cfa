"""Result rows: one JSON object a line, appended as runs end."""

from __future__ import annotations

import dataclasses
import json
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import torch
import torchvision

import glico_augment
from accuracy.settings import Setting

UNSAID = {"dropout": 0.0, "batched": False}
"""What holds of rows that do not say it."""


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append_row(path: Path, row: dict[str, Any]) -> None:
    """One write of a whole line, so that processes that append at once do not mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def identity(setting: Setting, method: str, seed: int, part: str, lr: float, weight_decay: float) -> dict[str, Any]:
    """The fields that tell one run from another."""
    fields = dataclasses.asdict(setting) | {"lr": lr, "weight_decay": weight_decay}
    return fields | {"method": method, "seed": seed, "part": part}


def key(row: dict[str, Any]) -> str:
    names = [field.name for field in dataclasses.fields(Setting)] + ["method", "seed", "part"]
    return json.dumps([said(row, name) for name in names], sort_keys=True)


def said(row: dict[str, Any], name: str) -> Any:
    """A field of a row, which may be older than the field."""
    return row[name] if name in row else UNSAID[name]


def machine(device: torch.device) -> dict[str, Any]:
    """Where and how a row was made. Folders in the command are cut to their names."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    processor = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    is_path = ["/" in argument and " / " not in argument for argument in sys.argv]  # and no grid
    arguments = [Path(each).name if cut else each for each, cut in zip(sys.argv, is_path, strict=True)][1:]
    return {
        "machine": torch.cuda.get_device_name(device) if device.type == "cuda" else processor,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "python": platform.python_version(),
        "glico_augment": glico_augment.__version__,
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *arguments]),
    }
