"""The entry point of ``glico`` and its exit codes: 0 done, 1 the input was wrong, 2 usage, 130 stopped."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress

from glico_augment.checks import shown
from glico_augment.cli.parser import build_parser, options_of
from glico_augment.cli.wording import as_options

EXIT_INPUT, EXIT_STOPPED, EXIT_PIPE = 1, 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``glico``; returns the exit code."""
    try:
        try:
            args = build_parser().parse_args(arguments)
        except SystemExit:  # after a help text
            sys.stdout.flush()
            raise
        options = options_of(args.command)

        from glico_augment.cli import commands  # imports torch: only once a command is to run

        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: _say("warning", as_options(str(message), options))
            try:
                commands.COMMANDS[args.command](args)
                sys.stdout.flush()
            except BrokenPipeError:
                raise
            except commands.USER_ERRORS as error:
                _say("error", as_options(f"{error}" or type(error).__name__, options).replace("\n", "\\n"))
                return EXIT_INPUT
    except BrokenPipeError:  # as of `glico inspect FILE | head -1`
        _drop_output()
        return EXIT_PIPE
    except KeyboardInterrupt:
        print("glico: stopped", file=sys.stderr)
        return EXIT_STOPPED
    return 0


def _say(kind: str, message: str) -> None:
    """Print a message whose lines hold nothing that could steer a terminal."""
    print(f"glico: {kind}: " + "\n".join(map(shown, message.split("\n"))), file=sys.stderr)


def _drop_output() -> None:
    """Keep Python from writing, at its exit, to a pipe that nobody reads."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
