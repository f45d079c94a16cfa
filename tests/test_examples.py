"""The examples run, at a size that takes seconds."""

import importlib.util
from pathlib import Path

import PIL.Image
import pytest
from conftest import quick_fit, smooth_images
from torchvision.datasets import ImageFolder

EXAMPLES = Path(__file__).parents[1] / "examples"


def main_of(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for part in ("train", "test"):
        for index, image in enumerate(smooth_images(8, height=40, width=36)):
            path = root / part / "ab"[index % 2] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return root


@pytest.fixture(scope="module")
def fitted(folder):
    quick_fit(ImageFolder(folder / "train"), image_size=32, epochs=1).save(folder / "fitted.safetensors")
    return folder / "fitted.safetensors"


@pytest.mark.parametrize("flip", [False, True])
def test_train_with_autoaugment(folder, flip):
    options = {"side": 32, "epochs": 2, "fit_steps": 2, "workers": 0}
    scores = main_of("train_with_autoaugment")(folder, flip=flip, **options)
    assert list(scores) == ["no augmentation", "GLICO + style + AutoAugment"]
    assert all(0 <= score <= 100 for score in scores.values())


@pytest.mark.parametrize("plain", [False, True])
def test_swap_batches_on_the_gpu(fitted, folder, plain):
    assert 0 <= main_of("swap_batches_on_the_gpu")(fitted, folder, plain=plain, epochs=1, workers=0) <= 100


def test_learn_from_synthetic_tasks(fitted, folder, monkeypatch):
    pytest.importorskip("easyfsl.methods")
    monkeypatch.setattr("glico_augment.fit.quality.MIN_R2", -1.0)
    accuracy = main_of("learn_from_synthetic_tasks")(fitted, folder / "test", n_way=2, n_tasks=2)
    assert 0 <= accuracy <= 100


def test_explore_codes(fitted):
    within, between = main_of("explore_codes")(fitted)
    assert 0 < within < 180
    assert 0 < between < 180
