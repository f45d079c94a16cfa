"""Codes of other images, and fits with fewer or more images, as methods of :class:`GLICOAugment`."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, cast

import torch
from torch import Tensor, nn

from glico_augment import checks
from glico_augment.data.class_names import first_difference, names_of_classes
from glico_augment.data.image_set import ImageSet, check_dataset, read_image_set
from glico_augment.data.reading import read_samples
from glico_augment.data.sources import as_dataset, as_images
from glico_augment.devices import choose_device, cpu_by_default
from glico_augment.fit.quality import LEAST_R2
from glico_augment.fit.run import Fitted
from glico_augment.images.values import promote_channels
from glico_augment.latent.encode import Comparison, Encoding, encode
from glico_augment.latent.members import extended, restricted
from glico_augment.swap.recognition import Recognizer, find_overlap

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from glico_augment.swap.augment import GLICOAugment

_Augment = TypeVar("_Augment", bound="Coding")


class EncodeOptions(TypedDict, total=False):
    """The keywords of :meth:`Coding.encode`."""

    steps: int
    starts: int
    lr: float
    loss: nn.Module | None
    device: torch.device | str | None
    seed: int
    progress: bool


class Coding:
    """What the codes are good for beside the swap."""

    def encode(
        self,
        images: Any,
        *,
        steps: int = 200,
        starts: int = 4,
        lr: float = 5e-2,
        loss: nn.Module | None = None,
        device: torch.device | str | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> Encoding:
        """Find the codes of any images: the points of the sphere whose images are nearest in the loss of the fit.

        The generator is frozen. Half of the starts are the codes of the fitted images that look most alike, the others
        random; the best of all of them and of where Adam takes them is returned.

        Args:
            images: a tensor ``(k, C, H, W)``, an array, a sequence of images, a dataset of images or of samples that
                have one, or the path of a folder. They are brought to the size and channels of the fit. Labels are
                not read.
            steps: of each start, at least 0.
            starts: for each image, at least 1.
            lr: Adam's learning rate at the first step; it falls to 0 as a cosine.
            loss: the module that was given to the fit as ``loss=``, where it was one, which no fit keeps.
            device: where to work; None picks CUDA, MPS or the CPU. The result is on the CPU.
            seed: of the random starts. On a CPU one seed gives one result.
            progress: show a bar (needs tqdm).

        Warns:
            UserWarning: if the generator has not learned its own images.

        Raises:
            TypeError, ValueError: for images that are none, or that cannot be brought to the channels of the fit; the
                message names the first.
        """
        augment = _augment(self)
        steps, starts = checks.integer(0)("steps", steps), checks.integer(1)("starts", starts)
        lr, seed = checks.positive("lr", lr), checks.integer(0)("seed", seed)
        chosen_device = choose_device(device)
        if augment.quality.is_poor:
            warnings.warn(
                f"the generator has not learned its images: R² is {augment.quality.r2:.2f} of its reconstructions, so "
                "that the codes it finds for others say little. Fit longer or at a lower rate",
                UserWarning,
                stacklevel=2,
            )
        with torch.inference_mode(False), torch.no_grad(), cpu_by_default():
            canonical = self._read(as_images(images))
            fitted_images = augment.images.to(chosen_device)
            comparison = Comparison(fitted_images, augment.record, loss)
            model = augment.model_on(chosen_device)
            return encode(
                model, fitted_images, comparison, canonical,
                steps=steps, starts=starts, lr=lr, seed=seed, progress=progress,
            )  # fmt: skip

    def extend(self: _Augment, dataset: Any, **options: Unpack[EncodeOptions]) -> _Augment:
        """An augmentation in which further images are anchors and partners of their classes too.

        The networks stay as they are; the images are coded by :meth:`encode`. ``quality`` is that of all images, so it
        says how well the generator draws those it has not learned. Images that were fitted under their label already
        are left out.

        Args:
            dataset: as for :meth:`fit`, map-style with labels or a folder, of classes that were fitted.
            options: of :meth:`encode`.

        Warns:
            UserWarning: if the generator has not learned its own images, or not the new ones.

        Raises:
            TypeError, ValueError: for a dataset that cannot be read, labels that were not fitted, classes that are
                numbered otherwise, and where every image was fitted already.
        """
        augment = _augment(self)
        dataset = as_dataset(dataset)
        new = self._new_images(dataset)
        encoding = self.encode(new.images, **options)
        fitted = extended(Fitted(augment.model, augment.images, augment.record), new, encoding.codes)
        if encoding.r2 < LEAST_R2 <= augment.quality.r2:
            warnings.warn(
                f"the generator does not draw the new images: R² is {encoding.r2:.2f}, and under {LEAST_R2:g} a swap "
                "costs accuracy. Fit on all images instead",
                UserWarning,
                stacklevel=2,
            )
        return cast("_Augment", type(augment)(fitted, augment.swap, layout=augment.layout))

    def restrict(self: _Augment, dataset: Any) -> _Augment:
        """An augmentation that draws anchors and partners among the images of ``dataset`` alone.

        For a fit on more images than are trained on. The networks are the same: they have learned the other images as
        well, so that an honest validation needs a fit on the training images alone.

        Args:
            dataset: map-style, of fitted images with their labels; others in it are ignored.

        Raises:
            TypeError: unless it is map-style, with samples of an image and an integer label.
            ValueError: if none of its images was fitted.
        """
        augment = _augment(self)
        dataset = as_dataset(dataset)
        check_dataset(dataset, "dataset")
        recognizer = Recognizer(augment.record, augment.codes)
        overlap = find_overlap(dataset, augment.layout, recognizer, augment.codes.n_labeled, whole=True)
        if not len(overlap.codes):
            raise ValueError(f"none of the {len(dataset)} images was fitted under its label: there is nothing to draw")
        fitted = restricted(Fitted(augment.model, augment.images, augment.record), overlap.codes)
        return cast("_Augment", type(augment)(fitted, augment.swap, layout=augment.layout))

    def _read(self, images: Any) -> Tensor:
        """Images of a dataset without their labels, uint8 ``(k, channels, height, width)`` as of the fit."""
        augment = _augment(self)
        _, *size = augment.record.image_shape
        read = read_samples(images, augment.layout, (size[0], size[1]), with_labels=False)
        return torch.cat([self._promoted(sample.image[None], f"image {sample.index}") for sample in read])

    def _promoted(self, images: Tensor, name: str) -> Tensor:
        channels = _augment(self).record.image_shape[0]
        try:
            return promote_channels(images, channels)
        except ValueError:
            raise ValueError(
                f"{name} has {images.shape[1]} channels, which cannot be brought to the {channels} of the fit"
            ) from None

    def _new_images(self, dataset: Any) -> ImageSet:
        """The images of a dataset that are not fitted yet, in the shape of the fit."""
        augment = _augment(self)
        record, codes = augment.record, augment.codes
        channels, height, width = record.image_shape
        read = read_image_set(dataset, layout=augment.layout, image_size=(height, width), channels=channels)
        if read.is_labeled != record.is_labeled:
            raise ValueError("the images have no labels, and those of the fit have: give a dataset of (image, label)")
        _, is_known = codes.index_of(read.labels)
        if not bool(is_known.all()):
            raise ValueError(
                f"label {int(read.labels[~is_known][0])} was not in the set GLICO was fitted on, so that the generator "
                f"knows nothing of its class; fitted: {augment._shown_labels()}. Fit on all classes, or leave it out"
            )
        fitted_names = dict(zip(codes.classes.tolist(), record.class_names, strict=True))
        names = names_of_classes(dataset, label_key=augment.layout.label_key) if record.is_labeled else None
        known = {label: name for label, name in fitted_names.items() if name is not None}
        if names and (difference := first_difference(known, names)):
            raise ValueError(f"the classes of the fit and of the dataset are numbered differently: {difference}")
        fitted = set(zip(record.digests.tolist(), codes.labels.tolist(), strict=False))
        pairs = zip(read.digests.tolist(), read.labels.tolist(), strict=True)
        rows = torch.tensor([row for row, pair in enumerate(pairs) if pair not in fitted], dtype=torch.int64)
        if len(rows) == 0:
            raise ValueError(f"all {len(read)} images were fitted under their labels already: there is none to add")
        return ImageSet(read.images[rows], read.labels[rows], read.digests[rows], read.class_names, read.is_labeled)


def _augment(coding: Coding) -> GLICOAugment:
    return cast("GLICOAugment", coding)
