"""What can be seen of a running fit: the argument of a callback, a progress bar, and a log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from glico_augment.errors import warn
from glico_augment.fit.quality import FitQuality
from glico_augment.model.model import GLICOModel
from glico_augment.optional import progress_bar

LOSS_PARTS = ("loss", "reconstruction", "classification")

logger = logging.getLogger("glico_augment")

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
    """A callback that shows a running fit: a bar of tqdm, which it closes as a context, or a log line at each tenth.

    The bar says where the images have no labels, which may be a mistake.
    """

    def __init__(self, steps_done: int, total_steps: int, *, is_labeled: bool, has_bar: bool) -> None:
        title = "GLICO fit" if is_labeled else "GLICO fit without labels"
        self._bar = progress_bar(title, total_steps, initial=steps_done) if has_bar else None
        if has_bar and self._bar is None:
            warn(
                "no progress bar: tqdm is not installed (pip install 'glico-augment[progress]', or progress=False); "
                "logging.basicConfig(level=logging.INFO) shows how far a fit is",
            )

    def __call__(self, progress: FitProgress) -> None:
        """Show a step."""
        if self._bar is None:
            if progress.step % max(1, progress.total_steps // 10) == 0:
                place = (progress.step, progress.total_steps)
                logger.info("step %d of %d, loss %.3f", *place, progress.losses["loss"])
            return
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
