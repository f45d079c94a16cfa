"""Where a fit starts: random codes, random weights, and the mean image."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from glico_augment.config import FitConfig
from glico_augment.model import sphere
from glico_augment.model.codes import SphereCodes
from glico_augment.model.model import GLICOModel

_DARKEST = 0.01  # and 1 − that the lightest: further out the sigmoid passes no gradient


def initial_model(
    labels: Tensor,
    n_unlabeled: int,
    config: FitConfig,
    image_shape: tuple[int, int, int],
    mean_image: Tensor,
    generator: torch.Generator,
) -> GLICOModel:
    """Codes about one prototype per class, He-normal weights, a generator that draws about the mean image, on the CPU.

    The background is the mean image, in ``[0, 1]``, and the last layer starts a tenth as large. From images that start
    elsewhere, the first steps of a wide generator without normalisation can run to one colour and not return: on white
    strokes they find black.
    """
    codes = initial_codes(labels, n_unlabeled, config.latent_dim, config.class_cosine, generator)
    model = GLICOModel(codes, config, image_shape)
    for network in (model.generator, model.classifier):
        for module in network.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                nn.init.kaiming_normal_(module.weight, a=0.2, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    model.generator.to_image.weight.data.mul_(0.1)
    model.generator.background.data.copy_(torch.logit(mean_image.cpu().clamp(_DARKEST, 1 - _DARKEST)))
    return model


def initial_codes(
    labels: Tensor, n_unlabeled: int, latent_dim: int, class_cosine: float, generator: torch.Generator
) -> SphereCodes:
    """Random codes, those of a class about its prototype: ``z_i ∝ √c·p_y + √(1 − c)·u_i``, all drawn uniformly.

    Prototypes are orthogonal where there are dimensions enough, so that the cosine of two codes is about ``c`` within a
    class and 0 between classes. Codes of unlabelled images are uniform.
    """
    codes = SphereCodes.random(labels, latent_dim, n_unlabeled=n_unlabeled, generator=generator)
    if class_cosine == 0:
        return codes
    prototypes = sphere.sample_uniform(len(codes.classes), latent_dim, generator=generator)
    if len(prototypes) <= latent_dim:
        prototypes = torch.linalg.qr(prototypes.T)[0].T
    labeled = codes.codes.data[: len(labels)]
    labeled.copy_(
        sphere.normalize(class_cosine**0.5 * prototypes[codes.class_indices] + (1 - class_cosine) ** 0.5 * labeled)
    )
    return codes


def stream(seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A source of randomness of its own for each use of a fit's seed, so that none repeats the numbers of another."""
    digest = hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "big") >> 1)
