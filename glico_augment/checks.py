"""Checks of single settings. Imports no torch.

A check takes the name of a setting and its value, and returns the value as a plain Python one. It raises TypeError for
a value of the wrong type and ValueError for one out of range, with one form of message: what the setting must be, and
what came.
"""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Callable
from typing import Any

Check = Callable[[str, Any], Any]


def integer(low: int, why: str = "", *, high: int | None = None) -> Check:
    """An integer of at least ``low``, and at most ``high`` if one is given."""
    expected = f"an integer of at least {low}{'' if high is None else f' and at most {high}'}{why}"

    def check(name: str, value: Any) -> int:
        if not isinstance(value, numbers.Integral) or isinstance(value, bool):
            raise _wrong(TypeError, name, expected, value)
        if int(value) < low or (high is not None and int(value) > high):
            raise _wrong(ValueError, name, expected, value)
        return int(value)

    return check


def real(expected: str, is_in_range: Callable[[float], bool]) -> Check:
    """A finite number in a range that ``expected`` describes."""

    def check(name: str, value: Any) -> float:
        if not isinstance(value, numbers.Real) or isinstance(value, bool):
            raise _wrong(TypeError, name, expected, value)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not (math.isfinite(number) and is_in_range(number)):
            raise _wrong(ValueError, name, expected, value)
        return number

    return check


non_negative = real("a finite number of at least 0", lambda value: value >= 0)
positive = real("a finite number above 0", lambda value: value > 0)
proportion = real("a number in [0, 1]", lambda value: 0 <= value <= 1)


def boolean(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise _wrong(TypeError, name, "True or False", value)
    return value


def choice(names: tuple[str, ...]) -> Check:
    """One of some strings."""
    expected = f"one of {', '.join(map(repr, names))}"

    def check(name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise _wrong(TypeError, name, expected, value)
        if value not in names:
            raise _wrong(ValueError, name, expected, value)
        return value

    return check


def path(name: str, value: Any) -> str:
    """A path, as a string."""
    if not isinstance(value, (str, os.PathLike)):
        raise _wrong(TypeError, name, "a path", value)
    return os.fspath(value)


def sequence_of(item: Check, expected: str, length: int | None = None) -> Check:
    """A tuple or list of what ``item`` checks, not empty, or of ``length`` items."""

    def check(name: str, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, (tuple, list)):
            raise _wrong(TypeError, name, expected, value)
        if not value or (length is not None and len(value) != length):
            raise _wrong(ValueError, name, expected, value)
        try:
            return tuple(item(name, entry) for entry in value)
        except (TypeError, ValueError) as error:
            raise _wrong(type(error), name, expected, value) from error

    return check


def optional(check: Check) -> Check:
    """What ``check`` takes, or None."""
    return lambda name, value: None if value is None else check(name, value)


def shown(text: str) -> str:
    """Text that came from a file, as it may be printed: what is not printable is escaped as in Python.

    So a class name can neither steer a terminal nor forge a line of its own.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


def quoted(value: Any, limit: int = 500) -> str:
    """How a value that may come from a file is shown in a message: its ``repr``, which has no control characters, cut
    to ``limit`` characters.
    """
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _wrong(kind: type[Exception], name: str, expected: str, value: Any) -> Exception:
    return kind(f"{name} must be {expected}; got {quoted(value)}")
