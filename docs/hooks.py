"""Pages that live elsewhere in the repository are part of the site from there, so that each is written once.

The home page is the README: its links to pages of the site lead there, and of those to other files the text stays.
"""

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
ELSEWHERE = {
    "CHANGELOG.md": "changelog.md",
    "benchmarks/*.md": "benchmarks/",
    "benchmarks/plots/*.png": "benchmarks/plots/",
    "examples/gallery/*.md": "gallery/",
    "examples/gallery/*.png": "gallery/",
}
ADDRESSES = {
    "https:": "https:",
    "docs/": "",
    "benchmarks/": "benchmarks/",
    "examples/gallery/": "gallery/",
    "CHANGELOG.md": "changelog.md",
}


def home(readme):
    """The README as a page of the site."""

    def relinked(match):
        text, target = match.groups()
        for prefix, address in ADDRESSES.items():
            if target.startswith(prefix):
                return f"[{text}]({address}{target.removeprefix(prefix)})"
        return text

    return re.sub(r"\[([^]]*)\]\(([^)]+)\)", relinked, readme)


def on_files(files, config):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "index.md", content=home(readme)))
    for pattern, target in ELSEWHERE.items():
        for path in sorted(ROOT.glob(pattern)):
            address = f"{target}{path.name}" if target.endswith("/") else target
            files.append(File.generated(config, address, abs_src_path=str(path)))
    return files
