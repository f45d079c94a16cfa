"""The commands that read a fitted file: inspect, sample and interpolate."""

import io
import json
import os
import re
import sys

import numpy as np
import PIL.Image
import pytest
from conftest import quick_fit, save_photos, write_sealed
from safetensors import safe_open
from safetensors.torch import load_file
from torchvision.datasets import ImageFolder

from glico_augment import GLICOAugment
from glico_augment.cli import main


def renamed(fitted, path, *names):
    """The fitted file with other class names, as anybody may make it."""
    with safe_open(fitted, framework="pt") as file:
        metadata = file.metadata()
    metadata["info"] = json.dumps({**json.loads(metadata["info"]), "class_names": names})
    write_sealed(path, load_file(fitted), metadata)
    return path


def unlabelled(grid, *, columns, side=17, border=1):
    """A grid without the names on its left, which is white between them."""
    width = columns * side + border
    names = np.asarray(grid)[:, : grid.width - width]
    assert names.shape[1] > 0
    assert (names < 128).any()
    return grid.crop((grid.width - width, 0, grid.width, grid.height))


def test_inspect_says_what_a_file_holds_in_words_and_as_json(glico, photos_fit):
    _, out, _ = glico("inspect", photos_fit)
    for fact in (
        "8 labelled",
        "16 × 16, 3 channels",
        "class cat",
        "4 images",
        "setting epochs",
        "swap p",
        "fingerprint",
        "by a field of 3 × 3 ratios, detail carried",
        GLICOAugment.load(photos_fit).fitted.verdict,
    ):
        assert fact in out
    found, augment = json.loads(glico("inspect", photos_fit, "--json")[1]), GLICOAugment.load(photos_fit)
    assert (found["images"], found["unlabeled"], found["r2"]) == (8, 0, augment.quality.r2)
    assert (found["channels"], found["height"], found["width"]) == augment.generator.image_shape
    assert found["settings"] == json.loads(json.dumps(augment.config.to_json()))
    classes = [(each["name"], each["label"], each["images"]) for each in found["classes"]]
    assert classes == [("cat", 0, 4), ("dog", 1, 4)]


def test_inspect_of_a_fit_without_labels_has_no_classes(glico, images, tmp_path):
    quick_fit(images, epochs=1).save(tmp_path / "a.safetensors")
    found = json.loads(glico("inspect", tmp_path / "a.safetensors", "--json")[1])
    assert (found["images"], found["unlabeled"], found["classes"]) == (0, 8, [])
    out = glico("inspect", tmp_path / "a.safetensors")[1]
    assert "0 labelled, 8 unlabelled" in out
    assert "8 on the unit sphere" in out
    assert "class 0" not in out


EVIL = ("\x1b[2Jcat", "dog\nquality  R² 1.000")


def test_names_from_a_file_neither_steer_the_terminal_nor_forge_a_row(glico, photos_fit, tmp_path):
    path = renamed(photos_fit, tmp_path / "a.safetensors", *EVIL)
    honest = glico("inspect", photos_fit)[1]
    outputs = [
        glico("inspect", path),
        glico("inspect", path, "--json"),
        glico("sample", path, "-o", tmp_path / "grid.png", "-n", 1),
        glico("interpolate", path, "-o", tmp_path / "grid.png", "--classes", "cow"),
    ]
    for _, out, err in outputs:
        assert "\x1b" not in out + err
        assert not re.search("^quality  R² 1.000", out + err, re.MULTILINE)
    assert outputs[0][1].count("\n") == honest.count("\n")
    assert [each["name"] for each in json.loads(outputs[1][1])["classes"]] == list(EVIL)
    assert outputs[3][0] == 1


def test_sample_writes_a_grid_or_a_folder(glico, photos_fit, tmp_path):
    assert glico("sample", photos_fit, "-o", tmp_path / "grid.png", "-n", 5, "--scale", 2)[0] == 0
    with PIL.Image.open(tmp_path / "grid.png") as grid:
        assert unlabelled(grid, columns=5, side=34, border=2).size == (5 * 34 + 2, 2 * 34 + 2)
    assert glico("sample", photos_fit, "-o", tmp_path / "made", "-n", 3, "--max-ratio", 1)[0] == 0
    files = sorted(path.relative_to(tmp_path / "made").as_posix() for path in (tmp_path / "made").rglob("*.*"))
    assert files == [f"{name}/0000{index}.png" for name in ("cat", "dog") for index in range(3)]


