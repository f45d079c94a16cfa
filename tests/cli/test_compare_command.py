import json
import re
import sys

import pytest

from glico_augment.cli import compare as command
from glico_augment.comparison import compare as comparison
from glico_augment.comparison.recipes import NONE, RECIPES

FIT = {"steps": 2, "latent_dim": 6, "generator_width": 4, "classifier_width": 4, "cells": 3, "carry": True}


@pytest.fixture
def quick(monkeypatch, few_made):
    """Comparisons with fits of two steps; the list of them."""
    found = []

    def quickly(*sets, **options):
        found.append(comparison.compare(*sets, **{**options, "fit": FIT}))
        return found[-1]

    monkeypatch.setattr(command, "compare_recipes", quickly)
    return found


def test_compare_prints_the_time_the_table_and_a_verdict_and_writes_the_figures(glico, photos, tmp_path, quick):
    options = ["--test", photos / "test", "--draws", 2, "--steps", 2, "--image-size", "16x8", "--device", "cpu"]
    code, out, err = glico("compare", photos / "train", *options, "--out", tmp_path / "figures.json")
    assert code == 0
    assert re.match(r"2 runs of 6 recipes take about \d+ \w+ on cpu\n", out)
    assert "compare: 100%" in err
    for name in RECIPES:
        assert re.search(rf"^{re.escape(name)} +[\d.]+ %", out, re.MULTILINE)
    assert "on images of 16 × 8 pixels, shifted by up to 1 pixels and never mirrored." in out
    assert quick[0].verdict() in out
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert list(figures["recipes"]) == list(RECIPES)
    assert figures["settings"]["test"] == str(photos / "test")
    assert figures["settings"]["image_size"] == [16, 8]


@pytest.mark.usefixtures("quick")
def test_compare_by_folds_ends_with_the_lines_of_the_recipe_that_won(glico, photos, monkeypatch):
    monkeypatch.setattr(command.Comparison, "best", "style")
    code, out, _ = glico("compare", photos / "train", "--folds", 2, "--steps", 1, "--image-size", 8, "--flip")
    assert code == 0
    assert "and mirrored at random." in out
    assert RECIPES["style"].code(str(photos / "train"), (8, 8), flip=True) in out
    assert "v2.RandomHorizontalFlip()" in out


@pytest.fixture
def quick_demo(quick, monkeypatch):
    monkeypatch.setattr(command, "_DEMO", {**command._DEMO, "steps": 1, "fit": FIT})


@pytest.mark.usefixtures("quick_demo")
def test_the_demo_compares_on_digits_and_draws_what_they_are_swapped_for(glico, tmp_path):
    pytest.importorskip("sklearn")
    code, out, _ = glico("demo", "--draws", 2, "--device", "cpu", "-o", tmp_path / "picture.png")
    assert code == 0
    assert f"{command._DEMO['per_class']} training images of each of 10 handwritten digits, 1497 to test on" in out
    for name in (NONE, "GLICO"):
        assert re.search(rf"^{name} +[\d.]+ %", out, re.MULTILINE)
    assert out.endswith("On photographs of your own: glico compare FOLDER\n")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_the_demo_without_scikit_learn_names_the_extra(glico, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    code, _, err = glico("demo", "-o", tmp_path / "picture.png")
    assert code == 1
    assert "pip install 'glico-augment[demo]'" in err
