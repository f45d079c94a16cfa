"""Generative augmentation for small labelled image sets, by the GLICO method (Azuri & Weinshall, ICPR 2020).

augment = GLICOAugment.fit(dataset)
dataset = augment.wrap(dataset, transform=...)
"""

import ast
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.2.0"


@cache
def _modules() -> dict[str, str]:
    """The module of each public name, as ``__init__.pyi`` has them.

    They are imported when first asked for, so that ``glico --help`` need not wait for torch.
    """
    tree = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return sorted(_modules())
    if name not in _modules():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_modules()[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_modules()])
