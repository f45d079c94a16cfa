"""MixMatch (Berthelot et al., NeurIPS 2019), the labelled images serving as the unlabelled ones as well."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.training import Batches

TEMPERATURE, ALPHA = 0.5, 0.75  # the paper's
UNLABELED_WEIGHT = 10.0  # the paper has 75 for CIFAR-10, which falls to chance in so short a training at 50 per class
N_GUESSES = 2


def mixmatch(
    network: nn.Module,
    batches: Batches,
    indices: Tensor,
    labels: Tensor,
    *,
    unlabeled_weight: float = UNLABELED_WEIGHT,
) -> Tensor:
    """Equations 2 to 5 on half a batch of labelled and half of unlabelled images, seen twice; the weight ramps up."""
    half = len(indices) // 2
    labeled, unlabeled = indices[:half], indices[half : 2 * half]
    x = batches(labeled)
    views = [batches(unlabeled) for _ in range(N_GUESSES)]
    with torch.no_grad():
        guess = torch.stack([network(view).float().softmax(1) for view in views]).mean(0)
    sharpened = guess ** (1 / TEMPERATURE)
    sharpened = sharpened / sharpened.sum(1, keepdim=True)
    one_hot = F.one_hot(labels[:half], guess.shape[1]).float()

    images = torch.cat([x, *views])
    targets = torch.cat([one_hot, *[sharpened] * N_GUESSES])
    with batches.own_randomness():
        others = torch.randperm(len(images)).to(images.device)
        ratio = torch.distributions.Beta(ALPHA, ALPHA).sample((len(images),)).to(images.device)
    ratio = torch.maximum(ratio, 1 - ratio)
    mixed = torch.lerp(images[others], images, ratio[:, None, None, None])
    targets = torch.lerp(targets[others], targets, ratio[:, None])

    logits = network(mixed).float()
    supervised = F.cross_entropy(logits[:half], targets[:half])
    consistency = F.mse_loss(logits[half:].softmax(1), targets[half:])
    return supervised + unlabeled_weight * batches.share_done * consistency
