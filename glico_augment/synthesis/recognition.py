"""Which images of a dataset were fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from glico_augment.data.reading import Unreadable, read_each
from glico_augment.data.samples import SampleLayout
from glico_augment.errors import warn
from glico_augment.fit.record import FitRecord
from glico_augment.images.convert import channels_of
from glico_augment.images.identity import digest
from glico_augment.images.values import common_channels
from glico_augment.model.codes import SphereCodes

_LOOK_AT_ALL = 2000  # of a larger dataset some are read, which takes a few seconds at most
_LOOK_AT_SOME = 500


class Recognizer:
    """Finds the codes of images that were fitted, by the digest of their pixels and their label."""

    def __init__(self, record: FitRecord, codes: SphereCodes) -> None:
        labels = codes.labels.tolist()
        self.channels = record.image_shape[0]
        self.classes = frozenset(labels)
        self._digests = record.digests.tolist()
        self._codes_by_label: dict[int, dict[int, list[int]]] = {}
        for code, (its_digest, label) in enumerate(zip(self._digests, labels, strict=False)):  # the labelled ones
            self._codes_by_label.setdefault(its_digest, {}).setdefault(label, []).append(code)

    def look_at(self, image: Any) -> tuple[int, int]:
        """The digest of an image and its channels."""
        return digest(image, self.channels), channels_of(image)

    def codes_of(self, image: Any, label: int) -> list[int]:
        """The codes of an image that was fitted under its label: none for any other, several for identical images."""
        return self.codes_with(digest(image, self.channels), label)

    def codes_with(self, its_digest: int, label: int) -> list[int]:
        """The codes of a fitted image by its digest."""
        return self._codes_by_label.get(its_digest, {}).get(label, [])

    def check_label(self, its_digest: int, label: int, name: str) -> None:
        """Raise ValueError if a fitted image, by its digest, was fitted under other labels than ``label`` alone."""
        fitted = self._codes_by_label.get(its_digest, {label: []})
        if label not in fitted:
            raise ValueError(
                f"{name} has label {label} and was fitted under label {next(iter(fitted))}: the labels are not those "
                "of the fit, and a swap would show another class. Renumber them as they were when it was fitted, with "
                "the target_transform of the dataset say, or fit on this dataset"
            )

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
        n_looked_at: images of the dataset that were read.
        n_fitted: how many of them were fitted.
        n_swapped: how many of them a swap would change, as their label was fitted.
        places: the labelled codes whose image is among them, and the index of the first such image.
        n_codes: labelled codes of the fit.
        is_whole: whether every image was read.
        channels: in which the images of the dataset are handed on, see :func:`values.common_channels`.
    """

    n_looked_at: int
    n_fitted: int
    n_swapped: int
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


def find_overlap(
    dataset: Any,
    layout: SampleLayout,
    recognizer: Recognizer,
    n_codes: int,
    *,
    whole: bool,
    unreadable: list[Unreadable] | None = None,
) -> Overlap:
    """Look at the images of a dataset, at all of them if ``whole`` or if they are at most 2,000, else at 500.

    ``unreadable`` takes those that cannot be read; None raises instead.

    Raises:
        TypeError, ValueError: for a sample without an image and an integer label, and for an image that was fitted
            under another label; the message names the index.
    """
    count = len(dataset)
    is_whole = whole or count <= _LOOK_AT_ALL
    indices = range(count) if is_whole else torch.linspace(0, count - 1, _LOOK_AT_SOME, device="cpu").long().tolist()
    places: dict[int, int] = {}
    channels = set()
    n_fitted = n_swapped = 0
    read = read_each(dataset, layout, recognizer.look_at, indices=indices, with_labels=True, unreadable=unreadable)
    for index, (its_digest, found), label in read:
        channels.add(found)
        recognizer.check_label(its_digest, label, f"image {index} of the dataset")
        codes = recognizer.codes_with(its_digest, label)
        n_fitted += bool(codes)
        n_swapped += label in recognizer.classes
        for code in codes:
            places.setdefault(code, index)
    return Overlap(len(indices), n_fitted, n_swapped, places, n_codes, is_whole, common_channels(channels))


def check_overlap(overlap: Overlap, *, unfitted: str) -> None:
    """Refuse images that were not fitted, or warn of them; warn of fitted images that are missing.

    Args:
        overlap: of the fit and the dataset to be swapped.
        unfitted: ``"raise"``, or ``"swap"`` to say nothing of images that were not fitted.

    Raises:
        ValueError: if not one image was fitted.
    """
    looked_at, fitted = overlap.n_looked_at, overlap.n_fitted
    if unfitted == "raise" and not fitted:
        raise ValueError(
            f"none of the {looked_at} images that were checked was fitted. {_READS_THE_LABEL} Give a test set to its "
            "DataLoader as it is. If these are the training images, fit on them, and give their transforms to wrap(). "
            "unfitted='swap' swaps them nevertheless"
        )
    if unfitted == "raise" and fitted < overlap.n_swapped:
        warn(
            f"of {looked_at} images that were checked, {fitted} were fitted. {_READS_THE_LABEL} Wrap the images that "
            "were fitted, and give their transforms to wrap(); unfitted='swap' swaps the others without this warning"
        )
    if overlap.n_absent and 2 * fitted >= looked_at:
        warn(
            f"{overlap.n_absent} of the {overlap.n_codes} fitted images ({overlap.n_absent / overlap.n_codes:.0%}) are "
            "not in this dataset, and are mixed into the images of those that are. If they are to validate or test on, "
            "that is a leak: fit on the training images alone, or take augment.restrict(dataset).wrap(dataset)"
        )


_READS_THE_LABEL = (
    "An image that was not fitted is swapped for a synthetic one of the class that its label names, which gives the "
    "label away: a validation or test score of such images is worth nothing."
)
