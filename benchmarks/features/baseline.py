"""The baselines: the benchmarks' network, trained from scratch on the labelled images alone, shifted or as they are."""

from __future__ import annotations

import torch
from accuracy.data import Split
from accuracy.settings import SETTINGS, Setting
from accuracy.training import Batches, accuracy, cross_entropy, train
from torch import Tensor

from features.pools import Pool

BATCH_SIZE = 32
RATES = {setting.data: setting for setting in SETTINGS.values() if setting.depth == 10 and setting.width == 1}


def setting_of(data: str, per_class: int, steps: int) -> Setting:
    """Rates and flips are those that the accuracy tables have chosen for no augmentation."""
    known = RATES.get(data, Setting(data, per_class))
    rates = {"lr": known.lr, "weight_decay": known.weight_decay, "flip": known.flip}
    return Setting(data, per_class, steps=steps, batch_size=BATCH_SIZE, batched=True, **rates)


class Unchanged(Batches):
    """Images without shifts and flips."""

    def __call__(self, indices: Tensor) -> Tensor:
        return self.normalize(self.images[indices])


def score(
    pool: Pool, rows: Tensor, setting: Setting, seed: int, device: torch.device, *, is_shifted: bool = True
) -> float:
    """Accuracy in percent on the test images of a network trained on the training images ``rows``."""
    images, labels = pool.train[0][rows], pool.train[1][rows]
    parts = (three_channels(images), labels, three_channels(pool.test[0]), pool.test[1])
    split = Split(*parts).to(device)
    batches = (Batches if is_shifted else Unchanged)(split, setting.flip, batched=setting.batched)
    network = train(split, setting, batches, cross_entropy, seed, lr=setting.lr, weight_decay=setting.weight_decay)
    return accuracy(network, batches, split.eval_images, split.eval_labels)


def three_channels(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1).contiguous()
