"""A fit with some of its images left out."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from glico_augment.fit.quality import measure
from glico_augment.fit.run import Fitted
from glico_augment.images.identity import fingerprint
from glico_augment.model.codes import SphereCodes
from glico_augment.model.model import GLICOModel


def restricted(fitted: Fitted, kept: Tensor) -> Fitted:
    """The fit with the labelled images ``kept`` alone, ``(k,)`` int64, ascending; unlabelled ones go.

    The networks stay as they are, but for logits of classes that no image is left of.
    """
    model, images, record = fitted
    codes = SphereCodes(model.codes.codes[kept], model.codes.labels[kept])
    is_left = torch.isin(model.codes.classes, codes.classes)
    smaller = GLICOModel(codes, record.config, record.image_shape)
    smaller.generator.load_state_dict(model.generator.state_dict())
    logits = {name: value[is_left] for name, value in model.classifier.head.state_dict(prefix="head.").items()}
    smaller.classifier.load_state_dict(model.classifier.state_dict() | logits)
    digests, glimpses, images = record.digests[kept], record.glimpses[kept], images[kept]
    names = tuple(name for name, left in zip(record.class_names, is_left.tolist(), strict=True) if left)
    record = dataclasses.replace(
        record,
        class_names=names,
        digests=digests,
        glimpses=glimpses,
        fingerprint=fingerprint(digests, codes.labels),
        quality=measure(smaller, images),
    )
    return Fitted(smaller, images, record)
