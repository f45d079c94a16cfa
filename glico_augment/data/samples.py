"""Find the image and the label in whatever structure a transform is called with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import PIL.Image
from torch import Tensor
from torchvision import tv_tensors

LabelsGetter = Callable[[Any], Any]


def find_labels(sample: Any) -> Any:
    """The label or labels of a sample, found as torchvision's ``v2.CutMix`` finds them.

    The second item of a tuple or list, or the item of a mapping (the sample itself, or its second item) whose key
    is ``labels`` in any case or else contains ``label``.

    Raises:
        ValueError: if there is none.
    """
    if isinstance(sample, (tuple, list)) and len(sample) > 1:
        sample = sample[1]
    elif not isinstance(sample, Mapping):
        raise ValueError(
            "GLICOAugment swaps within a class and needs the label: call augment(image, label) or "
            f"augment(images, labels); got a {type(sample).__name__} alone"
        )
    if not isinstance(sample, Mapping):
        return sample
    names = [key for key in sample if isinstance(key, str)]
    candidates = [key for key in names if key.lower() == "labels"] or [key for key in names if "label" in key.lower()]
    if not candidates:
        raise ValueError(f"no key with 'label' among {names}; pass labels_getter=, a function from sample to labels")
    return sample[candidates[0]]


def find_image(leaves: list[Any], labels: Any, *, keeps_geometry: bool = False) -> int:
    """The position of the one image among the leaves of a sample.

    A PIL image or ``tv_tensors.Image``; where there is none, the first plain tensor or array of at least two
    dimensions, other than the labels, as in torchvision's transforms. With ``keeps_geometry`` boxes, masks and other
    annotations of the geometry may be there, which a swap would falsify.

    Raises:
        ValueError: if there is no image or several, or such an annotation without ``keeps_geometry``.
    """
    for leaf in leaves:
        if not keeps_geometry and isinstance(leaf, tv_tensors.TVTensor) and not isinstance(leaf, tv_tensors.Image):
            raise ValueError(
                f"GLICOAugment does not support {type(leaf).__name__}: a synthetic image has only its class in common "
                "with the real one"
            )
    found = [index for index, leaf in enumerate(leaves) if isinstance(leaf, (PIL.Image.Image, tv_tensors.Image))]
    if not found:
        found = [
            index
            for index, leaf in enumerate(leaves)
            if isinstance(leaf, (Tensor, np.ndarray))
            and not isinstance(leaf, tv_tensors.TVTensor)
            and leaf.ndim >= 2
            and leaf is not labels
        ][:1]
    if not found:
        raise ValueError("expected an image or a batch of images in the sample, found 0")
    if len(found) > 1:
        raise ValueError(f"expected one image in the sample, found {len(found)}; call the transform for each")
    return found[0]


def split_sample(sample: Any) -> tuple[Any, Any]:
    """The image and the label of a dataset's sample.

    Raises:
        TypeError: unless it is a pair.
    """
    if isinstance(sample, dict):
        raise TypeError(
            f"a sample must be a pair (image, label), got a dict with keys {sorted(map(str, sample))}. Wrap the "
            "dataset in one whose __getitem__ returns (sample['image'], sample['label'])"
        )
    if not isinstance(sample, (tuple, list)) or len(sample) != 2:
        shown = f"{type(sample).__name__} of {len(sample)}" if isinstance(sample, (tuple, list)) else type(sample)
        raise TypeError(f"a sample must be a pair (image, label), got {shown}")
    return sample[0], sample[1]
