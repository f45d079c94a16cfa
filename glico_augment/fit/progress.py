"""A progress bar for a fit."""

from __future__ import annotations

import warnings
from types import TracebackType
from typing import Any

from glico_augment.fit.loop import FitProgress

_LOSSES_EVERY = 10  # steps; showing a loss waits for the device


class ProgressBar:
    """A callback that shows steps and loss parts with tqdm.

    Args:
        steps_done: steps made before.
        total_steps: steps of the whole fit.
        enabled: False shows nothing.
    """

    def __init__(self, steps_done: int, total_steps: int, *, enabled: bool) -> None:
        self._bar: Any = None
        if not enabled:
            return
        try:
            from tqdm.auto import tqdm
        except ImportError:
            warnings.warn(
                "no progress bar: tqdm is not installed (pip install 'glico-augment[progress]', or progress=False)",
                UserWarning,
                stacklevel=4,
            )
            return
        self._bar = tqdm(initial=steps_done, total=total_steps, desc="GLICO fit", unit="step", dynamic_ncols=True)

    def __call__(self, progress: FitProgress) -> None:
        """Show a step."""
        if self._bar is None:
            return
        if progress.step % _LOSSES_EVERY == 0 or progress.step == progress.total_steps:
            losses = {name: f"{value:.3f}" for name, value in progress.losses.items()}
            self._bar.set_postfix(losses, refresh=False)
        self._bar.update()

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
