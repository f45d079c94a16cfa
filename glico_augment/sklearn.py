"""Codes of images and activations of the generator as features in scikit-learn."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glico_augment import checks
from glico_augment.config import FitConfig
from glico_augment.data.sources import as_images
from glico_augment.images.identity import digest
from glico_augment.optional import import_optional
from glico_augment.swap.augment import GLICOAugment

import_optional("sklearn", "GLICOFeatures needs scikit-learn: pip install 'glico-augment[sklearn]'")

from sklearn.base import BaseEstimator, TransformerMixin  # noqa: E402
from sklearn.utils.validation import check_is_fitted  # noqa: E402

_IMAGES_PER_PASS = 256


def _is_missing(labels: np.ndarray) -> np.ndarray:
    """Which of ``n`` labels are None, NaN or the NA of pandas, ``(n,)`` bool."""
    return np.array([label is None or (label != label) is not False for label in labels.tolist()], dtype=bool)


class GLICOFeatures(TransformerMixin, BaseEstimator):
    """Fit GLICO to images and describe each by its code, and by the activations of a layer of the generator.

    The fit may have unlabelled images as well; a small classifier of the features is then trained on the labelled
    ones. Arguments are checked by :meth:`fit`, as in scikit-learn.

    Args:
        image_shape: ``(channels, height, width)`` of the images where they come as rows of a matrix ``(n, features)``;
            None for those that come as images.
        config: of the fit; None for the defaults.
        unlabeled: the value of ``y`` that marks images without a label, as −1 does in ``sklearn.semi_supervised``; NaN
            for missing values; None for none.
        layer: index of the layer of the generator, possibly negative, whose channels, averaged over the pixels, are
            appended to the codes; None for none.
        steps, starts: of :meth:`GLICOAugment.encode`.
        device: where to work; None picks CUDA, MPS or the CPU.
        random_state: the seed of fit and codes.
        progress: show bars.

    Attributes:
        augment_: the :class:`GLICOAugment` that was fitted.

    Example::

        model = make_pipeline(GLICOFeatures(image_shape=(1, 8, 8), layer=0), LogisticRegression())
        model.fit(images, labels).score(other_images, other_labels)
    """

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] | None = None,
        config: FitConfig | None = None,
        unlabeled: Any = None,
        layer: int | None = None,
        steps: int = 200,
        starts: int = 4,
        device: str | None = None,
        random_state: int = 0,
        progress: bool = False,
    ) -> None:
        self.image_shape = image_shape
        self.config = config
        self.unlabeled = unlabeled
        self.layer = layer
        self.steps = steps
        self.starts = starts
        self.device = device
        self.random_state = random_state
        self.progress = progress

    def fit(self, X: Any, y: Any = None) -> GLICOFeatures:  # noqa: N803
        """Fit GLICO.

        Args:
            X: ``n`` images: uint8, or float in ``[0, 1]``; a tensor, an array, a sequence, or a matrix whose rows have
                ``image_shape``, which may be sparse.
            y: ``n`` labels of any type, none missing; None, or fewer than two classes, for a fit without labels.

        Raises:
            TypeError, ValueError: for images, labels or settings that cannot be fitted.
        """
        checks.optional(checks.integer(-(2**31)))("layer", self.layer)
        images = self._images(X)
        options: dict[str, Any] = {"config": self.config, "seed": self.random_state, "device": self.device}
        options["progress"] = self.progress
        labels = np.zeros(len(images)) if y is None else np.asarray(y)
        if labels.shape != (len(images),):
            raise ValueError(f"y must be {len(images)} labels, one per image; got shape {labels.shape}")
        is_missing = _is_missing(labels)
        if self.unlabeled is None:
            has_label = np.full(len(images), True)
        else:
            has_label = ~is_missing if _is_missing(np.asarray([self.unlabeled]))[0] else labels != self.unlabeled
        if is_missing[has_label].any():
            raise ValueError(
                "y has missing values (NaN or None): leave these images out, or say that they have no label, with "
                "GLICOFeatures(unlabeled=float('nan')) or another value that marks them"
            )
        classes = np.unique(labels[has_label])
        if len(classes) < 2:
            self.augment_ = GLICOAugment.fit(images, **options)
        else:
            labeled = [images[int(row)] for row in np.flatnonzero(has_label)]
            unlabeled = [images[int(row)] for row in np.flatnonzero(~has_label)] or None
            numbers = torch.from_numpy(np.searchsorted(classes, labels[has_label]))
            self.augment_ = GLICOAugment.fit(labeled, numbers, unlabeled=unlabeled, **options)
        self._layer()
        return self

    def transform(self, X: Any) -> np.ndarray:  # noqa: N803
        """The features of images, ``(n, n_features)`` float32; a fitted image has the code that it was fitted with.

        Raises:
            NotFittedError: before :meth:`fit`.
            TypeError, ValueError: for what cannot be encoded, and for a fit that has not learned its images.
        """
        check_is_fitted(self, "augment_")
        images, augment = self._images(X), self.augment_
        if augment.quality.is_poor:
            raise ValueError(
                f"the generator has not learned its images, R² is {augment.quality.r2:.2f}: its codes and activations "
                "do not describe them. Fit longer or at a lower rate, with config=FitConfig(steps=…) or FitConfig(lr=…)"
            )
        code_of = {known: code for code, known in reversed(list(enumerate(augment.record.digests.tolist())))}
        found = [code_of.get(self._digest(images[index]), -1) for index in range(len(images))]
        codes = augment.codes.codes.detach()[found].clone()
        new = [row for row, code in enumerate(found) if code < 0]
        if new:
            codes[new] = augment.encode(
                [images[row] for row in new],
                steps=self.steps,
                starts=self.starts,
                device=self.device,
                seed=self.random_state,
                progress=self.progress,
            ).codes
        layer = self._layer()
        return (codes if layer is None else torch.cat([codes, self._activations(codes, layer)], dim=1)).numpy()

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """``code0``, ``code1``, …, and ``layer2_channel0``, … of the layer.

        Raises:
            NotFittedError: before :meth:`fit`.
        """
        check_is_fitted(self, "augment_")
        names = [f"code{number}" for number in range(self.augment_.codes.latent_dim)]
        layer = self._layer()
        if layer is not None:
            width = self._activations(self.augment_.codes.codes.detach()[:1], layer).shape[1]
            names += [f"layer{layer}_channel{number}" for number in range(width)]
        return np.asarray(names, dtype=object)

    def _images(self, X: Any) -> Any:  # noqa: N803
        """The images of ``X``, by index."""
        if self.image_shape is None:
            return as_images(X)
        rows = X if isinstance(X, Tensor) else np.asarray(X.toarray() if hasattr(X, "toarray") else X)
        size = int(np.prod(self.image_shape))
        if rows.ndim != 2 or rows.shape[1] != size:
            raise ValueError(
                f"with image_shape={self.image_shape}, X must have shape (n, {size}); got {tuple(rows.shape)}. Leave "
                "image_shape at None for images that are not rows of a matrix"
            )
        return as_images(torch.as_tensor(rows).reshape(-1, *self.image_shape))

    def _digest(self, sample: Any) -> int:
        try:
            return digest(self.augment_.layout.image(sample), self.augment_.record.image_shape[0])
        except (TypeError, ValueError):
            return 0  # encode says what it is

    def _layer(self) -> int | None:
        """The index of the layer, at least 0; None for none."""
        count = len(self.augment_.generator.convs)
        if self.layer is not None and not -count <= self.layer < count:
            raise ValueError(f"layer must lie in [{-count}, {count}), as the generator has {count}; got {self.layer}")
        return None if self.layer is None else self.layer % count

    @torch.no_grad()
    def _activations(self, codes: Tensor, layer: int) -> Tensor:
        """The channels of a layer, averaged over the pixels, ``(n, channels)``."""
        generator = self.augment_.generator
        maps = (next(islice(generator.layers(chunk), layer, None)) for chunk in codes.split(_IMAGES_PER_PASS))
        return torch.cat([each.mean(dim=(2, 3)) for each in maps])
