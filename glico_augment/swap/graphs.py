"""The images of a swapped batch, drawn and made as one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from glico_augment.capture import CapturedStep

_MOST_GRAPHS = 64
_MOST_PIXELS = 2**20  # of one graph's images: beyond it is the kernels that take the time, and the memory

_Make = Callable[[Tensor, "Tensor | None"], tuple[Tensor, Tensor]]


class SwapGraphs:
    """Graphs of what draws and makes the images of a batch, one for each number of them.

    The draw and the generator are some 200 kernels, which take several times as long to launch as to run. How many
    images are swapped differs from batch to batch, so numbers are rounded up by at most a quarter, and what is made
    beyond is left. A number is made without a graph the first time, with the same random numbers as with it, and always
    where the images are large or many numbers, settings and streams have a graph already.
    """

    def __init__(self) -> None:
        self._graphs: dict[Hashable, CapturedStep[tuple[Tensor, Tensor]]] = {}
        self._pools: dict[Hashable, Any] = {}

    def __call__(
        self,
        make: _Make,
        labels: Tensor,
        anchors: Tensor | None,
        settings: Hashable,
        image_shape: tuple[int, int, int],
    ) -> tuple[Tensor, Tensor]:
        """What ``make`` returns for labels and anchors on a CUDA device, ``(k,)`` each, ``k`` at least 1.

        Args:
            make: to images and bools, each alone in its row; draws from torch's global generator.
            labels: integers.
            anchors: int64, or None.
            settings: of ``make``; a graph is of one.
            image_shape: ``(channels, height, width)``.
        """
        count, stream = len(labels), torch.cuda.current_stream(labels.device)
        padded = rounded_up(count)
        key = (labels.device, stream.cuda_stream, settings, padded, labels.dtype, anchors is None)
        if key not in self._graphs and (
            padded * image_shape[1] * image_shape[2] > _MOST_PIXELS or len(self._graphs) == _MOST_GRAPHS
        ):
            return make(labels, anchors)
        if torch.cuda.is_current_stream_capturing():
            return make(labels, anchors)
        if key not in self._graphs:
            pool = self._pools.setdefault(key[:2], torch.cuda.graph_pool_handle())
            self._graphs[key] = CapturedStep(make, is_wanted=True, warm_up=1, pool=pool)
        rest = (0, padded - count)
        images, is_known = self._graphs[key](F.pad(labels, rest), None if anchors is None else F.pad(anchors, rest))
        return images[:count].clone(), is_known[:count].clone()


def rounded_up(count: int) -> int:
    """The next number, from ``count`` on, of those that are four to an octave: 1 to 8, 10, 12, 14, 16, 20, 24, 28."""
    step = 2 ** max(0, count.bit_length() - 3)
    return -(-count // step) * step
