import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glico_augment.config import LOSS_NAMES, PRECISIONS, SCHEDULES, FitConfig

quick = settings(max_examples=100, deadline=None, derandomize=True)

INTEGERS = ("epochs", "min_steps", "batch_size", "latent_dim", "noise_dim", "generator_width", "classifier_width")
REALS = ("noise_std", "pixel_weight", "classifier_weight", "lr", "code_lr", "adam_beta1")
CHOICES = {"loss": LOSS_NAMES, "schedule": SCHEDULES, "precision": PRECISIONS}

WRONG_TYPES = [
    *[(name, value) for name in INTEGERS for value in ("5", True, [5])],
    *[(name, value) for name in REALS for value in ("0.5", True, (0.5,), None, 1j)],
    *[(name, None) for name in INTEGERS if name not in ("epochs", "batch_size", "latent_dim")],
    *[(name, value) for name in CHOICES for value in (None, 3, ["cosine"])],
    ("loss", torch.nn.L1Loss),  # the class where a module is meant
    ("loss", torch.nn.functional.l1_loss),
    ("loss_weights", "123"),
    ("loss_weights", 1.0),
    ("loss_normalize", 1),
    ("loss_normalize", "yes"),
    ("vgg_weights", 3),
    ("vgg_weights", ["vgg16.pth"]),
    ("image_size", "64"),
    ("image_size", True),
]
WRONG_ITEMS = [
    *[(name, 2.5) for name in INTEGERS],
    ("image_size", 64.5),
    ("image_size", (64.0, 64.5)),
    ("image_size", ("8", "8")),
    ("loss_weights", ["1", "2"]),
]
WRONG_VALUES = [
    *[(name, -1) for name in (*INTEGERS, *REALS)],
    *[(name, 0) for name in INTEGERS if name != "noise_dim"],
    *[(name, value) for name in REALS for value in (math.nan, math.inf, -math.inf, 10**400)],
    *[(name, value) for name in CHOICES for value in ("nonsense", "")],
    ("latent_dim", 1),
    ("lr", 0.0),
    ("code_lr", 0),
    ("adam_beta1", 1.0),
    ("loss_weights", ()),
    ("loss_weights", (1.0, -0.5)),
    ("loss_weights", (1.0, math.nan)),
    ("loss_weights", (math.inf,)),
    ("image_size", 0),
    ("image_size", (64,)),
    ("image_size", (64, 64, 3)),
    ("image_size", (64, 0)),
]


def shown(value):
    return value if isinstance(value, str) else repr(value)[:20]


