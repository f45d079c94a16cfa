"""Forked processes in a group, which start in milliseconds as nothing is imported again."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from pathlib import Path

import torch.distributed as dist

LIMIT = 60  # seconds after which a process counts as hanging


def run_ranks(count, work, *, limit=LIMIT):
    """Run ``work(rank)`` in ``count`` processes of one gloo group.

    Returns:
        What each returned or raised; None for one that was killed, and a TimeoutError for one that hangs.
    """
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        pipes, processes = [], []
        for rank in range(count):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(rank, count, work, Path(folder, "store"), sender))
            process.start()
            sender.close()
            pipes.append(receiver)
            processes.append(process)
        answers = [_answer(pipe, process, limit) for pipe, process in zip(pipes, processes, strict=True)]
    return answers


def _work(rank, count, work, store, sender):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=count)
    try:
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
