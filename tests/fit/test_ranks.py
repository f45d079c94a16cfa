"""What goes wrong in one process of a fit ends all of them, with its message."""

import os

import pytest
import torch
import torch.distributed as dist
from conftest import LABELS, quick_fit, smooth_images
from processes import run_ranks
from torch.utils.data import TensorDataset

from glico_augment import DivergenceError
from glico_augment.files.format import CHECKPOINT, read_file
from glico_augment.fit import checkpoint, ranks

pytestmark = [
    pytest.mark.skipif(not dist.is_available() or not hasattr(os, "fork"), reason="needs forked processes in a group"),
]


class StrangeError(Exception):
    """One that cannot be sent."""

    def __reduce__(self):
        raise TypeError("this cannot be pickled")


class Unreadable(TensorDataset):
    def __getitem__(self, index):
        if index == 3:
            raise OSError("broken data stream")
        return super().__getitem__(index)


class TurnsNaN(torch.nn.Module):
    def forward(self, outputs, targets):
        return (outputs - targets).abs().mean() * float("nan")


def set_of(kind=TensorDataset):
    return kind(smooth_images(len(LABELS)), LABELS)


def unreadable(bad):
    return lambda rank: quick_fit(set_of(Unreadable if rank == bad else TensorDataset))


def callback_raises(bad, error):
    def callback(progress, rank):
        if rank == bad and progress.step == 3:
            raise error

    return lambda rank: quick_fit(set_of(), callback=lambda progress: callback(progress, rank))


def diverges(bad):
    class OnOne(TurnsNaN):
        def forward(self, outputs, targets):
            worst = super().forward(outputs, targets)
            return worst if dist.get_rank() == bad else worst.nan_to_num() + (outputs - targets).abs().mean()

    return lambda rank: quick_fit(set_of(), loss=OnOne())


@pytest.mark.parametrize("bad", [0, 1])
@pytest.mark.parametrize(
    ("work_of", "kind", "message"),
    [
        (unreadable, ValueError, "image 3 could not be read: broken data stream"),
        (lambda bad: callback_raises(bad, KeyError("mine")), KeyError, "mine"),
        (lambda bad: callback_raises(bad, StrangeError("strange")), Exception, "strange"),
        (diverges, DivergenceError, "the fit diverged at step 1 of 12"),
    ],
    ids=["image", "callback", "strange", "divergence"],
)
def test_an_error_in_one_process_is_raised_by_all(bad, work_of, kind, message):
    answers = run_ranks(2, work_of(bad))
    for answer in answers:
        assert isinstance(answer, kind), answer
        assert message in str(answer)


def test_a_checkpoint_that_cannot_be_written_ends_all_processes_and_leaves_the_last_one(tmp_path, monkeypatch):
    write = checkpoint.write_file

    def refuse(path, tensors, info, **settings):
        if info["state"]["steps_done"] == 6:
            raise OSError("no space left")
        write(path, tensors, info, **settings)

    monkeypatch.setattr(checkpoint, "write_file", refuse)
    path = tmp_path / "c"
    answers = run_ranks(3, lambda rank: quick_fit(set_of(), checkpoint=path, checkpoint_every=2))
    assert [(type(answer), str(answer)) for answer in answers] == [(OSError, "no space left")] * 3
    assert read_file(path, kind=CHECKPOINT)[1]["state"]["steps_done"] == 4
    assert os.listdir(tmp_path) == ["c"]  # noqa: PTH208


@pytest.mark.parametrize("bad", [0, 1])
def test_a_checkpoint_that_one_process_does_not_see_is_refused_by_all(tmp_path, bad):
    quick_fit(set_of(), checkpoint=tmp_path / "0", epochs=1)
    answers = run_ranks(2, lambda rank: quick_fit(set_of(), checkpoint=tmp_path / str(int(rank == bad)), epochs=1))
    assert all(isinstance(answer, ValueError) for answer in answers), answers
    assert "the checkpoint must be the same in all processes" in str(answers[0])


@pytest.mark.parametrize("alone", [0, 1])
def test_a_process_that_fits_alone_is_told_and_does_not_wait_for_ever(monkeypatch, alone):
    monkeypatch.setattr(ranks, "PATIENCE", ranks.timedelta(seconds=0.5))
    done = torch.multiprocessing.get_context("fork").Event()

    def work(rank):
        if rank != alone:
            return done.wait(60)
        try:
            return quick_fit(set_of())
        finally:
            done.set()

    answers = run_ranks(2, work)
    assert isinstance(answers[alone], RuntimeError), answers
    assert f"process {alone} waited for all 2 processes of the group to call fit, and not all did" in str(
        answers[alone]
    )
    assert answers[1 - alone] is True


def test_a_killed_process_ends_the_others():
    def work(rank):
        def callback(progress):
            if rank == 1 and progress.step == 3:
                os._exit(9)

        return quick_fit(set_of(), callback=callback)

    survivor, killed = run_ranks(2, work)
    assert killed is None
    assert isinstance(survivor, RuntimeError)
