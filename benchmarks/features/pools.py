"""Which images features are learned from, which are labelled and which are scored; the network from scratch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from shared.data import Labelled, Split, load_parts, ranks
from shared.settings import SETTINGS, Setting
from shared.training import Batches, Swap, accuracy, cross_entropy, train
from torch import Tensor

GREY = ("mnist", "digits")
"""Sets whose three channels are alike."""


@dataclass(frozen=True)
class Pool:
    """The images of a data set: ``train`` to learn from without labels, and to draw labelled images from."""

    train: Labelled
    validation: Labelled
    test: Labelled

    @property
    def n_classes(self) -> int:
        return int(self.train[1].max()) + 1

    def draw(self, seed: int, per_class: int) -> Tensor:
        """Indices of ``per_class`` training images per class; those of fewer are the first of those of more."""
        labels, generator = self.train[1], torch.Generator().manual_seed(seed)
        drawn = []
        for label in range(self.n_classes):
            members = (labels == label).nonzero().flatten()
            if len(members) < per_class:
                raise ValueError(f"class {label} has {len(members)} training images, fewer than {per_class}")
            drawn.append(members[torch.randperm(len(members), generator=generator)][:per_class])
        return torch.cat(drawn)


def load_pool(root: Path, data: str, validation: int, test: int) -> Pool:
    """A pool of a data set: ``validation`` images per class are to choose settings on, at most ``test`` are scored."""
    (images, labels), (test_images, test_labels) = load_parts(root, data, None)
    if data in GREY:
        images, test_images = images[:, :1], test_images[:, :1]
    rank = ranks(labels)
    if int(labels.bincount().min()) <= validation:
        raise ValueError(f"{data} has a class of {int(labels.bincount().min())} images, not more than {validation}")
    held, scored = rank < validation, ranks(test_labels) < test
    tested = test_images[scored], test_labels[scored]
    return Pool((images[~held], labels[~held]), (images[held], labels[held]), tested)


def setting_of(data: str, per_class: int, steps: int) -> Setting:
    """Rates and flips of the network from scratch: those that the accuracy tables have for no augmentation."""
    known = next((each for each in SETTINGS.values() if each.data == data), Setting(data, per_class))
    rates = {"lr": known.lr, "weight_decay": known.weight_decay, "flip": known.flip}
    return Setting(data, per_class, steps=steps, batch_size=32, batched=True, **rates)


class Unchanged(Batches):
    """Images without shifts and flips."""

    def __call__(self, indices: Tensor) -> Tensor:
        return self.normalize(self.images[indices])


def score_from_scratch(
    split: Split, setting: Setting, seed: int, swap: Swap | None = None, *, is_shifted: bool
) -> float:
    """Test accuracy in percent of the benchmarks' network, trained on the labelled images alone."""
    batches = (Batches if is_shifted else Unchanged)(split, setting.flip, swap, batched=True)
    network = train(split, setting, batches, cross_entropy, seed)
    return accuracy(network, batches, split.eval_images, split.eval_labels)


def as_split(labelled: Labelled, test: Labelled) -> Split:
    """With three channels."""
    return Split(three_channels(labelled[0]), labelled[1], three_channels(test[0]), test[1])


def three_channels(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1).contiguous()
