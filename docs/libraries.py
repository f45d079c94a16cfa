"""Write the table of libraries in docs/ecosystem.md: a row for each of the tests that are marked ``ecosystem``.

Lines that end in ``# glue`` are those that only bring the library and this one together.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "ecosystem.md"
START, END = "<!-- libraries -->\n", "<!-- end libraries -->"


class Row(NamedTuple):
    library: str
    lines: int
    shows: str
    test: str


def rows() -> list[Row]:
    """What the tests say, in alphabetical order."""
    found = [row for path in sorted(ROOT.glob("tests/**/test_*.py")) for row in _rows_of(path)]
    return sorted(found, key=lambda row: row.library.lower())


def table() -> str:
    """The table in Markdown; a library that has a section on the page is a link to it."""
    page = PAGE.read_text(encoding="utf-8")
    lines = ["| library | lines needed | its test does | test |", "|---|---|---|---|"]
    for row in rows():
        anchor = row.library.lower().replace(" ", "-")
        name = f"[{row.library}](#{anchor})" if f"\n## {row.library}\n" in page else row.library
        lines.append(f"| {name} | {row.lines or 'none, works as is'} | {row.shows} | `{row.test}` |")
    return "\n".join(lines) + "\n"


def updated(page: str) -> str:
    """The page with the table as it should be."""
    before, _, rest = page.partition(START)
    return before + START + table() + END + rest.partition(END)[2]


def _rows_of(path: Path) -> Iterator[Row]:
    """The rows of the functions of a file, and that of the file if all of it is marked."""
    source = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT).as_posix()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            lines = source.splitlines()[node.lineno - 1 : node.end_lineno]
            yield from _rows_in(node.decorator_list, lines, f"{name}::{node.name}")
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            yield from _rows_in([node.value], source.splitlines(), name)


def _rows_in(nodes: list[ast.expr], lines: list[str], test: str) -> Iterator[Row]:
    glue = sum(line.endswith("# glue") for line in lines)
    for call in (each for node in nodes for each in ast.walk(node) if isinstance(each, ast.Call)):
        if ast.unparse(call.func) == "pytest.mark.ecosystem":
            options = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
            yield Row(ast.literal_eval(call.args[0]), glue, options["shows"], test)


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
