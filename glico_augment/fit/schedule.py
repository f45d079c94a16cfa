"""How the learning rates fall over a fit."""

from __future__ import annotations

import math

_STEP_EPOCHS = 70  # of the "step" schedule


def learning_rate_factor(schedule: str, share_done: float, epochs_done: float) -> float:
    """The factor on the learning rates: ``"cosine"`` to 0, ``"step"`` (halved every 70 epochs) or ``"constant"``.

    Args:
        schedule: the name.
        share_done: steps made over all steps, in ``[0, 1]``.
        epochs_done: passes made over the set.
    """
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * share_done))
    if schedule == "step":
        return 0.5 ** (epochs_done // _STEP_EPOCHS)
    return 1.0
