"""Pages that live elsewhere in the repository are part of the site from there, so that each is written once."""

from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
ELSEWHERE = {
    "CHANGELOG.md": "changelog.md",
    "benchmarks/*.md": "benchmarks/",
    "benchmarks/plots/*.png": "benchmarks/plots/",
    "examples/gallery/*": "gallery/",
}


def on_files(files, config):
    for pattern, target in ELSEWHERE.items():
        for path in sorted(ROOT.glob(pattern)):
            address = f"{target}{path.name}" if target.endswith("/") else target
            files.append(File.generated(config, address, abs_src_path=str(path)))
    return files
