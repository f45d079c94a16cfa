"""A training that stops at a deadline, or is killed, and goes on where its file stands."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

EVERY = 60.0  # seconds between two writes


class Pause:
    """The state of one training in a file.

    Args:
        path: the file.
        deadline: of ``time.monotonic()``, after which the training stops before its next step.
    """

    def __init__(self, path: Path, deadline: float) -> None:
        self.path, self.deadline = path, deadline
        self.seconds = 0.0  # of the training, earlier parts included
        self._written = self._looked = time.monotonic()

    def restore(self, parts: dict[str, Any], device: torch.device) -> tuple[int, Tensor] | None:
        """Bring ``parts`` and the random numbers to where the file has them: steps done and order; None if none."""
        if not self.path.exists():
            return None
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        torch.set_rng_state(state["random"])
        if device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"], device)
        self.seconds = state["seconds"]
        self._looked = time.monotonic()
        return state["step"], state["order"]

    def stops(self, step: int, order: Tensor, parts: dict[str, Any], device: torch.device) -> bool:
        """Whether the deadline has passed. The state is written then, and every minute."""
        now = time.monotonic()
        self.seconds += now - self._looked
        self._looked = now
        is_over = now > self.deadline
        if is_over or now > self._written + EVERY:
            state = {name: part.state_dict() for name, part in parts.items()}
            state |= {"step": step, "order": order, "seconds": self.seconds, "random": torch.get_rng_state()}
            if device.type == "cuda":
                state["random_cuda"] = torch.cuda.get_rng_state(device)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = self.path.with_suffix(".unfinished")
            torch.save(state, unfinished)
            unfinished.replace(self.path)
            self._written = time.monotonic()
        return is_over

    def forget(self) -> None:
        """Delete the file of a training that has ended."""
        self.path.unlink(missing_ok=True)
