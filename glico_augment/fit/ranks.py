"""The processes of a distributed fit: which images each owns, and sums over all of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


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

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether ``flag`` is true in any process."""
        return flag if self.count == 1 else bool(self.sum_(torch.tensor(int(flag), device=device)))

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
        if self.count == 1:
            return
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        for index, other in enumerate(values):
            if other != values[0]:
                raise ValueError(f"{name} must be the same in all processes, but {index} has {other}, 0 {values[0]}")


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
