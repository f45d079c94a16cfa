import gc
import json
import math
import os
import warnings
from pathlib import Path

import pytest
import torch
from conftest import LABELS, quick_fit, smooth_images, write_sealed
from safetensors import safe_open
from safetensors.torch import load
from torch import nn
from torch.utils.data import TensorDataset

from glico_augment import FileFormatError, GLICOAugment, LocalStyle, SphereCodes
from glico_augment.files.format import CHECKPOINT, FITTED, FORMAT, STYLE, read_file
from glico_augment.images.values import from_unit

CODES = SphereCodes.random(LABELS, 6, generator=torch.Generator().manual_seed(0)).codes.detach()


def rewrite(path, *, tensors=None, **info):
    """Change tensors or the header's JSON of a file, with a right checksum; None takes a tensor out."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    metadata["info"] = json.dumps({**json.loads(metadata["info"]), **info})
    kept = {name: value for name, value in {**load(path.read_bytes()), **(tensors or {})}.items() if value is not None}
    write_sealed(path, kept, metadata)


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
    assert GLICOAugment.load(tmp_path / "a.safetensors").config.loss == "<MSELoss>"
    with pytest.raises(ValueError, match="pass that module as loss= again"):
        GLICOAugment.fit(dataset, config=GLICOAugment.load(tmp_path / "a.safetensors").config, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"epochs": "many"}}, "epochs must be"),
        ({"config": {"colour": 1}}, "unknown setting colour"),
        ({"config": 3}, "FitConfig must be an object"),
        ({"swap": {"p": 2}}, "p must be"),
        ({"swap": {"q": 2}}, "unknown setting q"),
        ({"class_names": ["a"]}, "do not fit together"),
        ({"class_names": "abc"}, "class_names must be a list"),
        ({"image_shape": [3, 12]}, "image_shape must be three positive integers"),
        ({"image_shape": [1, 12, 10]}, "the tensor '.*' must be .* of shape .*got"),
        ({"fingerprint": "0" * 32}, "fingerprint is not that of its labels"),
        ({"seed": "zero"}, "seed must be an integer of at least 0"),
        ({"tensors": {"codes": torch.ones(8, 6)}}, "not on the unit sphere"),
        ({"tensors": {"codes": torch.ones(2, 6)}}, "labels must have shape"),
        ({"tensors": {"labels": LABELS.float()}}, "its labels int64; got .*float32"),
        ({"tensors": {"codes": CODES.double()}}, "its codes must be float32 .*got .*float64"),
        ({"tensors": {"codes": CODES * math.nan}}, "the tensor 'codes' holds NaN"),
        ({"tensors": {"generator.background": torch.full((3, 12, 10), math.inf)}}, "background' holds NaN or an inf"),
        ({"tensors": {"generator.background": torch.zeros(3, 12, 10).double()}}, "must be .*float32.*got .*float64"),
        ({"tensors": {"generator.extra": torch.zeros(3)}}, "a tensor 'generator.extra' too many"),
        ({"tensors": {"generator.\x1b[2J": torch.zeros(3)}}, r"a tensor 'generator.\\x1b\[2J' too many"),
        ({"config": {"\x1b[2J": 1}}, r"unknown setting \\x1b\[2J"),
        ({"image_shape": [3, 10**9, 10**9]}, ""),
        ({"config": {"loss": "x" * 10**6}}, "loss must be .*…$"),
        ({"tensors": {"labels": LABELS.roll(1)}}, "fingerprint is not that of its labels"),
        ({"tensors": {"losses": torch.zeros(4)}}, "tensor 'losses' must be .*float32"),
        ({"tensors": {"digests": torch.zeros(8)}}, ""),
        ({"tensors": {"digests": torch.zeros(7, dtype=torch.int64)}}, "fingerprint is not that"),
        ({"tensors": {"images": torch.zeros(8, 3, 12, 10)}}, "tensor 'images' must be .*uint8 of shape"),
        (
            {"tensors": {"images": torch.zeros(7, 3, 12, 10, dtype=torch.uint8)}},
            "tensor 'images' must be .*uint8 of shape",
        ),
        (
            {"tensors": {"generator.to_image.weight": torch.zeros(9)}},
            r"'generator.to_image.weight' must be .*got .*\(9,\)",
        ),
    ],
)
def test_a_header_that_does_not_fit_its_tensors_is_refused(path, change, message):
    rewrite(path, **change)
    with pytest.raises(FileFormatError, match=f"(?s)is damaged: .*{message}") as caught:
        GLICOAugment.load(path)
    assert str(caught.value).removeprefix(str(path)).isprintable()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("width", [9, 10**9, 10**18, 10**30])
def test_a_width_that_the_tensors_do_not_have_costs_no_memory(path, augment, width):
    rewrite(path, config={**augment.config.to_json(), "generator_width": width})
    with pytest.raises(FileFormatError, match="is damaged"):
        GLICOAugment.load(path)


@pytest.mark.parametrize("name", ["codes", "digests", "images", "generator.to_image.weight", "classifier.head.bias"])
def test_a_missing_tensor_is_named(path, name):
    rewrite(path, tensors={name: None})
    with pytest.raises(FileFormatError, match=f"lacks .*'{name}'"):
        GLICOAugment.load(path)


def test_a_missing_header_field_is_named(path):
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    info = json.loads(metadata["info"])
    del info["seed"]
    write_sealed(path, load(path.read_bytes()), {**metadata, "info": json.dumps(info)})
    with pytest.raises(FileFormatError, match="is damaged: it lacks 'seed'"):
        GLICOAugment.load(path)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"codes": torch.ones(8, 6)}, "is damaged: its codes are not on the unit sphere"),
        ({"codes": CODES.double()}, "is damaged: its codes must be float32"),
        ({"codes": CODES[:4].clone()}, "is damaged: labels must have shape"),
        ({"labels": None}, "lacks the tensors labels"),
    ],
)
def test_codes_that_are_none_are_refused_when_they_load_alone(path, tensors, message):
    rewrite(path, tensors=tensors)
    with pytest.raises(FileFormatError, match=message):
        SphereCodes.load(path)


@pytest.mark.parametrize("name", ["images", "codes", "generator.to_image.weight"])
def test_one_wrong_bit_anywhere_is_refused_by_all_that_read_the_file(path, augment, name):
    content = bytearray(path.read_bytes())
    values = load(bytes(content))[name]
    place = content.index(values.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    content[place + 5] ^= 1
    path.write_bytes(content)
    for read in (GLICOAugment.load, SphereCodes.load):
        with pytest.raises(FileFormatError, match="is damaged: its checksum is not that of its content"):
            read(path)


def test_a_model_that_could_not_be_read_again_is_not_written(augment, path):
    before = path.read_bytes()
    background = augment.generator.background.data
    for change, message in [(background.double(), "must be .*float32"), (background * math.nan, "holds NaN")]:
        augment.generator.background.data = change
        with pytest.raises(ValueError, match=message):
            augment.save(path)
    assert path.read_bytes() == before


def test_what_was_loaded_does_not_change_with_the_file(path, augment):
    loaded = GLICOAugment.load(path)
    codes = SphereCodes.load(path)
    with path.open("r+b") as file:  # in place, as cp does
        file.seek(1000)
        file.write(bytes(path.stat().st_size - 1000))
    assert torch.equal(loaded.images, augment.images)
    assert torch.equal(codes.codes, augment.codes.codes)


def test_no_shared_memory_and_no_descriptor_is_needed_to_fit_save_and_load(dataset, path, monkeypatch):
    def no_memory(*args):
        raise RuntimeError("unable to allocate shared memory(shm)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", no_memory)
    monkeypatch.setattr(torch.UntypedStorage, "share_memory_", no_memory)
    monkeypatch.setattr(torch.UntypedStorage, "_new_shared", no_memory)
    quick_fit(dataset, epochs=1, checkpoint=path.with_name("c")).save(path)
    augments = [GLICOAugment.load(path)]
    gc.collect()
    descriptors = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None  # noqa: PTH112, PTH208
    augments += [GLICOAugment.load(path) for _ in range(20)]
    if descriptors is not None:
        assert len(os.listdir("/proc/self/fd")) <= descriptors  # noqa: PTH208


def test_an_unwritable_path_is_refused(augment, tmp_path):
    with pytest.raises(OSError, match="there is no folder"):
        augment.save(tmp_path / "nowhere" / "a.safetensors")
    with pytest.raises(OSError, match="is a folder"):
        augment.save(tmp_path)


OLD = Path(__file__).parent / "data"


def test_a_file_of_version_4_gives_the_images_it_gave_and_recognises_them(tmp_path):
    augment = GLICOAugment.load(OLD / "fitted-4.safetensors")
    expected = load((OLD / "fitted-4-images.safetensors").read_bytes())
    for name, made in [("reconstruct", augment.reconstruct()), ("interpolate", augment.interpolate(0, 1, steps=3))]:
        # One level apart where processors round differently.
        assert (from_unit(made, torch.uint8).int() - expected[name].int()).abs().max() <= 1
    assert (augment.p, augment.max_ratio, augment.classes) == (0.7, 0.6, ("cat", "dog", "owl"))
    with safe_open(OLD / "fitted-4.safetensors", framework="pt") as file:
        assert torch.equal(file.get_tensor("codes"), augment.codes.codes)
        assert torch.equal(file.get_tensor("generator.to_image.weight"), augment.generator.to_image.weight)
    assert len(augment.record.digests.unique()) == len(augment.codes) == 10  # two of them unlabelled
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        augment.wrap(TensorDataset(smooth_images(8), LABELS))
    augment.save(tmp_path / "5")
    assert torch.equal(GLICOAugment.load(tmp_path / "5").reconstruct(), augment.reconstruct())
    assert torch.equal(SphereCodes.load(OLD / "fitted-4.safetensors").codes, augment.codes.codes)


def test_the_plain_swap_with_one_ratio_is_that_of_version_0_2_0():
    augment = GLICOAugment.load(OLD / "fitted-4.safetensors")
    assert (augment.cells, augment.carry) == (1, False)
    images, expected = smooth_images(8), load((OLD / "fitted-4-images.safetensors").read_bytes())  # made by 0.2.0
    torch.manual_seed(0)
    swapped, _ = augment(images, LABELS)
    torch.manual_seed(2)
    wrapped = augment.wrap(TensorDataset(images, LABELS))
    for name, made in [("swapped", swapped), ("wrapped", torch.stack([wrapped[index][0] for index in range(8)]))]:
        is_real = [torch.equal(image, real) for image, real in zip(made, images, strict=True)]
        assert is_real == [torch.equal(image, real) for image, real in zip(expected[name], images, strict=True)]
        assert 0 < sum(is_real) < 8
        # Bit for bit on the processor that made them; one level apart where processors round differently.
        assert (made.int() - expected[name].int()).abs().max() <= 1


def test_a_style_of_version_4_is_read_and_a_checkpoint_of_it_is_refused(tmp_path):
    style = LocalStyle.load(OLD / "style-4.safetensors")
    assert (style.p, style.max_ratio, style.grid) == (0.8, 0.7, 2)
    torch.testing.assert_close(style.styles, LocalStyle(TensorDataset(smooth_images(8), LABELS), grid=2).styles)
    write_sealed(tmp_path / "c", {}, {"format": FORMAT, "format_version": "4", "kind": CHECKPOINT, "info": "{}"})
    with pytest.raises(FileFormatError, match="version 4, and a checkpoint is continued by the release that wrote it"):
        read_file(tmp_path / "c", kind=CHECKPOINT)


@pytest.mark.parametrize("name", ["fitted-4.safetensors", "style-4.safetensors"])
def test_a_damaged_file_of_version_4_is_refused(tmp_path, name):
    content = (OLD / name).read_bytes()
    for place in range(8, len(content), len(content) // 60):
        damaged = bytearray(content)
        damaged[place] ^= 1
        (tmp_path / "x").write_bytes(damaged)
        with pytest.raises(FileFormatError):
            read_file(tmp_path / "x", kind=STYLE if name.startswith("style") else FITTED)
