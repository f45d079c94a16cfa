"""The docstrings of the library as Markdown: their roles, notes, examples and links are those of reStructuredText."""

import re
import textwrap

import griffe

_ROLE = re.compile(r":(?:class|meth|func|attr|mod):`~?([^`]+)`")
_LINK = re.compile(r"`([^`<]+?)\s*<(https?://[^>]+)>`_", re.DOTALL)
_NOTE = re.compile(r"^\.\. note::\n((?:[ ]+.*\n?|\n)+)", re.MULTILINE)
_EXAMPLE = re.compile(r"^Example::\n\n((?:[ ]{4}.*\n?|\n)+)", re.MULTILINE)


def to_markdown(text: str) -> str:
    text = _LINK.sub(lambda found: f"[{' '.join(found[1].split())}]({found[2]})", text)
    text = _ROLE.sub(r"`\1`", text)
    text = _NOTE.sub(lambda found: f"!!! note\n\n{textwrap.indent(textwrap.dedent(found[1]), '    ')}", text)
    return _EXAMPLE.sub(
        lambda found: (
            f"Examples:\n    ```python\n{textwrap.indent(textwrap.dedent(found[1]).rstrip(), '    ')}\n    ```\n"
        ),
        text,
    )


class Markdown(griffe.Extension):
    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)
