"""Fits killed at random moments, again and again, until they end."""

from __future__ import annotations

import random
import time
from datetime import timedelta
from unittest import mock

import torch
from conftest import quick_fit
from processes import LIMIT, Group

from glico_augment import GLICOAugment
from glico_augment.fit import distributed

RESULT, CHECKPOINT = "result.safetensors", "fit.checkpoint"


def fit_and_save(dataset, folder):
    def work(rank):
        with mock.patch.object(distributed, "PATIENCE", timedelta(seconds=5)):  # with a process killed before they met
            augment = quick_fit(dataset, checkpoint=folder / CHECKPOINT, checkpoint_every=1)
        if rank == 0:
            augment.save(folder / RESULT)

    return work


def killed_fits(dataset, folder, *, processes, kills, seed):
    """Fits whose processes, one of them at a time, are killed ``kills`` times in all, and that are run again.

    Returns:
        ``kills``, ``fits`` that ended, ``different`` ones, whose bits are not those of the fit that was left alone,
        files ``left over``, ``hanging`` processes, and the ``slowest`` survivor's seconds from the kill to its end.
    """
    rng = random.Random(seed)
    work = fit_and_save(dataset, folder)
    group = Group(processes, work)
    start = time.perf_counter()
    assert group.answers() == [None] * processes
    duration = time.perf_counter() - start
    expected = _taken_result(folder)
    counts = {"kills": 0, "fits": 0, "different": 0, "left over": 0, "hanging": 0, "slowest": 0.0}
    while counts["kills"] < kills:
        group = Group(processes, work)
        victim = rng.choice(group.processes)
        victim.join(rng.uniform(0, duration))
        was_killed = victim.exitcode is None
        victim.kill()
        start = time.perf_counter()
        answers = group.answers(LIMIT)
        if was_killed:
            counts["kills"] += 1
            counts["slowest"] = max(counts["slowest"], time.perf_counter() - start)
            counts["hanging"] += sum(isinstance(answer, TimeoutError) for answer in answers)
        if counts["kills"] == kills:
            answers = Group(processes, work).answers()
        if not was_killed or counts["kills"] == kills:
            assert answers == [None] * processes
            counts["left over"] += len(list(folder.iterdir())) - 2
            counts["different"] += not _same(_taken_result(folder), expected)
            counts["fits"] += 1
    return counts


def _taken_result(folder):
    augment = GLICOAugment.load(folder / RESULT)
    for name in (RESULT, CHECKPOINT):
        (folder / name).unlink()
    return augment


def _same(augment, expected):
    return (
        augment.history == expected.history
        and torch.equal(augment.codes.codes, expected.codes.codes)
        and torch.equal(augment.reconstruct(), expected.reconstruct())
    )
