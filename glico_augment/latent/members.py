"""A fit with fewer or with more images, its networks as they are."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from glico_augment.data.image_set import ImageSet
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
    return _with_images(fitted, codes, images[kept], record.digests[kept])


def extended(fitted: Fitted, new: ImageSet, new_codes: Tensor) -> Fitted:
    """The fit with further labelled images, of classes that were fitted.

    Args:
        fitted: the fit.
        new: ``k`` images of its shape, with their labels.
        new_codes: ``(k, latent_dim)``.
    """
    model, images, record = fitted
    count = model.codes.n_labeled

    def inserted(values: Tensor, more: Tensor) -> Tensor:
        return torch.cat([values[:count], more, values[count:]])  # behind the labelled ones

    codes = SphereCodes(
        inserted(model.codes.codes.detach(), new_codes), torch.cat([model.codes.labels, new.labels.to(torch.int64)])
    )
    return _with_images(fitted, codes, torch.cat([images, new.images]), inserted(record.digests, new.digests))


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
