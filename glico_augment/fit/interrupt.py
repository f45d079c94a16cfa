"""Signals that end a fit wait for the end of a step, so that a checkpoint can be written first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

import torch

from glico_augment.fit.checkpoint import Checkpoint
from glico_augment.fit.progress import FitProgress, logger
from glico_augment.fit.ranks import Ranks

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_Handler = Callable[[int, FrameType | None], Any] | int | None


class Interrupts:
    """A callback that on SIGINT or SIGTERM writes the checkpoint, says so, and lets the signal do what it would have.

    The handlers are in place while in the context. A second signal acts at once, unless there are several processes,
    which must end together. Without a checkpoint, or outside of the main thread, signals are left alone.

    Args:
        checkpoint: of the fit; None for none.
        ranks: the processes of the fit.
        device: of the fit.
    """

    def __init__(self, checkpoint: Checkpoint | None, ranks: Ranks, device: torch.device) -> None:
        self._checkpoint = checkpoint
        self._ranks = ranks
        self._device = device
        self._received: int | None = None
        self._handlers: dict[int, _Handler] = {}

    def __enter__(self) -> Interrupts:
        if self._checkpoint is not None and threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                handler = signal.getsignal(number)
                if handler not in (signal.SIG_IGN, None):  # None was not set from Python and could not be set again
                    self._handlers[number] = handler
                    signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._received is not None and kind is None:  # it came when no step was left
            self._act()

    def __call__(self, progress: FitProgress) -> None:
        """End the fit after this step if a signal came to any of its processes."""
        if self._checkpoint is None or not self._ranks.any(lambda: self._received is not None, self._device):
            return
        self._checkpoint.write()
        if self._ranks.is_first:
            logger.warning(
                "stopped after step %d of %d, which is kept in %s: the same call continues there",
                progress.step,
                progress.total_steps,
                self._checkpoint.path,
            )
        if self._received is None:  # another process was told
            raise KeyboardInterrupt
        self._act()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None and self._ranks.count == 1:
            self._act()
        self._received = number

    def _act(self) -> None:
        """Do what the signal would have done; it may be that its handler returns and the fit goes on."""
        number, self._received = self._received, None
        assert number is not None
        handler = self._handlers[number]
        if callable(handler):
            handler(number, None)
        else:
            raise SystemExit(128 + number)  # as the shell reports the end by a signal, but with all files closed
