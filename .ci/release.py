"""Whether this tree may be released under a tag: ``python .ci/release.py v0.2.0`` names all that stands in the way."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def obstacles(root: Path, tag: str) -> list[str]:
    """What must be done before the tree under ``root`` is released as ``tag``; nothing if it may be."""

    def first(pattern: str, file: str) -> str:
        return re.search(pattern, (root / file).read_text(encoding="utf-8"), re.MULTILINE)[1]

    found = []
    version = first(r'^__version__ = "(.*)"', "glico_augment/__init__.py")
    if tag != f"v{version}":
        found.append(f"the tag must be v{version}, the version of glico_augment/__init__.py; got {tag}")
    if not re.search(r" \d{4}-\d\d-\d\d$", heading := first(r"^(## \[.*)", "CHANGELOG.md")):
        found.append(f"CHANGELOG.md must have the day of the release in {heading!r}")
    if ".invalid" in (address := first(r'^Repository = "(.*)"', "pyproject.toml")):
        found.append(f"pyproject.toml must have the address of the repository in place of {address}")
    return found


if __name__ == "__main__":
    sys.exit("\n".join(obstacles(ROOT, sys.argv[1])))
