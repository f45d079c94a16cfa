import dataclasses
import math

import pytest
import torch

from glico_augment.config import SAMPLERS, FitConfig, SwapConfig
from glico_augment.fit.start import initial_model
from glico_augment.synthesis.draw import SwapParams, draw_params, draw_rows
from glico_augment.synthesis.graphs import rounded_up

CODE_LABELS = [5, -2, 5, 9, -2, 5]
N_DRAWS = 20_000
SHARES = ("p", "max_ratio")


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def model():
    """Six labelled and two unlabelled codes."""
    config = FitConfig(latent_dim=4, noise_dim=3, generator_width=2, classifier_width=2)
    return initial_model(torch.tensor(CODE_LABELS), 2, config, (1, 8, 8), torch.full((1, 8, 8), 0.5), rng())


@pytest.fixture(scope="module")
def many(model):
    """One draw for many images of known labels."""
    labels = torch.tensor([5, -2, 9, 5]).repeat(N_DRAWS // 4)
    return labels, draw_params(model, labels, SwapConfig(max_ratio=0.8, cells=1), 2.0, generator=rng())


def near(value, expected, std):
    """Within five standard errors of a mean over the draws."""
    return abs(value - expected) < 5 * std / math.sqrt(N_DRAWS)


def test_each_image_is_swapped_with_probability_p_on_its_own():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        rows = draw_rows(N_DRAWS, 0.3)
    assert rows.dtype == torch.int64
    assert rows.device.type == "cpu"
    coins = torch.zeros(N_DRAWS).index_fill_(0, rows, 1)
    assert near(coins.mean().item(), 0.3, math.sqrt(0.3 * 0.7))
    assert abs(torch.corrcoef(torch.stack([coins, coins.roll(1)]))[0, 1]) < 5 / math.sqrt(N_DRAWS)
    assert torch.equal(rows, rows.unique())


@pytest.mark.parametrize(("p", "expected"), [(0.0, []), (1.0, list(range(1000)))])
def test_p_zero_never_swaps_and_p_one_always(p, expected):
    assert draw_rows(1000, p).tolist() == expected


def test_ratios_are_uniform_up_to_max_ratio(many):
    ratios = many[1].ratios.double()
    assert ratios.min() >= 0
    assert ratios.max() <= 0.8
    assert near(ratios.mean().item(), 0.4, 0.8 / math.sqrt(12))
    assert near(ratios.square().mean().item(), 0.64 / 3, 0.64 * math.sqrt(4 / 45))


def test_ratios_and_noise_are_drawn_for_each_image_and_independent(many):
    params = many[1]
    columns = torch.stack([params.ratios.double(), *params.noise.double().T])
    correlations = torch.corrcoef(torch.cat([columns, columns[:1].roll(1, dims=1)]))
    assert (correlations - torch.eye(len(correlations))).abs().max() < 5 / math.sqrt(N_DRAWS)


def test_noise_has_the_standard_deviation_asked_for(many):
    noise = many[1].noise.double()
    assert noise.shape == (N_DRAWS, 3)
    assert near(noise.mean().item(), 0, 2)
    assert noise.std().item() == pytest.approx(2, rel=0.02)


def test_anchors_and_partners_are_labelled_codes_of_the_images_class(model, many):
    labels, params = many
    for indices in (params.anchors, params.partners):
        assert indices.dtype == torch.int64
        assert (indices < len(CODE_LABELS)).all()
        assert torch.equal(torch.tensor(CODE_LABELS)[indices], labels)
    is_alone = labels == 9
    assert torch.equal(params.anchors == params.partners, is_alone)


def test_a_label_that_was_not_fitted_is_not_known(model):
    labels = torch.tensor([5, 6, -3, 9]).repeat(100)
    params = draw_params(model, labels, SwapConfig(), 0.15, generator=rng())
    assert torch.equal(params.is_known, (labels == 5) | (labels == 9))
    assert (params.anchors < len(CODE_LABELS)).all()


def test_given_anchors_are_kept_and_minus_one_is_drawn_from_the_class(model):
    labels = torch.tensor([5, 5, -2, 9]).repeat(200)
    given = torch.tensor([0, -1, -1, 3]).repeat(200)
    params = draw_params(model, labels, SwapConfig(), 0.15, anchors=given, generator=rng())
    assert torch.equal(params.anchors[given >= 0], given[given >= 0])
    assert set(params.anchors[1::4].tolist()) == {0, 2, 5}
    assert set(params.anchors[2::4].tolist()) == {1, 4}
    assert set(params.partners[0::4].tolist()) == {2, 5}
    assert torch.equal(params.partners[3::4], given[3::4])


def test_there_is_no_noise_where_it_would_be_zero(model):
    assert draw_params(model, torch.tensor([5]), SwapConfig(), 0.0).noise is None


def fields(params):
    values = [getattr(params, field.name) for field in dataclasses.fields(SwapParams)]
    return [value for value in values if value is not None]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_generator_repeats_a_draw_and_leaves_the_global_one_alone(model, sampler):
    labels, before = torch.tensor([5, -2, 5] * 20), torch.get_rng_state()
    first, again, other = (
        draw_params(model, labels, SwapConfig(sampler=sampler), 0.15, generator=rng(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(fields(first), fields(again), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(fields(first)[1:-1], fields(other)[1:-1], strict=True))


def test_without_a_generator_the_global_one_is_drawn_from(model):
    with torch.random.fork_rng(devices=[]):
        draws = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            draws.append(draw_params(model, torch.tensor([5, -2, 5]), SwapConfig(), 0.15).ratios)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_graphs_are_of_few_numbers_of_images_none_of_which_is_a_quarter_too_many():
    numbers = {count: rounded_up(count) for count in range(1, 1025)}
    assert all(count <= number <= 1.25 * count for count, number in numbers.items())
    assert len(set(numbers.values())) < 40
