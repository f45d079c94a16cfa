import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from glico_augment.config import LOSS_NAMES, FitConfig, SwapConfig, split_overrides

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")
given, settings = hypothesis.given, hypothesis.settings

quick = settings(max_examples=100, deadline=None, derandomize=True)

INTEGERS = (
    "epochs",
    "min_steps",
    "steps",
    "batch_size",
    "latent_dim",
    "noise_dim",
    "generator_width",
    "classifier_width",
)
SHARES = ("p", "max_ratio")  # of the swap
REALS = (
    "noise_std",
    "pixel_weight",
    "squared_weight",
    "max_grad_norm",
    "class_cosine",
    "classifier_weight",
    "lr",
    "code_lr",
    "adam_beta1",
)
CHOICES = {
    "loss": LOSS_NAMES,
    "schedule": ("cosine", "step", "constant"),
    "precision": ("auto", "float32", "bfloat16"),
}

WRONG_TYPES = [
    *[(name, value) for name in INTEGERS for value in ("5", True, [5])],
    *[(name, value) for name in REALS for value in ("0.5", True, (0.5,), 1j)],
    *[(name, None) for name in REALS if name != "max_grad_norm"],
    *[(name, None) for name in INTEGERS if name not in ("epochs", "steps", "batch_size")],
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
    ("class_cosine", 1.0),
    ("max_grad_norm", 0.0),
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
    with pytest.raises(
        TypeError, match=r"unknown setting epoch, learning_rate \(did you mean epochs\?\); the settings are"
    ) as caught:
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


SHAPE = (3, 32, 48)


@quick
@given(st.integers(1, 5000), st.integers(1, 300), st.data())
def test_epochs_are_exactly_that_many_passes(n_images, epochs, data):
    batch_size = data.draw(st.integers(1, n_images))
    config = FitConfig(epochs=epochs, batch_size=batch_size, min_steps=10**9)
    seen = config.resolved(n_images, SHAPE).steps * batch_size
    assert epochs * n_images <= seen < epochs * n_images + batch_size


@quick
@given(st.integers(1, 5000), st.integers(1, 5000), st.none() | st.integers(1, 300))
def test_a_small_set_is_passed_over_until_min_steps_and_a_large_one_40_times(n_images, min_steps, batch_size):
    config = FitConfig(min_steps=min_steps, batch_size=batch_size and min(batch_size, n_images))
    in_40_passes = config.replace(epochs=40).resolved(n_images, SHAPE).steps
    assert config.resolved(n_images, SHAPE).steps == max(min_steps, in_40_passes)


@quick
@given(st.integers(1, 5000), st.none() | st.integers(1, 300), st.none() | st.integers(1, 300))
def test_a_resolved_config_holds_numbers_alone_and_stays_what_it_is(n_images, epochs, batch_size):
    resolved = FitConfig(epochs=epochs, batch_size=batch_size and min(batch_size, n_images)).resolved(n_images, SHAPE)
    assert None not in (resolved.steps, resolved.batch_size, resolved.latent_dim)
    assert resolved.image_size == (32, 48)
    assert resolved.resolved(n_images, SHAPE) == resolved
    assert FitConfig.from_json(json.loads(json.dumps(resolved.to_json()))) == resolved


def test_steps_stand_in_place_of_epochs():
    assert FitConfig(steps=7).resolved(1000, SHAPE).steps == 7
    with pytest.raises(ValueError, match="give epochs or steps, not both; got epochs=3 and steps=7"):
        FitConfig(epochs=3, steps=7)


def test_the_default_batch_is_of_one_size_or_the_whole_of_a_smaller_set():
    largest = FitConfig().resolved(10**6, SHAPE).batch_size
    assert f"None for {largest}, or the whole of a smaller set" in FitConfig.__doc__
    for n_images in (1, largest - 1, largest, largest + 1):
        assert FitConfig().resolved(n_images, SHAPE).batch_size == min(n_images, largest)


def test_a_batch_larger_than_the_set_is_refused_with_the_remedy():
    config = FitConfig(batch_size=33)
    assert config.resolved(33, SHAPE).batch_size == 33
    with pytest.raises(ValueError, match=r"batch_size must be at most the 32 images.*got 33.*None"):
        config.resolved(32, SHAPE)


def test_the_published_settings_are_those_of_the_paper_and_its_code():
    config = FitConfig.published()
    assert (config.latent_dim, config.noise_dim, config.noise_std) == (512, 100, 0.15)
    assert (config.lr, config.code_lr, config.adam_beta1) == (0.7e-3, 1e-3, 0.5)
    assert (config.epochs, config.schedule) == (202, "step")
    assert (config.loss, config.pixel_weight, config.classifier_weight) == ("vgg16", 1.0, 0.5)
    assert config.loss_normalize is False
    assert (config.squared_weight, config.max_grad_norm, config.class_cosine) == (0, None, 0)  # the paper has none


@pytest.mark.parametrize(("side", "n_taps", "batch_size"), [(32, 3, 128), (64, 4, 128), (128, 5, 32), (256, 5, 32)])
def test_the_published_taps_and_batches_depend_on_the_size(side, n_taps, batch_size):
    config = FitConfig.published(side)
    assert config.loss_weights == (1.0,) * n_taps + (0.0,) * (5 - n_taps)
    assert config.batch_size == batch_size
    assert FitConfig.published([side, 16], n_images=30).batch_size == 30


def test_the_published_size_may_be_a_pair_or_that_of_the_images():
    assert FitConfig.published([16, 24]).image_size == (16, 24)
    assert FitConfig.published(None).image_size is None
    assert FitConfig.published(image_size=64) == FitConfig.published(64)
    with pytest.raises(TypeError, match="image_size must be"):
        FitConfig.published("64")


def test_steps_stand_in_place_of_the_published_epochs():
    assert FitConfig.published(32, n_images=50, steps=7).resolved(50, SHAPE).steps == 7


def test_published_settings_can_be_overridden():
    assert FitConfig.published(32, epochs=2, loss="laplacian", loss_weights=None) == FitConfig.published(32).replace(
        epochs=2, loss="laplacian", loss_weights=None
    )


@pytest.mark.parametrize("name", ["p", "max_ratio", "noise_std", "sampler_std", "min_angle"])
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, -math.inf, 10**400], ids=lambda value: repr(value)[:9])
def test_a_number_out_of_range_is_a_value_error_that_names_setting_and_value(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be .*; got {value!r}"):
        SwapConfig(**{name: value})


@pytest.mark.parametrize("name", SHARES)
def test_a_share_above_one_is_refused(name):
    with pytest.raises(ValueError, match=rf"^{name} must be .*\[0, 1\]; got 1\.01"):
        SwapConfig(**{name: 1.01})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[
            (name, value)
            for name in (*SHARES, "noise_std", "sampler_std", "min_angle")
            for value in ("0.5", True, [0.5])
        ],
        ("p", None),
        *[(name, value) for name in ("interpolation", "sampler") for value in (3, None, ["slerp"])],
    ],
)
def test_a_wrong_type_is_a_type_error_that_names_setting_and_value(name, value):
    with pytest.raises(TypeError) as caught:
        SwapConfig(**{name: value})
    assert str(caught.value).startswith(f"{name} must be ")
    assert repr(value) in str(caught.value)


