"""A wrong input ends with one line that says what is wrong, and with exit code 1, before any work is done."""

import re

import pytest


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fit {tmp}/nothing -o {tmp}/a.safetensors", "no such folder"),
        ("fit {tmp}/notes.txt -o {tmp}/a.safetensors", "notes.txt is no folder: give one that holds images"),
        ("fit {train} -o {tmp}/no/a.safetensors", "there is no folder"),
        ("fit {train} -o {tmp}/m.pt", "m.pt: a fit is written as safetensors; name it .*m.safetensors"),
        ("fit {train} -o {tmp}/a.safetensors --checkpoint {tmp}/./a.safetensors", "-o and --checkpoint are the same"),
        ("fit {train} -o {tmp}/a.safetensors --checkpoint {train}/cat/0.jpg", "0.jpg: a checkpoint is no image"),
        ("fit {train} -o {tmp}/a.safetensors --checkpoint {tmp}/no/c", "there is no folder"),
        ("fit {train} -o {tmp}/a.safetensors --epochs 3 --steps 3", "got epochs=3 and steps=3"),
        ("fit {train} -o {tmp}/a.safetensors --epochs 100000000000000", "Lower epochs=, steps= or min_steps="),
        ("fit {train} -o {tmp}/a.safetensors --image-size 1000000", "lower image_size, batch_size"),
        ("fit {train} -o {tmp}/a.safetensors --batch-size 9", "batch_size must be at most the 8 images"),
        ("fit {train} -o {tmp}/a.safetensors --per-class 9", "class 'cat' has 4"),
        ("fit {train} -o {tmp}/a.safetensors --device abacus", "device must be"),
        ("fit {train} -o {tmp}/a.safetensors --loss vgg16 --vgg-weights {tmp}/v", "laplacian"),
        ("fit {train} -o {tmp}/a.safetensors --unlabeled {tmp}/no", "no such folder"),
        ("fit {train} -o {tmp}/a.safetensors --unlabeled {tmp}", "no images in"),
        ("inspect {tmp}/none.safetensors", "no such file"),
        ("inspect {tmp}", "is a folder"),
        ("inspect {train}/cat/0.jpg", "not a safetensors file|truncated"),
        ("sample {fit} -o {tmp}/a.jpg", "ends in .png"),
        ("sample {fit} -o {tmp}/no/a.png", "there is no folder"),
        ("sample {fit} -o {tmp}/no/made", "there is no folder"),
        ("sample {fit} -o {fit}", "is a file; give a folder"),
        ("sample {fit} -o {tmp}/a.png --scale 100000", "a smaller --scale"),
        ("sample {fit} -o {tmp}/a.png -n 1000000000", "2,000,000,000 images needs at least"),
        ("sample {fit} -o {tmp}/made -n 1000000000000", "GiB of disk or more"),
        ("interpolate {fit} -o {tmp}/a", "ends in .png"),
        ("interpolate {fit} -o {tmp}/a.png --classes cow", "classes: cow not among cat, dog"),
        ("interpolate {fit} -o {tmp}/a.png --steps 1000000000", "ask for fewer"),
        ("interpolate {fit} -o {train}/cat/a.png --data {train}", "read as one of its images"),
        (
            "interpolate {fit} -o {tmp}/a.png --data {test}",
            "does not hold 4 of the 4 images that paths start or end at",
        ),
        ("demo -o {tmp}", "ends in .png"),
        ("compare {tmp}/nothing", "no such folder"),
        ("compare {train} --test {tmp}", "expected one folder per class"),
        ("compare {train} -o {tmp}/a.txt", "ends in .json"),
        ("compare {train} -o {tmp}/no/a.json", "there is no folder"),
        ("compare {train} --folds 9", "folds must be .* at most 8"),
        ("compare {train} --per-class 9", "class 'cat' has 3"),
        ("compare {train} --image-size 10000000", "8 images needs at least .*lower the image size"),
        ("compare {train} --steps 10000000000", "steps must be"),
        ("compare {train} --device abacus", "device must be"),
    ],
)
def test_a_mistake_ends_with_one_line_and_exit_code_1(glico, line, message, photos, photos_fit, tmp_path):
    (tmp_path / "notes.txt").write_text("")
    places = {"photos": photos, "train": photos / "train", "test": photos / "test", "fit": photos_fit, "tmp": tmp_path}
    code, out, err = glico(*(word.format(**places) for word in line.split()))
    assert code == 1
    assert "recipes take" not in out
    assert err.startswith("glico: error: ")
    assert err.count("\n") == 1
    assert re.search(message, err)
    assert list(tmp_path.iterdir()) == [tmp_path / "notes.txt"]
