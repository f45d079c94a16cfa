"""Short forms in every run; ``python -m pytest -m stress`` runs the long ones, those of benchmarks/RELIABILITY.md."""

import os
from pathlib import Path

import pytest
import torch.distributed as dist
from conftest import LABELS, PLAIN
from contexts import CONTEXTS, USES, outcome
from disks import full_at_every_write
from kills import killed_fits
from loaders import growth
from mutants import damage, forge, tally
from readers import checkpoint_reader, read_codes, read_fitted, read_style, write_checkpoint

from glico_augment import DivergenceError, FileFormatError, LocalStyle, SwapConfig

needs_fork = pytest.mark.skipif(not hasattr(os, "fork") or not dist.is_available(), reason="needs forked processes")


def counts_of(short, long):
    return pytest.mark.parametrize("count", [short, pytest.param(long, marks=pytest.mark.stress)])


@pytest.fixture(scope="module")
def files(_fitted, dataset, tmp_path_factory):
    """One whole file of each kind, with what reads it."""
    folder = tmp_path_factory.mktemp("files")
    _fitted.save(folder / "fitted")
    LocalStyle(dataset).save(folder / "style")
    write_checkpoint(dataset, folder / "checkpoint", 5)
    return {
        "fitted": (folder / "fitted", read_fitted),
        "codes": (folder / "fitted", read_codes),
        "style": (folder / "style", read_style),
        "checkpoint": (folder / "checkpoint", checkpoint_reader(dataset)),
    }


@counts_of(50, 10_000)
@pytest.mark.parametrize("kind", ["fitted", "codes", "style", "checkpoint"])
def test_every_damaged_file_is_refused(files, tmp_path, kind, count):
    path, read = files[kind]
    content, expected = path.read_bytes(), read(path)
    assert read(path) == expected, "a reader that does not repeat itself tells nothing"
    settings = {"count": min(count, 3000) if kind == "checkpoint" else count, "seed": 0}
    found = tally(content, tmp_path / "mutant", damage, read, expected, FileFormatError, **settings)
    # A change of what the header's JSON looks like, and of nothing that it says, is no damage.
    assert {outcome for _, outcome in found} <= {"refused", "same"}, found
    assert sum(number for (_, outcome), number in found.items() if outcome == "refused") > 0.75 * settings["count"], (
        found
    )


@counts_of(50, 3_000)
@pytest.mark.parametrize("kind", ["fitted", "codes", "style", "checkpoint"])
def test_a_forged_file_is_read_or_refused_and_raises_nothing_else(files, tmp_path, kind, count):
    path, read = files[kind]
    content, expected = path.read_bytes(), read(path)
    # One of another fit is a ValueError, and moments that were made up make a fit diverge.
    errors = (ValueError, DivergenceError) if kind == "checkpoint" else FileFormatError
    found = tally(content, tmp_path / "mutant", forge, read, expected, errors, count=count, seed=1)
    assert {outcome for _, outcome in found} <= {"refused", "same", "different"}, found


@needs_fork
@counts_of(2, 100)
@pytest.mark.parametrize("processes", [1, 2])
def test_fits_killed_at_any_moment_end_with_the_same_bits_and_leave_nothing(dataset, tmp_path, processes, count):
    found = killed_fits(dataset, tmp_path, processes=processes, kills=count, seed=processes)
    assert found["fits"] > 0
    assert found == {**found, "kills": count, "different": 0, "left over": 0, "hanging": 0}


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX")
@counts_of(1, 8)
def test_a_disk_that_is_full_at_any_write_costs_nothing_that_was_there(dataset, tmp_path, count):
    found, _ = full_at_every_write(dataset, tmp_path, rounds=count, seed=0)
    assert found == {"writes": 5 * count, "silent": 0, "not intact": 0, "left over": 0, "different": 0}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at /proc")
@pytest.mark.parametrize(
    ("count", "start"),
    [(10_000, "fork"), *(pytest.param(1_000_000, start, marks=pytest.mark.stress) for start in ("fork", "spawn"))],
)
def test_a_loader_with_a_bank_does_not_grow(augment, images, count, start):
    found = growth(augment, images, LABELS, count=count, start=start)
    assert found["images"] == count
    assert found["descriptors"] <= 8  # batches on their way to this process
    assert found["memory"] < 30
    assert found["shared memory"] < 8


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("swap", [SwapConfig(), SwapConfig(**PLAIN)], ids=["default", "plain"])
def test_no_context_of_the_caller_changes_a_bit(dataset, augment, tmp_path, use, swap):
    outcomes = {}
    augment.swap = swap
    for name in CONTEXTS:
        folder = tmp_path / name
        folder.mkdir()
        outcomes[name] = outcome(use, name, dataset, augment, folder / "file")
    expected = outcomes.pop("nothing")
    assert isinstance(expected, dict)
    for name, found in outcomes.items():
        assert found == expected, name
