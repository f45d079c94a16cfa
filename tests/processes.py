"""Forked processes in a group, which start in milliseconds as nothing is imported again."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

LIMIT = 60  # seconds after which a process counts as hanging


class Group:
    """Processes that each run ``work(rank)``, and have begun to.

    Args:
        count: how many.
        work: what they run.
        in_group: whether they are in one gloo group, if there are several.
    """

    def __init__(self, count, work, *, in_group=True):
        if torch.cuda.is_available():
            pytest.skip("autograd has threads for a GPU, which do not survive a fork; CUDA_VISIBLE_DEVICES='' hides it")
        context = multiprocessing.get_context("fork")
        self._folder = tempfile.TemporaryDirectory()
        self._are_ready = context.Barrier(count + 1)
        self._pipes, self.processes = [], []
        for rank in range(count):
            receiver, sender = context.Pipe(duplex=False)
            arguments = (
                rank,
                count if in_group else 1,
                work,
                Path(self._folder.name, "store"),
                self._are_ready,
                sender,
            )
            process = context.Process(target=_work, args=arguments)
            process.start()
            sender.close()
            self._pipes.append(receiver)
            self.processes.append(process)
        self._are_ready.wait(LIMIT)

    def answers(self, limit=LIMIT):
        """What each process returned or raised; None for one that was killed, and a TimeoutError for one that hangs."""
        found = [_answer(*each, limit) for each in zip(self._pipes, self.processes, strict=True)]
        self._folder.cleanup()
        return found


def run_ranks(count, work, **settings):
    """The answers of ``work(rank)`` in ``count`` processes; arrays and no tensors, whose memory ends with them."""
    return Group(count, work, **settings).answers()


def _work(rank, count, work, store, are_ready, sender):
    try:
        if count > 1:
            dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=count)
            dist.barrier()
        are_ready.wait(LIMIT)
        answer = work(rank)
    except Exception as error:
        answer = error
    try:
        sender.send(answer)
    except Exception:
        sender.send(RuntimeError(f"{type(answer).__name__}: {answer}"))
    sender.close()
    os._exit(0)


def _answer(pipe, process, limit):
    try:
        return pipe.recv() if pipe.poll(limit) else TimeoutError("a process hangs")
    except EOFError:
        return None
    finally:
        process.kill()
        process.join()
        pipe.close()
