"""The photographs of partners at their own size, read from the dataset that is wrapped."""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor

from glico_augment.data.reading import read_sample
from glico_augment.data.samples import SampleLayout
from glico_augment.errors import warn
from glico_augment.fit.progress import logger
from glico_augment.images import convert
from glico_augment.synthesis.recognition import Overlap, Recognizer, find_overlap

CACHED_BYTES = 2**27  # 890 photographs of 224 × 224 pixels


class PartnerReader:
    """Reads the photograph of a code where it stands in a dataset; takes that of the fit where it is not there.

    A photograph stands at the index at which it was fitted, or at the one found in a single pass over the dataset.
    Those read last are kept, up to ``CACHED_BYTES``, each process its own: one is a partner again and again.

    Args:
        dataset: that is wrapped.
        layout: where a sample has its image and its label.
        recognizer: of the fit.
        overlap: what was found of the fit in the dataset.
        fitted_images: ``(m, channels, height, width)`` uint8, the labelled images of the fit.
    """

    def __init__(
        self, dataset: Any, layout: SampleLayout, recognizer: Recognizer, overlap: Overlap, fitted_images: Tensor
    ) -> None:
        self._dataset, self._layout, self._recognizer = dataset, layout, recognizer
        self._overlap, self._fitted_images = overlap, fitted_images
        self._has_warned = False
        self._cached: dict[int, Tensor] = {}  # the one used last is the last

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cached": {}}

    @functools.cached_property
    def places(self) -> dict[int, int]:
        """The index in the dataset of each code whose photograph is there, found when it is first asked for."""
        overlap = self._overlap
        if overlap.is_whole or not overlap.places:
            return overlap.places
        if all(code == index for code, index in overlap.places.items()):
            return {code: code for code in range(min(len(self._dataset), overlap.n_codes))}
        logger.info("looking at all %d images: they are in another order than they were fitted in", len(self._dataset))
        return find_overlap(self._dataset, self._layout, self._recognizer, overlap.n_codes, whole=True).places

    def read(self, code: int) -> Tensor:
        """The photograph of a code, ``(channels, height, width)`` as :func:`convert.to_tensor` returns it.

        Raises:
            TypeError, ValueError: if it cannot be read; the message names its index, and its file if it has one.
        """
        photograph = self._cached.pop(code, None)
        if photograph is None:
            photograph = self._read(code)
            kept = list(self._cached.items())
            n_free = CACHED_BYTES - photograph.nbytes - sum(each.nbytes for _, each in kept)
            for other, unused in kept:  # that which was used longest ago first
                if n_free >= 0:
                    break
                self._cached.pop(other, None)
                n_free += unused.nbytes
        self._cached[code] = photograph
        return photograph

    def _read(self, code: int) -> Tensor:
        """A copy of the photograph of a code in its own dtype, ``(channels, height, width)``."""
        fitted = self._fitted_images[code]
        if code not in self.places:
            return fitted
        index = self.places[code]
        (photograph, is_same), _ = read_sample(
            self._dataset,
            index,
            self._layout,
            lambda image: (convert.to_tensor(image).clone(), self._recognizer.is_of(image, code)),
            with_label=False,
            name="partner image",
        )
        if is_same:
            return photograph
        if not self._has_warned:
            self._has_warned = True
            warn(
                f"image {index} of the dataset is no longer the one that was fitted, which is mixed in at the size of "
                "the fit instead. Wrap the dataset again if it has changed; give random transforms to wrap()",
            )
        return fitted
