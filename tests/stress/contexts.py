"""What a caller may have switched on around every use of the library."""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from conftest import LABELS, quick_fit
from mutants import bits
from torch.utils.data import Subset

from glico_augment import GLICOAugment, LocalStyle, SyntheticBank


@contextlib.contextmanager
def _deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextlib.contextmanager
def _double():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


CONTEXTS = {
    "nothing": contextlib.nullcontext,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "deterministic algorithms": _deterministic,
    "float64 by default": _double,
    "the device meta by default": lambda: torch.device("meta"),
}


def fit(dataset, augment, path):
    fitted = quick_fit(dataset, checkpoint=path.with_name("c"), checkpoint_every=5)
    return {**dict(fitted.model.named_parameters()), "losses": fitted.record.losses}


def load(dataset, augment, path):
    augment.save(path)
    loaded = GLICOAugment.load(path)
    return {**dict(loaded.model.named_parameters()), "images": loaded.images, "made": loaded.reconstruct()}


def swap(dataset, augment, path):
    augment.p = 1.0
    torch.manual_seed(0)
    images = dataset.tensors[0]
    larger = np.tile(images[0].numpy(), (1, 2, 2)).transpose(1, 2, 0)
    return {
        "batch": augment(images, LABELS)[0],
        "one": augment(images[0], 3)[0],
        "wrapped": torch.stack([image for image, _ in augment.wrap(dataset).__getitems__([0, 3, 7])]),
        "larger": torch.from_numpy(augment.wrap([(larger, 3)], unfitted="swap")[0][0]),
    }


def bank(dataset, augment, path):
    torch.manual_seed(0)
    made = SyntheticBank(augment, per_image=2, device="cpu")
    first = made.images.clone()
    made.take(augment.codes.labels.new_tensor([0, 1, 1]))
    made.refresh()
    return {"first": first, "refreshed": made.images}


def style(dataset, augment, path):
    torch.manual_seed(0)
    made = LocalStyle(dataset, p=1.0)
    made.save(path)
    return {"styles": LocalStyle.load(path).styles, "batch": made(dataset.tensors[0])}


def restrict(dataset, augment, path):
    part = augment.restrict(Subset(dataset, range(5)))
    r2 = torch.tensor(part.quality.r2, device="cpu", dtype=torch.float64)
    return {"codes": part.codes.codes, "made": part.reconstruct(), "r2": r2}


def extend(dataset, augment, path):
    # Read where no context reaches, as images on a disk are.
    new = [(image.numpy(), int(label)) for image, label in zip(255 - dataset.tensors[0], LABELS, strict=True)]
    more = augment.extend(new, steps=2, starts=2, progress=False, device="cpu")
    return {"codes": more.codes.codes, "made": more.reconstruct()}


def plot(dataset, augment, path):
    figures = [augment.plot_reconstructions(), augment.plot_paths(), augment.plot_samples(), augment.plot_losses()]
    return {"n": torch.tensor([len(figure.axes) for figure in figures], device="cpu")}


USES = {use.__name__: use for use in (fit, load, swap, bank, style, restrict, extend, plot)}


def outcome(use, context, dataset, augment, path):
    """The bits that a use of the library gives in a context, or the error it raises."""
    try:
        with CONTEXTS[context]():
            found = USES[use](dataset, augment, path)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return bits(found)
