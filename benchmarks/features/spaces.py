"""The feature spaces that are compared, each learned from images without labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from features import autoencoders, dcgan, diffusion
from features.training import in_chunks, unit
from glico_augment import FitConfig
from glico_augment.sklearn import GLICOFeatures

TIMES = (1, 10, 30, 60, 100, 200, 400, 800)
"""Time steps, of 1000, at which a diffusion model is looked into."""


@dataclass(frozen=True)
class Effort:
    """How long and how wide each model is trained: what two CPU cores allow, and what a GPU run would raise."""

    batch_size: int = 64
    vae_steps: int = 2000
    vae_width: int = 16
    vqvae_steps: int = 2000
    vqvae_width: int = 16
    dcgan_steps: int = 1500
    dcgan_width: int = 16
    diffusion_steps: int = 1000
    diffusion_batch_size: int = 32
    diffusion_width: int = 16
    diffusion_times: tuple[int, ...] = TIMES
    glico_steps: int = 2000
    glico_width: int = 16
    glico_encode_steps: int = 50
    glico_encode_starts: int = 2
    scratch_steps: int = 200

    def of(self, space: str) -> dict[str, Any]:
        """The fields that concern a space, by name; its own batch size comes after that of all."""
        fields = dataclasses.asdict(self)
        return {name: fields[name] for name in fields if name == "batch_size" or name.startswith(f"{space}_")}


@dataclass
class Space:
    """Features of images, in one or more variants of which one is to be chosen.

    Attributes:
        describe: from uint8 images to features ``(k, d)`` by the name of the variant.
        details: what is worth keeping of the training.
    """

    describe: Callable[[Tensor], dict[str, Tensor]]
    details: dict[str, Any] = field(default_factory=dict)


def pixels(images: Tensor, effort: Effort, seed: int, device: torch.device) -> Space:
    return Space(lambda shown: {"": unit(shown).flatten(1)})


def pca(images: Tensor, effort: Effort, seed: int, device: torch.device) -> Space:
    """The first 64 principal components."""
    from sklearn.decomposition import PCA

    flat = unit(images).flatten(1).numpy()
    learned = PCA(min(64, *flat.shape), random_state=seed).fit(flat)
    details = {"explained_variance": float(learned.explained_variance_ratio_.sum())}
    return Space(lambda shown: {"": torch.from_numpy(learned.transform(unit(shown).flatten(1).numpy()))}, details)


def vae(images: Tensor, effort: Effort, seed: int, device: torch.device) -> Space:
    model = autoencoders.VAE(tuple(images.shape[1:]), width=effort.vae_width)
    return _autoencoder(model, images, effort, effort.vae_steps, seed, device)


def vqvae(images: Tensor, effort: Effort, seed: int, device: torch.device) -> Space:
    model = autoencoders.VQVAE(tuple(images.shape[1:]), width=effort.vqvae_width)
    return _autoencoder(model, images, effort, effort.vqvae_steps, seed, device)


def _autoencoder(
    model: autoencoders.VAE | autoencoders.VQVAE,
    images: Tensor,
    effort: Effort,
    steps: int,
    seed: int,
    device: torch.device,
) -> Space:
    options = {"steps": steps, "batch_size": effort.batch_size, "seed": seed, "device": device}
    loss = autoencoders.train(model, images, **options)
    return Space(
        lambda shown: {"": in_chunks(lambda chunk: model.features(unit(chunk)), shown, device)},
        {"loss": loss},
    )


def gan(images: Tensor, effort: Effort, seed: int, device: torch.device) -> Space:
    options = {"steps": effort.dcgan_steps, "batch_size": effort.batch_size, "seed": seed, "device": device}
    judge, right = dcgan.train(images, width=effort.dcgan_width, **options)

    def describe(shown: Tensor) -> dict[str, Tensor]:
        return {"": in_chunks(lambda chunk: judge.features(dcgan.centred(chunk)), shown, device)}

    return Space(describe, {"told_apart": right})


def diffused(images: Tensor, effort: Effort, seed: int, device: torch.device) -> Space:
    unet, loss = diffusion.train(
        images,
        steps=effort.diffusion_steps,
        batch_size=effort.diffusion_batch_size,
        seed=seed,
        device=device,
        width=effort.diffusion_width,
    )

    def describe(shown: Tensor) -> dict[str, Tensor]:
        return {
            f"t={time}": in_chunks(diffusion.Blocks(unet, time, seed), shown, device) for time in effort.diffusion_times
        }

    return Space(describe, {"loss": loss, "diffusers": version("diffusers")})


def glico(images: Tensor, effort: Effort, seed: int, device: torch.device) -> Space:
    """The codes of :class:`GLICOFeatures`, and the codes with each layer of the generator, as its ``layer=`` gives."""
    config = FitConfig(steps=effort.glico_steps, batch_size=effort.batch_size, generator_width=effort.glico_width)
    features = GLICOFeatures(
        config=config,
        steps=effort.glico_encode_steps,
        starts=effort.glico_encode_starts,
        device=str(device),
        random_state=seed,
    ).fit(images)
    augment = features.augment_

    def describe(shown: Tensor) -> dict[str, Tensor]:
        codes = torch.from_numpy(features.transform(shown))  # once: to encode is what takes time
        layers = _pooled(augment.generator, codes)
        return {"codes": codes} | {
            f"layer {number}": torch.cat([codes, layer], dim=1) for number, layer in enumerate(layers)
        }

    return Space(describe, {"r2": augment.quality.r2})


@torch.no_grad()
def _pooled(generator: Any, codes: Tensor) -> list[Tensor]:
    """The channels of each layer, averaged over the pixels."""
    chunks = [[layer.mean(dim=(2, 3)) for layer in generator.layers(chunk)] for chunk in codes.split(250)]
    return [torch.cat(layer) for layer in zip(*chunks, strict=True)]


SPACES: dict[str, Callable[[Tensor, Effort, int, torch.device], Space]] = {
    "pixels": pixels,
    "pca": pca,
    "vae": vae,
    "vqvae": vqvae,
    "dcgan": gan,
    "diffusion": diffused,
    "glico": glico,
}
