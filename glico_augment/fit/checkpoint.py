"""Checkpoints of a fit: written while it runs, continued by the same call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from glico_augment.checks import quoted
from glico_augment.errors import FileFormatError
from glico_augment.files.format import CHECKPOINT, read_file, write_file
from glico_augment.fit.loop import Fit
from glico_augment.fit.progress import FitProgress
from glico_augment.fit.record import FitRecord
from glico_augment.fit.state import restore, state_of


class Checkpoint:
    """A callback that writes the state of a fit every so many steps.

    Args:
        path: the file.
        run: the fit.
        record: what identifies the fit: images, config and seed.
        every: steps between writes.
    """

    def __init__(self, path: str | Path, run: Fit, record: FitRecord, *, every: int) -> None:
        self.path = Path(path)
        self.run = run
        self.every = every
        self._identity = {**record.identity(), "device": run.device.type}
        self._written = (-1, 0, False)  # steps, restarts, and whether the fit had been stopped there

    def restore(self) -> None:
        """Continue from the file, if there is one. Every process reads it.

        Raises:
            FileFormatError: if it is no checkpoint, or damaged.
            OSError: if it cannot be read.
            ValueError: if it is of another fit; the message names the differences.
        """
        ranks = self.run.ranks
        with ranks.together():
            state = self._read()
        ranks.check_equal("the checkpoint", None if state is None else state[1])
        if state is None:
            return
        with ranks.together():
            try:
                restore(self.run, *state)
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                raise FileFormatError(f"checkpoint {self.path} is damaged: {error}") from error
        self._written = self._place()

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

    def __call__(self, progress: FitProgress) -> None:
        """Write every so many steps."""
        if progress.step % self.every == 0:
            self.write()

    def write(self) -> None:
        """Write the state, unless it is written already; the first of several processes writes.

        Raises:
            DivergenceError: if the state holds NaN or infinite values.
            OSError: in all processes, if the file cannot be written.
        """
        state = self._place()
        if self._written == state:
            return
        self.run.check_finite()
        tensors, numbers = state_of(self.run)
        with self.run.ranks.together():
            if self.run.ranks.is_first:
                write_file(self.path, tensors, {"fit": self._identity, "state": numbers}, kind=CHECKPOINT)
        self._written = state

    def _place(self) -> tuple[int, int, bool]:
        return self.run.steps_done, self.run.restarts, self.run.is_stopped


def _differences(found: Any, expected: dict[str, Any]) -> list[str]:
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
