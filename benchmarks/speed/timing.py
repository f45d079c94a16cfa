"""Ratios of two times, and the random images that are timed on."""

from __future__ import annotations

import io
import statistics
from collections.abc import Callable
from typing import Any

import PIL.Image
import torch
from torch import Tensor
from torch.utils.benchmark import Timer
from torch.utils.data import Dataset
from torchvision.transforms.functional import to_pil_image

Action = Callable[[], Any]
N_CLASSES = 10
KINDS = ("PIL", "tensor", "JPEG")


def ratio(
    subject: Action, reference: Action, rounds: int, *, scale: float = 1, is_rate: bool = False, warm_up: int = 1
) -> dict[str, float]:
    """Median and quartiles of the ratio of two times, measured in turn; and the median times in milliseconds.

    There are at least two ``rounds``, after ``warm_up`` calls. ``is_rate`` makes it the ratio of speeds.
    """
    timers = [Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads()) for run in (subject, reference)]
    for timer in timers:
        timer.timeit(warm_up)
    times = [tuple(timer.timeit(1).median for timer in timers) for _ in range(rounds)]
    ratios = [theirs / ours if is_rate else scale * ours / theirs for ours, theirs in times]
    low, middle, high = statistics.quantiles(ratios, n=4)
    ours, theirs = (1000 * statistics.median(column) for column in zip(*times, strict=True))
    return {"ratio": middle, "low": low, "high": high, "milliseconds": ours, "reference_milliseconds": theirs}


class Samples(Dataset):
    """Images in memory: ``"PIL"`` images, uint8 ``"tensor"`` or ``"JPEG"`` files, decoded when asked for."""

    def __init__(self, images: Tensor, labels: Tensor, *, kind: str, transform: Any = None) -> None:
        self.images: Any = images
        if kind != "tensor":
            self.images = [to_pil_image(image) for image in images]
        if kind == "JPEG":
            self.images = [encode(image) for image in self.images]
        self.labels = labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.images[index]
        if isinstance(image, bytes):
            image = PIL.Image.open(io.BytesIO(image)).convert("RGB")
        return (image if self.transform is None else self.transform(image)), self.labels[index]


def encode(image: PIL.Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG")
    return file.getvalue()


def random_images(count: int, side: int) -> tuple[Tensor, Tensor]:
    """Smooth random images, uint8, and labels."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    return (255 * images).round().to(torch.uint8), torch.arange(count) % N_CLASSES
