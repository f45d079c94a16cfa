"""One fit from dataset to model: read and check the images, resume, optimise, judge, keep."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from glico_augment import checks
from glico_augment.config import PRESETS, FitConfig
from glico_augment.data.image_set import ImageSet, read_image_set
from glico_augment.devices import choose_device, cpu_by_default
from glico_augment.files.atomic import check_writable
from glico_augment.fit.checkpoint import Checkpoint
from glico_augment.fit.loop import Fit
from glico_augment.fit.progress import Callback, ProgressBar
from glico_augment.fit.quality import LEAST_R2, FitQuality
from glico_augment.fit.ranks import Ranks
from glico_augment.fit.record import FitRecord
from glico_augment.model.model import GLICOModel


class Fitted(NamedTuple):
    """What a fit returns: the model, the labelled images at its size, uint8, and how it was made."""

    model: GLICOModel
    images: Tensor
    record: FitRecord


def fit_model(
    dataset: Any,
    config: FitConfig | None,
    overrides: dict[str, Any],
    *,
    preset: str,
    unlabeled: Any,
    device: torch.device | str | None,
    seed: int,
    progress: bool,
    callback: Callback | None,
    checkpoint: str | Path | None,
    checkpoint_every: int,
    num_workers: int,
    finish: Callable[[Fitted], Any],
) -> Fitted:
    """Fit a model, on the CPU when done, and record how. Arguments and errors are those of :meth:`GLICOAugment.fit`.

    ``overrides`` are fields of the config to set otherwise, and ``finish`` makes the augmentation that a callback sees.
    """
    chosen_device = choose_device(device)
    seed = checks.integer(0)("seed", seed)
    checkpoint_every = checks.integer(1)("checkpoint_every", checkpoint_every)
    num_workers = checks.integer(0)("num_workers", num_workers)
    _check_preset(preset, config)
    config = (config or FitConfig()).replace(**overrides)  # and checked, before images are read
    ranks = Ranks()
    ranks.meet(chosen_device)
    with ranks.together(), cpu_by_default():
        if checkpoint is not None:
            check_writable(checkpoint)
        image_set = read_image_set(dataset, unlabeled=unlabeled, image_size=config.image_size, num_workers=num_workers)
        _check_classes(image_set)
    if preset == "published":
        overrides = {**overrides, "image_size": image_set.image_shape[1:]}
        config = FitConfig.published(n_images=len(image_set), **overrides)
    config = config.resolved(len(image_set), image_set.image_shape)

    record = FitRecord.of(image_set, config, seed)
    images = image_set.images[: len(image_set.labels)]

    def keep(model: GLICOModel, quality: FitQuality) -> Fitted:
        losses = run.history[: run.steps_done].cpu()
        return Fitted(model, images, dataclasses.replace(record, restarts=run.restarts, quality=quality, losses=losses))

    # Whatever context the caller is in, gradients are needed here, and the precision is that of the config.
    no_autocast = torch.autocast(chosen_device.type, enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), no_autocast, cpu_by_default():
        ranks.check_equal("images, labels, settings and seed", record.identity())
        ranks.check_equal(
            "checkpoint_every, and whether there is a checkpoint,", [checkpoint is None, checkpoint_every]
        )
        run = Fit(
            image_set,
            config,
            device=chosen_device,
            seed=seed,
            finish=lambda model: finish(keep(copy.deepcopy(model).cpu(), run.quality())),
        )
        callbacks = [] if callback is None else [callback]
        saved = None if checkpoint is None else Checkpoint(checkpoint, run, record, every=checkpoint_every)
        if saved is not None:
            saved.restore()
            ranks.check_equal("the checkpoint", [run.steps_done, run.restarts])
            callbacks.insert(0, saved)
        with ProgressBar(run.steps_done, run.total_steps, enabled=progress and ranks.is_first) as bar:
            run.run([bar, *callbacks])
            quality = run.quality()
            bar.finish(quality)
        if saved is not None:
            saved.write()
    if quality.is_poor and ranks.is_first:
        _warn_of_poor(quality, run)
    return keep(run.model.cpu(), quality)


def _check_preset(preset: str, config: FitConfig | None) -> None:
    checks.choice(PRESETS)("preset", preset)
    if preset != "default" and config is not None:
        raise ValueError(f"give a config or preset={preset!r}, not both; fields to change can go beside the preset")


def _check_classes(image_set: ImageSet) -> None:
    if len(image_set.class_names) < 2:
        raise ValueError(
            f"expected images of at least two classes, got {len(image_set.labels)} images that all have label "
            f"{image_set.labels[0]}"
        )


def _warn_of_poor(quality: FitQuality, run: Fit) -> None:
    restarts = f", after {run.restarts} starts at lower rates" if run.restarts else ""
    warnings.warn(
        f"the generator has not learned its images: R² is {quality.r2:.2f} of its reconstructions{restarts}, and under "
        f"{LEAST_R2:g} a swap costs accuracy. Fit longer (epochs= or min_steps=, now {run.total_steps} steps), with a "
        f"lower lr (now {run.config.lr:g}) or a larger latent_dim (now {run.config.latent_dim}), and look at "
        "augment.reconstruct()",
        UserWarning,
        stacklevel=4,
    )
