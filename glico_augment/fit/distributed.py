"""The processes of a distributed fit: the part of a batch that each takes, sums over them, and errors of one."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

PATIENCE = timedelta(minutes=5)
"""How long the first processes to call ``fit`` wait for the last: one may still be downloading the images."""


class ProcessGroup:
    """The place of this process in the default ``torch.distributed`` group; without a group it is the only one."""

    def __init__(self) -> None:
        is_group = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if is_group else 0
        self.size = dist.get_world_size() if is_group else 1

    @property
    def is_first(self) -> bool:
        """Whether this process shows progress and writes files."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """The part of ``count`` images that this process computes: always the same, and empty if there are too few."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    @torch.no_grad()
    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace float32 tensors of one device by their sums over all processes, in one all-reduce."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def gather(self, value: Any) -> list[Any]:
        """The picklable ``value`` of each process, in the order of their ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def check_equal(self, name: str, value: Any) -> None:
        """Raise ValueError unless ``value``, of JSON types, is the same in all processes."""
        values = self.gather(value)
        for rank, other in enumerate(values):
            if other != values[0]:
                raise ValueError(f"{name} must be the same in all processes, but {rank} has {other}, 0 {values[0]}")

    def wait_for_all(self, device: torch.device) -> None:
        """Wait until all processes are here; RuntimeError if some are not within :data:`PATIENCE`, or have ended."""
        if self.size == 1:
            return
        try:
            if dist.get_backend() == "gloo":  # an all-reduce that is given up would keep the process from ending
                group = cast("dist.ProcessGroup", dist.new_group(timeout=PATIENCE))
                dist.barrier(group)  # else the first to be through would hang up on those still connecting
                dist.destroy_process_group(group)
            else:
                dist.all_reduce(torch.zeros(1, device=device), async_op=True).wait(PATIENCE)
        except RuntimeError as error:
            raise RuntimeError(
                f"process {self.rank} waited for all {self.size} processes of the group to call fit, and not all "
                "did. Call it in every one, or end the group (torch.distributed.destroy_process_group) to fit in one "
                f"alone ({error})"
            ) from error

    @contextmanager
    def raising_together(self) -> Iterator[None]:
        """A part of the work in which what is raised by one process is raised by all.

        Within it, anything that waits for other processes must come before what only some of them may raise.
        """
        error = None
        try:
            yield
        except Exception as caught:
            error = caught
        self.raise_any(error)

    def raise_any(self, error: Exception | None) -> None:
        """Raise the error of this process, or else that of the first process that has one. All must call it."""
        if self.size == 1 and error is not None:
            raise error
        errors = self.gather(None if error is None else _portable(error))
        if error is not None:
            raise error
        for rank, other in enumerate(errors):
            if other is not None:
                raise other from RuntimeError(f"process {rank} failed")


def _portable(error: Exception) -> Exception:
    """An error as another process can make it again."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


@contextmanager
def process_group(device: torch.device | str | None) -> Iterator[ProcessGroup]:
    """The process group of ``torchrun``, while in the context; the only process where it was not started by that.

    Raises:
        ValueError: if there are more processes on this machine than GPUs to fit on.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ:
        yield ProcessGroup()
        return
    wants_cuda = torch.cuda.is_available() if device is None else str(device).startswith("cuda")
    if wants_cuda:
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        if local_rank >= torch.cuda.device_count():
            raise ValueError(f"more processes than the {torch.cuda.device_count()} GPUs here; start fewer")
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if wants_cuda else "gloo")
    try:
        yield ProcessGroup()
    finally:
        dist.destroy_process_group()
