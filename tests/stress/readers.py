"""What is read from each kind of file, as values that can be compared bit for bit."""

from __future__ import annotations

import contextlib

import torch
from conftest import QUICK, quick_fit
from mutants import bits

from glico_augment import GLICOAugment, LocalStyle, SphereCodes
from glico_augment.data.image_set import read_image_set
from glico_augment.fit.checkpoint import Checkpoint
from glico_augment.fit.loop import Fit
from glico_augment.fit.record import FitRecord


def read_fitted(path):
    augment = GLICOAugment.load(path)
    tensors = {**dict(augment.model.named_parameters()), **dict(augment.model.named_buffers())}
    record = augment.record
    tensors |= {
        "images": augment.images,
        "digests": record.digests,
        "losses": record.losses,
    }
    return bits(tensors), repr(augment), record.identity(), record.quality, record.restarts, augment.swap


def read_codes(path):
    codes = SphereCodes.load(path)
    return bits({"codes": codes.codes, **dict(codes.named_buffers())})


def read_style(path):
    style = LocalStyle.load(path)
    return bits({"styles": style.styles}), style.p, style.max_ratio


class Stopped(Exception):  # noqa: N818
    pass


def write_checkpoint(dataset, path, step):
    """The checkpoint of a fit that ended after ``step`` steps."""

    def stop(progress):
        if progress.step == step:
            raise Stopped

    with contextlib.suppress(Stopped):
        quick_fit(dataset, checkpoint=path, checkpoint_every=step, callback=stop)


def checkpoint_reader(dataset):
    """A function that resumes from a checkpoint and returns what the fit ends with."""
    image_set = read_image_set(dataset)
    config = QUICK.resolved(len(image_set), image_set.image_shape)
    run = Fit(image_set, config, device=torch.device("cpu"), seed=0)
    record = FitRecord.of(image_set, config, 0)

    def read(path):
        Checkpoint(path, run, record, every=1).restore()
        assert run.steps_done, "it was taken for no checkpoint at all"
        run.run()
        return bits({**dict(run.model.state_dict()), "history": run.history})

    return read
