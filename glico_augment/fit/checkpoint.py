"""Checkpoints of a fit, written while it runs and on signals, and continued by the same call."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from glico_augment import checks
from glico_augment.checks import quoted
from glico_augment.errors import FileFormatError
from glico_augment.files.format import CHECKPOINT, check_tensors, read_file, with_prefix, write_file
from glico_augment.fit.loop import MAX_RESTARTS, Fit
from glico_augment.fit.progress import logger
from glico_augment.fit.record import FitRecord

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_Handler = Callable[[int, FrameType | None], Any] | int | None


class Checkpoint:
    """A file that a fit is written to every so many steps, and before a signal ends it.

    While in its context SIGINT and SIGTERM wait for the end of a step; then the checkpoint is written, which is logged,
    and the signal does what it would have done. A second signal acts at once, unless there are several processes, which
    must end together. Outside of the main thread signals are left alone. ``every`` counts the steps between writes.
    """

    def __init__(self, path: str | Path, fit: Fit, record: FitRecord, *, every: int) -> None:
        self.path = Path(path)
        self.fit = fit
        self.every = every
        self._identity = {**record.identity(), "device": fit.device.type}
        self._written: dict[str, int] = {}  # the numbers of the state in the file
        self._received: int | None = None
        self._handlers: dict[int, _Handler] = {}

    def restore(self) -> None:
        """Continue from the file, if there is one, which every process reads.

        Raises OSError if it cannot be read, FileFormatError if it is no checkpoint or damaged, and ValueError if it is
        of another fit, with the differences.
        """
        group = self.fit.group
        with group.raising_together():
            state = self._read()
        group.check_equal("the checkpoint", None if state is None else state[1])
        if state is None:
            return
        with group.raising_together():
            try:
                restore(self.fit, *state)
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                raise FileFormatError(f"checkpoint {self.path} is damaged: {error}") from error
        self._written = _numbers(self.fit)

    def _read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The state in the file; None if there is no file."""
        try:
            tensors, info = read_file(self.path, kind=CHECKPOINT)
        except FileNotFoundError:
            return None
        if differences := _differences(info.get("fit"), self._identity):
            raise ValueError(
                f"checkpoint {self.path} is of another fit: {'; '.join(differences)}. Repeat that call to continue "
                "it, or delete the file or name another to start anew"
            )
        if not isinstance(state := info.get("state"), dict):
            raise FileFormatError(f"checkpoint {self.path} is damaged: it does not say how far it is")
        return tensors, state

    def save(self) -> None:
        """Write every so many steps."""
        if self.fit.steps_done % self.every == 0:
            self.write()

    def write(self) -> None:
        """Write the state, unless it is written already; the first of several processes writes.

        In all of them it raises OSError if the file cannot be written, and DivergenceError for NaN or infinite values.
        """
        if self._written == _numbers(self.fit):
            return
        self.fit.check_finite()
        tensors, numbers = state_of(self.fit)
        with self.fit.group.raising_together():
            if self.fit.group.is_first:
                try:
                    write_file(self.path, tensors, {"fit": self._identity, "state": numbers}, kind=CHECKPOINT)
                except ValueError as error:  # a tensor holds NaN
                    raise self.fit.divergence(self.fit.steps_done, str(error)) from error
        self._written = numbers

    def __enter__(self) -> Checkpoint:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                handler = signal.getsignal(number)
                if handler not in (signal.SIG_IGN, None):  # None was not set from Python and could not be set again
                    self._handlers[number] = handler
                    signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._received is not None and kind is None:  # it came when no step was left
            self._act()

    @property
    def has_signal(self) -> bool:
        """Whether a signal came to this process."""
        return self._received is not None

    def end(self) -> None:
        """Write, say so, and let a signal that came to any of the processes do what it would have done."""
        self.write()
        if self.fit.group.is_first:
            logger.warning(
                "stopped after step %d of %d, which is kept in %s: the same call continues there",
                self.fit.steps_done,
                self.fit.total_steps,
                self.path,
            )
        if self._received is None:  # it came to another process
            raise KeyboardInterrupt
        self._act()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None and self.fit.group.size == 1:
            self._act()
        self._received = number

    def _act(self) -> None:
        """Do what the signal would have done; its handler may return, and then the fit goes on."""
        number, self._received = self._received, None
        assert number is not None
        handler = self._handlers[number]
        if callable(handler):
            handler(number, None)
        else:
            raise SystemExit(128 + number)  # as the shell reports the end by a signal, but with all files closed


def state_of(fit: Fit) -> tuple[dict[str, Tensor], dict[str, int]]:
    """All that the remaining steps of a fit depend on, as tensors and numbers."""
    rngs = {"order_rng": fit.order.rng.get_state(), "noise_rng": fit.noise_rng.get_state()}
    return {**_live_tensors(fit), "order": fit.order.left, **rngs}, _numbers(fit)


@torch.no_grad()
def restore(fit: Fit, tensors: dict[str, Tensor], numbers: dict[str, int]) -> None:
    """Continue from the :func:`state_of` a fit of the same images, config and seed, else KeyError or ValueError."""
    limits = {"steps_done": fit.total_steps, "restarts": MAX_RESTARTS, "is_stopped": 1}
    steps_done, fit.restarts, is_stopped = (
        checks.integer(0, high=limit)(name, numbers[name]) for name, limit in limits.items()
    )
    fit.start()
    fit.steps_done, fit.is_stopped = steps_done, bool(is_stopped)
    fit.order.left = fit.order.left.new_empty(tensors["order"].shape[:1])  # as long as it is
    expected, _ = state_of(fit)
    check_tensors(tensors, expected)
    if not bool(((tensors["order"] >= 0) & (tensors["order"] < fit.n_images)).all()):
        raise ValueError("its order names images that are not there")
    for name, value in _live_tensors(fit).items():
        value.copy_(tensors[name])
    fit.order.left = tensors["order"]
    fit.order.rng.set_state(tensors["order_rng"])
    fit.noise_rng.set_state(tensors["noise_rng"])


def _live_tensors(fit: Fit) -> dict[str, Tensor]:
    """The tensors that a step changes in place, by their names in the file."""
    tensors = with_prefix("model.", dict(fit.model.named_parameters()))
    tensors |= with_prefix("adam.codes.", fit.code_adam.state())
    for index, parameter in enumerate(fit.networks.parameters()):
        tensors |= with_prefix(f"adam.networks.{index}.", fit.network_adam.state[parameter])
    tensors["history"] = fit.history[: fit.steps_done]
    return tensors


def _numbers(fit: Fit) -> dict[str, int]:
    return {"steps_done": fit.steps_done, "restarts": fit.restarts, "is_stopped": int(fit.is_stopped)}


def _differences(found: Any, expected: dict[str, Any]) -> list[str]:
    """What of a fit's identity is not as expected, in words."""
    if not isinstance(found, dict):
        return ["its header does not say which"]
    lines = []
    for name, value in expected.items():
        if isinstance(value, dict) and isinstance(found.get(name), dict):
            lines += _differences(found[name], value)
        elif name == "fingerprint" and found.get(name) != value:
            lines.append("the images, the labels or their order differ")
        elif found.get(name) != value:
            lines.append(f"{name} was {quoted(found.get(name))}, is {quoted(value)}")
    return lines
