"""The commands that read a fitted file: inspect, sample and interpolate."""

import json
import os
import re
import sys

import numpy as np
import PIL.Image
import pytest
import torch
from conftest import QUICK_OPTIONS, smooth_images, write_sealed
from safetensors import safe_open
from safetensors.torch import load_file

from glico_augment import GLICOAugment
from glico_augment.cli import main


def renamed(fitted, path, *names):
    """The fitted file with other class names, as anybody may make it."""
    with safe_open(fitted, framework="pt") as file:
        metadata = file.metadata()
    metadata["info"] = json.dumps({**json.loads(metadata["info"]), "class_names": names})
    write_sealed(path, load_file(fitted), metadata)
    return path


def test_inspect_says_what_a_file_holds(glico, photos_fit):
    code, out, _ = glico("inspect", photos_fit)
    assert code == 0
    for fact in ("8 labelled", "16 × 16, 3 channels", "class cat", "4 images", "setting epochs", "fingerprint"):
        assert fact in out


def test_inspect_as_json(glico, photos_fit):
    code, out, _ = glico("inspect", photos_fit, "--json")
    assert code == 0
    found, augment = json.loads(out), GLICOAugment.load(photos_fit)
    assert (found["images"], found["unlabeled"]) == (8, 0)
    assert (found["channels"], found["height"], found["width"]) == augment.generator.image_shape
    assert found["settings"] == json.loads(json.dumps(augment.config.to_json()))
    assert [(each["name"], each["label"], each["images"]) for each in found["classes"]] == [
        ("cat", 0, 4),
        ("dog", 1, 4),
    ]
    assert found["r2"] == augment.quality.r2


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
        assert grid.size == (5 * 34 + 2, 2 * 34 + 2)
    assert glico("sample", photos_fit, "-o", tmp_path / "made", "-n", 3, "--max-ratio", 1)[0] == 0
    files = sorted(path.relative_to(tmp_path / "made").as_posix() for path in (tmp_path / "made").rglob("*.*"))
    assert files == [f"{name}/0000{index}.png" for name in ("cat", "dog") for index in range(3)]


def test_sample_repeats_for_a_seed(glico, photos_fit, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        glico("sample", photos_fit, "-o", tmp_path / f"{name}.png", "--seed", seed)
    first, again, other = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert first == again != other


def test_a_sample_grid_shows_the_classes_in_rows(photos_fit, tmp_path, glico):
    glico("sample", photos_fit, "-o", tmp_path / "grid.png", "-n", 4, "--max-ratio", 0)
    with PIL.Image.open(tmp_path / "grid.png") as grid:
        cell = torch.from_numpy(np.array(grid.crop((1, 1, 17, 17)))).reshape(-1, 3).float()
    reconstructions = GLICOAugment.load(photos_fit).reconstruct([0, 1, 2, 3]) * 255
    distances = (reconstructions.permute(0, 2, 3, 1).reshape(4, -1, 3) - cell).abs().mean(dim=(1, 2))
    assert distances.min() < 12  # the draw has noise


def test_samples_of_grey_images_are_grey(glico, tmp_path):
    for index, image in enumerate(smooth_images(8, channels=1, height=16, width=16)):
        path = tmp_path / "in" / ("cat", "dog")[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(image[0].numpy()).save(path)
    glico("fit", tmp_path / "in", "-o", tmp_path / "a.safetensors", *QUICK_OPTIONS)
    assert glico("sample", tmp_path / "a.safetensors", "-o", tmp_path / "made", "-n", 1)[0] == 0
    with PIL.Image.open(tmp_path / "made" / "cat" / "00000.png") as image:
        assert (image.mode, image.size) == ("L", (16, 16))


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
        assert grid.size == (4 * 17 + 1, 4 * 17 + 1)


def test_interpolate_puts_the_real_images_at_the_ends(glico, photos, tmp_path):
    path, grid = tmp_path / "a.safetensors", tmp_path / "grid.png"
    trained = [*QUICK_OPTIONS[2:], "--epochs", "150", "--min-steps", "1"]
    assert glico("fit", photos / "train", "-o", path, *trained)[0] == 0
    options = ["--data", photos / "train", "--classes", "dog", "--steps", 3]
    assert glico("interpolate", path, "-o", grid, *options)[0] == 0
    with PIL.Image.open(grid) as image:
        tiles = [np.array(image.crop((1 + 17 * k, 1, 17 + 17 * k, 17))).astype(float) for k in range(5)]
    assert image.size == (5 * 17 + 1, 17 + 1)
    real, first, last = tiles[0], tiles[1], tiles[3]
    assert np.abs(real - first).mean() < np.abs(real - last).mean()
    code, _, err = glico("interpolate", path, "-o", grid, "--data", photos / "test")
    assert code == 1
    assert "does not hold 4 of the 4 images" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "{tmp}/none.safetensors"], "no such file"),
        (["inspect", "{tmp}"], "is a folder"),
        (["inspect", "{photos}/cat/0.jpg"], "not a safetensors file|truncated"),
        (["sample", "{fit}", "-o", "{tmp}/a.jpg"], "ends in .png"),
        (["sample", "{fit}", "-o", "{tmp}/no/a.png"], "there is no folder"),
        (["sample", "{fit}", "-o", "{tmp}/no/made"], "there is no folder"),
        (["sample", "{fit}", "-o", "{fit}"], "is a file; give a folder"),
        (["sample", "{fit}", "-o", "{tmp}/a.png", "--max-ratio", "3"], "--max-ratio must be"),
        (["sample", "{fit}", "-o", "{tmp}/a.png", "--scale", "100000"], "a smaller --scale"),
        (["sample", "{fit}", "-o", "{tmp}/a.png", "-n", "1000000000"], "2,000,000,000 images needs at least"),
        (["sample", "{fit}", "-o", "{tmp}/made", "-n", "1000000000000"], "GiB of disk or more"),
        (["interpolate", "{fit}", "-o", "{tmp}/a"], "ends in .png"),
        (["interpolate", "{fit}", "-o", "{tmp}/no/a.png"], "there is no folder"),
        (["interpolate", "{fit}", "-o", "{tmp}/a.png", "--classes", "cow"], "--classes: cow not among cat, dog"),
        (["interpolate", "{fit}", "-o", "{tmp}/a.png", "--steps", "1000000000"], "ask for fewer"),
        (["interpolate", "{fit}", "-o", "{photos}/cat/a.png", "--data", "{photos}"], "read as one of its images"),
    ],
)
def test_a_mistake_ends_with_one_line_and_exit_code_1(glico, arguments, message, photos, photos_fit, tmp_path):
    places = {"tmp": tmp_path, "photos": photos / "train", "fit": photos_fit}
    code, out, err = glico(*(argument.format(**places) for argument in arguments))
    assert (code, out) == (1, "")
    assert err.startswith("glico: error: ")
    assert err.count("\n") == 1
    assert re.search(message, err)
    assert not (tmp_path / "made").exists()


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
