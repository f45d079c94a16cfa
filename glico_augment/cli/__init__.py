"""The command line ``glico``. Importing it imports no torch."""

from glico_augment.cli.parser import main

__all__ = ["main"]
