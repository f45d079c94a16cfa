"""What may be given instead of a dataset: a folder, images and labels, or images alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from torch import Tensor
from torch.utils.data import StackDataset

from glico_augment.data.folders import ClassFolders, ImageFiles
from glico_augment.data.image_set import check_dataset
from glico_augment.images.values import COLOUR_CHANNELS


def as_dataset(dataset: Any, labels: Any = None) -> Any:
    """A dataset of pairs from a folder, or from images and labels; the dataset or the images where there are none.

    Args:
        dataset: a dataset; the path of a folder with one folder per class, see :class:`ClassFolders`; or ``n`` images:
            a tensor, an array or a sequence of what a dataset may have as image.
        labels: None; or ``n`` integers: a tensor, an array, a sequence or a column of a table.

    Raises:
        OSError, TypeError, ValueError: for what is none of these, and for another number of labels than of images.
    """
    if labels is None:
        if isinstance(dataset, (str, os.PathLike)):
            return ClassFolders(Path(dataset))
        return as_images(dataset) if isinstance(dataset, (Tensor, np.ndarray)) else dataset
    if hasattr(labels, "__array__") and hasattr(labels, "__len__") and not isinstance(labels, Tensor):
        labels = np.asarray(labels)  # a column of a table counts its rows otherwise than by their places
    if isinstance(labels, (str, bytes)) or not isinstance(labels, (Tensor, np.ndarray, Sequence)):
        raise TypeError(
            f"the second argument of fit is the labels of images, fit(images, labels); got {labels!r}. Settings are "
            "named: fit(dataset, epochs=50), fit(dataset, config=FitConfig(…))"
        )
    if not isinstance(dataset, (Tensor, np.ndarray, Sequence)):
        raise TypeError(
            f"with labels, images must be a tensor, an array or a sequence; got {type(dataset).__name__}. A dataset "
            "that has its labels already is given alone"
        )
    if len(dataset) != len(labels):
        raise ValueError(f"got {len(dataset)} images but {len(labels)} labels")
    columns: Any = (dataset, labels)
    return StackDataset(*columns)


def as_images(images: Any) -> Any:
    """A map-style dataset whose samples are images, or begin with one.

    Args:
        images: such a dataset; a tensor ``(n, C, H, W)`` or ``(n, H, W)``; an array, its channels first or last; a
            sequence of images; or the path of a folder, whose images may lie in any subfolders.

    Raises:
        OSError, TypeError, ValueError: for what is none of these, an empty set, or one image alone.
    """
    if isinstance(images, (str, os.PathLike)):
        return ImageFiles(Path(images))
    if isinstance(images, (Tensor, np.ndarray)):
        # Three dimensions may be grey images, or one in colour, of which every row would be an image.
        ends = images.shape[:1] if isinstance(images, Tensor) else images.shape[::2]
        if images.ndim not in (3, 4) or (images.ndim == 3 and any(end in COLOUR_CHANNELS for end in ends)):
            raise ValueError(
                f"expected images (n, C, H, W) or (n, H, W); got shape {tuple(images.shape)}. Grey images need their "
                "channel where they are few, (n, 1, H, W), and one image alone is images[None]"
            )
    if isinstance(images, PIL.Image.Image):
        raise TypeError("expected images; got one PIL image: give it in a list, [image]")
    check_dataset(images, "images")
    return images
