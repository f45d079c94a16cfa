"""What is written about a release agrees with the code."""

import importlib.util
import re
from pathlib import Path

import pytest

import glico_augment

ROOT = Path(__file__).parents[1]
ADDRESS = "https://repository.invalid/glico-augment"


def _text(file):
    return (ROOT / file).read_text(encoding="utf-8")


def _pythons(text):
    return re.findall(r"3\.1\d", text)


def test_the_citation_is_of_this_version():
    assert re.findall(r"^version: (.*)$", _text("CITATION.cff"), re.MULTILINE) == [glico_augment.__version__]


def test_the_changelog_begins_with_this_version():
    assert re.findall(r"^## \[(.*?)\]", _text("CHANGELOG.md"), re.MULTILINE)[0] == glico_augment.__version__


def test_the_authors_are_those_of_the_citation():
    cited = _text("CITATION.cff").partition("references:")[0]
    authors = re.search(r"^authors = \[(.*)\]$", _text("pyproject.toml"), re.MULTILINE)[1]
    assert re.findall(r'name = "(.*?)"', authors) == re.findall(r'- name: "(.*)"', cited) != []


def test_the_versions_of_python_that_are_named_are_those_that_are_tested():
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', _text("pyproject.toml"))
    least = re.search(r'requires-python = ">=(.*)"', _text("pyproject.toml"))[1]
    tested = re.search(r"python: \[(.*)\]", _text(".github/workflows/ci.yml"))[1]
    newest = re.search(r"python=\[(.*)\], default=False\)\ndef newest", _text("noxfile.py"))[1]
    page = re.search(r"Python (3\.\d+) to (3\.\d+)", _text("docs/install.md"))
    assert named == _pythons(tested) == _pythons(newest)
    assert [named[0], named[-1]] == [least, page[2]] == [page[1], page[2]]


def test_the_oldest_torch_that_is_named_is_the_one_that_is_tested():
    assert f'"torch>={re.search(r"torch ([0-9.]+[0-9])", _text("docs/install.md"))[1]}"' in _text("pyproject.toml")


@pytest.fixture
def release(tmp_path):
    """What stands in the way of a release of a tree whose files are replaced as given."""
    spec = importlib.util.spec_from_file_location("release", ROOT / ".ci" / "release.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    version = re.escape(glico_augment.__version__)
    replaced = {
        "glico_augment/__init__.py": ("", ""),
        "CHANGELOG.md": (rf"^(## \[{version}\]).*$", r"\1 – 2030-01-31"),
        "pyproject.toml": (r'^Repository = ".*"', 'Repository = "https://a.example/glico-augment"'),
    }

    def obstacles(tag=f"v{glico_augment.__version__}", **changes):
        for file, (pattern, text) in {**replaced, **changes}.items():
            (tmp_path / file).parent.mkdir(exist_ok=True)
            (tmp_path / file).write_text(re.sub(pattern, text, _text(file), flags=re.MULTILINE), encoding="utf-8")
        return module.obstacles(tmp_path, tag)

    return obstacles


def test_a_finished_tree_is_released_under_the_tag_of_its_version(release):
    assert release() == []
    assert release("v9.9.9") == [
        f"the tag must be v{glico_augment.__version__}, the version of glico_augment/__init__.py; got v9.9.9"
    ]


def test_no_release_goes_out_with_an_address_that_is_not_decided(release):
    address = {"pyproject.toml": (r'^Repository = ".*"', f'Repository = "{ADDRESS}"')}
    assert release(**address) == [f"pyproject.toml must have the address of the repository in place of {ADDRESS}"]


def test_no_release_goes_out_without_its_day(release):
    version = re.escape(glico_augment.__version__)
    (obstacle,) = release(**{"CHANGELOG.md": (rf"^(## \[{version}\]).*$", r"\1 – unreleased")})
    assert obstacle.startswith("CHANGELOG.md must have the day of the release")


def test_what_is_not_decided_stands_in_one_line():
    patterns = ("*.toml", "*.cfg", "*.cff", "*.yml", "*.md", "docs/*.md", ".github/**/*.md", ".github/**/*.yml")
    texts = [file.read_text(encoding="utf-8") for pattern in patterns for file in ROOT.glob(pattern)]
    assert sum(text.count(".invalid/") for text in texts) <= 1
