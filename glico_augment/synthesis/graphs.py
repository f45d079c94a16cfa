"""The images of a swapped batch, drawn and made as one CUDA graph."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

import torch
import torch.nn.functional as F
from torch import Tensor

from glico_augment.capture import CapturedStep, GraphMemory

_MAX_GRAPHS = 64
_MAX_PIXELS = 2**20  # of one graph's images: beyond it is the kernels that take the time, and the memory

_Make = Callable[[Tensor, "Tensor | None"], tuple[Tensor, Tensor]]


class SwapGraphs:
    """Graphs of what draws and makes the images of a batch, one for each number of them.

    The draw and the generator are some 200 kernels, which take several times as long to launch as to run. How many
    images are swapped differs from batch to batch, so numbers are rounded up by at most a quarter, and surplus
    images are dropped. The first batch of each number runs without a graph, with the same random numbers as with it.
    Each thread and stream has its own graphs; where there are too many, all are deleted.
    """

    def __init__(self) -> None:
        self._graphs: dict[Hashable, CapturedStep[tuple[Tensor, Tensor]]] = {}
        self._memories: dict[Hashable, GraphMemory] = {}
        self._lock = threading.Lock()

    def __call__(
        self, make: _Make, labels: Tensor, anchors: Tensor | None, *, settings: Hashable, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """What ``make`` of these ``settings`` returns for labels and anchors, ``(k,)``, on a CUDA device.

        It makes images of ``size`` and bools, each alone in its row, and draws from torch's global generator.
        """
        count, padded = len(labels), rounded_up(len(labels))
        if padded * size[0] * size[1] > _MAX_PIXELS:
            return make(labels, anchors)
        place = (labels.device, torch.cuda.current_stream(labels.device).cuda_stream, threading.get_ident())
        key = (*place, settings, padded, labels.dtype, anchors is None)
        rest = (0, padded - count)
        inputs = (F.pad(labels, rest), None if anchors is None else F.pad(anchors, rest))
        with self._lock:
            if key not in self._graphs:
                if len(self._graphs) == _MAX_GRAPHS:
                    torch.cuda.synchronize(labels.device)  # none may be running
                    self._graphs.clear()
                    self._memories.clear()
                if place not in self._memories:
                    self._memories[place] = GraphMemory(labels.device)
                self._graphs[key] = CapturedStep(make, is_wanted=True, warm_up=1, memory=self._memories[place])
            images, is_known = self._graphs[key](*inputs)
            return images[:count].clone(), is_known[:count].clone()

    def __reduce__(self) -> tuple[type[SwapGraphs], tuple[()]]:
        return type(self), ()  # a graph is of its process


def rounded_up(count: int) -> int:
    """The next number, from ``count`` on, of those that are four to an octave: 1 to 8, 10, 12, 14, 16, 20, 24, 28."""
    step = 2 ** max(0, count.bit_length() - 3)
    return -(-count // step) * step
