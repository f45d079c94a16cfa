import json

import pytest
import torch
from conftest import LABELS, quick_fit, smooth_images
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import TensorDataset

from glico_augment import FileFormatError, GLICOAugment, SphereCodes


def rewrite(path, *, tensors=None, **info):
    """Change tensors or the header's JSON of a file."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    metadata["info"] = json.dumps({**json.loads(metadata["info"]), **info})
    save_file({**load_file(path), **(tensors or {})}, path, metadata)


@pytest.fixture
def path(augment, tmp_path):
    augment.save(tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def test_a_loaded_file_gives_the_same_images_bit_for_bit(dataset, images, tmp_path):
    augment = quick_fit(dataset, unlabeled=TensorDataset(smooth_images(3, seed=4)), p=0.7, max_ratio=0.6)
    augment.interpolation, augment.noise_std = "lerp", 0.3
    augment.save(tmp_path / "a.safetensors")
    loaded = GLICOAugment.load(tmp_path / "a.safetensors")
    assert torch.equal(loaded.reconstruct(), augment.reconstruct())
    torch.manual_seed(0)
    expected = augment(images, LABELS)[0]
    torch.manual_seed(0)
    assert torch.equal(loaded(images, LABELS)[0], expected)
    assert torch.equal(loaded.codes.codes, augment.codes.codes)
    assert torch.equal(loaded.classifier(images / 255), augment.classifier(images / 255))
    assert (loaded.p, loaded.max_ratio, loaded.interpolation, loaded.noise_std) == (0.7, 0.6, "lerp", 0.3)
    assert (loaded.config, loaded.classes, loaded.history) == (augment.config, augment.classes, augment.history)
    assert loaded.record.fingerprint == augment.record.fingerprint
    assert repr(loaded) == repr(augment)


def test_a_loaded_file_recognises_the_fitted_images(path, dataset):
    loaded = GLICOAugment.load(path)
    loaded.p = 1.0
    loaded.max_ratio = loaded.noise_std = 0.0
    image, _ = loaded.wrap(dataset)[5]
    assert ((image / 255) - loaded.reconstruct([5])[0]).abs().max() < 0.003


def test_codes_load_alone(path, augment):
    codes = SphereCodes.load(path)
    assert torch.equal(codes.codes, augment.codes.codes)
    assert torch.equal(codes.labels, LABELS)


def test_a_module_as_loss_is_recorded_by_name(dataset, tmp_path):
    quick_fit(dataset, loss=nn.MSELoss(), epochs=1).save(tmp_path / "a.safetensors")
    assert GLICOAugment.load(tmp_path / "a.safetensors").config.loss.startswith("<MSELoss ")
    with pytest.raises(ValueError, match="pass that module as loss= again"):
        GLICOAugment.fit(dataset, GLICOAugment.load(tmp_path / "a.safetensors").config, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"epochs": "many"}}, "epochs must be"),
        ({"config": {"colour": 1}}, "unknown fit setting colour"),
        ({"config": 3}, "config must be an object"),
        ({"swap": {"p": 2}}, "p must be"),
        ({"swap": {"q": 2}}, "unknown swap setting q"),
        ({"class_names": ["a"]}, "do not fit together"),
        ({"class_names": "abc"}, "class_names must be a list"),
        ({"image_shape": [3, 12]}, "image_shape must be three positive integers"),
        ({"image_shape": [1, 12, 10]}, "size mismatch"),
        ({"fingerprint": "0" * 32}, "fingerprint is not that of its labels"),
        ({"seed": "zero"}, "seed and restarts must be integers"),
        ({"tensors": {"codes": torch.ones(8, 6)}}, "not on the unit sphere"),
        ({"tensors": {"codes": torch.ones(2, 6)}}, "labels must have shape"),
        ({"tensors": {"labels": LABELS.float()}}, "labels must be integers"),
        ({"tensors": {"labels": LABELS.roll(1)}}, "fingerprint is not that of its labels"),
        ({"tensors": {"losses": torch.zeros(4)}}, "losses must have 3 columns"),
        ({"tensors": {"glimpses": torch.zeros(8)}}, "glimpses are not integers"),
        ({"tensors": {"glimpses": torch.zeros(7, dtype=torch.int64)}}, "glimpses are not integers, one a digest"),
        ({"tensors": {"images": torch.zeros(8, 3, 12, 10)}}, "images must be uint8 of shape"),
        ({"tensors": {"images": torch.zeros(7, 3, 12, 10, dtype=torch.uint8)}}, "images must be uint8 of shape"),
        ({"tensors": {"generator.to_image.weight": torch.zeros(9)}}, "size mismatch"),
    ],
)
def test_a_header_that_does_not_fit_its_tensors_is_refused(path, change, message):
    rewrite(path, **change)
    with pytest.raises(FileFormatError, match=f"(?s)is damaged: .*{message}"):
        GLICOAugment.load(path)


@pytest.mark.parametrize("name", ["codes", "digests", "glimpses", "generator.to_image.weight", "classifier.head.bias"])
def test_a_missing_tensor_is_named(path, name):
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file({key: value for key, value in load_file(path).items() if key != name}, path, metadata)
    with pytest.raises(FileFormatError, match=name.removeprefix("generator.").removeprefix("classifier.")):
        GLICOAugment.load(path)


def test_a_missing_header_field_is_named(path):
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    info = json.loads(metadata["info"])
    del info["seed"]
    save_file(load_file(path), path, {**metadata, "info": json.dumps(info)})
    with pytest.raises(FileFormatError, match="is damaged: lacks 'seed'"):
        GLICOAugment.load(path)


def test_an_unwritable_path_is_refused(augment, tmp_path):
    with pytest.raises(OSError, match="there is no folder"):
        augment.save(tmp_path / "nowhere" / "a.safetensors")
    with pytest.raises(OSError, match="is a folder"):
        augment.save(tmp_path)
