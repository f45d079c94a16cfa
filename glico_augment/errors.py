"""The errors of this library that are not plain ValueError, TypeError or OSError, and how it warns."""

import os
import sys
import sysconfig
import warnings
from traceback import walk_stack
from types import FrameType


class DivergenceError(RuntimeError):
    """A fit's loss became NaN or infinite."""


class FileFormatError(ValueError):
    """A file is not a whole glico-augment file of the format version and kind expected."""


def warn(message: str) -> None:
    """Warn with a UserWarning at the line of the user that led here.

    That is the innermost line of no installed library: torch, a loader or a bar may stand between it and this one.
    Where all lines are of libraries, it is the innermost one of another than this.
    """
    frames = [frame for frame, _ in walk_stack(sys._getframe(1))]
    foreign = [frame for frame in frames if not _is_ours(frame)]
    frame = next(iter([each for each in foreign if not _is_of_a_library(each)] or foreign or frames))
    registry = frame.f_globals.setdefault("__warningregistry__", {})
    name = frame.f_globals.get("__name__", "<string>")
    warnings.warn_explicit(message, UserWarning, frame.f_code.co_filename, frame.f_lineno, name, registry)


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] == __name__.partition(".")[0]


def _is_of_a_library(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return file.startswith((*_STANDARD, "<frozen")) or any(f"{os.sep}{part}{os.sep}" in file for part in _INSTALLED)


_INSTALLED = ("site-packages", "dist-packages")
_STANDARD = tuple(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib"))
