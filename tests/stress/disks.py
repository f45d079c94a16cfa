"""A disk that is full at a chosen write."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
from unittest import mock

import torch
from conftest import quick_fit

from glico_augment.files import format

SIZE = 4 * 2**20


@contextlib.contextmanager
def small_disk(folder):
    """A folder of 4 MiB in memory where this user may mount one, else the folder itself; and which."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    is_mounted = (
        shutil.which("mount") is not None and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    )
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", str(folder)], check=True)


@contextlib.contextmanager
def full(folder, left, *, is_mounted):
    """The folder's disk with ``left`` bytes left; or files of at most so many, which fails at the same calls."""
    if is_mounted:
        filler = folder / "filler"
        with filler.open("wb") as file, contextlib.suppress(OSError):
            file.write(bytes(max(0, shutil.disk_usage(folder).free - left)))
        try:
            yield
        finally:
            filler.unlink()
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (left, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def full_at_every_write(dataset, folder, *, rounds, seed):
    """Fits with checkpoints, and the save of their result, with the disk full at the first write, the second, …

    Returns:
        ``writes`` that met a full disk, ``silent`` ones, that did not raise, ``not intact`` old files, ``left over``
        files, and ``different`` results of the same call once there is room.
    """
    rng = random.Random(seed)
    counts = {"writes": 0, "silent": 0, "not intact": 0, "left over": 0, "different": 0}
    plain = format.write_atomically
    with small_disk(folder) as is_mounted:

        def fit(full_at=None):
            """The result of a fit, and how many writes that took."""
            n_writes = 0

            def write(path, fill):
                nonlocal n_writes
                n_writes += 1
                if n_writes != full_at:
                    return plain(path, fill)
                before = _contents(folder)
                left = rng.choice([0, 4096, rng.randrange(40_000)])
                try:
                    with full(folder, left, is_mounted=is_mounted):
                        plain(path, fill)
                    counts["silent"] += 1
                finally:
                    counts["writes"] += 1
                    counts["left over"] += len(_contents(folder).keys() - before.keys())
                    counts["not intact"] += any(_contents(folder).get(name) != text for name, text in before.items())

            with mock.patch.object(format, "write_atomically", write):
                augment = quick_fit(dataset, epochs=2, checkpoint=folder / "c", checkpoint_every=1)
                augment.save(folder / "result")
            for path in folder.iterdir():
                path.unlink()
            return augment, n_writes

        expected, n_writes = fit()
        for full_at in list(range(1, n_writes + 1)) * rounds:
            with contextlib.suppress(OSError):
                fit(full_at)
            augment, _ = fit()
            counts["different"] += not torch.equal(augment.reconstruct(), expected.reconstruct())
    return counts, is_mounted


def _contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}
