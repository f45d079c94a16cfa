"""Numbers that worker processes see change."""

from __future__ import annotations

import os
from collections.abc import Iterable
from multiprocessing.context import get_spawning_popen
from multiprocessing.sharedctypes import RawArray
from typing import Any


class SharedNumbers:
    """Numbers in memory that a process shares with those it starts, forked or spawned: they see what it writes.

    Every copy has numbers of its own, as has a process that was given them, once it writes.

    Args:
        values: finite or infinite.
    """

    def __init__(self, values: Iterable[float]) -> None:
        self._array: Any = RawArray("d", tuple(values))
        self._owner = os.getpid()

    def read(self) -> tuple[float, ...]:
        """The numbers."""
        return tuple(self._array)

    def write(self, values: Iterable[float]) -> None:
        """Replace them by as many others."""
        if os.getpid() == self._owner:
            self._array[:] = tuple(values)
        else:
            self._array, self._owner = RawArray("d", tuple(values)), os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        if get_spawning_popen() is None:
            return type(self), (self.read(),)
        return _attached, (self._array, self._owner)


def _attached(array: Any, owner: int) -> SharedNumbers:
    """What a spawned process is given."""
    numbers = SharedNumbers(())
    numbers._array, numbers._owner = array, owner
    return numbers
