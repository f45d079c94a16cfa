"""What can be seen of a running fit: the argument of a callback, and a progress bar."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from torch import Tensor

from glico_augment.fit.quality import FitQuality
from glico_augment.model.model import GLICOModel

LOSS_PARTS = ("loss", "reconstruction", "classification")

_LOSSES_EVERY = 10  # steps; showing a loss waits for the device


@dataclass(frozen=True)
class FitProgress:
    """What a callback sees after an optimiser step.

    Attributes:
        step: steps made.
        total_steps: steps of the whole fit.
        restarts: how often the fit started again at a lower rate.
        model: the model as it is; do not change it. In a distributed fit only the codes of this process's images are
            up to date.
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
            shown = {name: f"{value:.3f}" for name, value in progress.losses.items()}
            self._bar.set_postfix(
                {**shown, "restarts": progress.restarts} if progress.restarts else shown, refresh=False
            )
        if progress.step > self._bar.n:
            self._bar.update(progress.step - self._bar.n)
        else:  # the fit started again
            self._bar.n = progress.step
            self._bar.refresh()

    def finish(self, quality: FitQuality) -> None:
        """Show how good the fit is."""
        if self._bar is not None:
            self._bar.set_postfix({"R²": f"{quality.r2:.3f}"})

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
