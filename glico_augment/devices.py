"""Which device to work on, and how to reach it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor


def choose_device(device: torch.device | str | None) -> torch.device:
    """The device asked for, or the best at hand: CUDA, then MPS, then the CPU.

    In a process group there is no MPS by default, which cannot reduce, and ``"cuda"`` is torch's current GPU.

    Raises:
        ValueError: if it is asked for and not there.
    """
    if device is None:
        has_mps = torch.backends.mps.is_available() and not _is_group()
        device = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError):
        chosen = torch.device("meta")
    if chosen.type not in ("cuda", "mps", "cpu"):
        raise ValueError(f"device must be 'cuda', 'mps', 'cpu' or None; got {device!r}")
    asked = f"device {str(device)!r} was asked for but torch sees"
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"{asked} no Apple GPU; leave device=None")
    if chosen.type != "cuda":
        return chosen
    if not torch.cuda.is_available():
        raise ValueError(f"{asked} no CUDA GPU; leave device=None")
    if chosen.index is not None and chosen.index >= torch.cuda.device_count():
        raise ValueError(f"{asked} {torch.cuda.device_count()} CUDA GPUs")
    return torch.device("cuda", torch.cuda.current_device()) if chosen.index is None and _is_group() else chosen


def memory_of(device: torch.device) -> int:
    """Bytes of memory that a device has in all; for the CPU no more than its container allows, or ¼ TiB if unknown."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        memory = max(0, os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # no POSIX system
        memory = 0
    texts = [file.read_text(encoding="ascii").strip() for file in _CONTAINER_LIMITS if os.access(file, os.R_OK)]
    limits = [int(text) for text in texts if text.isdecimal()]  # it may be "max"
    return min([memory or 2**38, *limits])


def check_memory(needed: float, what: str, remedy: str, *, memory: int) -> None:
    """Raise ValueError if ``what`` needs more bytes than there are, with the remedy."""
    if needed > memory:
        raise ValueError(f"{what} needs at least {_shown(needed)} of memory, and {_shown(memory)} are here; {remedy}")


def _shown(count: float) -> str:
    """A number of bytes in words."""
    if count >= 2**60:
        return "a million TiB"
    return f"{count / 2**30:,.1f} GiB" if count < 2**40 else f"{count / 2**40:,.1f} TiB"


_CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@contextmanager
def cpu_by_default() -> Iterator[None]:
    """A context, or a decorator, in which tensors are made on the CPU where no device is named, whatever torch's
    default device is.
    """
    is_default = torch.get_default_device().type == "cpu"  # and then nothing is to be paid for
    with nullcontext() if is_default else torch.device("cpu"):
        yield


def to_device(rows: Tensor, device: torch.device) -> Tensor:
    """Rows of the CPU on ``device``, without waiting for what a CUDA device still has to do."""
    return rows.to(device, non_blocking=device.type == "cuda")


def _is_group() -> bool:
    """Whether several processes work together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
