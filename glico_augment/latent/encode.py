"""The code of an image that was not fitted: the point of the sphere whose image is nearest to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from glico_augment import checks
from glico_augment.data.reading import Sample, read_samples
from glico_augment.data.samples import PLAIN, SampleLayout
from glico_augment.data.sources import as_images
from glico_augment.devices import choose_device, cpu_by_default, to_device
from glico_augment.errors import warn
from glico_augment.fit.code_adam import CodeAdam
from glico_augment.fit.loop import learning_rate_factor
from glico_augment.fit.quality import ROUNDING
from glico_augment.fit.reconstruction import PixelLoss, Targets
from glico_augment.fit.record import FitRecord
from glico_augment.fit.start import stream
from glico_augment.images.values import promote_channels, to_unit
from glico_augment.losses import FeatureLoss, build_loss
from glico_augment.model import sphere
from glico_augment.model.model import GLICOModel
from glico_augment.optional import advancing
from glico_augment.synthesis.synthesizer import Synthesizer

_PIXELS_PER_PASS = 2**19  # half of what a pass without gradients takes
_CHUNK = 256  # fitted images that are compared at a time


@dataclass(frozen=True)
class Encoding:
    """Codes of images, and what the generator makes of them.

    Attributes:
        codes: ``(k, latent_dim)`` float32 unit vectors.
        reconstructions: ``(k, channels, height, width)`` float32 in ``[0, 1]``, ``G([z, 0])``.
        r2: ``1 − Σ‖G([z_i, 0]) − x_i‖² / Σ‖x̄ − x_i‖²`` over the images, ``x̄`` the mean of the fitted ones: 1 for
            perfect reconstructions, 0 for what the mean image would do.
        per_image: ``(k,)`` float32, the same of each image.
    """

    codes: Tensor
    reconstructions: Tensor
    r2: float
    per_image: Tensor

    def __len__(self) -> int:
        return len(self.codes)


class Comparison:
    """The reconstruction loss of a fit, with the generator frozen, and without a fit around it.

    It is calibrated on the ``fitted_images``, uint8 on the device to work on. ``loss`` is the module it was fitted
    with, where it was one, or else ValueError is raised.
    """

    def __init__(self, fitted_images: Tensor, record: FitRecord, loss: nn.Module | None = None) -> None:
        config = record.config if loss is None else record.config.replace(loss=loss)
        self.loss = build_loss(config, record.image_shape).to(fitted_images.device).requires_grad_(False)
        Targets(fitted_images, self.loss, cache_bytes=0)  # calibrates it
        self.pixels = PixelLoss(fitted_images, config)
        self.restarts = record.restarts

    def with_targets(self, targets: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """``loss(outputs, rows)``, a scalar: the loss of images that are to be ``targets[rows]``, in ``[0, 1]``."""
        loss = self.loss
        with torch.no_grad():
            features = loss.features(targets) if isinstance(loss, FeatureLoss) else []

        def compare(outputs: Tensor, rows: Tensor) -> Tensor:
            if isinstance(loss, FeatureLoss):
                compared = loss.compare(loss.features(outputs), [tap[rows] for tap in features])
            else:
                compared = loss(outputs, targets[rows])
            return compared + self.pixels(outputs, targets[rows], restarts=self.restarts)

        return compare


class EncodeOptions(TypedDict, total=False):
    """The keywords of :func:`encode`."""

    steps: int
    starts: int
    lr: float
    loss: nn.Module | None
    device: torch.device | str | None
    seed: int
    progress: bool


def encode(
    synthesizer: Synthesizer,
    images: Any,
    layout: SampleLayout = PLAIN,
    *,
    steps: int = 200,
    starts: int = 4,
    lr: float = 5e-2,
    loss: nn.Module | None = None,
    device: torch.device | str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Encoding:
    """The codes of images, by gradient descent on the sphere from several starts; see :meth:`GLICOAugment.encode`.

    Half of the starts, rounded up, are the codes of the fitted images whose pixels are nearest; the others are drawn
    uniformly, the same for every image, so that a code does not depend on the other images. From each start Adam takes
    ``steps`` steps at a rate that falls to 0 as a cosine, with a projection onto the sphere after each. The best of all
    starts and ends is returned, so that no code is worse than those it started from.
    """
    steps, starts = checks.integer(0)("steps", steps), checks.integer(1)("starts", starts)
    lr, seed = checks.positive("lr", lr), checks.integer(0)("seed", seed)
    chosen_device = choose_device(device)
    if synthesizer.quality.is_poor:
        warn(
            f"the generator has not learned its images: R² is {synthesizer.quality.r2:.2f} of its reconstructions, so "
            "that the codes it finds for others say little. Fit longer or at a lower rate",
        )
    with torch.inference_mode(False), torch.no_grad(), cpu_by_default():
        targets = _read(as_images(images), layout, synthesizer.record)
        fitted_images = synthesizer.images.to(chosen_device)
        comparison = Comparison(fitted_images, synthesizer.record, loss)
        model = synthesizer.model_on(chosen_device)
        with torch.autocast(chosen_device.type, enabled=False):
            return _encode(model, fitted_images, comparison, targets, steps, starts, lr, seed, progress)


def _read(images: Any, layout: SampleLayout, record: FitRecord) -> Tensor:
    """The images of a dataset in the shape of a fit, uint8 ``(k, channels, height, width)``."""
    channels, height, width = record.image_shape
    read = read_samples(images, layout, (height, width), with_labels=False)
    return torch.cat([_promoted(sample, channels) for sample in read])


def _promoted(sample: Sample, channels: int) -> Tensor:
    try:
        return promote_channels(sample.image[None], channels)
    except ValueError:
        raise ValueError(
            f"image {sample.index} has {len(sample.image)} channels, which cannot be brought to the {channels} of "
            "the fit"
        ) from None


def _encode(
    model: GLICOModel,
    fitted_images: Tensor,
    comparison: Comparison,
    images: Tensor,
    steps: int,
    starts: int,
    lr: float,
    seed: int,
    progress: bool,
) -> Encoding:
    device, dim = model.device, model.codes.latent_dim
    n_near = min((starts + 1) // 2, len(fitted_images))
    generator = stream(seed, "encode")
    drawn = to_device(sphere.sample_uniform(starts - n_near, dim, generator=generator, device="cpu"), device)
    _, height, width = model.generator.image_shape
    batches = torch.arange(len(images)).split(max(1, _PIXELS_PER_PASS // (height * width * starts)))
    codes = []
    with advancing("GLICO encode", len(batches) * steps, enabled=progress) as advance:
        for batch in batches:
            targets = to_unit(to_device(images[batch], device))
            near = model.codes.codes.detach()[_nearest(targets, fitted_images, n_near)]
            first = torch.cat([near, drawn.expand(len(batch), -1, -1)], dim=1)
            compare = comparison.with_targets(targets)
            last = _descend(model, first.flatten(0, 1).clone(), starts, compare, steps, lr, advance)
            tried = torch.cat([first, last.view_as(first)], dim=1)
            best = _losses(model, tried, compare).argmin(dim=1)
            codes.append(tried[torch.arange(len(batch), device=device), best])
    found = torch.cat(codes)
    return _judge(found, model.generate(found).cpu(), images, comparison.pixels.mean_image.cpu())


def _descend(
    model: GLICOModel,
    codes: Tensor,
    starts: int,
    compare: Callable[[Tensor, Tensor], Tensor],
    steps: int,
    lr: float,
    advance: Callable[[], Any],
) -> Tensor:
    """Where ``codes``, ``(k · starts, latent_dim)``, come to, moved in place; those of an image stand together."""
    rows = torch.arange(len(codes), device=codes.device)
    adam = CodeAdam(codes, _BETAS)
    for step in range(steps):
        moving = codes.clone().requires_grad_()
        with torch.enable_grad():
            # A loss is a mean over images; as a sum the gradient of a code is that of its own image.
            total = len(codes) * compare(model.generator(moving), rows // starts)
        adam.step(rows, torch.autograd.grad(total, moving)[0], lr * learning_rate_factor("cosine", step / steps, 0))
        codes.copy_(sphere.normalize(codes))
        advance()
    return codes


_BETAS = (0.9, 0.999)


@torch.no_grad()
def _losses(model: GLICOModel, codes: Tensor, compare: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The loss of each of the codes ``(k, s, latent_dim)`` of ``k`` images, ``(k, s)``; infinite where it is NaN."""
    rows = torch.arange(len(codes), device=codes.device).repeat_interleave(codes.shape[1])
    made = model.generate(codes.flatten(0, 1))
    # One by one: any module may be the loss, and it returns a scalar.
    losses = torch.stack([compare(made[each : each + 1], rows[each : each + 1]) for each in range(len(made))])
    return losses.nan_to_num(torch.inf).view(codes.shape[:2])


def _nearest(targets: Tensor, fitted_images: Tensor, count: int) -> Tensor:
    """``(k, count)`` indices of the fitted images whose pixels are nearest to ``targets``, nearest first."""
    chunks = fitted_images.split(_CHUNK)
    distances = [torch.cdist(targets.flatten(1), to_unit(chunk).flatten(1)) for chunk in chunks]
    return torch.cat(distances, dim=1).argsort(dim=1, stable=True)[:, :count]


def _judge(codes: Tensor, made: Tensor, images: Tensor, mean: Tensor) -> Encoding:
    pairs = [(made[rows], to_unit(images[rows])) for rows in torch.arange(len(images)).split(_CHUNK)]
    error, distance = (
        torch.cat([(guess - real).square().flatten(1).sum(dim=1, dtype=torch.float64) for guess, real in each])
        for each in (pairs, [(mean, real) for _, real in pairs])
    )
    distance = distance.clamp(min=ROUNDING * mean.numel())
    return Encoding(codes.cpu(), made, float(1 - error.sum() / distance.sum()), (1 - error / distance).float())
