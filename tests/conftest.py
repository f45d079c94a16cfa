"""What the tests share: a tiny data set that fits in a second, and one fit of it."""

from __future__ import annotations

import hashlib
import re

import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from glico_augment import FitConfig, GLICOAugment

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


def smooth_images(count: int, *, channels: int = 3, height: int = 12, width: int = 10, seed: int = 0) -> Tensor:
    """Random uint8 images ``(count, channels, height, width)`` without high frequencies."""
    coarse = torch.rand(count, channels, 3, 3, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    return (fine * 255).round().to(torch.uint8)


def quick_fit(dataset, **settings):
    """A fit of a second, without a bar."""
    return GLICOAugment.fit(dataset, config=QUICK, **{"progress": False, "device": "cpu", **settings})


def sealed(content: bytes) -> bytes:
    """A file with the checksum it should have, where it has a place for one: what a forger would write."""
    blank = re.sub(rb'"checksum":"[0-9a-f]{64}"', b'"checksum":"' + b"0" * 64 + b'"', content, count=1)
    checksum = hashlib.sha256(blank).hexdigest().encode()
    return blank.replace(b'"checksum":"' + b"0" * 64, b'"checksum":"' + checksum, 1)


def write_sealed(path, tensors, metadata):
    """Write any tensors and metadata with a right checksum, whatever the library would write."""
    path.write_bytes(sealed(safetensors.torch.save(tensors, {**metadata, "checksum": "0" * 64})))


@pytest.fixture(scope="session")
def images() -> Tensor:
    return smooth_images(len(LABELS))


@pytest.fixture(scope="session")
def dataset(images) -> TensorDataset:
    return TensorDataset(images, LABELS)


@pytest.fixture(scope="session")
def _fitted(dataset) -> GLICOAugment:
    return quick_fit(dataset)


@pytest.fixture
def augment(_fitted, tmp_path) -> GLICOAugment:
    """A fitted augmentation that a test may change."""
    _fitted.save(tmp_path / "fitted.safetensors")
    return GLICOAugment.load(tmp_path / "fitted.safetensors")
