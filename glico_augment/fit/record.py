"""What a fit was made of, and what came of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from glico_augment.config import FitConfig
from glico_augment.data.image_set import ImageSet
from glico_augment.fit.progress import LOSS_PARTS
from glico_augment.fit.quality import MIN_R2, FitQuality
from glico_augment.model.model import GLICOModel

_GOOD_R2 = 0.9  # what the default fit reaches on the sets of the benchmarks


@dataclass(frozen=True)
class FitRecord:
    """What a fit was made of.

    Attributes:
        config: the hyper-parameters, resolved.
        class_names: of each label, in ascending order of the labels; None if it has none.
        image_shape: ``(channels, height, width)``.
        digests: ``(n,)`` int64 hashes of the images, by which fitted ones are recognised.
        fingerprint: 32 hexadecimal digits over images, labels and their order.
        seed: of the fit.
        is_labeled: whether the images had labels; without, all are of one class, 0.
        restarts: how often the fit started again at a lower rate.
        quality: how well the labelled images are rebuilt; None while the fit runs.
        losses: ``(steps, 3)``, the loss and its parts per step.
    """

    config: FitConfig
    class_names: tuple[str | None, ...]
    image_shape: tuple[int, int, int]
    digests: Tensor
    fingerprint: str
    seed: int
    is_labeled: bool = True
    restarts: int = 0
    quality: FitQuality | None = None
    losses: Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, len(LOSS_PARTS)))

    @classmethod
    def of(cls, image_set: ImageSet, config: FitConfig, seed: int) -> FitRecord:
        """The record of a fit about to start."""
        config = FitConfig.from_json(config.to_json())  # a module as loss becomes its name
        return cls(
            config,
            image_set.class_names,
            image_set.image_shape,
            image_set.digests,
            image_set.fingerprint,
            seed,
            image_set.is_labeled,
        )

    @property
    def history(self) -> dict[str, list[float]]:
        """The loss and its parts before weighting, one value per step."""
        return {name: self.losses[:, column].tolist() for column, name in enumerate(LOSS_PARTS)}

    def names_by_label(self, classes: Tensor) -> dict[int, str]:
        """The names that are known, by the labels ``classes`` of :attr:`class_names`."""
        pairs = zip(classes.tolist(), self.class_names, strict=True)
        return {label: name for label, name in pairs if name is not None}

    def identity(self) -> dict[str, Any]:
        """What tells this fit from another before it has run, as JSON values."""
        return {
            "config": self.config.to_json(),
            "class_names": list(self.class_names),
            "image_shape": list(self.image_shape),
            "fingerprint": self.fingerprint,
            "seed": self.seed,
            "is_labeled": self.is_labeled,
        }


class Fitted(NamedTuple):
    """What a fit returns: the model, the labelled images at its size, uint8, and how it was made."""

    model: GLICOModel
    images: Tensor
    record: FitRecord

    @property
    def verdict(self) -> str:
        """Whether the fit is good to swap images with, in one sentence; if not, what to do."""
        quality, codes = self.record.quality, self.model.codes
        assert quality is not None
        if quality.is_poor:
            return (
                f"Not to be used yet: the generator has not learned its images (R² {quality.r2:.2f}, and under "
                f"{MIN_R2:g} a swap costs accuracy); fit longer, with a lower lr or a larger latent_dim."
            )
        counts = torch.bincount(codes.class_indices)
        n_alone = int((counts == 1).sum()) if self.record.is_labeled else 0
        if n_alone:
            return (
                f"Too few images: {n_alone} of {len(counts)} classes have a single image, which has no partner to be "
                "swapped with; add images to them, or leave them out."
            )
        n_repeated = codes.n_labeled - len(self.record.digests[: codes.n_labeled].unique())
        if n_repeated:
            return (
                f"Good to use, but {n_repeated} of {codes.n_labeled} images are duplicates of another, and a swap "
                "between equal images changes nothing; leave them out."
            )
        if quality.r2 < _GOOD_R2:
            return f"Usable, and better after a longer fit: R² is {quality.r2:.2f}, and {_GOOD_R2:g} is good."
        return f"Good to use: the generator has learned its images (R² {quality.r2:.2f})."
