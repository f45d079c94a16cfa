import pytest

from glico_augment.checks import shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat", "cat"),
        ("日本 café × R²", "日本 café × R²"),
        (r"C:\\new", r"C:\\new"),
        ("a\nclass b", r"a\nclass b"),
        ("\x1b[2J", r"\x1b[2J"),
        ("tab\tand\r", r"tab\tand\r"),
        ("\u202etac", r"\u202etac"),
        ("\x9b31m", r"\x9b31m"),
        ("\udcff", r"\udcff"),
        ("\u2028", r"\u2028"),
    ],
)
def test_what_is_shown_is_printable_and_the_rest_is_left(text, expected):
    assert shown(text) == expected
    assert shown(text).isprintable()
