"""What a fit says of its images and of its result: warnings, and the log "glico_augment".

Each warning is of the caller of :meth:`GLICOAugment.fit`, three calls up.
"""

from __future__ import annotations

import warnings

import torch

from glico_augment.data.image_set import ImageSet
from glico_augment.fit.loop import Fit
from glico_augment.fit.progress import logger
from glico_augment.fit.quality import MIN_R2, FitQuality


def log_start(image_set: ImageSet, run: Fit) -> None:
    """Log what is to be fitted."""
    channels, height, width = image_set.image_shape
    n_labeled = len(image_set.labels)
    unlabeled = f" and {len(image_set) - n_labeled} unlabelled" if len(image_set) > n_labeled else ""
    done = f", {run.steps_done} of them made before" if run.steps_done else ""
    classes = f"of {len(image_set.class_names)} classes" if image_set.is_labeled else "without labels"
    logger.info(
        "fitting %d images %s%s at %d × %d pixels, %d channels: %d steps of %d images on %s%s",
        n_labeled,
        classes,
        unlabeled,
        height,
        width,
        channels,
        run.total_steps,
        run.batch_size,
        run.device,
        done,
    )


def log_end(quality: FitQuality, run: Fit) -> None:
    """Log what came of it."""
    logger.info("fitted in %d steps: R² %.3f of the reconstructions", run.steps_done, quality.r2)


def warn_of_equal_images(image_set: ImageSet) -> None:
    """Warn if all labelled images are the same."""
    images = image_set.images[: len(image_set.labels)]
    if not all(torch.equal(image, images[0]) for image in images):
        return
    colours = images[0].flatten(1)
    is_plain = bool((colours == colours[:, :1]).all())
    looks = f"of one colour, {tuple(colours[:, 0].tolist())} of 255" if is_plain else "the same picture"
    warnings.warn(
        f"all {len(images)} images are {looks}: there is nothing to tell apart. If the files hold more, it is lost as "
        "they are read: torchvision's default loader makes 16-bit files white, "
        "ImageFolder(folder, loader=glico_augment.load_image) reads them as they are",
        UserWarning,
        stacklevel=4,
    )


def warn_of_skipped(image_set: ImageSet) -> None:
    """Warn of the images that could not be read."""
    if image_set.skipped:
        lines = "\n  ".join(image_set.skipped)
        count, total = len(image_set.skipped), len(image_set.skipped) + len(image_set)
        warnings.warn(f"{count} of {total} images were skipped:\n  {lines}", UserWarning, stacklevel=4)


def warn_if_poor(quality: FitQuality, run: Fit) -> None:
    """Warn if the generator has not learned the images."""
    if not quality.is_poor:
        return
    restarts = f", after {run.restarts} starts at lower rates" if run.restarts else ""
    warnings.warn(
        f"the generator has not learned its images: R² is {quality.r2:.2f} of its reconstructions{restarts}, and under "
        f"{MIN_R2:g} a swap costs accuracy. Fit longer (epochs= or min_steps=, now {run.total_steps} steps), with a "
        f"lower lr (now {run.config.lr:g}) or a larger latent_dim (now {run.config.latent_dim}), and look at "
        "augment.reconstruct()",
        UserWarning,
        stacklevel=4,
    )
