"""Units of work, each a row or a few, in processes side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any


def run_all(function: Callable[..., None], units: Sequence[tuple[Any, ...]], jobs: int) -> None:
    """Call ``function(*unit)`` for all units, in their order; what one raises ends them all."""
    if jobs == 1:
        for unit in units:
            function(*unit)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(function, *unit) for unit in units]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
