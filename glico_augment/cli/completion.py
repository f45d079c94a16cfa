"""The script by which a shell completes ``glico``, made by shtab (the extra ``cli``). Importing it imports no torch."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

SHELLS = ("bash", "zsh", "tcsh")


class PrintCompletion(argparse.Action):
    """An option that prints the script for a shell and ends, as ``--version`` does."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        """Print it; without shtab, say how to get it."""
        try:
            shtab = import_module("shtab")
        except ModuleNotFoundError:
            parser.exit(1, "glico: error: completion needs shtab: pip install 'glico-augment[cli]'\n")
        _complete_paths(parser, {"FOLDER": shtab.DIRECTORY}, shtab.FILE)
        print(shtab.complete(parser, values))
        parser.exit()


def _complete_paths(parser: argparse.ArgumentParser, by_name: dict[str, Any], otherwise: Any) -> None:
    """Say of each argument that is a path, in all commands, what it is completed by."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_paths(command, by_name, otherwise)
        elif action.type is Path:
            action.complete = by_name.get(str(action.metavar), otherwise)  # type: ignore[attr-defined]