def test_sample_repeats_for_a_seed(glico, photos_fit, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        glico("sample", photos_fit, "-o", tmp_path / f"{name}.png", "--seed", seed)
    first, again, other = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert first == again != other


def test_a_sample_grid_shows_the_classes_in_rows(glico, photos_fit, tmp_path):
    glico("sample", photos_fit, "-o", tmp_path / "grid.png", "-n", 4, "--max-ratio", 0)
    augment = GLICOAugment.load(photos_fit)
    photographs = augment.images.permute(0, 2, 3, 1).numpy().astype(float)
    with PIL.Image.open(tmp_path / "grid.png") as labelled:
        grid = unlabelled(labelled, columns=4)
        for row in range(2):
            cell = np.array(grid.crop((1, 1 + 17 * row, 17, 17 + 17 * row)))
            nearest = np.abs(photographs - cell).mean(axis=(1, 2, 3)).argmin()  # the draw has noise
            assert augment.codes.class_indices[nearest] == row


def test_sample_does_not_add_to_what_is_there(glico, photos_fit, tmp_path):
    (tmp_path / "made" / "dog").mkdir(parents=True)
    (tmp_path / "made" / "dog" / "00009.png").write_bytes(b"of another fit")
    code, _, err = glico("sample", photos_fit, "-o", tmp_path / "made")
    assert code == 1
    assert "dog is there and not empty" in err
    assert [path.name for path in (tmp_path / "made").rglob("*")] == ["dog", "00009.png"]


@pytest.mark.skipif(os.name != "posix", reason="links need a right elsewhere")
def test_sample_does_not_follow_a_link(glico, photos_fit, tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "made" / "cat").symlink_to(tmp_path / "elsewhere")
    code, _, err = glico("sample", photos_fit, "-o", tmp_path / "made")
    assert code == 1
    assert "cat is a link that leads elsewhere" in err
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("name", ["../outside", "/outside", "..", "", "a\0b"])
def test_sample_does_not_write_outside_its_folder(glico, name, photos_fit, tmp_path):
    path = renamed(photos_fit, tmp_path / "a.safetensors", "cat", name)
    code, _, err = glico("sample", path, "-o", tmp_path / "made")
    assert code == 1
    assert "cannot be folders" in err
    assert not (tmp_path / "made").exists()


def test_interpolate_writes_a_grid(glico, photos_fit, tmp_path):
    assert glico("interpolate", photos_fit, "-o", tmp_path / "grid.png", "--steps", 4, "--pairs", 2)[0] == 0
    with PIL.Image.open(tmp_path / "grid.png") as grid:
        assert unlabelled(grid, columns=4).size == (4 * 17 + 1, 4 * 17 + 1)


def test_interpolate_puts_the_real_images_at_the_ends_where_the_path_carries_their_detail(
    glico, photos, photos_fit, tmp_path
):
    grid = tmp_path / "grid.png"
    options = ["--data", photos / "train", "--classes", "dog", "--steps", 3]
    assert glico("interpolate", photos_fit, "-o", grid, *options)[0] == 0
    with PIL.Image.open(grid) as labelled:
        image = unlabelled(labelled, columns=5)
        assert image.size == (5 * 17 + 1, 17 + 1)
        tiles = [np.array(image.crop((1 + 17 * k, 1, 17 + 17 * k, 17))).transpose(2, 0, 1) for k in range(5)]
    augment = GLICOAugment.load(photos_fit)
    assert augment.carry
    for real, end in ((tiles[0], tiles[1]), (tiles[4], tiles[3])):
        (index,) = (i for i, image in enumerate(augment.images.numpy()) if np.array_equal(image, real))
        assert augment.classes[augment.codes.class_indices[index]] == "dog"
        assert np.abs(real.astype(int) - end).max() <= 1


@pytest.mark.skipif(os.name != "posix", reason="pipes close otherwise elsewhere")
@pytest.mark.parametrize("arguments", [["inspect", "{fit}"], ["--version"]])
def test_a_pipe_that_nobody_reads_is_no_error(arguments, photos_fit, monkeypatch, capsys):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert main([each.format(fit=photos_fit) for each in arguments]) == 141
        monkeypatch.undo()
    assert capsys.readouterr().err == ""


def test_grey_files_fitted_as_rgb_are_found_by_report_and_interpolate(glico, tmp_path):
    folder = save_photos(tmp_path / "photos", suffix="png", change=lambda picture: picture.convert("L"))
    path = tmp_path / "a.safetensors"
    quick_fit(ImageFolder(folder), epochs=1).save(path)  # torchvision's loader reads every file as RGB
    assert glico("report", path, "-o", tmp_path / "page.html", "--data", folder)[0] == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert all(each.relative_to(folder).as_posix() in page for each in folder.rglob("*.png"))
    assert glico("interpolate", path, "-o", tmp_path / "grid.png", "--data", folder)[0] == 0


@pytest.mark.parametrize("encoding", ["ascii", "cp1251", "cp932", "gbk"])
def test_an_output_that_is_not_utf_8_has_replaced_signs(encoding, photos_fit, monkeypatch):
    for arguments in (["inspect", str(photos_fit)], ["fit", "--help"]):
        output = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", output)
        code = 0
        try:
            code = main(arguments)
        except SystemExit as ended:
            code = ended.code
        monkeypatch.undo()
        assert code == 0, arguments
        output.flush()
        text = output.buffer.getvalue().decode(encoding)
        assert "?" in text or arguments[0] == "fit"
        assert "settings" in text or "quality" in text
