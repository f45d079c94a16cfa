"""A step of an optimisation, or the making of some images, as one CUDA graph."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

SWITCH = "GLICO_CUDA_GRAPHS"
"""Environment variable; ``0`` launches every kernel by itself."""

_NO_CACHE = "PYTORCH_NO_CUDA_MEMORY_CACHING"
_WARM_UP = 3  # calls, in which libraries choose their kernels and optimisers make their state

_Output = TypeVar("_Output")


def can_capture(device: torch.device) -> bool:
    """Whether work on a device may become a graph: on CUDA, unless :data:`SWITCH` or torch's allocator forbids it."""
    if device.type != "cuda" or os.environ.get(SWITCH) == "0":
        return False
    has_pools = torch.cuda.get_allocator_backend() != "pluggable" and not os.environ.get(_NO_CACHE)
    return has_pools and not torch.cuda.is_current_stream_capturing()


class GraphMemory:
    """What graphs share that never run at the same time: the memory of their kernels, and the stream they record in.

    Libraries keep workspaces by the stream, so that graphs of different memories have different streams.
    """

    def __init__(self, device: torch.device) -> None:
        self.pool = torch.cuda.graph_pool_handle()
        self.stream = torch.cuda.Stream(device)


class CapturedStep(Generic[_Output]):
    """A function of tensors whose shapes never change, launched as one CUDA graph after its first calls.

    A small step is hundreds of kernels of a few microseconds each, and the CPU takes longer to launch them one by one
    than the GPU to run them. All that the function changes (parameters, moments) must stay in the same memory, and its
    optimisers be ``capturable``. On any other device, and for a function that may do anything, there is
    ``is_wanted=False``: the function is called.

    Of the tensors each but the first may be None. There are ``warm_up`` calls before the capture; ``memory`` may be
    shared with other graphs.
    """

    def __init__(
        self,
        function: Callable[..., _Output],
        *,
        is_wanted: bool,
        warm_up: int = _WARM_UP,
        memory: GraphMemory | None = None,
    ) -> None:
        self.function = function
        self.is_wanted = is_wanted
        self._warm_up = warm_up
        self._memory = memory
        self._calls = 0
        # The graph, and where it reads its inputs and leaves its output.
        self._captured: tuple[torch.cuda.CUDAGraph, tuple[Tensor | None, ...], _Output] | None = None

    @property
    def is_captured(self) -> bool:
        """Whether the next call launches a graph that is there."""
        return self._captured is not None

    def forget(self) -> None:
        """Free the graph and its memory; the next calls are as the first ones were."""
        self._calls, self._captured = 0, None

    def __call__(self, *inputs: Tensor | None) -> _Output:
        """What the function returns, to be used before the next call, which overwrites it."""
        if not self.is_wanted or self._calls < self._warm_up:
            output = self.function(*inputs)
            self._calls += 1
            return output
        if self._captured is None:
            self._captured = self._capture(inputs)
        graph, kept, output = self._captured
        for own, given in zip(kept, inputs, strict=True):
            if own is not None and given is not None:
                own.copy_(given, non_blocking=True)
        graph.replay()
        return output

    @torch.inference_mode(False)  # tensors made in it could not be overwritten outside of it
    def _capture(
        self, inputs: tuple[Tensor | None, ...]
    ) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor | None, ...], _Output]:
        """Record the kernels of a call, none of which runs."""
        assert inputs[0] is not None
        device = inputs[0].device
        memory = self._memory or GraphMemory(device)
        kept = tuple(None if given is None else given.clone() for given in inputs)
        graph = torch.cuda.CUDAGraph()
        # Other threads, which pin memory for a loader say, go on as they like.
        options: dict[str, Any] = {"stream": memory.stream, "capture_error_mode": "thread_local"}
        with torch.cuda.device(device), torch.cuda.graph(graph, memory.pool, **options):
            output = self.function(*kept)
        return graph, kept, output


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """For the next step; in place where the optimiser has it as a tensor, which a graph reads."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
