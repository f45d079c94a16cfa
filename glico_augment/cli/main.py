"""The entry point of ``glico`` and its exit codes: 0 done, 1 wrong input, 2 wrong usage, 130 interrupted."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress

from glico_augment.checks import shown
from glico_augment.cli.parser import build_parser

EXIT_INPUT, EXIT_STOPPED, EXIT_PIPE = 1, 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``glico``; returns the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a redirected log may have an encoding that lacks "²"
    try:
        try:
            args = build_parser().parse_args(arguments)
        except SystemExit:  # after a help text
            sys.stdout.flush()
            raise

        from glico_augment.cli import commands  # imports torch: only once a command is to run

        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: _say("warning", str(message))
            try:
                commands.COMMANDS[args.command](args)
                sys.stdout.flush()
            except BrokenPipeError:
                raise
            except commands.USER_ERRORS as error:
                _say("error", f"{error}".replace("\n", "\\n") or type(error).__name__)
                return EXIT_INPUT
    except BrokenPipeError:  # as of `glico inspect FILE | head -1`
        _discard_output()
        return EXIT_PIPE
    except KeyboardInterrupt:
        print("glico: stopped", file=sys.stderr)
        return EXIT_STOPPED
    return 0


def _say(kind: str, message: str) -> None:
    """Print a message, line by line, with control characters escaped: they may come from a file."""
    print(f"glico: {kind}: " + "\n".join(map(shown, message.split("\n"))), file=sys.stderr)


def _discard_output() -> None:
    """Keep Python from flushing, at exit, to a pipe that is closed."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
