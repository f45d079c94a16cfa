"""What the tests share: a tiny data set that fits in a second, and one fit of it."""

from __future__ import annotations

import json
import re
import signal
from importlib.util import find_spec

import PIL.Image
import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from glico_augment import FitConfig, GLICOAugment, LocalStyle
from glico_augment.cli import main
from glico_augment.files.format import checksum

torch.set_num_threads(1)  # tiny tensors: threads cost more than they give

LABELS = torch.tensor([3, 3, 3, -1, -1, -1, 40, 40])  # not contiguous, not sorted
QUICK = FitConfig(
    epochs=6,
    batch_size=4,
    lr=1e-2,
    latent_dim=6,
    noise_dim=3,
    generator_width=8,
    classifier_width=4,
    precision="float32",
)
PLAIN = {"max_ratio": 0.4, "cells": 1, "carry": False}
"""The swap of the paper, whose images are those of the generator: what most tests compare with."""

TENSOR_KINDS = {
    "uint8": lambda image: image,
    "uint16": lambda image: (image.int() * 257).to(torch.uint16),
    "float32": lambda image: image / 255,
    "float64": lambda image: image.double() / 255,
    "float16": lambda image: (image / 255).half(),
    "bfloat16": lambda image: (image / 255).bfloat16(),
}
"""A uint8 image as a tensor of each type that an image may have."""


def smooth_images(count: int, *, channels: int = 3, height: int = 12, width: int = 10, seed: int = 0) -> Tensor:
    """Random uint8 images ``(count, channels, height, width)`` without high frequencies."""
    coarse = torch.rand(count, channels, 3, 3, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    return (fine * 255).round().to(torch.uint8)


def mid_grey_images(count: int, channels: int, height: int, width: int) -> Tensor:
    """Random float images whose cells keep away from 0 and 1, so that no change of style is clamped."""
    return 0.4 + 0.2 * torch.rand(count, channels, height, width)


def quick_fit(dataset, **settings):
    """A fit of a second, without a bar, for plain swaps."""
    plain = {} if "swap" in settings else PLAIN
    return GLICOAugment.fit(dataset, config=QUICK, **{**plain, "progress": False, "device": "cpu", **settings})


def sealed(content: bytes) -> bytes:
    """A file with the checksum it should have, if any reader gets as far as that: what a forger would write."""
    end = 8 + int.from_bytes(content[:8], "little")
    try:
        seal = checksum(json.loads(content[8:end])["__metadata__"], safetensors.torch.load(content))
    except Exception:
        return content
    return re.sub(rb'"checksum":"[0-9a-f]{64}"', b'"checksum":"%b"' % seal.encode(), content, count=1)


def write_sealed(path, tensors, metadata):
    """Write any tensors and metadata with a right checksum, whatever the library would write."""
    metadata = {**metadata, "checksum": checksum(metadata, tensors)}
    path.write_bytes(safetensors.torch.save(tensors, metadata))


@pytest.fixture(scope="session")
def images() -> Tensor:
    return smooth_images(len(LABELS))


@pytest.fixture(scope="session")
def dataset(images) -> TensorDataset:
    return TensorDataset(images, LABELS)


@pytest.fixture(scope="session")
def _fitted(dataset) -> GLICOAugment:
    return quick_fit(dataset)


@pytest.fixture(scope="session")
def learned(dataset) -> GLICOAugment:
    """A fit that has learned its images; not to be changed."""
    return quick_fit(dataset, epochs=60)


@pytest.fixture
def augment(_fitted, tmp_path) -> GLICOAugment:
    """A fitted augmentation that a test may change."""
    _fitted.save(tmp_path / "fitted.safetensors")
    return GLICOAugment.load(tmp_path / "fitted.safetensors")


@pytest.fixture
def default_signals():
    """The handlers of a program in the foreground; in the background (``nohup … &``) SIGINT is ignored."""
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def style() -> LocalStyle:
    """Every image changed, to the style of one of eight others."""
    return LocalStyle(smooth_images(8, seed=9), p=1.0)


def save_photos(root, *, seed=0, suffix="jpg", change=lambda picture: picture):
    """Four photographs of each of two classes, each PIL image changed before it is saved."""
    for index, image in enumerate(smooth_images(8, height=16, width=16, seed=seed)):
        path = root / ("cat", "dog")[index % 2] / f"{index}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        change(PIL.Image.fromarray(image.permute(1, 2, 0).numpy())).save(path)
    return root


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder with train/ and test/; not to be changed."""
    root = tmp_path_factory.mktemp("photos")
    for seed, part in enumerate(("train", "test")):
        save_photos(root / part, seed=seed)
    return root


QUICK_WIDTHS = ("--latent-dim", "6", "--generator-width", "4", "--classifier-width", "4")
QUICK_OPTIONS = ("--epochs", "2", *QUICK_WIDTHS, "--device", "cpu", "--quiet")


@pytest.fixture(scope="session")
def photos_fit(photos, tmp_path_factory):
    """What ``glico fit`` wrote of the training photographs."""
    path = tmp_path_factory.mktemp("fits") / "photos.safetensors"
    assert main(["fit", str(photos / "train"), "-o", str(path), *QUICK_OPTIONS]) == 0
    return path


@pytest.fixture
def few_made(monkeypatch):
    """Comparisons that make 8 images of each kind and not thousands."""
    monkeypatch.setattr("glico_augment.comparison.training.N_MADE", 8)


@pytest.fixture
def glico(capsys):
    """A function that runs ``glico``; the exit code, standard output and standard error."""

    def run(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as error:
            code = error.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def pytest_runtest_setup(item):
    """Skip a test of another library where that is not installed."""
    for mark in item.iter_markers("ecosystem"):
        if find_spec(mark.kwargs["needs"]) is None:
            pytest.skip(f"needs {mark.kwargs['needs']}: pip install 'glico-augment[ecosystem]'")
