"""MetaCGAN: a conditional GAN the weights of whose deconvolutions a MetaNet makes, and the same GAN without it.

After "MetaCGAN: A Novel GAN Model for Generating High Quality and Diversity Images with Few Training Data", by a
summary: a task encoder and an image encoder give means and deviations, whose averages are sampled; a parameter
generator makes weights of the deconvolutions of that sample; instance normalisation; one batch in four is of the base
classes; the discriminator learns by RMSProp and the generator by Adam (0.5, 0.9), at 2e-4. Where that is silent, here:

- The task encoder averages what it makes of five images of the class; the image encoder sees one, in training the real
  one of the batch. Every made image so has weights of its own, scaled by their fan-in.
- The MetaNet learns with the generator, whose weights it makes, not with the discriminator.
- The generator's loss is the non-saturating one. Nothing pulls the sampled codes to a prior.
- The label is an embedding beside the noise, and planes of ones and zeros beside the image for the discriminator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEARNING_STEPS = 4
"""``N_c``: one batch of base classes in so many."""
TASK_IMAGES = 5
"""Images of a class that the task encoder sees at once."""
_KERNEL = 4


@dataclass(frozen=True)
class Size:
    """Of the networks and of their training."""

    steps: int = 1200
    batch_size: int = 32
    noise_dim: int = 64
    code_dim: int = 32
    width: int = 16
    lr: float = 2e-4


def trunk(channels: int, width: int, *, has_norm: bool) -> nn.Sequential:
    """Two strided convolutions, to a quarter of the side and ``2 · width`` channels."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, 2, 1),
        nn.InstanceNorm2d(2 * width, affine=True) if has_norm else nn.Identity(),
        nn.LeakyReLU(0.2),
    )


def inner_shape(image_shape: tuple[int, int, int], width: int) -> tuple[int, int, int]:
    return (2 * width, image_shape[1] // 4, image_shape[2] // 4)


class Encoder(nn.Module):
    """Mean and deviation of a code, ``(k, code_dim)`` each, from images in ``[−1, 1]``."""

    def __init__(self, image_shape: tuple[int, int, int], code_dim: int, width: int) -> None:
        super().__init__()
        size = math.prod(inner_shape(image_shape, width))
        self.net = nn.Sequential(
            trunk(image_shape[0], width, has_norm=False), nn.Flatten(), nn.Linear(size, 2 * code_dim)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, deviation = self.net(images).chunk(2, dim=1)
        return mean, F.softplus(deviation)


class MetaNet(nn.Module):
    """Weights of deconvolutions of ``shapes`` ``(channels_in, channels_out)``, each image's own, from its class."""

    def __init__(self, image_shape: tuple[int, int, int], shapes: list[tuple[int, int]], size: Size) -> None:
        super().__init__()
        self.task_encoder = Encoder(image_shape, size.code_dim, size.width)
        self.image_encoder = Encoder(image_shape, size.code_dim, size.width)
        self.shapes = shapes
        count = sum(_KERNEL**2 * channels_in * channels_out for channels_in, channels_out in shapes)
        self.parameter_generator = nn.Sequential(
            nn.Linear(size.code_dim, 2 * size.code_dim), nn.LeakyReLU(0.2), nn.Linear(2 * size.code_dim, count)
        )
        nn.init.normal_(self.parameter_generator[-1].bias)  # so that the first weights are those of an ordinary start

    def forward(self, images: Tensor, tasks: Tensor) -> list[Tensor]:
        """Weights ``(k, channels_in, channels_out, 4, 4)`` of each deconvolution.

        Args:
            images: ``(k, channels, height, width)``, one of the class of each image to be made.
            tasks: ``(k, t, channels, height, width)``, ``t`` of that class.
        """
        mean, deviation = (
            (one + of_task.unflatten(0, tasks.shape[:2]).mean(dim=1)) / 2
            for one, of_task in zip(self.image_encoder(images), self.task_encoder(tasks.flatten(0, 1)), strict=True)
        )
        made = self.parameter_generator(mean + deviation * torch.randn_like(mean))
        sizes = [_KERNEL**2 * channels_in * channels_out for channels_in, channels_out in self.shapes]
        return [
            weights.unflatten(1, (*shape, _KERNEL, _KERNEL)) / (4 * shape[0]) ** 0.5
            for weights, shape in zip(made.split(sizes, dim=1), self.shapes, strict=True)
        ]


class Generator(nn.Module):
    """Noise and label to an image in ``[−1, 1]``, by two deconvolutions whose weights may come from elsewhere."""

    def __init__(self, image_shape: tuple[int, int, int], n_classes: int, size: Size) -> None:
        super().__init__()
        channels, width = image_shape[0], size.width
        self.shapes = [(2 * width, width), (width, channels)]
        self.inner = inner_shape(image_shape, width)
        self.embedding = nn.Embedding(n_classes, size.noise_dim)
        self.project = nn.Linear(2 * size.noise_dim, math.prod(self.inner))
        self.norms = nn.ModuleList(nn.InstanceNorm2d(each, affine=True) for each in (2 * width, width))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))
        own = (torch.randn(*shape, _KERNEL, _KERNEL) / (4 * shape[0]) ** 0.5 for shape in self.shapes)
        self.own = nn.ParameterList(own)

    def forward(self, noise: Tensor, labels: Tensor, weights: list[Tensor] | None = None) -> Tensor:
        features = self.project(torch.cat([noise, self.embedding(labels)], dim=1)).unflatten(1, self.inner)
        for norm, weight in zip(self.norms, self.own if weights is None else weights, strict=True):
            features = deconvolve(F.relu(norm(features)), weight)
        return (features + self.bias).tanh()


