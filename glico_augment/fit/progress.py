"""What can be seen of a running fit: the argument of a callback, a progress bar, and a log."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from glico_augment.fit.quality import FitQuality
from glico_augment.model.model import GLICOModel

LOSS_PARTS = ("loss", "reconstruction", "classification")

logger = logging.getLogger("glico_augment")

_STEPS_TO_ESTIMATE = 20
_LOSSES_EVERY = 10  # steps; showing a loss waits for the device


@dataclass(frozen=True)
class FitProgress:
    """What a callback sees after an optimiser step.

    Attributes:
        step: steps made.
        total_steps: steps of the whole fit.
        restarts: how often the fit started again at a lower rate.
        model: the model as it is; do not change it.
    """

    step: int
    total_steps: int
    restarts: int
    model: GLICOModel
    _row: Tensor
    _finish: Callable[[GLICOModel], Any]

    @property
    def losses(self) -> dict[str, float]:
        """The step's ``loss`` and its parts before weighting. Reading them waits for the device."""
        return dict(zip(LOSS_PARTS, self._row.tolist(), strict=True))

    @property
    def augment(self) -> Any:
        """A :class:`GLICOAugment` of the model as it is, to look at its images; a copy, made when asked for."""
        return self._finish(self.model)


Callback = Callable[[FitProgress], Any]
"""Called after every step; the return value ``True``, and no other, ends the fit there."""


class ProgressReport:
    """A callback that shows a running fit: a bar of tqdm, which it closes as a context, and a log of the time to go.

    The log has level INFO. It says after 20 steps how long the fit still takes, and without a bar at each tenth again.

    Args:
        steps_done: steps made before.
        total_steps: steps of the whole fit.
        is_labeled: whether the images have labels; the bar says where they have none, which may be a mistake.
        has_bar: whether to show a bar.
    """

    def __init__(self, steps_done: int, total_steps: int, *, is_labeled: bool, has_bar: bool) -> None:
        self._bar: Any = None
        self._steps_made = 0
        self._start = 0.0
        if not has_bar:
            return
        try:
            from tqdm.auto import tqdm
        except ImportError:
            warnings.warn(
                "no progress bar: tqdm is not installed (pip install 'glico-augment[progress]', or progress=False); "
                "logging.basicConfig(level=logging.INFO) shows how far a fit is",
                UserWarning,
                stacklevel=5,
            )
            return
        title = "GLICO fit" if is_labeled else "GLICO fit without labels"
        self._bar = tqdm(initial=steps_done, total=total_steps, desc=title, unit="step", dynamic_ncols=True)

    def __call__(self, progress: FitProgress) -> None:
        """Show a step."""
        if self._bar is not None:
            self._move_bar(progress)
        now = time.monotonic()
        self._steps_made += 1
        if self._steps_made == 1:
            self._start = now  # the first step is slower than the others
        is_first = self._steps_made == _STEPS_TO_ESTIMATE
        is_tenth = self._steps_made > _STEPS_TO_ESTIMATE and progress.step % max(1, progress.total_steps // 10) == 0
        steps_left = progress.total_steps - progress.step
        if steps_left and (is_first or (is_tenth and self._bar is None)):
            seconds = (now - self._start) / (self._steps_made - 1) * steps_left
            place, loss = (progress.step, progress.total_steps), progress.losses["loss"]
            logger.info("step %d of %d, loss %.3f: about %s to go", *place, loss, duration(seconds))

    def _move_bar(self, progress: FitProgress) -> None:
        if progress.step % _LOSSES_EVERY == 0 or progress.step == progress.total_steps:
            restarts = {"restarts": progress.restarts} if progress.restarts else {}
            losses = {name: f"{value:.3f}" for name, value in progress.losses.items()}
            self._bar.set_postfix({**losses, **restarts}, refresh=False)
        if progress.step > self._bar.n:
            self._bar.update(progress.step - self._bar.n)
        else:  # the fit started again
            self._bar.n = progress.step
            self._bar.refresh()

    def finish(self, quality: FitQuality) -> None:
        """Show how good the fit is."""
        if self._bar is not None:
            self._bar.set_postfix({"R²": f"{quality.r2:.3f}"})

    def __enter__(self) -> ProgressReport:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()


@contextmanager
def progress_bar(title: str, total: int, unit: str, *, enabled: bool) -> Iterator[Callable[[], Any]]:
    """What is to be called after each of so many units; it moves a bar of tqdm, where that is installed."""
    bar: Any = nullcontext()
    if enabled:
        with suppress(ImportError):
            from tqdm.auto import tqdm

            bar = tqdm(total=total, desc=title, unit=unit, dynamic_ncols=True)
    with bar as shown:
        yield (lambda: None) if shown is None else shown.update


def duration(seconds: float) -> str:
    """A time in words, in the largest unit of which there are two: ``"4 minutes"``."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}s"
    whole = max(1, round(seconds))
    return f"{whole} second{'s' * (whole > 1)}"
