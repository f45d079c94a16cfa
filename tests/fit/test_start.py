import pytest
import torch

from glico_augment import FitConfig, normalize
from glico_augment.fit.start import initial_codes, stream

LABELS = torch.arange(10).repeat_interleave(40)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def cosines(codes):
    products = codes.codes.detach()[: len(LABELS)] @ codes.codes.detach()[: len(LABELS)].T
    same = LABELS[:, None] == LABELS[None]
    return products[same & ~torch.eye(len(LABELS), dtype=torch.bool)], products[~same]


@pytest.mark.parametrize("cosine", [0.0, 0.3, 0.8])
def test_codes_of_a_class_start_at_the_cosine_asked_for_and_others_at_right_angles(cosine):
    codes = initial_codes(LABELS, 0, 64, cosine, rng())
    torch.testing.assert_close(codes.codes.norm(dim=1), torch.ones(400))
    within, between = cosines(codes)
    assert within.mean().item() == pytest.approx(cosine, abs=0.05)
    assert between.mean().item() == pytest.approx(0, abs=0.02)


def test_by_default_a_path_within_a_class_stays_nearer_to_it_than_to_any_other_class():
    default = FitConfig()
    codes = initial_codes(LABELS, 0, default.latent_dim, default.class_cosine, rng()).codes.detach()
    middle = normalize(codes[::40] + codes[1::40])  # of the path between two images of each class
    alike = middle @ codes.T
    is_class = LABELS[None] == torch.arange(10)[:, None]
    of_class, others = alike[is_class].view(10, 40)[:, 2:], alike[~is_class].view(10, -1)
    assert (of_class.mean(dim=1) > others.amax(dim=1)).all()


def test_more_classes_than_dimensions_have_prototypes_as_well():
    labels = torch.arange(30).repeat_interleave(2)
    codes = initial_codes(labels, 0, 4, 0.9, rng()).codes.detach()
    assert ((codes[::2] * codes[1::2]).sum(dim=1)).mean() > 0.7


def test_unlabelled_codes_are_uniform():
    codes = initial_codes(LABELS, 2000, 3, 0.9, rng()).codes.detach()[len(LABELS) :]
    assert codes.mean(dim=0).abs().max() < 0.05
    torch.testing.assert_close(codes.T @ codes / 2000, torch.eye(3) / 3, atol=0.03, rtol=0)


def test_each_use_of_a_seed_has_numbers_of_its_own():
    def draw(seed, name):
        return tuple(torch.rand(8, generator=stream(seed, name)).tolist())

    assert draw(1, "noise") == draw(1, "noise")
    assert len({draw(seed, name) for seed in (0, 1, 2) for name in ("noise", "order", "start")}) == 9
