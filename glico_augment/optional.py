"""Libraries that an extra of this package installs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import Any


def import_optional(module: str, message: str) -> Any:
    """Import a module of a library, or raise ModuleNotFoundError with ``message``, which says how to install it."""
    library = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != library:  # the library is there, and lacks one of its own
            raise
        raise ModuleNotFoundError(message, name=library) from error


def progress_bar(title: str, total: int, *, unit: str = "step", **options: Any) -> Any:
    """A bar of tqdm; None where that is not installed."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm(desc=title, total=total, unit=unit, dynamic_ncols=True, **options)


@contextmanager
def advancing(title: str, total: int, *, unit: str = "step", enabled: bool) -> Iterator[Callable[[], Any]]:
    """What is to be called after each of ``total`` units, and moves a bar if there is one."""
    bar = progress_bar(title, total, unit=unit) if enabled else None
    with bar or nullcontext():
        yield (lambda: None) if bar is None else bar.update
