import numpy as np
import pytest
import torch
from conftest import LABELS, QUICK, quick_fit, smooth_images
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from glico_augment import FitQuality
from glico_augment.sklearn import GLICOFeatures

IMAGES = smooth_images(8)
OTHERS = smooth_images(3, seed=9)
QUICKLY = {"config": QUICK.replace(epochs=2), "steps": 2, "starts": 1, "device": "cpu"}


@pytest.fixture(autouse=True)
def learned(monkeypatch):
    """Fits of a moment pass for such that have learned their images."""
    monkeypatch.setattr(FitQuality, "is_poor", False)


@pytest.fixture(scope="module")
def features():
    return GLICOFeatures(layer=0, **QUICKLY).fit(IMAGES.numpy(), LABELS.numpy())


def test_fitted_images_have_their_codes_and_others_those_that_encode_finds(features):
    augment = features.augment_
    mixed = torch.stack([OTHERS[0], IMAGES[5], OTHERS[1], IMAGES[0]])
    found = features.transform(mixed)[:, :6]
    codes = augment.codes.codes.numpy()
    np.testing.assert_array_equal(found[[1, 3]], codes[[5, 0]])
    encoded = augment.encode(OTHERS[:2], steps=2, starts=1, progress=False, device="cpu").codes.numpy()
    np.testing.assert_allclose(found[[0, 2]], encoded, atol=1e-6)
    np.testing.assert_array_equal(features.transform(IMAGES)[:, :6], codes)


@pytest.mark.parametrize("layer", [0, 1, -1])
def test_the_channels_of_a_layer_are_averaged_over_its_pixels(features, layer):
    generator, codes = features.augment_.generator, features.augment_.codes.codes
    maps = list(generator.layers(codes))
    assert [tuple(each.shape[2:]) for each in maps] == [tuple(size) for size in generator.sizes]
    torch.testing.assert_close((generator.to_image(maps[-1]) + generator.background).sigmoid(), generator(codes))
    chosen = clone(features).set_params(layer=layer)
    chosen.augment_ = features.augment_
    found = chosen.transform(IMAGES)
    np.testing.assert_allclose(found[:, 6:], maps[layer].mean(dim=(2, 3)).numpy(), rtol=1e-5)
    names = chosen.get_feature_names_out()
    assert len(names) == found.shape[1]
    assert (names[0], names[6], names[-1]) == (
        "code0",
        f"layer{layer % len(maps)}_channel0",
        f"layer{layer % len(maps)}_channel{maps[layer].shape[1] - 1}",
    )


def test_rows_of_a_matrix_are_images(features):
    rows = IMAGES.flatten(1).numpy()
    other = clone(features).set_params(image_shape=(3, 12, 10)).fit(rows, LABELS.tolist())
    np.testing.assert_array_equal(other.transform(rows / 255), features.transform(IMAGES))
    with pytest.raises(ValueError, match=r"X must have shape \(n, 360\); got \(8, 3, 12, 10\)"):
        other.transform(IMAGES)


def test_labels_may_be_words_missing_or_absent(features):
    words = np.array(["dog", "cat", "bird"])[features.augment_.codes.class_indices]
    assert (
        GLICOFeatures(**QUICKLY).fit(IMAGES, words).augment_.codes.class_indices.tolist() == [1] * 3 + [2] * 3 + [0] * 2
    )
    assert not GLICOFeatures(**QUICKLY).fit(IMAGES).augment_.record.is_labeled
    partly = GLICOFeatures(unlabeled=-1, **QUICKLY).fit(IMAGES, np.array([-1, -1, -1, 0, 0, 0, 40, 40]))
    assert (partly.augment_.codes.n_labeled, len(partly.augment_.codes)) == (5, 8)
    found = partly.transform(IMAGES)
    np.testing.assert_array_equal(found, partly.augment_.codes.codes[[5, 6, 7, 0, 1, 2, 3, 4]].numpy())


NUMBERS = [0, 0, 0, 1, 1, 1, None, None]


