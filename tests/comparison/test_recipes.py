import pytest
import torch

from glico_augment import GLICODataset, LocalStyle
from glico_augment.comparison.recipes import NONE, RECIPES, Recipe

FIT = {"steps": 2, "generator_width": 4, "classifier_width": 4, "batch_size": 4, "progress": False, "device": "cpu"}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("flip", [False, True])
def test_the_lines_to_paste_run_and_do_what_the_recipe_says(name, flip, photos):
    recipe = RECIPES[name]
    names: dict = {}
    exec(recipe.code(str(photos / "train"), (16, 12), fit=FIT, flip=flip), names)
    dataset = names["train"]
    image, label = dataset[0]
    assert image.shape == (3, 16, 12)
    assert image.dtype == torch.float32
    assert label == 0
    assert isinstance(dataset, GLICODataset) == recipe.swap
    steps = dataset.transform.transforms
    assert any(isinstance(step, LocalStyle) for step in steps) == recipe.style
    assert any("RandomHorizontalFlip" in repr(step) for step in steps) == flip
    policies = [str(step) for step in [*steps, getattr(dataset, "real_transform", None)] if "AutoAugment" in str(step)]
    assert len(policies) == bool(recipe.policy)


def test_the_first_recipe_is_no_augmentation():
    recipe = RECIPES[NONE]
    assert next(iter(RECIPES)) == NONE
    assert recipe == Recipe(swap=False, style=False, policy=0.0)
    assert "glico_augment" not in recipe.code("photos", (32, 32))


def test_the_lines_to_paste_fit_at_the_size_that_was_compared():
    assert "image_size=(32, 24)" in RECIPES["GLICO"].code("photos", (64, 48))
    assert "image_size=(16, 12)" in RECIPES["GLICO"].code("photos", (16, 12))
