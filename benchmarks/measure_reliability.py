"""What damage, kills, full disks and long runs come to: the long forms of tests/stress, counted.

    python benchmarks/measure_reliability.py --out benchmarks/results/reliability.jsonl

Then the table of RELIABILITY.md is written. Linux alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from shared.runner import Row, arguments, read_rows, run
from shared.tables import fill, markdown

HERE = Path(__file__).parent
TESTS = HERE.parent / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "stress")]

from conftest import LABELS, quick_fit, smooth_images  # noqa: E402
from contexts import CONTEXTS, USES, outcome  # noqa: E402
from disks import full_at_every_write  # noqa: E402
from kills import killed_fits  # noqa: E402
from loaders import growth  # noqa: E402
from mutants import damage, forge, tally  # noqa: E402
from readers import checkpoint_reader, read_codes, read_fitted, read_style, write_checkpoint  # noqa: E402
from torch.utils.data import TensorDataset  # noqa: E402

from glico_augment import GLICOAugment, LocalStyle  # noqa: E402
from glico_augment.errors import DivergenceError, FileFormatError  # noqa: E402

DATASET = TensorDataset(smooth_images(len(LABELS)), LABELS)


def mutants(folder: Path, kind: str, mutate: Callable[..., Any], count: int) -> Row:
    readers, path = {"fitted": read_fitted, "codes": read_codes, "style": read_style}, folder / kind
    if kind == "checkpoint":
        write_checkpoint(DATASET, path, 5)
    else:
        (LocalStyle(DATASET) if kind == "style" else quick_fit(DATASET)).save(path)
    read = readers[kind] if kind in readers else checkpoint_reader(DATASET)
    errors = (ValueError, DivergenceError) if kind == "checkpoint" else FileFormatError
    found = tally(path.read_bytes(), folder / "mutant", mutate, read, read(path), errors, count=count, seed=0)
    outcomes: Counter[str] = Counter()
    for (_, what), times in found.items():
        outcomes[what if what in ("refused", "same", "different") else f"raised {what}"] += times
    return {"tried": count, "found": dict(outcomes), "by_kind": {" → ".join(each): found[each] for each in found}}


def kills(folder: Path, processes: int) -> Row:
    found = killed_fits(DATASET, folder, processes=processes, kills=100, seed=processes)
    return {"tried": found.pop("kills"), "found": {**found, "slowest": round(found["slowest"], 1)}}


def disks(folder: Path) -> Row:
    found, is_mounted = full_at_every_write(DATASET, folder, rounds=8, seed=0)
    disk = "tmpfs of 4 MiB" if is_mounted else "RLIMIT_FSIZE"
    return {"tried": found.pop("writes"), "found": found, "disk": disk}


def loader(folder: Path, start: str) -> Row:
    found = growth(quick_fit(DATASET), *DATASET.tensors, count=1_000_000, start=start)
    return {"tried": found.pop("images"), "found": found}


def contexts(folder: Path) -> Row:
    augment, found = quick_fit(DATASET), Counter()
    for use in USES:
        outcomes = {}
        for name in CONTEXTS:
            place = folder / f"{use} {name}"
            place.mkdir()
            augment.save(place / "fitted")
            loaded = GLICOAugment.load(place / "fitted")
            outcomes[name] = outcome(use, name, DATASET, loaded, place / "file")
        expected = outcomes.pop("nothing")
        for name, bits in outcomes.items():
            found["same" if bits == expected else f"{use} in {name}: other bits or {bits!s:.100}"] += 1
    return {"tried": len(USES) * (len(CONTEXTS) - 1), "found": dict(found)}


PARTS: dict[str, Callable[[Path], Row]] = {
    "fitted file, damaged": partial(mutants, kind="fitted", mutate=damage, count=10_000),
    "fitted file, damaged, `SphereCodes.load`": partial(mutants, kind="codes", mutate=damage, count=10_000),
    "style file, damaged": partial(mutants, kind="style", mutate=damage, count=10_000),
    "checkpoint, damaged": partial(mutants, kind="checkpoint", mutate=damage, count=3_000),
    "fitted file, damaged, checksum forged": partial(mutants, kind="fitted", mutate=forge, count=3_000),
    "fitted file, damaged, checksum forged, `SphereCodes.load`": partial(
        mutants, kind="codes", mutate=forge, count=3_000
    ),
    "style file, damaged, checksum forged": partial(mutants, kind="style", mutate=forge, count=3_000),
    "checkpoint, damaged, checksum forged": partial(mutants, kind="checkpoint", mutate=forge, count=1_000),
    "SIGKILL, one process": partial(kills, processes=1),
    "SIGKILL of one of two processes": partial(kills, processes=2),
    "full disk at every write of a fit": disks,
    "images through a loader with a bank, forked workers": partial(loader, start="fork"),
    "images through a loader with a bank, spawned workers": partial(loader, start="spawn"),
    "uses in strange contexts": contexts,
}


def main() -> None:
    args = arguments(__doc__, has_data=False, only=([""], "parts of the names of what to do"))
    run(args, [{"part": part, "seed": 0} for part in PARTS if any(name in part for name in args.only)], measure)
    fill(HERE / "RELIABILITY.md", {"reliability": table(read_rows(args.out))})


def measure(args: argparse.Namespace, unit: Row) -> Row:
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # tiny fits do not learn their images
        found = PARTS[unit["part"]](Path(folder))
    return found | {"seconds": round(time.perf_counter() - start, 1)}


def table(rows: list[Row]) -> str:
    lines = []
    for row in sorted(rows, key=lambda row: list(PARTS).index(row["part"])):
        happened = ", ".join(f"{name} {value:,}" for name, value in row["found"].items())
        lines.append([row["part"], f"{row['tried']:,}", happened, f"{row['seconds']:.0f}"])
    return markdown(["what", "tried", "what happened", "seconds"], lines)


if __name__ == "__main__":
    main()
