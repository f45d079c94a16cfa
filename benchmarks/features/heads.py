"""The heads: a linear one and one with a hidden layer, their settings chosen on validation images."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEADS = ("linear", "hidden")
SCALINGS = ("each", "all")
"""Features are scaled to variance one each, or all by one factor to variance one on average."""
INVERSE_PENALTIES = (0.001, 0.01, 0.1, 1.0)
"""``C`` of the logistic regression."""
DECAYS = (0.01, 1.0)
"""Decoupled weight decay of the hidden layer's network."""
HIDDEN, HIDDEN_STEPS = 64, 200

Examples = tuple[Tensor, Tensor]
"""Features ``(n, d)`` and labels ``(n,)``."""


def score(head: str, labelled: Examples, validation: Examples, test: Examples, seed: int) -> dict[str, Any]:
    """Accuracy in percent on the test images, with the settings that are best on the validation images.

    The validation images, without their labels, also say where the features lie, and how widely.
    """
    best: dict[str, Any] = {"validation_accuracy": -1.0}
    for scaling, penalty in itertools.product(SCALINGS, INVERSE_PENALTIES if head == "linear" else DECAYS):
        scale = scaler(validation[0], scaling)
        fit = fit_linear if head == "linear" else fit_hidden
        predict = fit(scale(labelled[0]), labelled[1], penalty, seed)
        reached = accuracy(predict(scale(validation[0])), validation[1])
        if reached > best["validation_accuracy"]:
            best = {
                "accuracy": accuracy(predict(scale(test[0])), test[1]),
                "validation_accuracy": reached,
                "chosen": {"scaling": scaling, "C" if head == "linear" else "weight_decay": penalty},
            }
    return best


def scaler(reference: Tensor, scaling: str) -> Callable[[Tensor], Tensor]:
    mean, variance = reference.mean(dim=0), reference.var(dim=0)
    deviation = (variance if scaling == "each" else variance.mean()).sqrt().clamp(min=1e-6)
    return lambda features: (features - mean) / deviation


def fit_linear(features: Tensor, labels: Tensor, inverse_penalty: float, seed: int) -> Callable[[Tensor], Tensor]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=inverse_penalty, max_iter=100).fit(features.numpy(), labels.numpy())
    return lambda shown: torch.from_numpy(model.predict(shown.numpy()))


def fit_hidden(features: Tensor, labels: Tensor, decay: float, seed: int) -> Callable[[Tensor], Tensor]:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(features.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, int(labels.max()) + 1))
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, HIDDEN_STEPS)
        for _ in range(HIDDEN_STEPS):
            rows = torch.randperm(len(features))[:128]
            loss = F.cross_entropy(model(features[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return lambda shown: model(shown).argmax(dim=1)


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    return 100 * (predicted == labels).float().mean().item()