def test_an_unknown_interpolation_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="interpolation must be one of 'slerp', 'lerp'; got 'nlerp'"):
        SwapConfig(interpolation="nlerp")


def test_an_unknown_sampler_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="sampler must be one of 'same-class', 'noise', 'random-out', 'other-class'"):
        SwapConfig(sampler="other")


def test_an_angle_of_half_a_turn_leaves_no_room_and_is_refused():
    with pytest.raises(ValueError, match="min_angle must be an angle in radians"):
        SwapConfig(min_angle=math.pi)


def test_settings_at_the_ends_of_their_ranges_are_taken():
    SwapConfig(p=0, max_ratio=1, noise_std=0, interpolation="lerp")
    SwapConfig(sampler_std=0, min_angle=0)
    SwapConfig(sampler_std=1000, min_angle=3.14)
    SwapConfig(p=np.float32(1), max_ratio=np.float64(0), noise_std=1000)


def test_settings_of_numpy_numbers_can_be_saved_as_json():
    settings = SwapConfig(p=np.float32(0.5), max_ratio=np.float64(0.25), noise_std=np.int64(1))
    assert SwapConfig(**json.loads(json.dumps(dataclasses.asdict(settings)))) == settings


def test_the_published_settings_are_those_of_the_paper_and_cannot_be_changed():
    settings = SwapConfig.published()
    assert (settings.p, settings.max_ratio, settings.interpolation, settings.noise_std) == (0.5, 0.4, "slerp", 0.15)
    assert settings.sampler == "same-class"
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.p = 1.0


def test_settings_of_fit_and_swap_are_told_apart_and_others_refused():
    fit, swap = split_overrides({"epochs": 3, "p": 0.2, "noise_std": 0.3})
    assert fit == {"epochs": 3, "noise_std": 0.3}
    assert swap == {"p": 0.2, "noise_std": 0.3}
    with pytest.raises(TypeError, match=r"unknown setting pixel_share.*; the settings are: epochs.*max_ratio"):
        split_overrides({"pixel_share": 0.5})


def test_importing_the_config_imports_no_torch():
    code = "import sys, glico_augment.config; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "anywhere on the path to another image of the class, by a field of 3 × 3 ratios, detail carried"),
        ({"cells": 1, "carry": False, "max_ratio": 0.4}, "up to 0.4 of the path to another image of the class"),
        ({"cells": 1, "max_ratio": 0.3}, "up to 0.3 of the path to another image of the class, detail carried"),
        (
            {"sampler": "other-class", "carry": False},
            "up to 0.4 of the path to an image of another class, by a field of",
        ),
        ({"sampler": "noise", "carry": False}, "at the code of the image with Gaussian noise of 0.25"),
    ],
)
def test_where_a_synthetic_image_lies_is_said_in_words(settings, words):
    said = SwapConfig(**settings).description
    assert said.startswith(words)
    assert ("field" in said, "carried" in said) == ("field" in words, "carried" in words)
