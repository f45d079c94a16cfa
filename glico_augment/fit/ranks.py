"""The processes of a distributed fit: which images each owns, and sums over all of them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

PATIENCE = timedelta(minutes=5)
"""How long the first processes to call ``fit`` wait for the last: one may still be downloading the images."""


class Ranks:
    """The place of this process in the default process group; without a group it is the only one.

    Attributes:
        index: of this process.
        count: of processes.
    """

    def __init__(self) -> None:
        is_group = dist.is_available() and dist.is_initialized()
        self.index = dist.get_rank() if is_group else 0
        self.count = dist.get_world_size() if is_group else 1

    @property
    def is_first(self) -> bool:
        """Whether this process shows progress and writes files."""
        return self.index == 0

    def own(self, indices: Tensor) -> Tensor:
        """Which of the images ``indices`` this process owns, bool of the same shape."""
        return indices % self.count == self.index

    def sum_(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def meet(self, device: torch.device) -> None:
        """Wait for all processes, so that one which is alone need not wait for ever.

        Raises:
            RuntimeError: if some are not here within :data:`PATIENCE`, or have ended.
        """
        if self.count == 1:
            return
        try:
            if dist.get_backend() == "gloo":  # a sum that is given up would keep the process from ending
                group = cast("dist.ProcessGroup", dist.new_group(timeout=PATIENCE))
                dist.barrier(group)  # else one that is through would hang up on those which still connect
                dist.destroy_process_group(group)
            else:
                dist.all_reduce(torch.zeros(1, device=device), async_op=True).wait(PATIENCE)
        except RuntimeError as error:
            raise RuntimeError(
                f"process {self.index} waited for all {self.count} processes of the group to call fit, and not all "
                "did. Call it in every one, or end the group (torch.distributed.destroy_process_group) to fit in one "
                f"alone ({error})"
            ) from error

    @contextmanager
    def together(self) -> Iterator[None]:
        """A part of the work in which what is raised by one process is raised by all.

        Where it sums over processes, it does so before anything that may be raised in some of them alone.
        """
        error = None
        try:
            yield
        except Exception as caught:
            error = caught
        self._raise_any(error)

    def any(self, ask: Callable[[], bool], device: torch.device) -> bool:
        """Whether ``ask()`` is true in any process; what it raises in one is raised by all."""
        if self.count == 1:
            return ask()
        answer, error = False, None
        try:
            answer = ask()
        except Exception as caught:
            error = caught
        n_true, n_failed = self.sum_(torch.tensor([int(answer), int(error is not None)], device=device)).tolist()
        if n_failed:
            self._raise_any(error)
        return n_true > 0

    def _raise_any(self, error: Exception | None) -> None:
        """Raise the error of this process, or else that of the first process that has one."""
        if self.count == 1 and error is not None:
            raise error
        errors = self._gather(None if error is None else _portable(error))
        if error is not None:
            raise error
        for index, other in enumerate(errors):
            if other is not None:
                raise other from RuntimeError(f"process {index} failed")

    def _gather(self, value: Any) -> list[Any]:
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    @torch.no_grad()
    def share_rows_(self, tensors: Iterable[Tensor]) -> None:
        """Bring the rows that each process owns to all others, in place."""
        if self.count == 1:
            return
        for tensor in tensors:
            tensor[~self.own(torch.arange(len(tensor), device=tensor.device))] = 0
            self.sum_(tensor)

    def check_equal(self, name: str, value: Any) -> None:
        """Raise ValueError unless ``value``, of JSON types, is the same in all processes."""
        values = self._gather(value)
        for index, other in enumerate(values):
            if other != values[0]:
                raise ValueError(f"{name} must be the same in all processes, but {index} has {other}, 0 {values[0]}")


def _portable(error: Exception) -> Exception:
    """An error as another process can make it again."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


@contextmanager
def process_group(device: torch.device | str | None) -> Iterator[Ranks]:
    """The process group of ``torchrun``, while in the context; the only process where it was not started by that.

    Raises:
        ValueError: if there are more processes on this machine than GPUs to fit on.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ:
        yield Ranks()
        return
    wants_cuda = torch.cuda.is_available() if device is None else str(device).startswith("cuda")
    if wants_cuda:
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        if local_rank >= torch.cuda.device_count():
            raise ValueError(f"more processes than the {torch.cuda.device_count()} GPUs here; start fewer")
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if wants_cuda else "gloo")
    try:
        yield Ranks()
    finally:
        dist.destroy_process_group()
