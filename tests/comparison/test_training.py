import dataclasses

import pytest
import torch
from conftest import LABELS, smooth_images

from glico_augment.comparison.recipes import NONE, RECIPES, Recipe
from glico_augment.comparison.training import N_MADE, Experiment, Labelled, Pools, Split, _drawn, shifted
from glico_augment.style import LocalStyle

FIT = {"steps": 3, "latent_dim": 6, "generator_width": 4, "classifier_width": 4, "max_ratio": 1.0, "carry": True}


@pytest.fixture
def experiment():
    labels = torch.arange(40) % 2
    images = smooth_images(40, height=16, width=16) // 2 + 120 * labels.to(torch.uint8)[:, None, None, None]
    everything = Labelled(images, labels, ("dark", "bright"))
    return Experiment(everything, everything, RECIPES, 3, FIT, False, 0, torch.device("cpu"))


@pytest.fixture
def split():
    return Split(0, torch.arange(8), torch.arange(8, 40))


def test_training_is_paired_whatever_a_recipe_draws(experiment, split, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "glico_augment.comparison.training.shifted",
        lambda images, **options: seen.append((len(images), options["generator"].get_state())) or images,
    )
    pools = experiment.pools(split, share=16 / N_MADE)
    before = torch.get_rng_state()
    first = experiment.train(split, pools, RECIPES[NONE])
    assert torch.equal(first, experiment.train(split, pools, RECIPES[NONE]))
    for recipe in RECIPES.values():
        experiment.train(split, pools, recipe)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(count == seen[0][0] and torch.equal(state, seen[0][1]) for count, state in seen)
    experiment.train(split._replace(draw=1), pools, RECIPES[NONE])
    assert not torch.equal(seen[-1][1], seen[0][1])


def test_a_network_learns_what_it_is_trained_on(experiment):
    longer = dataclasses.replace(experiment, steps=60, recipes={NONE: Recipe()})
    split = Split(0, torch.arange(20), torch.arange(20, 40))
    hits = longer.train(split, longer.pools(split), RECIPES[NONE])
    assert hits.float().mean() > 0.8


def test_the_images_of_a_training_set_are_those_of_its_classes_and_at_its_size(experiment, split):
    pools = experiment.pools(split, share=20 / N_MADE)
    assert torch.equal(pools.photographs, experiment.few.images[:8])
    assert pools.synthetic.shape == pools.policed.shape == (3, 8, 3, 16, 16)
    assert pools.r2 is not None
    dark, bright = pools.synthetic[:, ::2].float(), pools.synthetic[:, 1::2].float()
    assert dark.mean() + 80 < bright.mean()  # as those of the classes, whose pixels are 120 apart
    assert not torch.equal(pools.synthetic[0], pools.synthetic[1])
    none = dataclasses.replace(experiment, recipes={NONE: Recipe()}).pools(split)
    assert none[2:4] == (None, None)
    assert none.r2 is None


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize(
    ("name", "shares"),
    [
        (NONE, (0, 0)),
        ("GLICO", (0.5, 0)),
        ("AutoAugment", (0, 1)),
        ("GLICO + style + AutoAugment", (0.5, 0.25)),
    ],
)
def test_a_recipe_draws_its_shares_of_each_kind_of_image_at_the_right_index(name, shares):
    count, versions = 10, 3
    real = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4).contiguous()
    made = real.expand(versions, -1, -1, -1, -1)
    style = LocalStyle(real, p=0.0)
    pools = Pools(real, LABELS, made + 100, made + 200, style, None)
    indices = torch.arange(count).repeat(400)
    drawn = _drawn(pools, RECIPES[name], indices)[:, 0, 0, 0].long()
    assert torch.equal(drawn % 100, indices)
    kinds = torch.bincount(drawn // 100, minlength=3) / len(indices)
    assert kinds[1:].tolist() == pytest.approx(shares, abs=0.03)


def test_each_image_is_shifted_on_its_own_into_black_and_mirrored_if_asked():
    images = torch.rand(60, 2, 8, 16) + 0.1
    padded = torch.nn.functional.pad(images, [1] * 4)
    crops = torch.stack([padded[..., y : y + 8, x : x + 16] for y in range(3) for x in range(3)])
    found = (crops == shifted(images, flip=False)).flatten(2).all(dim=2)
    assert found.any(dim=0).all()
    assert found.any(dim=1).sum() > 4
    mirrored = shifted(images, flip=True)
    plain = (crops == mirrored).flatten(2).all(dim=2).any(dim=0)
    turned = (crops.flip(-1) == mirrored).flatten(2).all(dim=2).any(dim=0)
    assert (plain ^ turned).all()
    assert 10 < plain.sum() < 50


def test_the_time_is_told_from_a_rehearsal(experiment, split):
    assert 0 < experiment.seconds([split]) < experiment.seconds([split] * 50)
