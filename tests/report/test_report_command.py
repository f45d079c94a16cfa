import re

import PIL.Image
import pytest
from conftest import quick_fit, smooth_images
from torchvision.datasets import ImageFolder

from glico_augment.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for index, image in enumerate(smooth_images(6, height=12, width=12)):
        path = root / ("cat", "dog")[index % 2] / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        PIL.Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return root


@pytest.fixture(scope="module")
def fitted(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("fits") / "photos.safetensors"
    quick_fit(ImageFolder(folder), epochs=2).save(path)
    return path


def test_the_command_writes_a_page_and_says_so(capsys, fitted, tmp_path):
    assert main(["report", str(fitted), "-o", str(tmp_path / "page.html")]) == 0
    assert str(tmp_path / "page.html") in capsys.readouterr().out
    assert "photos.safetensors" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_fitted_folder_gives_the_names_of_files(folder, fitted, tmp_path):
    assert main(["report", str(fitted), "-o", str(tmp_path / "page.html"), "--data", str(folder)]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    named = set(re.findall(r"<figcaption>((?:cat|dog)/\d\.png)<br>off by", page))
    assert named == {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{fitted}", "-o", "{tmp}/page.pdf"], "ends in .html, not page.pdf"),
        (["{fitted}", "-o", "{tmp}/no/page.html"], "there is no folder"),
        (["{tmp}/first/look/at/the/output", "-o", "{tmp}/page.pdf"], "ends in .html, not page.pdf"),
        (["{tmp}/first/look/at/the/output", "-o", "{tmp}/no/page.html"], "there is no folder"),
        (["{tmp}/no.safetensors", "-o", "{tmp}/page.html"], "no such file"),
        (["{fitted}", "-o", "{tmp}/page.html", "--data", "{tmp}/no"], "no such folder"),
        (["{fitted}", "-o", "{tmp}/page.html", "--data", "{other}"], "holds none of the fitted images"),
    ],
)
def test_a_mistake_ends_with_one_line(capsys, arguments, message, fitted, tmp_path):
    (tmp_path / "other" / "cow").mkdir(parents=True)
    PIL.Image.new("RGB", (12, 12)).save(tmp_path / "other" / "cow" / "0.png")
    places = {"fitted": fitted, "tmp": tmp_path, "other": tmp_path / "other"}
    assert main(["report", *(argument.format(**places) for argument in arguments)]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()
