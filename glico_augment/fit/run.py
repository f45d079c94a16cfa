"""One fit from dataset to model: read and check the images, resume, optimise, keep."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from glico_augment import checks
from glico_augment.config import FitConfig
from glico_augment.data.image_set import ImageSet, read_image_set
from glico_augment.devices import choose_device
from glico_augment.files.fitted import FitRecord
from glico_augment.files.format import check_writable
from glico_augment.fit.checkpoint import Checkpoint
from glico_augment.fit.loop import Callback, Fit
from glico_augment.fit.progress import ProgressBar
from glico_augment.fit.ranks import Ranks
from glico_augment.model.model import GLICOModel


def fit_model(
    dataset: Any,
    config: FitConfig,
    *,
    unlabeled: Any,
    device: torch.device | str | None,
    seed: int,
    progress: bool,
    callback: Callback | None,
    checkpoint: str | Path | None,
    checkpoint_every: int,
    num_workers: int,
) -> tuple[GLICOModel, FitRecord]:
    """Fit a model, on the CPU when done, and record how. Arguments and errors are those of :meth:`GLICOAugment.fit`."""
    chosen_device = choose_device(device)
    seed = checks.integer(0)("seed", seed)
    checkpoint_every = checks.integer(1)("checkpoint_every", checkpoint_every)
    num_workers = checks.integer(0)("num_workers", num_workers)
    if checkpoint is not None:
        check_writable(checkpoint)
    image_set = read_image_set(dataset, unlabeled=unlabeled, image_size=config.image_size, num_workers=num_workers)
    _check_classes(image_set)

    record = FitRecord.of(image_set, config, seed)
    ranks = Ranks()
    ranks.check_equal("images, labels, settings and seed", record.to_json())
    ranks.check_equal("checkpoint_every, and whether there is a checkpoint,", [checkpoint is None, checkpoint_every])
    run = Fit(image_set, config, device=chosen_device, seed=seed)
    callbacks = [] if callback is None else [callback]
    saved = None if checkpoint is None else Checkpoint(checkpoint, run, record, every=checkpoint_every)
    if saved is not None:
        saved.restore()
        ranks.check_equal("the checkpoint", run.steps_done)
        callbacks.insert(0, saved)
    with ProgressBar(run.steps_done, run.total_steps, enabled=progress and ranks.is_first) as bar:
        run.run([bar, *callbacks])
    if saved is not None:
        saved.write()
    model = run.model.cpu()
    model.hold_images(image_set.images[: len(image_set.labels)])
    return model, dataclasses.replace(record, losses=run.history[: run.steps_done].cpu())


def _check_classes(image_set: ImageSet) -> None:
    if len(image_set.class_names) < 2:
        raise ValueError(
            f"expected images of at least two classes, got {len(image_set.labels)} images that all have label "
            f"{image_set.labels[0]}"
        )
