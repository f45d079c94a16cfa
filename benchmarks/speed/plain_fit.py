"""The fit as one would write it down from the paper: the reference for its speed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from glico_augment import FitConfig, LaplacianLoss
from glico_augment.data.image_set import ImageSet
from glico_augment.fit.loop import learning_rate_factor
from glico_augment.model.generator import Generator
from glico_augment.model.model import GLICOModel


class PlainFit:
    """Two generator passes a step, one for each loss; features of the real images at every step; float32, eager.

    Upsampling comes before each convolution, and codes, generator and classifier have an Adam each, all codes moved
    at every step. Networks, batches, loss and schedule are those of the library's fit.

    Args:
        image_set: the images.
        config: the hyper-parameters, with the Laplacian loss.
        device: where to compute.
        seed: of weights, codes, order and noise.
    """

    def __init__(self, image_set: ImageSet, config: FitConfig, device: torch.device, *, seed: int) -> None:
        self.config, self.device = config, device
        self.n_images = len(image_set)
        self.batch_size = config.batch_size_for(self.n_images)
        self.total_steps = config.total_steps(self.n_images)
        self.steps_done = 0
        rng = torch.Generator().manual_seed(seed)
        self.model = GLICOModel.initialize(image_set.labels, 0, config, image_set.image_shape, rng).to(device)
        self.images = image_set.images.to(device)
        self.loss = LaplacianLoss().to(device)
        self.loss.calibrate([self.images / 255])
        parts = (self.model.codes, self.model.generator, self.model.classifier)
        self.rates = (config.code_lr, config.lr, config.lr)
        betas = (config.adam_beta1, 0.999)
        self.optimizers = [
            torch.optim.Adam(part.parameters(), lr, betas) for part, lr in zip(parts, self.rates, strict=True)
        ]
        self.order = torch.empty(0, dtype=torch.int64)
        self.rng = rng
        self.noise_rng = torch.Generator(device).manual_seed(seed)

    def step(self) -> None:
        """One optimiser step."""
        while len(self.order) < self.batch_size:
            self.order = torch.cat([self.order, torch.randperm(self.n_images, generator=self.rng)])
        indices, self.order = self.order[: self.batch_size].to(self.device), self.order[self.batch_size :]
        reconstruction = self.loss(self.generate(indices), self.images[indices] / 255)
        logits = self.model.classifier(self.generate(indices))
        classification = F.cross_entropy(logits, self.model.codes.class_indices[indices])
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        (reconstruction + self.config.classifier_weight * classification).backward()
        factor = learning_rate_factor(self.config.schedule, self.steps_done / self.total_steps, 0)
        for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * factor
            optimizer.step()
        self.model.codes.project_()
        self.steps_done += 1

    def generate(self, indices: Tensor) -> Tensor:
        noise = self.model.noise(len(indices), self.config.noise_std, generator=self.noise_rng)
        return plain_generator(self.model.generator, self.model.codes(indices), noise)


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
    return generator.to_image(features).sigmoid()
