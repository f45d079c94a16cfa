"""A dataset whose images are swapped for synthetic ones as they are read."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import PIL.Image
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset
from torchvision.transforms import v2

from glico_augment import checks
from glico_augment.config import SwapConfig
from glico_augment.data.class_names import ClassNames, check_class_names, first_difference, names_of_classes
from glico_augment.data.image_set import check_dataset
from glico_augment.data.labels import read_label
from glico_augment.data.reading import read_raw
from glico_augment.data.samples import SampleLayout, check_sample, copied, flatten, is_image
from glico_augment.errors import warn
from glico_augment.images import convert
from glico_augment.images.values import bring
from glico_augment.swap.bank import SyntheticBank
from glico_augment.swap.partners import PartnerReader
from glico_augment.synthesis.carry import Swapped, at_own_size
from glico_augment.synthesis.draw import draw_anchors, draw_rows
from glico_augment.synthesis.recognition import Recognizer, check_overlap, find_overlap
from glico_augment.synthesis.synthesizer import Synthesizer

UNFITTED = ("raise", "swap")
_SWAPPED = "swapped"
_OF_THE_DATASET = ("targets", "classes", "class_to_idx", "samples", "imgs", "features")


class GLICODataset(Dataset[Any]):
    """A map-style dataset with each image swapped with probability ``augment.p``.

    A sample is ``(image, label)``, a longer tuple or a mapping, and keeps its structure. A fitted image is recognised
    by its size and up to 64 × 64 of its pixels, wherever it stands, and swapped for an interpolation that starts from
    its own code. Any other image starts from a random code of its class. Images of a label that was not fitted pass
    through, with one warning.

    The transform sees real and synthetic images alike, in the same type and size, so it is the place for flips,
    crops, policies such as ``AutoAugment``, conversion and normalisation. It gets what a fit reads: PIL images with a
    palette, of CMYK and the like as RGB, and all images of a set with different channels as RGB. A transform of
    albumentations is called as ``transform(image=array)["image"]``.
    Parameters are drawn from torch's global generator, as transforms do: workers differ, and a seeded loader repeats
    itself. Everything runs on the CPU.

    Images are read once, to say which were fitted: all of them up to 2,000, else 500. ``dataset[10:20]`` is a
    dataset of those images, swapped alike. ``targets``, ``classes``, ``class_to_idx``, ``samples`` and ``features`` are
    those of the wrapped dataset, where it has them.

    Args:
        dataset: the images. A random transform of its own would keep images from being recognised.
        augment: the fitted augmentation. Its settings may be changed at any time, there or as attributes of the
            dataset, ``dataset.p = 0``; workers see it.
        layout: where a sample has its image and its label.
        transform: applied to each image, v1 or v2; may be set later, before workers start.
        real_transform: applied before it to those images that were not swapped.
        target_transform: applied to each label.
        bank: images made ahead, to take from instead of running the generator.
        class_names: names in the order of the labels, or by label, where the dataset has none.
        return_swapped: whether a sample ends in whether its image was swapped, a bool: the last item of a tuple, the
            entry ``"swapped"`` of a mapping.
        unfitted: ``"raise"``; or ``"swap"`` for images that were not fitted, none of which may be scored on: what they
            are swapped for shows their label.

    Warns:
        UserWarning: if an image was not fitted, or fitted images are not among them.

    Raises:
        TypeError: unless ``dataset`` is map-style and has samples with an image and an integer label, and transforms
            can be called.
        ValueError: if none of the images was fitted, one was fitted under another label, is normalised or otherwise
            out of range, the bank is of another fit, or the class names contradict those of the fit.
    """

    def __init__(
        self,
        dataset: Any,
        augment: Synthesizer,
        *,
        layout: SampleLayout | None = None,
        transform: Callable[..., Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        real_transform: Callable[..., Any] | None = None,
        bank: SyntheticBank | None = None,
        class_names: ClassNames | None = None,
        return_swapped: bool = False,
        unfitted: str = "raise",
    ) -> None:
        if not isinstance(augment, Synthesizer):
            raise TypeError(f"augment must be a fitted GLICOAugment; got {type(augment).__name__}")
        check_dataset(dataset, "dataset")
        self.dataset = dataset
        self.augment = augment
        self.layout = layout or SampleLayout()
        self.transform = _check_transform("transform", transform)
        self.target_transform = _check_transform("target_transform", target_transform)
        self.real_transform = _check_transform("real_transform", real_transform)
        self.bank = _check_bank(bank, augment)
        self.return_swapped = checks.boolean("return_swapped", return_swapped)
        augment.check_sampler()
        self._recognizer = Recognizer(augment.record, augment.codes)
        self._check_names(class_names)
        first = read_raw(dataset, 0)
        check_sample(first)
        image, label = self.layout.split(first)
        convert.to_uint8(image)
        _warn_of_others(first, image, label)
        if target_transform is not None:
            self.layout.replace_label(first, label)
        if return_swapped:
            self.layout.append(first, _SWAPPED, False)
        overlap = find_overlap(dataset, self.layout, self._recognizer, augment.codes.n_labeled, whole=False)
        check_overlap(overlap, unfitted=checks.choice(UNFITTED)("unfitted", unfitted))
        self._channels = overlap.channels
        self._partners = PartnerReader(dataset, self.layout, self._recognizer, overlap, augment.images)
        if augment.carry:  # once for all workers
            augment.residuals_on("cpu")
            _ = self._partners.places

    def __len__(self) -> int:
        return len(self.dataset)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        has_own = cls.__getitem__ is not GLICODataset.__getitem__
        if has_own and cls.__getitems__ is GLICODataset.__getitems__:
            cls.__getitems__ = None  # type: ignore[method-assign, assignment]  # so that a loader reads one by one

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._part(range(len(self))[index])
        return self._samples([operator.index(index)])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """The samples of a batch, their synthetic images made in one generator pass."""
        return self._samples(indices)

    def _samples(self, indices: Sequence[int]) -> list[Any]:
        # Read as a fit reads them, whose __getitem__ may have other labels than an inherited __getitems__; copied,
        # since a dataset may hand out one buffer again and again.
        originals = [copied(read_raw(self.dataset, index)) for index in indices]
        pairs = [self.layout.split(sample) for sample in originals]
        synthetic = self._synthetic(indices, [image for image, _ in pairs], [label for _, label in pairs])
        samples = []
        for position, (sample, (image, label)) in enumerate(zip(originals, pairs, strict=True)):
            image = convert.plain(image, self._channels)
            if position in synthetic:
                image = convert.like(synthetic[position], image)
            elif self.real_transform is not None:
                image = _apply(self.real_transform, image)
            if self.transform is not None:
                image = _apply(self.transform, image)
            sample = self.layout.replace(sample, image)
            if self.target_transform is not None:
                sample = self.layout.replace_label(sample, self.target_transform(label))
            if self.return_swapped:
                sample = self.layout.append(sample, _SWAPPED, position in synthetic)
            samples.append(sample)
        return samples

    def _part(self, indices: Sequence[int]) -> GLICODataset:
        """Some of the images, as a dataset with the same settings."""
        part = object.__new__(type(self))
        part.__dict__ = {**self.__dict__, "dataset": Subset(self.dataset, indices)}
        return part

    def _synthetic(self, indices: Sequence[int], images: list[Any], raw_labels: list[Any]) -> dict[int, Tensor]:
        """Synthetic images, by their positions in the batch, for those whose coin fell so."""
        labels = torch.tensor([read_label(label) for label in raw_labels], device="cpu")
        is_known = self.augment.find_known(labels)
        rows = [row for row in draw_rows(len(labels), self.augment.p).tolist() if is_known[row]]
        if not rows:
            return {}
        anchors = torch.tensor(
            [self._recognizer.code_of(indices[row], images[row], int(labels[row])) for row in rows], device="cpu"
        )
        if self.bank is None:
            swapped = self.augment.make_swapped(self.augment.make_params(labels[rows], anchors=anchors))
            is_carried = self.augment.carry
        else:
            swapped = self.bank.take(draw_anchors(self.augment.model, labels[rows], anchors)[0])
            is_carried = self.bank.is_carried
        reals = [images[row] for row in rows]
        made = self._at_own_sizes(swapped, anchors, reals) if is_carried else list(swapped.images)
        return dict(zip(rows, made, strict=True))

    def _at_own_sizes(self, swapped: Swapped, own: Tensor, reals: list[Any]) -> list[Tensor]:
        """The images of photographs at their own sizes; those that were not fitted start from that of their anchor."""
        channels, *size = self.augment.record.image_shape
        made = list(swapped.images)
        others = [place for place, real in enumerate(reals) if convert.size_of(real) != tuple(size)]
        if not others:
            return made
        deltas = swapped.deltas(self.augment.images)
        for place in others:
            real, anchor, partner = reals[place], int(swapped.anchors[place]), int(swapped.partners[place])
            first = convert.to_tensor(real) if int(own[place]) == anchor else self._partners.read(anchor)
            second = first if partner == anchor else self._partners.read(partner)
            dtype = torch.uint8 if first.dtype == second.dtype == torch.uint8 else torch.float32
            first, second = (bring(each, (channels, *convert.size_of(real)), dtype)[None] for each in (first, second))
            made[place] = at_own_size(first, second, swapped.ratios[place, None], deltas[place, None])[0]
        return made

    def _check_names(self, class_names: ClassNames | None) -> None:
        """Raise ValueError if a label means one class here and another in the fit."""
        given = names_of_classes(self.dataset, label_key=self.layout.label_key)
        names = given if class_names is None else check_class_names(class_names)
        fitted = self.augment.record.names_by_label(self.augment.codes.classes)
        if names and (difference := first_difference(fitted, names)):
            raise ValueError(
                f"the classes of the fit and of the wrapped dataset are numbered differently: {difference}. Fit on "
                "this dataset, renumber its labels with its target_transform, or say with class_names= what they mean"
            )

    def __setattr__(self, name: str, value: Any) -> None:
        if name in SwapConfig.names():
            setattr(self.augment, name, value)
        else:
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name in SwapConfig.names() and "augment" in self.__dict__:
            return getattr(self.augment, name)
        if name in _OF_THE_DATASET and "dataset" in self.__dict__:
            return getattr(self.dataset, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} images, augment={self.augment!r}, transform={self.transform!r})"


def _warn_of_others(sample: Any, image: Any, label: Any) -> None:
    """Warn of arrays beside an image that are as large, masks say, which a swap leaves as they are."""
    size = convert.size_of(image)
    for leaf in flatten(sample)[0]:
        if leaf is image or leaf is label or not is_image(leaf):
            continue
        sizes = [leaf.size[::-1]] if isinstance(leaf, PIL.Image.Image) else [leaf.shape[-2:], leaf.shape[:2]]
        if size in sizes:
            warn(
                "the samples have another array of the size of the image, a mask perhaps. A swap leaves it as it is, "
                "and a synthetic image has only its class in common with the real one: leave the array out"
            )
            return


def _check_transform(name: str, transform: Any) -> Any:
    if transform is not None and not callable(transform):
        what = "a label" if name == "target_transform" else "an image"
        raise TypeError(f"{name} must be a function or transform of {what}, or None; got {transform!r}")
    for part in _parts(transform):
        if isinstance(part, (v2.CutMix, v2.MixUp, Synthesizer)):
            raise TypeError(
                f"{name} is called with one image at a time, and {type(part).__name__} needs a batch and its labels: "
                "apply it to the batches of the DataLoader, in its collate_fn or in the training loop"
            )
    return transform


def _parts(transform: Any) -> Iterator[Any]:
    """A transform, and those that it is composed of."""
    yield transform
    within = getattr(transform, "transforms", None)
    if within is None and isinstance(transform, nn.Module) and not isinstance(transform, Synthesizer):
        within = transform.children()
    for part in within if isinstance(within, Iterable) else ():
        yield from _parts(part)


def _check_bank(bank: Any, augment: Synthesizer) -> SyntheticBank | None:
    if bank is None:
        return None
    if not isinstance(bank, SyntheticBank):
        raise TypeError(f"bank must be a SyntheticBank(augment), or None; got {bank!r}")
    mine, other = augment.codes, bank.augment.codes
    # Codes are learned, so that those of another seed, size or set differ.
    if not (torch.equal(mine.codes, other.codes) and torch.equal(mine.labels, other.labels)):
        raise ValueError("the bank is of another fit: make it of the augmentation that wraps the dataset")
    return bank


def _apply(transform: Callable[..., Any], image: Any) -> Any:
    """The transform of an image; those of albumentations take an array by name and return a mapping."""
    if type(transform).__module__.partition(".")[0] != "albumentations":
        return transform(image)
    changed: Mapping[str, Any] = transform(image=convert.as_array(image))
    return changed["image"]