def deconvolve(features: Tensor, weight: Tensor) -> Tensor:
    """To twice the side, with one weight for all images, or ``(k, …)`` with each image's own."""
    if weight.ndim == 4:
        return F.conv_transpose2d(features, weight, stride=2, padding=1)
    count = len(features)
    made = F.conv_transpose2d(features.flatten(0, 1)[None], weight.flatten(0, 1), stride=2, padding=1, groups=count)
    return made[0].unflatten(0, (count, -1))


class Discriminator(nn.Module):
    """The logit that an image is a real one of its label."""

    def __init__(self, image_shape: tuple[int, int, int], n_classes: int, width: int) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.features = trunk(image_shape[0] + n_classes, width, has_norm=True)
        self.head = nn.Linear(math.prod(inner_shape(image_shape, width)), 1)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        planes = F.one_hot(labels, self.n_classes).to(images)[:, :, None, None].expand(-1, -1, *images.shape[-2:])
        return self.head(self.features(torch.cat([images, planes], dim=1)).flatten(1)).flatten()


class Shelf:
    """Labelled images in ``[−1, 1]``, and random ones of wanted classes."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images.float() / 127.5 - 1, labels
        self.rows = [(labels == label).nonzero().flatten() for label in range(int(labels.max()) + 1)]

    def batch(self, count: int) -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(self.labels), (count,), device=self.labels.device)
        return self.images[chosen], self.labels[chosen]

    def of_classes(self, labels: Tensor, count: int) -> Tensor:
        """``(k, count, channels, height, width)``, drawn with replacement."""
        chosen = [self.rows[label][torch.randint(len(self.rows[label]), (count,))] for label in labels.tolist()]
        return self.images[torch.stack(chosen)]


Sampler = Callable[[Tensor], Tensor]
"""From labels ``(k,)`` to uint8 images ``(k, channels, height, width)``."""


def train(
    base: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor], *, has_meta_net: bool, size: Size, device: torch.device
) -> Sampler:
    """Learn from uint8 images and labels of base classes and of new ones; what makes images of the new ones.

    With ``has_meta_net`` it is a MetaCGAN, else a CGAN. Random numbers are torch's global ones.
    """
    shelves = [Shelf(images.to(device), labels.to(device)) for images, labels in (base, new)]
    image_shape, n_classes = tuple(new[0].shape[1:]), int(torch.cat([base[1], new[1]]).max()) + 1
    generator = Generator(image_shape, n_classes, size).to(device)
    meta_net = MetaNet(image_shape, generator.shapes, size).to(device) if has_meta_net else None
    discriminator = Discriminator(image_shape, n_classes, size.width).to(device)
    made_by = [*generator.parameters(), *(meta_net.parameters() if meta_net else ())]
    of_generator = torch.optim.Adam(made_by, lr=size.lr, betas=(0.5, 0.9))
    of_discriminator = torch.optim.RMSprop(discriminator.parameters(), lr=size.lr)

    def make(labels: Tensor, shelf: Shelf, images: Tensor) -> Tensor:
        weights = meta_net(images, shelf.of_classes(labels, TASK_IMAGES)) if meta_net else None
        return generator(torch.randn(len(labels), size.noise_dim, device=device), labels, weights)

    for step in range(size.steps):
        shelf = shelves[step % LEARNING_STEPS != 0]
        real, labels = shelf.batch(size.batch_size)
        made = make(labels, shelf, real)
        loss = F.softplus(-discriminator(real, labels)) + F.softplus(discriminator(made.detach(), labels))
        of_discriminator.zero_grad()
        loss.mean().backward()
        of_discriminator.step()
        of_generator.zero_grad()
        F.softplus(-discriminator(made, labels)).mean().backward()
        of_generator.step()

    @torch.no_grad()
    def sample(labels: Tensor) -> Tensor:
        labels = labels.to(device)
        made = make(labels, shelves[1], shelves[1].of_classes(labels, 1)[:, 0])
        return ((made + 1) * 127.5).round().to(torch.uint8).cpu()

    return sample
