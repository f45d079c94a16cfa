"""The feature spaces that are compared, each learned from images without labels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
from features import models
from features.models import batches, in_chunks, unit
from torch import Tensor

from glico_augment import FitConfig
from glico_augment.sklearn import GLICOFeatures

EFFORT: dict[str, dict[str, Any]] = {
    "vae": {"steps": 2000, "width": 16},
    "vqvae": {"steps": 2000, "width": 16},
    "dcgan": {"steps": 1500, "width": 16},
    "diffusion": {"steps": 1000, "batch_size": 32, "width": 16, "times": [1, 10, 30, 60, 100, 200, 400, 800]},
    "glico": {"steps": 2000, "width": 16, "encode_steps": 50, "encode_starts": 2},
    "scratch": {"steps": 200},
}
"""How long and how wide each model is trained, in batches of 64 images where it does not say: what two CPU cores allow.

``times`` are the time steps, of 1000, at which a diffusion model is looked into.
"""


def effort_of(space: str, changes: dict[str, Any]) -> dict[str, Any]:
    """The settings of a space, with ``changes`` as ``{"vae_steps": 100}``, and ``batch_size`` for all."""
    effort = {"batch_size": changes.get("batch_size", 64)} | EFFORT.get(space, {})
    own = {name.removeprefix(f"{space}_"): value for name, value in changes.items() if name.startswith(f"{space}_")}
    if unknown := own.keys() - effort.keys():
        raise ValueError(f"{space} has the settings {', '.join(effort)}; got {', '.join(unknown)}")
    return effort | own


Described = dict[str, Tensor]
"""Features ``(k, d)`` by the name of the variant, of which one is to be chosen."""
Space = tuple[Callable[[Tensor], Described], dict[str, Any]]
"""From uint8 images to their features; and what is worth keeping of the training."""


def pixels(images: Tensor, effort: dict[str, Any], seed: int, device: torch.device) -> Space:
    return lambda shown: {"": unit(shown).flatten(1)}, {}


def pca(images: Tensor, effort: dict[str, Any], seed: int, device: torch.device) -> Space:
    """The first 64 principal components."""
    from sklearn.decomposition import PCA

    flat = unit(images).flatten(1).numpy()
    learned = PCA(min(64, *flat.shape), random_state=seed).fit(flat)
    details = {"explained_variance": float(learned.explained_variance_ratio_.sum())}
    return lambda shown: {"": torch.from_numpy(learned.transform(unit(shown).flatten(1).numpy()))}, details


def autoencoder(images: Tensor, effort: dict[str, Any], seed: int, device: torch.device, *, name: str) -> Space:
    kind = {"vae": models.VAE, "vqvae": models.VQVAE}[name]
    model = kind(tuple(images.shape[1:]), width=effort["width"]).to(device)
    steps = effort["steps"]
    shown, optimizer = (
        batches(images, effort["batch_size"], steps, seed, device),
        torch.optim.Adam(model.parameters(), 1e-3),
    )
    loss = models.optimise(optimizer, lambda batch: model.loss(unit(batch)), shown, steps)
    model.eval()
    return lambda seen: {"": in_chunks(lambda chunk: model.features(unit(chunk)), seen, device)}, {"loss": loss}


def gan(images: Tensor, effort: dict[str, Any], seed: int, device: torch.device) -> Space:
    shown = batches(images, effort["batch_size"], effort["steps"], seed, device)
    judge, right = models.train_dcgan(shown, tuple(images.shape[1:]), effort["width"])
    features = lambda chunk: judge.features(models.centred(chunk))  # noqa: E731
    return lambda seen: {"": in_chunks(features, seen, device)}, {"told_apart": right}


def diffusion(images: Tensor, effort: dict[str, Any], seed: int, device: torch.device) -> Space:
    model = models.Diffusion(tuple(images.shape[1:]), effort["width"], device)
    steps, optimizer = effort["steps"], torch.optim.AdamW(model.unet.parameters(), lr=1e-3)
    shown = batches(images, effort["batch_size"], steps, seed, device)
    loss = models.optimise(optimizer, model.loss, shown, steps)
    model.unet.eval()

    def describe(seen: Tensor) -> Described:
        times = effort["times"]
        return {f"t={time}": in_chunks(partial(model.features, time=time, seed=seed), seen, device) for time in times}

    return describe, {"loss": loss, "diffusers": version("diffusers")}


def glico(images: Tensor, effort: dict[str, Any], seed: int, device: torch.device) -> Space:
    """The codes of :class:`GLICOFeatures`, and the codes with each layer of the generator, as its ``layer=`` gives."""
    config = FitConfig(steps=effort["steps"], batch_size=effort["batch_size"], generator_width=effort["width"])
    options = {"steps": effort["encode_steps"], "starts": effort["encode_starts"]}
    features = GLICOFeatures(config=config, device=str(device), random_state=seed, **options).fit(images)
    generator = features.augment_.generator

    @torch.no_grad()
    def describe(seen: Tensor) -> Described:
        codes = torch.from_numpy(features.transform(seen))  # once: to encode is what takes time
        chunks = [[layer.mean(dim=(2, 3)) for layer in generator.layers(chunk)] for chunk in codes.split(models.CHUNK)]
        layers = [torch.cat(layer) for layer in zip(*chunks, strict=True)]
        return {"codes": codes} | {f"layer {level}": torch.cat([codes, each], 1) for level, each in enumerate(layers)}

    return describe, {"r2": features.augment_.quality.r2}


SPACES: dict[str, Callable[[Tensor, dict[str, Any], int, torch.device], Space]] = {
    "pixels": pixels,
    "pca": pca,
    "vae": partial(autoencoder, name="vae"),
    "vqvae": partial(autoencoder, name="vqvae"),
    "dcgan": gan,
    "diffusion": diffusion,
    "glico": glico,
}
