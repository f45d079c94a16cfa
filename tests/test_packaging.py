"""What is written about a release agrees with the code."""

import re
from pathlib import Path

import glico_augment

ROOT = Path(__file__).parents[1]


def test_the_citation_is_of_this_version():
    stated = re.findall(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert stated == [glico_augment.__version__]


def test_the_changelog_begins_with_this_version():
    versions = re.findall(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == glico_augment.__version__
