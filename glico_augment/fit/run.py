"""One fit from dataset to model: read and check the images, resume, optimise, judge, keep."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch

from glico_augment import checks
from glico_augment.config import MAX_SIDE, MAX_SIDE_PUBLISHED, PRESETS, FitConfig
from glico_augment.data.class_names import ClassNames
from glico_augment.data.image_set import ImageSet, check_dataset, read_image_set
from glico_augment.data.reading import skipped_by, warn_of_skipped
from glico_augment.data.samples import SampleLayout
from glico_augment.devices import check_memory, choose_device, cpu_by_default, memory_of
from glico_augment.errors import warn
from glico_augment.files.atomic import check_writable
from glico_augment.fit.checkpoint import Checkpoint
from glico_augment.fit.distributed import ProcessGroup
from glico_augment.fit.loop import Fit
from glico_augment.fit.progress import Callback, ProgressReport, logger
from glico_augment.fit.quality import MIN_R2, FitQuality
from glico_augment.fit.record import FitRecord, Fitted
from glico_augment.model.classifier import Classifier
from glico_augment.model.generator import Generator, check_cells
from glico_augment.model.model import GLICOModel

MAX_STEPS = 10**8
"""Of a fit; on images of any size they take weeks."""


@dataclasses.dataclass(frozen=True)
class FitOptions:
    """The arguments of :meth:`GLICOAugment.fit`, which documents them; ``overrides`` are those of the config alone.

    ``cells`` are those of the swap, 1 if none were asked for.
    """

    config: FitConfig | None
    overrides: Mapping[str, Any]
    preset: str
    layout: SampleLayout
    class_names: ClassNames | None
    unlabeled: Any
    device: torch.device | str | None
    seed: int
    progress: bool
    callback: Callback | None
    checkpoint: str | Path | None
    checkpoint_every: int
    num_workers: int
    on_error: str
    cells: int

    def __post_init__(self) -> None:
        for name, low in (("seed", 0), ("checkpoint_every", 1), ("num_workers", 0)):
            object.__setattr__(self, name, checks.integer(low)(name, getattr(self, name)))
        if self.callback is not None and not callable(self.callback):
            raise TypeError(f"callback must be a function of a FitProgress, or None; got {self.callback!r}")
        skipped_by(self.on_error)
        if self.config is not None and not isinstance(self.config, FitConfig):
            raise TypeError(f"config must be a FitConfig, or None; got {self.config!r}")
        checks.choice(PRESETS)("preset", self.preset)
        if self.preset != "default" and self.config is not None:
            raise ValueError(
                f"give a config or preset={self.preset!r}, not both; fields to change can go beside the preset"
            )

    def settled(self, n_images: int, **known: Any) -> FitConfig:
        """The settings of a fit of ``n_images`` images, with those that are ``known`` since the images are."""
        overrides = {**self.overrides, **known}
        if self.preset == "published":
            config = FitConfig.published(None, n_images=n_images, **overrides)
        else:
            config = (self.config or FitConfig()).replace(**overrides)
        if config.vgg_weights is not None and config.loss != "vgg16":
            raise ValueError(f"vgg_weights go with loss='vgg16'; got loss={checks.quoted(config.loss)}")
        return config


def fit_model(dataset: Any, options: FitOptions, *, finish: Callable[[Fitted], Any]) -> Fitted:
    """Fit a model, on the CPU when done, and record how; ``finish`` makes the augmentation that a callback sees.

    Errors and warnings are those of :meth:`GLICOAugment.fit`.
    """
    device = choose_device(options.device)
    group = ProcessGroup()
    group.wait_for_all(device)
    with group.raising_together(), cpu_by_default():
        asked = _check_before_reading(dataset, options, device, group.size)
        image_set = read_image_set(
            dataset,
            unlabeled=options.unlabeled,
            layout=options.layout,
            class_names=options.class_names,
            image_size=asked.image_size,
            max_side=MAX_SIDE_PUBLISHED if options.preset == "published" else MAX_SIDE,
            num_workers=options.num_workers,
            on_error=options.on_error,
        )
        _check_classes(image_set, options.unlabeled)
        check_cells(options.cells, image_set.image_shape)
        known: dict[str, Any] = {"image_size": image_set.image_shape[1:]}
        if not image_set.is_labeled:
            known |= {"classifier_weight": 0.0, "class_cosine": 0.0}  # there is nothing to classify
        config = options.settled(len(image_set), **known).resolved(len(image_set), image_set.image_shape)
        n_classes = len(image_set.class_names)
        check_cost(config, len(image_set), image_set.image_shape, n_classes, device=device, n_processes=group.size)
        if group.is_first and (looks := _look_alike(image_set)):
            warn(looks)
    record = FitRecord.of(image_set, config, options.seed)

    def keep(model: GLICOModel, quality: FitQuality) -> Fitted:
        losses = fit.history[: fit.steps_done].cpu()
        kept = dataclasses.replace(record, restarts=fit.restarts, quality=quality, losses=losses)
        return Fitted(model, image_set.images[: len(image_set.labels)], kept)

    def finish_copy(model: GLICOModel) -> Any:
        return finish(keep(copy.deepcopy(model).cpu(), fit.quality()))

    # Whatever context the caller is in, gradients are needed here, and the precision is that of the config.
    no_autocast = torch.autocast(device.type, enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), no_autocast, cpu_by_default():
        identity = [record.identity(), options.checkpoint is None, options.checkpoint_every]
        group.check_equal("images, labels, settings, seed and the writing of a checkpoint", identity)
        fit = Fit(image_set, config, device=device, seed=options.seed, finish=finish_copy)
        quality = _optimise(fit, record, options)
    if group.is_first:
        logger.info("fitted in %d steps: R² %.3f of the reconstructions", fit.steps_done, quality.r2)
        warn_of_skipped(image_set.skipped, len(image_set.skipped) + len(image_set))
        if quality.is_poor:
            warn(_poor(quality, fit))
    return keep(fit.model.cpu(), quality)


def _optimise(fit: Fit, record: FitRecord, options: FitOptions) -> FitQuality:
    """Make the steps that are left, with all that watches them, and say how well the images were learned."""
    saver = None
    if options.checkpoint is not None:
        saver = Checkpoint(options.checkpoint, fit, record, every=options.checkpoint_every)
        saver.restore()
    report = None
    if fit.group.is_first:
        _log_start(fit)
        is_labeled = fit.image_set.is_labeled
        report = ProgressReport(fit.steps_done, fit.total_steps, is_labeled=is_labeled, has_bar=options.progress)
    with saver or nullcontext():
        with report or nullcontext():
            fit.run([each for each in (report, options.callback) if each is not None], saver=saver)
            quality = fit.quality()
            if report is not None:
                report.finish(quality)
        if saver is not None:
            saver.write()
    return quality


def _check_before_reading(dataset: Any, options: FitOptions, device: torch.device, n_processes: int) -> FitConfig:
    """The settings as far as they are known before the images are; raises for what no images can make right."""
    if options.checkpoint is not None:
        check_writable(options.checkpoint)
    check_dataset(dataset, "dataset")
    n_images = len(dataset)
    if options.unlabeled is not None:
        check_dataset(options.unlabeled, "unlabeled")
        n_images += len(options.unlabeled)
    config = options.settled(n_images)
    size = config.image_size or 1  # if none is asked for
    shape = (1, size, size) if isinstance(size, int) else (1, *size)
    if config.image_size is not None:
        check_cells(options.cells, shape)
    check_cost(config.resolved(n_images, shape), n_images, shape, 2, device=device, n_processes=n_processes)
    return config


def check_cost(
    config: FitConfig,
    n_images: int,
    image_shape: tuple[int, int, int],
    n_classes: int,
    *,
    device: torch.device,
    n_processes: int = 1,
) -> None:
    """Raise ValueError for a fit, its config resolved, of over ``MAX_STEPS`` or more memory than ``device`` has."""
    assert config.batch_size is not None
    assert config.steps is not None
    if config.steps > MAX_STEPS:
        raise ValueError(
            f"a fit of {config.steps:.3g} steps would take years even at a thousandth of a second each; at most "
            f"{MAX_STEPS:,} are made. Lower epochs=, steps= or min_steps="
        )
    try:
        with torch.device("meta"):  # shapes without memory
            generator = Generator(config.latent_dim, config.noise_dim, image_shape, config.generator_width)
            classifier = Classifier(image_shape[0], n_classes, config.classifier_width)
        # A weight is there with its gradient and two moments, a code with its moments.
        floats: float = 4 * sum(each.numel() for network in (generator, classifier) for each in network.parameters())
        widths = [cast("int", conv.out_channels) for conv in generator.convs]
        maps = sum(width * math.prod(size) for width, size in zip(widths, generator.sizes, strict=True))
        floats += maps * math.ceil(config.batch_size / n_processes) + 3 * n_images * config.latent_dim
    except (RuntimeError, OverflowError, TypeError):  # more elements than torch can count
        floats = math.inf
    remedy = "lower image_size, batch_size, latent_dim, noise_dim, generator_width or classifier_width"
    needed = n_images * math.prod(image_shape) + 4 * floats
    check_memory(needed, f"a fit of {n_images} images", remedy, memory=memory_of(device))


def _check_classes(image_set: ImageSet, unlabeled: Any) -> None:
    if not image_set.is_labeled:
        if unlabeled is not None:
            raise ValueError("the images have no labels, so that unlabeled= adds nothing to them: give all in one set")
        if len(image_set) < 2:
            raise ValueError("expected at least two images, got one: there is nothing to tell apart")
    elif len(image_set.class_names) < 2:
        raise ValueError(
            f"expected images of at least two classes, got {len(image_set.labels)} images that all have label "
            f"{image_set.labels[0]}"
        )


def _log_start(fit: Fit) -> None:
    image_set = fit.image_set
    channels, height, width = image_set.image_shape
    n_labeled = len(image_set.labels)
    classes = f"of {len(image_set.class_names)} classes" if image_set.is_labeled else "without labels"
    unlabeled = f" and {len(image_set) - n_labeled} unlabelled" if len(image_set) > n_labeled else ""
    images = f"{n_labeled} images {classes}{unlabeled} at {height} × {width} pixels, {channels} channels"
    done = f", {fit.steps_done} of them made before" if fit.steps_done else ""
    steps, device = (fit.total_steps, fit.batch_size), fit.device
    logger.info("fitting %s: %d steps of %d images on %s%s", images, *steps, device, done)


def _look_alike(image_set: ImageSet) -> str | None:
    """The warning that all labelled images are the same; None if they are not."""
    images = image_set.images[: len(image_set.labels)]
    if not all(torch.equal(image, images[0]) for image in images):
        return None
    colours = images[0].flatten(1)
    is_plain = bool((colours == colours[:, :1]).all())
    looks = f"of one colour, {tuple(colours[:, 0].tolist())} of 255" if is_plain else "the same picture"
    return (
        f"all {len(images)} images are {looks}: there is nothing to tell apart. If the files hold more, it is lost as "
        "they are read: torchvision's default loader makes 16-bit files white, "
        "ImageFolder(folder, loader=glico_augment.load_image) reads them as they are"
    )


def _poor(quality: FitQuality, fit: Fit) -> str:
    """The warning that the generator has not learned the images."""
    restarts = f", after {fit.restarts} starts at lower rates" if fit.restarts else ""
    return (
        f"the generator has not learned its images: R² is {quality.r2:.2f} of its reconstructions{restarts}, and under "
        f"{MIN_R2:g} a swap costs accuracy. Fit longer (epochs= or min_steps=, now {fit.total_steps} steps), with a "
        f"lower lr (now {fit.config.lr:g}) or a larger latent_dim (now {fit.config.latent_dim}), and look at "
        "augment.reconstruct()"
    )
