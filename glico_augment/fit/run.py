"""One fit from dataset to model: read and check the images, resume, optimise, judge, keep."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from glico_augment import checks
from glico_augment.config import PRESETS, FitConfig
from glico_augment.data.class_names import ClassNames
from glico_augment.data.image_set import ON_ERROR, ImageSet, check_dataset, read_image_set
from glico_augment.data.samples import SampleLayout
from glico_augment.devices import choose_device, cpu_by_default
from glico_augment.files.atomic import check_writable
from glico_augment.fit.checkpoint import Checkpoint
from glico_augment.fit.cost import check_cost
from glico_augment.fit.interrupt import Interrupts
from glico_augment.fit.loop import Fit
from glico_augment.fit.notes import log_end, log_start, warn_if_poor, warn_of_equal_images, warn_of_skipped
from glico_augment.fit.progress import Callback, ProgressBar, ProgressLog
from glico_augment.fit.quality import FitQuality
from glico_augment.fit.ranks import Ranks
from glico_augment.fit.record import FitRecord, Fitted
from glico_augment.model.model import GLICOModel


def fit_model(
    dataset: Any,
    config: FitConfig | None,
    overrides: dict[str, Any],
    *,
    layout: SampleLayout,
    class_names: ClassNames | None,
    preset: str,
    unlabeled: Any,
    device: torch.device | str | None,
    seed: int,
    progress: bool,
    callback: Callback | None,
    checkpoint: str | Path | None,
    checkpoint_every: int,
    num_workers: int,
    on_error: str,
    finish: Callable[[Fitted], Any],
) -> Fitted:
    """Fit a model, on the CPU when done, and record how. Arguments and errors are those of :meth:`GLICOAugment.fit`.

    ``overrides`` are fields of the config to set otherwise, and ``finish`` makes the augmentation that a callback sees.
    """
    chosen_device = choose_device(device)
    seed = checks.integer(0)("seed", seed)
    checkpoint_every = checks.integer(1)("checkpoint_every", checkpoint_every)
    num_workers = checks.integer(0)("num_workers", num_workers)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be a function of a FitProgress, or None; got {callback!r}")
    checks.choice(ON_ERROR)("on_error", on_error)
    config = _checked_config(config, overrides, preset)
    ranks = Ranks()
    ranks.meet(chosen_device)
    with ranks.together(), cpu_by_default():
        if checkpoint is not None:
            check_writable(checkpoint)
        _check_before_reading(
            config, overrides, dataset, unlabeled, preset=preset, device=chosen_device, n_processes=ranks.count
        )
        image_set = read_image_set(
            dataset,
            unlabeled=unlabeled,
            layout=layout,
            class_names=class_names,
            image_size=config.image_size,
            num_workers=num_workers,
            on_error=on_error,
        )
        _check_classes(image_set, unlabeled)
    config = _resolved_config(config, overrides, preset, image_set)
    shape, n_classes = image_set.image_shape, len(image_set.class_names)
    check_cost(config, len(image_set), shape, n_classes, device=chosen_device, n_processes=ranks.count)
    if ranks.is_first:
        warn_of_equal_images(image_set)

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
        saved = None if checkpoint is None else Checkpoint(checkpoint, run, record, every=checkpoint_every)
        if saved is not None:
            saved.restore()
            ranks.check_equal("the checkpoint", [run.steps_done, run.restarts])
        quality = _optimise(run, saved, callback, progress=progress)
    if ranks.is_first:
        log_end(quality, run)
        warn_of_skipped(image_set)
        warn_if_poor(quality, run)
    return keep(run.model.cpu(), quality)


def _optimise(run: Fit, saved: Checkpoint | None, callback: Callback | None, *, progress: bool) -> FitQuality:
    """Make the steps that are left, with all that watches them, and say how well the images were learned."""
    is_first, is_labeled = run.ranks.is_first, run.image_set.is_labeled
    if is_first:
        log_start(run.image_set, run)
    is_shown = progress and is_first
    with Interrupts(saved, run.ranks, run.device) as interrupts:
        with ProgressBar(run.steps_done, run.total_steps, is_labeled=is_labeled, enabled=is_shown) as bar:
            log = [ProgressLog(once=bar.is_shown)] if is_first else []
            callbacks = [each for each in (bar, *log, saved, callback) if each is not None]
            run.run(callbacks, between_steps=interrupts)
            quality = run.quality()
            bar.finish(quality)
        if saved is not None:
            saved.write()
    return quality


def _checked_config(config: FitConfig | None, overrides: dict[str, Any], preset: str) -> FitConfig:
    """The settings as far as they are known before images are read, checked."""
    if config is not None and not isinstance(config, FitConfig):
        raise TypeError(f"config must be a FitConfig, or None; got {config!r}")
    _check_preset(preset, config)
    base = FitConfig.published(steps=overrides.get("steps")) if preset == "published" else FitConfig()
    base = base.replace(image_size=None)  # that of the images, unless it is asked for
    config = (config or base).replace(**overrides)
    if config.vgg_weights is not None and config.loss != "vgg16":
        raise ValueError(f"vgg_weights go with loss='vgg16'; got loss={checks.quoted(config.loss)}")
    return config


def _resolved_config(config: FitConfig, overrides: dict[str, Any], preset: str, image_set: ImageSet) -> FitConfig:
    """The settings as the numbers that a fit of these images uses."""
    if not image_set.is_labeled:
        overrides = {**overrides, "classifier_weight": 0.0, "class_cosine": 0.0}  # there is nothing to classify
        config = config.replace(**overrides)
    if preset == "published":
        overrides = {**overrides, "image_size": image_set.image_shape[1:]}
        config = FitConfig.published(n_images=len(image_set), **overrides)
    return config.resolved(len(image_set), image_set.image_shape)


def _check_before_reading(
    config: FitConfig,
    overrides: dict[str, Any],
    dataset: Any,
    unlabeled: Any,
    *,
    preset: str,
    device: torch.device,
    n_processes: int,
) -> None:
    """Refuse what is too large whatever the images look like."""
    check_dataset(dataset, "dataset")
    if unlabeled is not None:
        check_dataset(unlabeled, "unlabeled")
    n_images = len(dataset) + (0 if unlabeled is None else len(unlabeled))
    size = config.image_size or 1  # if none is asked for
    height, width = (size, size) if isinstance(size, int) else size
    if preset == "published":
        config = FitConfig.published(n_images=n_images, **overrides)
    shape = (1, height, width)
    check_cost(config.resolved(n_images, shape), n_images, shape, 2, device=device, n_processes=n_processes)


def _check_preset(preset: str, config: FitConfig | None) -> None:
    checks.choice(PRESETS)("preset", preset)
    if preset != "default" and config is not None:
        raise ValueError(f"give a config or preset={preset!r}, not both; fields to change can go beside the preset")


def _check_classes(image_set: ImageSet, unlabeled: Any) -> None:
    if not image_set.is_labeled:
        if unlabeled is not None:
            raise ValueError("the images have no labels, so that unlabeled= adds nothing to them: give all in one set")
        if len(image_set) < 2:
            raise ValueError("expected at least two images, got one: there is nothing to tell apart")
        return
    if len(image_set.class_names) < 2:
        raise ValueError(
            f"expected images of at least two classes, got {len(image_set.labels)} images that all have label "
            f"{image_set.labels[0]}"
        )
