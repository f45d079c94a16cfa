"""A dataset whose images are swapped for synthetic ones as they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from glico_augment.data.image_set import check_dataset
from glico_augment.data.labels import read_label
from glico_augment.data.samples import split_sample
from glico_augment.images import convert, identity
from glico_augment.images.identity import digest
from glico_augment.swap.bank import SyntheticBank
from glico_augment.swap.draw import draw_anchors, draw_rows
from glico_augment.swap.make import SwapMaker


class GLICODataset(Dataset[Any]):
    """A map-style dataset of ``(image, label)`` with each image swapped with probability ``augment.p``.

    A fitted image is recognised by its size and up to 16 × 16 of its pixels, wherever it stands, and swapped for an
    interpolation that starts from its own code. Any other image starts from a random code of its class. Images of a
    label that was not fitted pass through, with one warning.

    The transform sees real and synthetic images alike, in the same type and size, so it is the place for flips,
    crops, policies such as ``AutoAugment``, conversion and normalisation.
    Parameters are drawn from torch's global generator, as transforms do: workers differ, and a seeded loader repeats
    itself. Everything runs on the CPU.

    Args:
        dataset: the images. A random transform of its own would keep images from being recognised.
        augment: the fitted augmentation; its settings may be changed at any time in the same process.
        transform: applied to each image, v1 or v2.
        real_transform: applied before it to those images that were not swapped.
        target_transform: applied to each label.
        bank: images made ahead, to take from instead of running the generator.

    Raises:
        TypeError: unless ``dataset`` is map-style and yields pairs of an image and an integer label.
        ValueError: if its first image is normalised or otherwise out of range, or the bank is of another fit.
    """

    def __init__(
        self,
        dataset: Any,
        augment: SwapMaker,
        *,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        real_transform: Callable[[Any], Any] | None = None,
        bank: SyntheticBank | None = None,
    ) -> None:
        if bank is not None and bank.augment.record.fingerprint != augment.record.fingerprint:
            raise ValueError("the bank is of another fit: make it of the augmentation that wraps the dataset")
        check_dataset(dataset, "dataset")
        self.dataset = dataset
        self.augment = augment
        self.transform = transform
        self.target_transform = target_transform
        self.real_transform = real_transform
        self.bank = bank
        if len(dataset):
            image, label = split_sample(dataset[0])
            convert.to_uint8(image)
            read_label(label)
        labels = augment.codes.labels.tolist()
        glimpses = augment.record.glimpses[: len(labels)].tolist()
        self._digests = augment.record.digests.tolist()
        self._codes_of: dict[tuple[int, int], list[int]] = {}
        for code, glimpse_and_label in enumerate(zip(glimpses, labels, strict=True)):
            self._codes_of.setdefault(glimpse_and_label, []).append(code)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, Any]]:
        """The samples of a batch, their synthetic images made in one generator pass."""
        pairs = [split_sample(sample) for sample in self._read(indices)]
        synthetic = self._synthetic(indices, [image for image, _ in pairs], [label for _, label in pairs])
        samples = []
        for position, (image, label) in enumerate(pairs):
            if position in synthetic:
                image = synthetic[position]
            elif self.real_transform is not None:
                image = self.real_transform(image)
            samples.append(
                (
                    image if self.transform is None else self.transform(image),
                    label if self.target_transform is None else self.target_transform(label),
                )
            )
        return samples

    def _read(self, indices: Sequence[int]) -> list[Any]:
        read_batch = getattr(self.dataset, "__getitems__", None)
        return list(read_batch(indices)) if read_batch else [self.dataset[index] for index in indices]

    def _synthetic(self, indices: Sequence[int], images: list[Any], raw_labels: list[Any]) -> dict[int, Any]:
        """Synthetic images, by their positions in the batch, for those whose coin fell so."""
        labels = torch.tensor([read_label(label) for label in raw_labels], device="cpu")
        is_known = self.augment.find_known(labels)
        rows = [row for row in draw_rows(len(labels), self.augment.p).tolist() if is_known[row]]
        if not rows:
            return {}
        anchors = torch.tensor(
            [self._own_code(indices[row], images[row], int(labels[row])) for row in rows], device="cpu"
        )
        made: Iterable[Tensor]
        if self.bank is None:
            made = self.augment.transform(self.augment.make_params(labels[rows], anchors=anchors))
        else:
            made = self.bank.take(draw_anchors(self.augment.model, labels[rows], anchors)[0])
        return {row: convert.like(image, images[row]) for row, image in zip(rows, made, strict=True)}

    def _own_code(self, index: int, image: Any, label: int) -> int:
        """The code of an image that was fitted under its label, −1 for any other."""
        codes = self._codes_of.get((identity.glimpse(image), label), [])
        if len(codes) > 1:  # a look at every pixel tells sparse images apart; of identical ones, each has its own
            own = digest(convert.to_uint8(image))
            codes = [code for code in codes if self._digests[code] == own]
        return index if index in codes else codes[0] if codes else -1

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} images, augment={self.augment!r}, transform={self.transform!r})"
