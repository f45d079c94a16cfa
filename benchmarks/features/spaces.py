"""The feature spaces that are compared, each learned from images without labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
from features import models
from features.models import batches, in_chunks, unit
from torch import Tensor

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


Described = dict[str, Tensor]
"""Features ``(k, d)`` by the name of the variant, of which one is to be chosen."""
Space = tuple[Callable[[Tensor], Described], dict[str, Any]]
"""From uint8 images to their features; and what is worth keeping of the training."""


def pixels(images: Tensor, effort: Effort, seed: int, device: torch.device) -> Space:
    return lambda shown: {"": unit(shown).flatten(1)}, {}


def pca(images: Tensor, effort: Effort, seed: int, device: torch.device) -> Space:
    """The first 64 principal components."""
    from sklearn.decomposition import PCA

    flat = unit(images).flatten(1).numpy()
    learned = PCA(min(64, *flat.shape), random_state=seed).fit(flat)
    details = {"explained_variance": float(learned.explained_variance_ratio_.sum())}
    return lambda shown: {"": torch.from_numpy(learned.transform(unit(shown).flatten(1).numpy()))}, details


def autoencoder(images: Tensor, effort: Effort, seed: int, device: torch.device, *, name: str) -> Space:
    kind = {"vae": models.VAE, "vqvae": models.VQVAE}[name]
    model = kind(tuple(images.shape[1:]), width=getattr(effort, f"{name}_width")).to(device)
    steps = getattr(effort, f"{name}_steps")
    shown, optimizer = (
        batches(images, effort.batch_size, steps, seed, device),
        torch.optim.Adam(model.parameters(), 1e-3),
    )
    loss = models.optimise(optimizer, lambda batch: model.loss(unit(batch)), shown, steps)
    model.eval()
    return lambda seen: {"": in_chunks(lambda chunk: model.features(unit(chunk)), seen, device)}, {"loss": loss}


def gan(images: Tensor, effort: Effort, seed: int, device: torch.device) -> Space:
    shown = batches(images, effort.batch_size, effort.dcgan_steps, seed, device)
    judge, right = models.train_dcgan(shown, tuple(images.shape[1:]), effort.dcgan_width)
    features = lambda chunk: judge.features(models.centred(chunk))  # noqa: E731
    return lambda seen: {"": in_chunks(features, seen, device)}, {"told_apart": right}


def diffusion(images: Tensor, effort: Effort, seed: int, device: torch.device) -> Space:
    model = models.Diffusion(tuple(images.shape[1:]), effort.diffusion_width, device)
    steps, optimizer = effort.diffusion_steps, torch.optim.AdamW(model.unet.parameters(), lr=1e-3)
    shown = batches(images, effort.diffusion_batch_size, steps, seed, device)
    loss = models.optimise(optimizer, model.loss, shown, steps)
    model.unet.eval()

    def describe(seen: Tensor) -> Described:
        times = effort.diffusion_times
        return {f"t={time}": in_chunks(partial(model.features, time=time, seed=seed), seen, device) for time in times}

    return describe, {"loss": loss, "diffusers": version("diffusers")}


def glico(images: Tensor, effort: Effort, seed: int, device: torch.device) -> Space:
    """The codes of :class:`GLICOFeatures`, and the codes with each layer of the generator, as its ``layer=`` gives."""
    config = FitConfig(steps=effort.glico_steps, batch_size=effort.batch_size, generator_width=effort.glico_width)
    options = {"steps": effort.glico_encode_steps, "starts": effort.glico_encode_starts}
    features = GLICOFeatures(config=config, device=str(device), random_state=seed, **options).fit(images)
    generator = features.augment_.generator

    @torch.no_grad()
    def describe(seen: Tensor) -> Described:
        codes = torch.from_numpy(features.transform(seen))  # once: to encode is what takes time
        chunks = [[layer.mean(dim=(2, 3)) for layer in generator.layers(chunk)] for chunk in codes.split(models.CHUNK)]
        layers = [torch.cat(layer) for layer in zip(*chunks, strict=True)]
        return {"codes": codes} | {f"layer {level}": torch.cat([codes, each], 1) for level, each in enumerate(layers)}

    return describe, {"r2": features.augment_.quality.r2}


SPACES: dict[str, Callable[[Tensor, Effort, int, torch.device], Space]] = {
    "pixels": pixels,
    "pca": pca,
    "vae": partial(autoencoder, name="vae"),
    "vqvae": partial(autoencoder, name="vqvae"),
    "dcgan": gan,
    "diffusion": diffusion,
    "glico": glico,
}
