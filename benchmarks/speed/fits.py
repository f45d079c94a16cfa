"""A fit of the library to be timed step by step, and the same written down from the paper, the reference for its speed.

What the benchmarks need of the library's inside is imported here alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from glico_augment import FitConfig
from glico_augment.data.image_set import ImageSet, read_image_set
from glico_augment.fit.loop import Fit, learning_rate_factor
from glico_augment.fit.quality import ROUNDING, measure
from glico_augment.fit.start import initial_model, stream
from glico_augment.losses import build_loss
from glico_augment.model.generator import Generator


def start_fit(dataset: Dataset, device: torch.device, *, seed: int = 0, **settings: object) -> Fit:
    """A fit before its first step; ``step()`` makes one."""
    return Fit(*prepared(dataset, settings), device=device, seed=seed)


def start_plain_fit(dataset: Dataset, device: torch.device, *, seed: int = 0, **settings: object) -> PlainFit:
    return PlainFit(*prepared(dataset, settings), device, seed=seed)


def prepared(dataset: Dataset, settings: dict) -> tuple[ImageSet, FitConfig]:
    image_set = read_image_set(dataset)
    return image_set, FitConfig(**settings).resolved(len(image_set), image_set.image_shape)


def r2_after(fit: Fit | PlainFit, steps: int, images: Tensor) -> float:
    """R² of the rebuilt uint8 images after so many steps."""
    for _ in range(steps):
        fit.step()
    return measure(fit.model, images).r2


class PlainFit:
    """The library's fit without what makes it fast, on labelled images with the default losses.

    Networks, start, order of the images, noise, losses, clipping, schedule and number of steps are the same. Different:
    two generator passes per step, one for each loss; upsampling before each convolution; features of the real images at
    every step; float32; and an Adam of torch each for codes, generator and classifier, which moves all codes at every
    step, where the library's wait for their next visit. Where every batch is the whole set, both make the same steps.
    """

    def __init__(self, image_set: ImageSet, config: FitConfig, device: torch.device, *, seed: int) -> None:
        self.config, self.device = config, device
        self.images = image_set.images.to(device)
        mean_image = (self.images / 255).mean(dim=0)
        self.spread = (self.images / 255 - mean_image).square().mean().clamp(min=ROUNDING)
        start = stream(seed, "start")
        self.model = initial_model(image_set.labels, 0, config, image_set.image_shape, mean_image, start).to(device)
        self.loss = build_loss(config, image_set.image_shape).to(device)
        self.loss.calibrate([self.images / 255])
        self.networks = [*self.model.generator.parameters(), *self.model.classifier.parameters()]
        parts = (self.model.codes, self.model.generator, self.model.classifier)
        self.rates = (config.code_lr, config.lr, config.lr)
        betas = (config.adam_beta1, 0.999)
        self.optimizers = [
            torch.optim.Adam(part.parameters(), lr, betas) for part, lr in zip(parts, self.rates, strict=True)
        ]
        self.order = torch.empty(0, dtype=torch.int64)
        self.order_rng, self.noise_rng = stream(seed, "order"), stream(seed, "noise", device)
        self.steps_done = 0

    def step(self) -> Tensor:
        """One optimiser step; returns its loss."""
        indices = self.next_batch()
        noise = self.model.noise(len(indices), self.config.noise_std, generator=self.noise_rng)
        images = plain_generator(self.model.generator, self.model.codes(indices), noise)
        real = self.images[indices] / 255
        squared = F.mse_loss(images, real) / self.spread
        reconstruction = self.loss(images, real) + self.config.squared_weight * squared
        logits = self.model.classifier(plain_generator(self.model.generator, self.model.codes(indices), noise))
        classification = F.cross_entropy(logits, self.model.codes.class_indices[indices])
        loss = reconstruction + self.config.classifier_weight * classification
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        self.update()
        self.steps_done += 1
        return loss.detach()

    def next_batch(self) -> Tensor:
        while len(self.order) < self.config.batch_size:
            self.order = torch.cat([self.order, torch.randperm(len(self.images), generator=self.order_rng)])
        batch, self.order = self.order[: self.config.batch_size], self.order[self.config.batch_size :]
        return batch.to(self.device)

    def update(self) -> None:
        if self.config.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.networks, self.config.max_grad_norm)
        epochs_done = self.steps_done * self.config.batch_size / len(self.images)
        factor = learning_rate_factor(self.config.schedule, self.steps_done / self.config.steps, epochs_done)
        for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * factor
            optimizer.step()
        self.model.codes.project_()


def plain_generator(generator: Generator, codes: Tensor, noise: Tensor | None) -> Tensor:
    """The generator's images, with upsampling and convolution one after the other."""
    hidden = codes * generator.latent_dim**0.5
    if generator.project_noise is not None:
        noise = hidden.new_zeros(len(hidden), generator.noise_dim) if noise is None else noise
        hidden = torch.cat([hidden, generator.project_noise(noise)], dim=1)
    features = generator.project(hidden).unflatten(1, (-1, *generator.sizes[0]))
    for (height, width), conv in zip(generator.sizes, generator.convs, strict=True):
        if features.shape[-2:] != (height, width):
            features = F.interpolate(features, scale_factor=2, mode="nearest")[..., :height, :width]
        features = F.leaky_relu(conv(features), 0.2)
    return (generator.to_image(features) + generator.background).sigmoid()