@pytest.mark.parametrize(("name", "value"), [*WRONG_TYPES, *WRONG_ITEMS], ids=shown)
def test_a_wrong_type_is_a_type_error_that_names_field_and_value(name, value):
    with pytest.raises(TypeError) as caught:
        FitConfig(**{name: value})
    assert str(caught.value).startswith(f"{name} must be ")
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(("name", "value"), WRONG_VALUES, ids=shown)
def test_a_value_out_of_range_is_a_value_error_that_names_field_and_value(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be ") as caught:
        FitConfig(**{name: value})
    assert repr(value) in str(caught.value)


def test_every_field_has_a_wrong_type_and_all_but_flags_and_paths_a_wrong_value_tested_here():
    names = {field.name for field in dataclasses.fields(FitConfig)}
    assert {name for name, _ in WRONG_TYPES} == names
    assert {name for name, _ in WRONG_VALUES} == names - {"loss_normalize", "vgg_weights"}


@pytest.mark.parametrize(
    "fields",
    [
        *[{name: choice} for name, choices in CHOICES.items() for choice in choices],
        {"epochs": 1, "min_steps": 1, "batch_size": 1, "latent_dim": 2, "noise_dim": 0},
        {"noise_std": 0, "pixel_weight": 0, "classifier_weight": 0, "adam_beta1": 0},
        {"loss": torch.nn.L1Loss()},
        {"image_size": 1},
        {"image_size": [3, 5]},
        {"loss_weights": [0, 2]},
        {"vgg_weights": Path("vgg16.pth")},
    ],
)
def test_values_at_the_edge_of_their_range_are_accepted(fields):
    config = FitConfig(**fields)
    assert all(getattr(config, name) in (value, str(value), tuple(np.ravel(value))) for name, value in fields.items())


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FitConfig().epochs = 3


def test_replace_changes_the_named_fields_and_checks_them():
    config = FitConfig(epochs=3)
    changed = config.replace(lr=0.5, image_size=[2, 3])
    assert dataclasses.asdict(changed) == {**dataclasses.asdict(config), "lr": 0.5, "image_size": (2, 3)}
    assert config == FitConfig(epochs=3)
    with pytest.raises(ValueError, match="lr must be"):
        config.replace(lr=-1.0)


def test_replace_with_an_unknown_name_lists_the_settings():
    with pytest.raises(TypeError, match="unknown fit setting epoch, learning_rate") as caught:
        FitConfig().replace(learning_rate=0.1, epoch=3)
    assert all(field.name in str(caught.value) for field in dataclasses.fields(FitConfig))


@quick
@given(
    epochs=st.none() | st.integers(1, 10**6),
    lr=st.floats(0, 1e300, exclude_min=True),
    adam_beta1=st.floats(0, 1, exclude_max=True),
    loss=st.sampled_from(LOSS_NAMES),
    loss_weights=st.none() | st.lists(st.floats(0, 1e6), min_size=1, max_size=5),
    image_size=st.none() | st.integers(1, 999) | st.tuples(st.integers(1, 999), st.integers(1, 999)),
    vgg_weights=st.none() | st.text(),
)
def test_a_config_survives_json(**fields):
    config = FitConfig(**fields)
    assert FitConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_a_config_of_numpy_numbers_survives_json():
    config = FitConfig(
        epochs=np.int64(3), lr=np.float32(0.25), noise_std=np.float64(0.5), image_size=(np.int32(8), np.int64(9))
    )
    assert FitConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_a_module_as_loss_is_kept_by_name_in_json():
    values = json.loads(json.dumps(FitConfig(loss=torch.nn.L1Loss()).to_json()))
    assert values["loss"] == "<L1Loss>"
    assert FitConfig.from_json(values).loss == "<L1Loss>"


@pytest.mark.parametrize("values", [[], "text", None, {"epoch": 3}, {"epochs": "3"}, {"epochs": 0}, {"lr": 10**400}])
def test_json_that_is_no_config_is_refused(values):
    with pytest.raises((TypeError, ValueError)):
        FitConfig.from_json(values)


@quick
@given(st.integers(1, 5000), st.integers(1, 300), st.data())
def test_epochs_are_exactly_that_many_passes(n_images, epochs, data):
    batch_size = data.draw(st.integers(1, n_images))
    config = FitConfig(epochs=epochs, batch_size=batch_size, min_steps=10**9)
    seen = config.total_steps(n_images) * batch_size
    assert epochs * n_images <= seen < epochs * n_images + batch_size


@quick
@given(st.integers(1, 5000), st.integers(1, 5000), st.none() | st.integers(1, 300))
def test_a_small_set_is_passed_over_until_min_steps_and_a_large_one_100_times(n_images, min_steps, batch_size):
    config = FitConfig(min_steps=min_steps, batch_size=batch_size and min(batch_size, n_images))
    in_100_passes = config.replace(epochs=100).total_steps(n_images)
    assert config.total_steps(n_images) == max(min_steps, in_100_passes)


@pytest.mark.parametrize(("n_images", "expected"), [(1, 8), (50, 8), (100, 12), (500, 62), (512, 64), (50_000, 64)])
def test_the_default_dimension_grows_with_the_set(n_images, expected):
    assert FitConfig().latent_dim_for(n_images) == expected
    assert FitConfig(latent_dim=5).latent_dim_for(n_images) == 5


def test_the_default_batch_is_of_one_size_or_the_whole_of_a_smaller_set():
    largest = FitConfig().batch_size_for(10**6)
    assert f"None for {largest}, or the whole of a smaller set" in " ".join(FitConfig.__doc__.split())
    for n_images in (1, largest - 1, largest, largest + 1):
        assert FitConfig().batch_size_for(n_images) == min(n_images, largest)


@pytest.mark.parametrize("ask", [FitConfig.batch_size_for, FitConfig.total_steps])
def test_a_batch_larger_than_the_set_is_refused_with_the_remedy(ask):
    config = FitConfig(batch_size=33)
    assert ask(config, 33) >= 1
    with pytest.raises(ValueError, match=r"batch_size must be at most the 32 images.*got 33.*None"):
        ask(config, 32)


def test_the_published_settings_are_those_of_the_paper_and_its_code():
    config = FitConfig.published()
    assert (config.latent_dim, config.noise_dim, config.noise_std) == (512, 100, 0.15)
    assert (config.lr, config.code_lr, config.adam_beta1) == (0.7e-3, 1e-3, 0.5)
    assert (config.epochs, config.schedule) == (202, "step")
    assert (config.loss, config.pixel_weight, config.classifier_weight) == ("vgg16", 1.0, 0.5)
    assert config.loss_normalize is False


@pytest.mark.parametrize(("side", "n_taps", "batch_size"), [(32, 3, 128), (64, 4, None), (128, 5, None), (256, 5, 32)])
def test_the_published_taps_and_batches_depend_on_the_size(side, n_taps, batch_size):
    config = FitConfig.published(side)
    assert config.loss_weights == (1.0,) * n_taps + (0.0,) * (5 - n_taps)
    assert batch_size in (None, config.batch_size)


def test_published_settings_can_be_overridden():
    assert FitConfig.published(32, epochs=2, loss="laplacian", loss_weights=None) == FitConfig.published(32).replace(
        epochs=2, loss="laplacian", loss_weights=None
    )


def test_importing_the_config_imports_no_torch():
    code = "import sys, glico_augment.config; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
