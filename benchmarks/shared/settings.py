"""The settings of the accuracy: data, images per class, network and optimisation, the same for every method."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any

from shared.runner import parse_fields, parse_name


@dataclass(frozen=True)
class Setting:
    """One column of the table.

    Attributes:
        data: a folder with ``train/<class>/`` and ``test/<class>/``, ``omniglot`` with ``background/<character>/``,
            ``digits`` of scikit-learn, or ``CIFAR10`` or ``CIFAR100`` of torchvision.
        per_class: training images per class.
        side: images are resized to this; None leaves them.
        flip: whether a mirrored image keeps its label.
        depth, width, dropout: of the wide residual network.
        steps: of SGD with Nesterov momentum 0.9 and a cosine schedule, ``batch_size`` images each.
        lr, weight_decay: chosen for the baseline.
        batched: whether shifts and flips are drawn and made for a whole batch on its device: other random numbers of
            the same distribution.
        fit: fields of :class:`glico_augment.FitConfig` that differ from its defaults.
    """

    data: str
    per_class: int
    side: int | None = None
    flip: bool = False
    depth: int = 10
    width: int = 1
    dropout: float = 0.0
    steps: int = 600
    batch_size: int = 50
    lr: float = 0.1
    weight_decay: float = 5e-3
    batched: bool = False
    fit: dict[str, Any] = field(default_factory=dict)


def _gem(per_class: int, data: str = "cifar10", **changes: Any) -> Setting:
    """The start of a search around GEM's tuned baseline (2022): batch 10, 500 passes, lr 4.55e-3, decay 5.29e-3."""
    n_classes = 100 if data == "CIFAR100" else 10
    defaults = {"flip": True, "depth": 16, "width": 8, "batch_size": 10, "lr": 4.55e-3, "weight_decay": 5.29e-3}
    defaults |= {"steps": 50 * n_classes * per_class, "batched": True}
    return Setting(data, per_class, **(defaults | changes))


def _chimera(per_class: int) -> Setting:
    """ChimeraMix's training (Reinders et al., IJCAI 2022): 200 passes over the set repeated to 500 images per class."""
    network = {"depth": 28, "width": 10, "dropout": 0.3}
    training = {"steps": 7_800, "batch_size": 128, "lr": 0.1, "weight_decay": 5e-4, "batched": True}
    return Setting("cifar10", per_class, flip=True, **network, **training)


def _omniglot(per_class: int) -> Setting:
    """At the rate and steps of the best mean of none and AutoAugment on held-out images."""
    return Setting("omniglot", per_class, side=28, steps=1200, lr=0.1, batched=True)


def _practical(
    data: str, per_class: int, batch_size: int, steps: int, lr: float, fit_steps: int, **changes: Any
) -> Setting:
    """WRN-16-4, its training and the fit, the default since, as measure_tuning.py chose them."""
    side = changes.get("side") or (28 if data == "mnist" else 32)
    fit = {"steps": fit_steps, "generator_width": 16, "image_size": min(side, 32)}
    training = {"batch_size": batch_size, "steps": steps, "lr": lr, "weight_decay": 5.3e-3, "batched": True}
    return Setting(data, per_class, depth=16, width=4, fit=fit, **training, **changes)


_CIFAR100 = {"depth": 28, "width": 10, "batch_size": 100, "lr": 0.1, "weight_decay": 5e-4, "steps": 20_000}

SETTINGS = {
    "cifar10-10": Setting("cifar10", 10, flip=True),
    "cifar10-50": Setting("cifar10", 50, flip=True, steps=1200),
    "signs-5": Setting("signs", 5, side=48, lr=0.3),
    "signs-10": Setting("signs", 10, side=48, lr=0.3),
    "digits-5": Setting("digits", 5, side=32, lr=0.3),
    "digits-10": Setting("digits", 10, side=32, lr=0.3),
    "mnist-5": Setting("mnist", 5, lr=0.3),
    "mnist-10": Setting("mnist", 10, lr=0.3),
    "omniglot-1": _omniglot(1),
    "omniglot-2": _omniglot(2),
    "omniglot-5": _omniglot(5),
    "cifar10-10-wrn16-4": _practical("cifar10", 10, 10, 5000, 9.1e-3, 250, flip=True),
    "cifar10-50-wrn16-4": _practical("cifar10", 50, 10, 10_000, 4.6e-3, 625, flip=True),
    "signs-5-wrn16-4": _practical("signs", 5, 10, 2000, 1.8e-2, 250, side=48),
    "signs-10-wrn16-4": _practical("signs", 10, 10, 2000, 1.8e-2, 250, side=48),
    "mnist-5-wrn16-4": _practical("mnist", 5, 10, 2000, 1.8e-2, 250),
    "omniglot-2-wrn16-4": _practical("omniglot", 2, 50, 2400, 9.1e-2, 340, side=28),
    "cifar10-10-wrn16-8": _gem(10),
    "cifar10-50-wrn16-8": _gem(50),
    "cifar10-10-wrn28-10": _chimera(10),
    "cifar10-50-wrn28-10": _chimera(50),
    **{f"cifar100-{count}-wrn28-10": _gem(count, "CIFAR100", **_CIFAR100) for count in (10, 25, 50, 100)},
}
"""The first four make the main table. Those of a wider network want a GPU."""

CPU_SETTINGS = tuple(SETTINGS)[:4]


def find_setting(name: str, changes: list[str]) -> Setting:
    """The setting ``NAME`` or ``NAME:field=value,…``, or ``FOLDER-COUNT`` for any folder of images, with ``changes``.

    Raises:
        ValueError: for a name or field that does not exist.
    """
    fields = {field.name for field in dataclasses.fields(Setting)}
    name, fields_of_name = parse_name(name)
    setting = SETTINGS.get(name)
    if setting is None:
        match = re.fullmatch(r"(.+)-(\d+)", name)
        if not match:
            raise ValueError(f"setting must be FOLDER-COUNT or one of {', '.join(SETTINGS)}; got {name!r}")
        setting = Setting(match[1], int(match[2]))
    for key, value in (fields_of_name | parse_fields(changes)).items():
        if key not in fields:
            raise ValueError(f"a setting has the fields {', '.join(sorted(fields))}; got {key!r}")
        setting = dataclasses.replace(setting, **{key: value})
    return setting