@pytest.mark.parametrize(
    "labels",
    [
        np.array([np.nan if each is None else float(each) for each in NUMBERS]),
        np.array([None if each is None else "ab"[each] for each in NUMBERS], dtype=object),
        np.array([np.nan if each is None else "ab"[each] for each in NUMBERS], dtype=object),
    ],
    ids=["floats", "None", "words"],
)
def test_missing_labels_are_refused_or_have_no_label(labels):
    with pytest.raises(ValueError, match=r"y has missing values .*unlabeled=float\('nan'\)"):
        GLICOFeatures(**QUICKLY).fit(IMAGES, labels)
    with pytest.raises(ValueError, match="y has missing values"):
        GLICOFeatures(unlabeled=-1, **QUICKLY).fit(IMAGES, labels)
    augment = GLICOFeatures(unlabeled=float("nan"), **QUICKLY).fit(IMAGES, labels).augment_
    assert (augment.codes.n_labeled, len(augment.codes), augment.codes.labels.tolist()) == (6, 8, [0, 0, 0, 1, 1, 1])


def test_missing_labels_of_a_data_frame_are_refused():
    pandas = pytest.importorskip("pandas")
    for kind in ("Int64", "string", object):
        labels = pandas.Series(NUMBERS, dtype=object).map({0: "1", 1: "2"}).astype(kind)
        with pytest.raises(ValueError, match="y has missing values"):
            GLICOFeatures(**QUICKLY).fit(IMAGES, labels)


def test_rows_of_a_sparse_matrix_are_images(features):
    sparse = pytest.importorskip("scipy.sparse")
    rows = sparse.csr_matrix(IMAGES.flatten(1).numpy() / 255)
    other = clone(features).set_params(image_shape=(3, 12, 10)).fit(rows, LABELS)
    np.testing.assert_array_equal(other.transform(rows), features.transform(IMAGES))


def test_the_fit_is_that_of_the_library(features):
    same = quick_fit(list(IMAGES), labels=LABELS, epochs=2)
    assert torch.equal(same.codes.codes, features.augment_.codes.codes)


@pytest.mark.ecosystem(
    "scikit-learn", needs="sklearn", shows="[`GLICOFeatures`](features.md) in a pipeline, searched by `GridSearchCV`"
)
def test_it_is_cloned_and_searched_in_a_pipeline(features):
    copy = clone(features)
    assert copy.get_params() == features.get_params()
    with pytest.raises(NotFittedError):
        copy.transform(IMAGES)
    with pytest.raises(NotFittedError):
        copy.get_feature_names_out()
    model = make_pipeline(GLICOFeatures(**QUICKLY), LogisticRegression())
    search = GridSearchCV(model, {"glicofeatures__layer": [None, 0]}, cv=2, error_score="raise")
    search.fit(IMAGES.numpy(), LABELS.numpy() > 0)
    assert search.predict(OTHERS.numpy()).shape == (3,)


@pytest.mark.parametrize(
    ("settings", "labels", "message"),
    [
        ({"layer": 7}, LABELS, "layer must lie in"),
        ({"layer": 0.5}, LABELS, "layer must be an integer"),
        ({"image_shape": (1, 8, 8)}, LABELS, "X must have shape"),
        ({}, LABELS[:5], "y must be 8 labels, one per image"),
        ({"random_state": None}, LABELS, "seed must be"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_refused_at_fit(settings, labels, message):
    with pytest.raises((TypeError, ValueError), match=message):
        GLICOFeatures(**{**QUICKLY, **settings}).fit(IMAGES, labels)


@pytest.mark.parametrize("bad", [OTHERS / 255 * torch.nan, OTHERS[:0], OTHERS[0]], ids=["nan", "empty", "one"])
def test_what_is_no_image_is_refused(features, bad):
    with pytest.raises(ValueError, match=r"NaN|empty|one image alone"):
        features.transform(bad)


def test_the_augmentation_in_a_pipeline_says_what_to_take_instead(features):
    rows, labels = IMAGES.flatten(1).numpy() / 255, LABELS.numpy()
    model = make_pipeline(features.augment_, LogisticRegression())
    for use in (
        lambda: model.fit(rows, labels),
        lambda: make_pipeline(features.augment_, LogisticRegression()).fit(IMAGES.numpy(), labels),
        lambda: clone(model),
        lambda: cross_val_score(model, rows, labels, cv=2, error_score="raise"),
    ):
        with pytest.raises(TypeError, match=r"no transformer of scikit-learn.*GLICOFeatures of glico_augment\.sklearn"):
            use()
    assert "GLICOAugment(p=" in repr(model)


def test_a_fit_that_has_not_learned_its_images_has_no_features(features, monkeypatch):
    monkeypatch.undo()
    assert features.augment_.quality.is_poor
    with pytest.raises(ValueError, match=r"has not learned its images, R² is -?\d\.\d\d: .*config=FitConfig\(steps="):
        features.transform(IMAGES)
