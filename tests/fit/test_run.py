import pytest
import torch
from conftest import quick_fit

from glico_augment import GLICOAugment
from glico_augment.config import FitConfig
from glico_augment.devices import memory_of
from glico_augment.fit import run
from glico_augment.model.classifier import Classifier
from glico_augment.model.generator import Generator

CPU = torch.device("cpu")
SHAPE = (3, 16, 12)
CONFIG = FitConfig(latent_dim=6, generator_width=4, batch_size=4, steps=10)


def test_the_cost_counts_what_a_fit_holds(monkeypatch):
    config = CONFIG.resolved(8, SHAPE)
    networks = [Generator(6, config.noise_dim, SHAPE, 4), Classifier(3, 2, config.classifier_width)]
    first, second = networks[0].sizes
    weights = sum(each.numel() for network in networks for each in network.parameters())
    fixed = 8 * 3 * 16 * 12 + 8 * 6 * 3 * 4 + 16 * weights
    maps = 4 * (8 * first[0] * first[1] + 4 * second[0] * second[1])
    state = torch.get_rng_state()
    for n_processes, batch in ((1, 4), (3, 2)):
        needed = fixed + batch * maps
        monkeypatch.setattr(run, "memory_of", lambda device, needed=needed: needed)
        run.check_cost(config, 8, SHAPE, 2, device=CPU, n_processes=n_processes)
        monkeypatch.setattr(run, "memory_of", lambda device, needed=needed: needed - 1)
        with pytest.raises(ValueError, match="a fit of 8 images needs at least"):
            run.check_cost(config, 8, SHAPE, 2, device=CPU, n_processes=n_processes)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 10**14}, r"a fit of 2e\+14 steps would take years.*Lower epochs=, steps= or min_steps="),
        ({"epochs": None, "min_steps": 10**14}, "Lower epochs=, steps= or min_steps="),
        ({"latent_dim": 10**9}, "of memory, and .* are here; lower .*latent_dim"),
        ({"generator_width": 10**6}, "8 images needs at least .* of memory"),
        ({"classifier_width": 10**6}, "8 images needs at least .* of memory"),
        ({"noise_dim": 10**6}, "8 images needs at least .* of memory"),
        ({"image_size": 10**5}, "8 images needs at least .* TiB of memory, and .*image_size"),
        ({"image_size": (10, 10**30)}, "at least a million TiB of memory"),
        ({"generator_width": 10**30}, "at least a million TiB of memory"),
    ],
)
def test_what_no_machine_can_hold_is_refused_before_an_image_is_read(dataset, settings, message):
    class Unread:
        def __len__(self):
            return len(dataset)

        def __getitem__(self, index):
            pytest.fail("an image was read")

    with pytest.raises(ValueError, match=message):
        quick_fit(Unread(), **settings)


def test_the_size_of_the_images_is_counted_once_it_is_known(dataset, monkeypatch):
    monkeypatch.setattr(run, "memory_of", lambda device: 100_000)
    with pytest.raises(ValueError, match="a fit of 8 images needs at least"):
        quick_fit(dataset)


@pytest.mark.parametrize(
    ("settings", "n_images", "shape"),
    [
        ({}, 50, (3, 64, 64)),
        ({"batch_size": 128, "latent_dim": 512, "generator_width": 128}, 50_000, (3, 32, 32)),
        ({"image_size": 512, "batch_size": 8}, 1000, (4, 512, 512)),
        ({"epochs": 2000, "classifier_width": 256}, 10_000, (1, 28, 28)),
    ],
)
def test_no_fit_that_somebody_may_want_is_refused(settings, n_images, shape, monkeypatch):
    monkeypatch.setattr(run, "memory_of", lambda device: 8 * 2**30)
    config = FitConfig(**settings).resolved(n_images, shape)
    run.check_cost(config, n_images, shape, 100, device=CPU)


def test_the_memory_of_the_machine_is_known_or_a_bound(monkeypatch, tmp_path):
    assert 2**28 < memory_of(CPU) < 2**50
    monkeypatch.setattr("os.sysconf", lambda name: -1)
    monkeypatch.setattr("glico_augment.devices._CONTAINER_LIMITS", (tmp_path / "limit", tmp_path / "none"))
    (tmp_path / "limit").write_text("max\n")
    assert memory_of(CPU) == 2**38
    (tmp_path / "limit").write_text("123456\n")
    assert memory_of(CPU) == 123456
    monkeypatch.delattr("os.sysconf")
    (tmp_path / "limit").unlink()
    assert memory_of(CPU) == 2**38


@pytest.mark.parametrize("size", [None, [16, 16], 16])
def test_the_published_preset_takes_any_size_and_that_of_the_images(dataset, size):
    settings = {"preset": "published", "loss": "random-vgg16", "generator_width": 4, "steps": 1}
    augment = GLICOAugment.fit(dataset, image_size=size, device="cpu", progress=False, **settings)
    shape = (3, 12, 10) if size is None else (3, 16, 16)
    expected = FitConfig.published(shape[1:], n_images=8, loss="random-vgg16", generator_width=4, steps=1)
    assert augment.config == expected.resolved(8, shape)
    assert augment.reconstruct().shape == (8, *shape)


def test_images_without_labels_are_not_classified_whatever_the_preset(images):
    settings = {"loss": "random-vgg16", "generator_width": 4, "steps": 1, "device": "cpu", "progress": False}
    for preset in ("default", "published"):
        config = GLICOAugment.fit(images, preset=preset, **settings).config
        assert (config.classifier_weight, config.class_cosine) == (0.0, 0.0)
