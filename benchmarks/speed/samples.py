"""Random images in memory, as a dataset of the kinds that users have."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import PIL.Image
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.functional import to_pil_image

N_CLASSES = 10
KINDS = ("PIL", "tensor", "JPEG")


class Samples(Dataset):
    """Images in memory: ``"PIL"`` images, uint8 ``"tensor"`` or ``"JPEG"`` files, decoded when asked for."""

    def __init__(self, images: Tensor, labels: Tensor, *, kind: str, transform: Any = None) -> None:
        self.images: Any = images
        self.read: Callable[[Any], Any] = _as_is
        if kind == "PIL":
            self.images = [to_pil_image(image) for image in images]
        elif kind == "JPEG":
            self.images, self.read = [_encode(image) for image in images], _decode
        self.labels = labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.read(self.images[index])
        return (image if self.transform is None else self.transform(image)), self.labels[index]


def _as_is(image: Any) -> Any:
    return image


def _encode(image: Tensor) -> bytes:
    file = io.BytesIO()
    to_pil_image(image).save(file, "JPEG")
    return file.getvalue()


def _decode(content: bytes) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(content)).convert("RGB")


def random_images(count: int, side: int) -> tuple[Tensor, Tensor]:
    """Smooth random images, uint8, and labels."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    images = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    return (255 * images).round().to(torch.uint8), torch.arange(count) % N_CLASSES
