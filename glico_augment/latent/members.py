"""A fit with fewer or with more images, its networks as they are."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from glico_augment.data.class_names import first_difference, names_of_classes
from glico_augment.data.image_set import ImageSet, check_dataset, read_image_set
from glico_augment.data.reading import skipped_by, warn_of_skipped
from glico_augment.data.samples import SampleLayout
from glico_augment.data.sources import as_dataset
from glico_augment.devices import cpu_by_default
from glico_augment.errors import warn
from glico_augment.fit.quality import MIN_R2, measure
from glico_augment.fit.record import Fitted
from glico_augment.images.identity import fingerprint
from glico_augment.latent.encode import encode
from glico_augment.model.codes import SphereCodes
from glico_augment.model.model import GLICOModel
from glico_augment.synthesis.recognition import Recognizer, find_overlap
from glico_augment.synthesis.synthesizer import Synthesizer


@cpu_by_default()
def restricted(synthesizer: Synthesizer, dataset: Any, layout: SampleLayout, *, on_error: str) -> Fitted:
    """The fit with the labelled images of ``dataset`` alone; see :meth:`GLICOAugment.restrict`.

    Unlabelled images go. The networks stay as they are, except that the logits of classes without an image go.
    """
    model, images, record = synthesizer.fitted
    dataset = as_dataset(dataset)
    check_dataset(dataset, "dataset")
    unreadable = skipped_by(on_error)
    recognizer = Recognizer(record, model.codes)
    n_labeled = model.codes.n_labeled
    overlap = find_overlap(dataset, layout, recognizer, n_labeled, whole=True, unreadable=unreadable)
    warn_of_skipped([str(each.error) for each in unreadable or ()], len(dataset))
    kept = overlap.codes
    if not len(kept):
        raise ValueError(f"none of the {len(dataset)} images was fitted under its label: there is nothing to draw")
    codes = SphereCodes(model.codes.codes[kept], model.codes.labels[kept])
    return _with_images(synthesizer.fitted, codes, images[kept], record.digests[kept])


@cpu_by_default()
def extended(synthesizer: Synthesizer, dataset: Any, layout: SampleLayout, **options: Any) -> Fitted:
    """The fit with further labelled images, of classes that were fitted; see :meth:`GLICOAugment.extend`."""
    model, images, record = synthesizer.fitted
    new = _new_images(synthesizer, as_dataset(dataset), layout)
    encoding = encode(synthesizer, new.images, **options)
    if encoding.r2 < MIN_R2 <= synthesizer.quality.r2:
        warn(
            f"the generator does not draw the new images: R² is {encoding.r2:.2f}, and below {MIN_R2:g} a swap costs "
            "accuracy. Fit on all images instead",
        )
    n_labeled = model.codes.n_labeled

    def inserted(values: Tensor, more: Tensor) -> Tensor:
        return torch.cat([values[:n_labeled], more, values[n_labeled:]])  # behind the labelled ones

    labels = torch.cat([model.codes.labels, new.labels])
    codes = SphereCodes(inserted(model.codes.codes.detach(), encoding.codes), labels)
    return _with_images(
        synthesizer.fitted, codes, torch.cat([images, new.images]), inserted(record.digests, new.digests)
    )


def _new_images(synthesizer: Synthesizer, dataset: Any, layout: SampleLayout) -> ImageSet:
    """The images of a dataset that are not fitted yet, in the shape of the fit."""
    record, codes = synthesizer.record, synthesizer.codes
    channels, height, width = record.image_shape
    read = read_image_set(dataset, layout=layout, image_size=(height, width), channels=channels)
    if read.is_labeled != record.is_labeled:
        raise ValueError("the images have no labels, and those of the fit have: give a dataset of (image, label)")
    synthesizer.check_known(read.labels)
    names = names_of_classes(dataset, label_key=layout.label_key) if record.is_labeled else None
    if names and (difference := first_difference(record.names_by_label(codes.classes), names)):
        raise ValueError(f"the classes of the fit and of the dataset are numbered differently: {difference}")
    recognizer = Recognizer(record, codes)
    new = []
    for row, (its_digest, label) in enumerate(zip(read.digests.tolist(), read.labels.tolist(), strict=True)):
        recognizer.check_label(its_digest, label, f"image {row} of the dataset")
        if not recognizer.codes_with(its_digest, label):
            new.append(row)
    rows = torch.tensor(new, dtype=torch.int64)
    if len(rows) == 0:
        raise ValueError(f"all {len(read)} images were fitted under their labels already: there is none to add")
    return dataclasses.replace(read, images=read.images[rows], labels=read.labels[rows], digests=read.digests[rows])


def _with_images(fitted: Fitted, codes: SphereCodes, images: Tensor, digests: Tensor) -> Fitted:
    model, _, record = fitted
    is_left = torch.isin(model.codes.classes, codes.classes)
    other = GLICOModel(codes, record.config, record.image_shape)
    other.generator.load_state_dict(model.generator.state_dict())
    logits = {name: value[is_left] for name, value in model.classifier.head.state_dict(prefix="head.").items()}
    other.classifier.load_state_dict(model.classifier.state_dict() | logits)
    record = dataclasses.replace(
        record,
        class_names=tuple(name for name, left in zip(record.class_names, is_left.tolist(), strict=True) if left),
        digests=digests,
        fingerprint=fingerprint(digests, codes.labels),
        quality=measure(other, images),
    )
    return Fitted(other, images, record)
