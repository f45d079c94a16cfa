"""Swap one image, a list of images or a batch, given their labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from glico_augment.data.labels import check_labels, read_label
from glico_augment.devices import to_device
from glico_augment.images import convert, values
from glico_augment.synthesis.draw import draw_rows
from glico_augment.synthesis.synthesizer import Synthesizer


def swap_images(maker: Synthesizer, images: Any, labels: Any, *, check: bool) -> Any:
    """Swap one image of any kind, a list of them, or a batch; ``check`` is for :func:`swap_batch`.

    Raises:
        TypeError: for images of another kind, or labels that are no integers.
        ValueError: for normalised images, or labels and images of different numbers.
    """
    if isinstance(images, (list, tuple)):
        return swap_list(maker, images, labels)
    if isinstance(images, Tensor) and images.ndim == 4:
        return swap_batch(maker, images, labels, check=check)
    is_image = isinstance(images, Tensor) and images.ndim == 3
    if is_image and isinstance(labels, Tensor) and labels.ndim == 1 and len(labels) != 1:
        raise ValueError(
            f"one image {tuple(images.shape)} came with {len(labels)} labels; a batch has shape (k, C, H, W), one of "
            "grey images as well: images[:, None]"
        )
    return swap_list(maker, [images], [read_label(labels)])[0]


def labels_alone(image: Any) -> Any:
    """The labels, all 0, of an image, a list of images or a batch ``(k, C, H, W)``, to a fit without labels."""
    if isinstance(image, (list, tuple)):
        return [0] * len(image)
    is_batch = isinstance(image, Tensor) and image.ndim == 4
    return torch.zeros(len(image), dtype=torch.int64, device="cpu") if is_batch else 0


def swap_list(maker: Synthesizer, images: Sequence[Any], raw_labels: Any) -> list[Any]:
    """Swap images of any kind and size, each with its own coin, in one generator pass.

    Raises:
        TypeError: for images of another kind, or labels that are no integers.
        ValueError: for normalised images, or labels and images of different numbers.
    """
    labels = check_labels(raw_labels, images).cpu()
    for image in images:
        convert.check_image(image)
    is_known = maker.find_known(labels)
    rows = [row for row in draw_rows(len(images), maker.p).tolist() if is_known[row]]
    swapped = list(images)
    if rows:
        made = maker.transform(maker.make_params(labels[rows]))
        for row, image in zip(rows, made, strict=True):
            swapped[row] = convert.like(image, images[row])
    return swapped


def swap_batch(maker: Synthesizer, images: Tensor, labels: Any, *, check: bool) -> Tensor:
    """Swap images of a batch ``(k, C, H, W)``, each with its own coin.

    Args:
        maker: of the synthetic images.
        images: uint8, uint16 or float in ``[0, 1]``, on any device.
        labels: ``(k,)`` integers.
        check: whether values and labels are checked, which waits for an accelerator.

    Raises:
        TypeError: for labels that are not integers, or images of another kind.
        ValueError: for normalised images, or labels and images of different numbers.
    """
    labels = to_device(check_labels(labels, images), images.device).as_subclass(Tensor)
    values.check_dtype(images)
    if check:
        values.check_values(images)
        maker.find_known(labels)
    rows = to_device(draw_rows(len(images), maker.p), images.device)
    if len(rows) == 0:
        return images
    made, is_known = maker.make(labels[rows])
    synthetic = values.from_unit(values.like_shape(made, tuple(images.shape[1:])), images.dtype)
    return values.as_type_of(values.replace_rows(images.as_subclass(Tensor), rows, synthetic, is_known), images)
