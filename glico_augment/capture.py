"""A step of an optimisation, or the making of some images, as one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

_WARM_UP = 3  # calls, in which libraries choose their kernels and optimisers make their state

_Output = TypeVar("_Output")


class CapturedStep(Generic[_Output]):
    """A function of tensors whose shapes never change, launched as one CUDA graph after its first calls.

    A small step is hundreds of kernels of a few microseconds each, and the CPU takes longer to launch them one by one
    than the GPU to run them. All that the function changes (parameters, moments) must stay in the same memory, and its
    optimisers be ``capturable``. On any other device, and for a function that may do anything, there is
    ``is_wanted=False``: the function is called.

    Args:
        function: from tensors, each of which may be None but the first, to a tensor or several.
        is_wanted: whether to capture.
        warm_up: calls before the capture.
        pool: of ``torch.cuda.graph_pool_handle()``, which graphs share that never run at the same time.
    """

    def __init__(
        self, function: Callable[..., _Output], *, is_wanted: bool, warm_up: int = _WARM_UP, pool: Any = None
    ) -> None:
        self.function = function
        self.is_wanted = is_wanted
        self._warm_up = warm_up
        self._pool = pool
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Tensor | None] = []
        self._output: _Output

    def __call__(self, *inputs: Tensor | None) -> _Output:
        """What the function returns, to be used before the next call, which overwrites it."""
        if not self.is_wanted or self._calls < self._warm_up:
            self._calls += 1
            return self.function(*inputs)
        if self._graph is None:
            self._capture(inputs)
        assert self._graph is not None
        for kept, given in zip(self._inputs, inputs, strict=True):
            if kept is not None and given is not None:
                kept.copy_(given, non_blocking=True)
        self._graph.replay()
        return self._output

    @torch.inference_mode(False)  # tensors made in it could not be overwritten outside of it
    def _capture(self, inputs: tuple[Tensor | None, ...]) -> None:
        """Record the kernels of a call, none of which runs."""
        assert inputs[0] is not None
        device = inputs[0].device
        self._inputs = [None if given is None else given.clone() for given in inputs]
        graph = torch.cuda.CUDAGraph()
        # Other threads, which pin memory for a loader say, go on as they like.
        options: dict[str, Any] = {"stream": _stream(device), "capture_error_mode": "thread_local"}
        with torch.cuda.device(device), torch.cuda.graph(graph, self._pool, **options):
            self._output = self.function(*self._inputs)
        self._graph = graph


@lru_cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """To record in; torch has one of the device that was the current one first."""
    return torch.cuda.Stream(device)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """For the next step; in place where the optimiser has it as a tensor, which a graph reads."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
