"""The command line ``glico``. Importing it imports no torch."""

from glico_augment.cli.main import main

__all__ = ["main"]
