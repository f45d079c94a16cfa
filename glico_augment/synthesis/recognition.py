"""Which images of a dataset were fitted."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from glico_augment.data.reading import read_sample
from glico_augment.data.samples import SampleLayout
from glico_augment.fit.record import FitRecord
from glico_augment.images.convert import channels_of
from glico_augment.images.identity import digest
from glico_augment.images.values import common_channels
from glico_augment.model.codes import SphereCodes

_LOOK_AT_ALL = 2000  # of a larger dataset some are looked at, which costs no more than a few seconds
_LOOK_AT_SOME = 500


class Recognizer:
    """Finds the codes of images that were fitted, by the digest of their pixels and their label.

    Args:
        record: of the fit.
        codes: of the fit.
    """

    def __init__(self, record: FitRecord, codes: SphereCodes) -> None:
        labels = codes.labels.tolist()
        self.channels = record.image_shape[0]
        self._digests = record.digests.tolist()
        self._codes_of: dict[tuple[int, int], list[int]] = {}
        for code, digest_and_label in enumerate(zip(record.digests[: len(labels)].tolist(), labels, strict=True)):
            self._codes_of.setdefault(digest_and_label, []).append(code)

    def look_at(self, image: Any) -> tuple[int, int]:
        """The digest of an image and its channels."""
        return digest(image, self.channels), channels_of(image)

    def codes_of(self, image: Any, label: int) -> list[int]:
        """The codes of an image that was fitted under its label: none for any other, several for identical images."""
        return self.codes_with(digest(image, self.channels), label)

    def codes_with(self, its_digest: int, label: int) -> list[int]:
        """The codes of a fitted image by its digest."""
        return self._codes_of.get((its_digest, label), [])

    def is_of(self, image: Any, code: int) -> bool:
        """Whether an image is the fitted one of a code."""
        return digest(image, self.channels) == self._digests[code]

    def is_fitted(self, image: Any, label: int | None) -> bool:
        """Whether an image was fitted under a label, or under any if it is None."""
        its_digest = digest(image, self.channels)
        return its_digest in self._digests if label is None else bool(self.codes_with(its_digest, label))

    def code_of(self, index: int, image: Any, label: int) -> int:
        """The code of a fitted image, of identical ones that of its place ``index``; −1 for any other."""
        codes = self.codes_of(image, label)
        return index if index in codes else codes[0] if codes else -1


@dataclass(frozen=True)
class Overlap:
    """What a fit and a dataset have in common.

    Attributes:
        n_looked_at: images of the dataset that were looked at.
        n_fitted: how many of them were fitted under their label.
        places: the labelled codes whose image is among them, and the index of the first such image.
        n_codes: labelled codes of the fit.
        is_whole: whether every image was looked at.
        channels: in which the images of the dataset are handed on, see :func:`values.common_channels`.
    """

    n_looked_at: int
    n_fitted: int
    places: dict[int, int]
    n_codes: int
    is_whole: bool
    channels: int

    @property
    def codes(self) -> Tensor:
        """``(k,)`` int64, ascending: the labelled codes whose image is among them."""
        return torch.tensor(sorted(self.places), dtype=torch.int64, device="cpu")

    @property
    def n_absent(self) -> int:
        """Fitted images that are not in the dataset; 0 where that is not known."""
        return self.n_codes - len(self.places) if self.is_whole else 0


def find_overlap(dataset: Any, layout: SampleLayout, recognizer: Recognizer, n_codes: int, *, whole: bool) -> Overlap:
    """Look at the images of a dataset, at all of them if ``whole`` or if they are at most 2,000, else at 500.

    Raises:
        TypeError, ValueError: for a sample without an image and an integer label; the message names the index.
    """
    count = len(dataset)
    is_whole = whole or count <= _LOOK_AT_ALL
    indices = range(count) if is_whole else torch.linspace(0, count - 1, _LOOK_AT_SOME, device="cpu").long().tolist()
    places: dict[int, int] = {}
    channels = set()
    n_fitted = 0
    for index in indices:
        (its_digest, found), label = read_sample(dataset, index, layout, recognizer.look_at, with_label=True)
        channels.add(found)
        codes = recognizer.codes_with(its_digest, label)
        n_fitted += bool(codes)
        for code in codes:
            places.setdefault(code, index)
    return Overlap(len(indices), n_fitted, places, n_codes, is_whole, common_channels(channels))


def warn_of_overlap(overlap: Overlap) -> None:
    """Warn if most images of the dataset were not fitted, and if fitted images are not in it."""
    if 2 * overlap.n_fitted < overlap.n_looked_at:
        warnings.warn(
            f"of {overlap.n_looked_at} images looked at, {overlap.n_fitted} were fitted: the others are swapped for "
            "images that start from a random image of their class. Is it another dataset than the fitted one, or does "
            "it apply a transform of its own? Wrap the images that were fitted, and give the transform to wrap()",
            UserWarning,
            stacklevel=5,
        )
    elif overlap.n_absent:
        warnings.warn(
            f"{overlap.n_absent} of the {overlap.n_codes} fitted images ({overlap.n_absent / overlap.n_codes:.0%}) are "
            "not in this dataset, and are mixed into the images of those that are. If they are to validate or test on, "
            "that is a leak: fit on the training images alone, or take augment.restrict(dataset).wrap(dataset)",
            UserWarning,
            stacklevel=5,
        )
