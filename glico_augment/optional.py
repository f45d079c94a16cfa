"""Libraries that an extra of this package installs."""

from __future__ import annotations

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


def progress_bar(title: str, total: int, **options: Any) -> Any:
    """A bar of tqdm over steps; None where that is not installed."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm(desc=title, total=total, unit="step", dynamic_ncols=True, **options)
