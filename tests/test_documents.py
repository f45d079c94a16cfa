"""Every Python block of the README and of the documentation runs, one after the other as a reader would run them.

By sybil: it keeps one namespace a document, and an error names the line of the document it is in. mktestdocs names no
lines, and pytest-examples runs each block on its own.
"""

import dataclasses
import importlib.util
import re
import shlex
import warnings
from importlib.util import find_spec
from pathlib import Path

import PIL.Image
import pytest
import torch
from conftest import smooth_images
from torch.utils.data import DataLoader

from glico_augment import FitConfig, FitQuality, GLICOAugment, GLICODataset
from glico_augment.cli.parser import build_parser
from glico_augment.config import split_overrides

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "examples" / "gallery" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PYTHON = [document for document in DOCUMENTS if "```python" in document.read_text(encoding="utf-8")]
NEEDS = re.compile(r"<!-- needs: (\w+) -->\s*$")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """photos/train and photos/test of two classes, as the documents have them."""
    root = tmp_path_factory.mktemp("documents")
    for part, seed in (("train", 0), ("test", 1)):
        for index, image in enumerate(smooth_images(8, height=20, width=20, seed=seed)):
            path = root / "photos" / part / ("cat", "dog")[index % 2] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return root


@pytest.fixture
def quick_fits(monkeypatch):
    """Two steps a fit, which says that it is good, whatever a document asks for, once its settings are checked."""
    fit = GLICOAugment.fit

    def quick(dataset, labels=None, *, config=None, device=None, progress=True, **settings):
        config = (config or FitConfig()).replace(**split_overrides(_settings_of(settings))[0])
        config = config.replace(steps=2, epochs=None, generator_width=4, classifier_width=4, batch_size=4)
        others = {name: value for name, value in settings.items() if name in _ARGUMENTS}
        swap = {name: value for name, value in settings.items() if name in ("p", "max_ratio")}
        augment = fit(dataset, labels, config=config, **{**others, **swap, "progress": False, "device": "cpu"})
        per_class = (0.9,) * len(augment.classes)
        augment.record = dataclasses.replace(augment.record, quality=FitQuality(0.9, per_class, (0,)))
        return augment

    monkeypatch.setattr(GLICOAugment, "fit", quick)


_ARGUMENTS = ("swap", "unlabeled", "seed", "callback", "checkpoint", "labels_getter")


def _settings_of(settings):
    return {name: value for name, value in settings.items() if name not in _ARGUMENTS}


@pytest.mark.filterwarnings("ignore:the generator does not draw the new images")
@pytest.mark.parametrize("document", PYTHON, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_python_of_a_document_runs(document, photos, quick_fits, monkeypatch, tmp_path):
    sybil = pytest.importorskip("sybil")
    from sybil.parsers.markdown import PythonCodeBlockParser

    monkeypatch.chdir(photos)
    copy = tmp_path / document.name  # with one epoch, as a fit has two steps
    copy.write_text(document.read_text(encoding="utf-8").replace("epochs=100", "epochs=1"), encoding="utf-8")
    parsed = sybil.document.Document.parse(str(copy), PythonCodeBlockParser())
    examples = list(parsed.examples())
    # What a reader has at hand where a block says "augment(image, label)".
    images, labels = smooth_images(4, height=20, width=20) / 255, torch.tensor([0, 1, 0, 1])
    parsed.namespace |= {"image": images[0], "label": 0, "images": images, "labels": labels}
    assert len(examples) == document.read_text(encoding="utf-8").count("```python")
    for example in examples:
        needed = NEEDS.search(parsed.text[: example.region.start])
        if needed is None:
            example.evaluate()
        elif find_spec(needed[1]) is not None:
            with warnings.catch_warnings():  # what other libraries warn of is theirs
                warnings.simplefilter("ignore")
                example.evaluate()
    for dataset in {id(dataset): dataset for dataset in _datasets(parsed.namespace)}.values():
        for index in range(len(dataset)):
            dataset[index]


def _datasets(names):
    """What a document made and did not read."""
    for value in names.values():
        dataset = value.dataset if isinstance(value, DataLoader) else value
        if isinstance(dataset, GLICODataset):
            yield dataset


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_commands_of_a_document_parse(document):
    text = document.read_text(encoding="utf-8").replace("\\\n", " ")
    for command in re.findall(r"\bglico [^`|\n]+", text):
        if " -o " in command:
            build_parser().parse_args(shlex.split(command, comments=True)[1:])


def test_the_documents_have_commands_and_python():
    texts = [document.read_text(encoding="utf-8") for document in DOCUMENTS]
    assert sum(text.count("```python") for text in texts) > 25
    assert sum(len(re.findall(r"\bglico [^`|\n]+ -o ", text)) for text in texts) >= 10


def test_the_table_of_libraries_is_that_of_the_tests():
    spec = importlib.util.spec_from_file_location("libraries", ROOT / "docs" / "libraries.py")
    libraries = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(libraries)
    page = libraries.PAGE.read_text(encoding="utf-8")
    assert page == libraries.updated(page), "run python docs/libraries.py"
    rows = libraries.rows()
    assert {row.library: row.lines for row in rows if row.lines} == {"Lightning": 2, "webdataset": 1}
    assert len({row.library for row in rows}) == len(rows) >= 14


def test_the_links_of_the_readme_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert (ROOT / target).exists(), target
