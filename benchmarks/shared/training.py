"""One classifier trained and scored, the same way for every method and every benchmark."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from glico_augment.capture import CapturedStep, can_capture, set_learning_rate
from glico_augment.devices import to_device
from shared.batched_autoaugment import BatchedAutoAugment
from shared.data import Split
from shared.pause import Pause
from shared.settings import Setting
from shared.wide_resnet import WideResNet

SHIFT = 4
IMAGES_AT_ONCE = 8192
"""Images of coming steps that are made together where a setting is ``batched``, so that a step is a replay alone."""

Swap = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From uint8 images, their labels and their indices among the training images to images."""

Objective = Callable[[nn.Module, "Batches", Tensor, Tensor], Tensor]
"""From network, batches, indices and labels to the loss."""


def shift_and_flip(images: Tensor, shift: int, *, flip: bool) -> Tensor:
    """``RandomCrop(side, padding=shift)`` and, with ``flip``, ``RandomHorizontalFlip()`` of each of ``(k, C, H, W)``.

    Drawn from the CPU's generator whatever the device, which is not waited for.
    """
    count, _, height, width = images.shape
    down, right = torch.randint(2 * shift + 1, (2, count, 1))
    rows, columns = down + torch.arange(height), right + torch.arange(width)
    if flip:
        columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    rows, columns = (to_device(places, images.device) for places in (rows, columns))
    each = torch.arange(count, device=images.device)[:, None, None]
    return F.pad(images, [shift] * 4)[each, :, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


class Batches:
    """Batches of normalised images: swapped, shifted and flipped, augmented by a policy, normalised, erased.

    ``swap`` and ``style`` change a batch of uint8 images, ``policy`` one of them, or a batch if it is a
    :class:`BatchedAutoAugment`; ``spare`` keeps it from swapped images. ``erase`` changes one normalised image.
    """

    def __init__(
        self,
        split: Split,
        flip: bool,
        swap: Swap | None = None,
        style: Callable[[Tensor], Tensor] | None = None,
        policy: Callable[[Tensor], Tensor] | None = None,
        erase: nn.Module | None = None,
        *,
        spare: bool = False,
        batched: bool = False,
    ) -> None:
        self.images, self.labels = split.images, split.labels
        self.n_classes = int(split.labels.max()) + 1
        self.swap, self.style, self.policy, self.erase, self.spare = swap, style, policy, erase, spare
        self.flip, self.batched = flip, batched
        side = self.images.shape[-2:]
        self.basic = v2.Compose([v2.RandomCrop(side, padding=SHIFT), *([v2.RandomHorizontalFlip()] if flip else [])])
        values = self.images.float() / 255
        self.mean = values.mean(dim=(0, 2, 3), keepdim=True)
        self.std = values.std(dim=(0, 2, 3), keepdim=True)
        self.seed = 0
        self.share_done = 0.0  # of the training steps

    def __call__(self, indices: Tensor) -> Tensor:
        """Augmented images, normalised float32."""
        real = self.images[indices]
        images = real
        if self.swap is not None:
            with self.own_randomness():
                images = self.swap(real, self.labels[indices], indices)
        is_spared = (images != real).flatten(1).any(dim=1) & self.spare
        if self.style is not None:
            with self.own_randomness():
                images = self.style(images)
        if self.batched:
            images = shift_and_flip(images, SHIFT, flip=self.flip)
        else:  # one by one: v2's transforms draw once for a whole batch
            images = torch.stack([self.basic(image) for image in images])
        if self.policy is not None:
            with self.own_randomness():
                if isinstance(self.policy, BatchedAutoAugment):
                    images = torch.where(is_spared[:, None, None, None], images, self.policy(images))
                else:
                    pairs = zip(images, is_spared.tolist(), strict=True)
                    images = torch.stack([image if spared else self.policy(image) for image, spared in pairs])
        images = self.normalize(images)
        if self.erase is not None:
            with self.own_randomness():
                images = torch.stack([self.erase(image) for image in images])
        return images

    def normalize(self, images: Tensor) -> Tensor:
        return (images.float() / 255 - self.mean) / self.std

    def state_dict(self) -> dict[str, int]:
        return {"seed": self.seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.seed = state["seed"]

    @contextmanager
    def own_randomness(self) -> Iterator[None]:
        """Random numbers apart, so that order, shifts and flips are the same for every method."""
        with torch.random.fork_rng([self.images.device] if self.images.is_cuda else []):
            self.seed += 1
            torch.manual_seed(self.seed)
            yield


def precision(device: torch.device) -> str:
    """bfloat16 on a GPU alone: a processor without its instructions takes ten times as long for it."""
    return "bfloat16" if device.type == "cuda" else "float32"


def cross_entropy(network: nn.Module, batches: Batches, indices: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(network(batches(indices)).float(), labels)


def train(
    split: Split,
    setting: Setting,
    batches: Batches,
    objective: Objective,
    seed: int,
    pause: Pause | None = None,
) -> WideResNet | None:
    """The network after all steps of the setting; None if ``pause`` stopped it before."""
    device = split.images.device
    torch.manual_seed(seed)
    batches.seed = seed * 10**7
    side = split.images.shape[-1]
    shape = {"depth": setting.depth, "width": setting.width, "dropout": setting.dropout, "side": side}
    network = WideResNet(batches.n_classes, **shape)
    network = network.to(device, memory_format=torch.channels_last)
    is_captured = can_capture(device)
    rate = torch.tensor(setting.lr, device=device) if is_captured else setting.lr  # a number would be part of the graph
    sgd: dict[str, Any] = {"momentum": 0.9, "weight_decay": setting.weight_decay, "nesterov": True}
    optimizer = torch.optim.SGD(network.parameters(), lr=rate, fused=is_captured or None, **sgd)
    parts: dict[str, Any] = {"network": network, "optimizer": optimizer, "batches": batches}
    first, order = (pause and pause.restore(parts, device)) or (0, torch.empty(0, dtype=torch.int64))
    network.train()
    # No cache: weights cast while MixMatch guesses, without gradients, must not serve the pass with gradients.
    autocast = partial(
        torch.autocast, device.type, torch.bfloat16, enabled=precision(device) == "bfloat16", cache_enabled=False
    )

    def descend(loss: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    def learn(images: Tensor, labels: Tensor) -> Tensor:
        with autocast():
            loss = F.cross_entropy(network(images).float(), labels)
        return descend(loss)

    step_of_sgd = CapturedStep(learn, is_wanted=is_captured)
    is_plain = objective is cross_entropy
    steps_at_once = max(1, IMAGES_AT_ONCE // setting.batch_size) if setting.batched and is_plain else 1
    for start in range(first, setting.steps, steps_at_once):
        if pause is not None and pause.stops(start, order, parts, device):
            return None
        count = min(steps_at_once, setting.steps - start)
        while len(order) < count * setting.batch_size:
            order = torch.cat([order, torch.randperm(len(split.images))])
        taken, order = order[: count * setting.batch_size], order[count * setting.batch_size :]
        indices = to_device(taken, device).view(count, -1)
        images = batches(indices.flatten()).view(*indices.shape, *split.images.shape[1:]) if is_plain else None
        for step, chosen in enumerate(indices, start):
            batches.share_done = step / setting.steps
            set_learning_rate(optimizer, setting.lr * (1 + math.cos(math.pi * step / setting.steps)) / 2)
            if images is not None:
                # Every batch has one shape; a small network is trained in less time than its best kernels are found in.
                with torch.backends.cudnn.flags(enabled=True, benchmark=setting.depth > 10, allow_tf32=True):
                    step_of_sgd(images[step - start], split.labels[chosen])
            else:
                with autocast():
                    loss = objective(network, batches, chosen, split.labels[chosen])
                descend(loss)
    return network.eval()


@torch.no_grad()
def accuracy(network: nn.Module, batches: Batches, images: Tensor, labels: Tensor) -> float:
    """Share of images put in the right class, in percent."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision(images.device) == "bfloat16"):
        predicted = torch.cat([network(batches.normalize(chunk)).argmax(1) for chunk in images.split(250)])
    return 100 * (predicted == labels).float().mean().item()
