import json
import math
import os
import signal

import pytest
import torch
from conftest import quick_fit, smooth_images, write_sealed
from processes import run_ranks
from safetensors import safe_open
from safetensors.torch import load
from torch.utils.data import TensorDataset

from glico_augment import DivergenceError, FileFormatError
from glico_augment.files.format import CHECKPOINT, read_file


class KilledError(Exception):
    pass


def fit_until(step, dataset, path, **settings):
    """A fit that dies after ``step`` steps."""

    def die(progress):
        if progress.step == step:
            raise KilledError

    with pytest.raises(KilledError):
        quick_fit(dataset, checkpoint=path, checkpoint_every=4, callback=die, **settings)


@pytest.mark.parametrize("step", [3, 4, 5, 11])
@pytest.mark.parametrize("transductive", [False, True])
def test_a_resumed_fit_ends_with_the_bits_of_an_uninterrupted_one(step, transductive, dataset, tmp_path):
    settings = {"unlabeled": TensorDataset(smooth_images(3, seed=4)), "batch_size": 3} if transductive else {}
    whole = quick_fit(dataset, **settings)
    fit_until(step, dataset, tmp_path / "c", **settings)
    resumed = quick_fit(dataset, checkpoint=tmp_path / "c", **settings)
    assert torch.equal(resumed.codes.codes, whole.codes.codes)
    assert torch.equal(resumed.reconstruct(), whole.reconstruct())
    assert resumed.history == whole.history


def test_a_resumed_fit_does_not_repeat_steps(dataset, tmp_path):
    fit_until(9, dataset, tmp_path / "c")
    steps = []
    quick_fit(dataset, checkpoint=tmp_path / "c", callback=lambda progress: steps.append(progress.step))
    assert steps == [9, 10, 11, 12]


def test_a_complete_fit_is_not_repeated(dataset, tmp_path):
    first = quick_fit(dataset, checkpoint=tmp_path / "c")
    steps = []
    again = quick_fit(dataset, checkpoint=tmp_path / "c", callback=lambda progress: steps.append(progress.step))
    assert steps == []
    assert torch.equal(again.reconstruct(), first.reconstruct())


@pytest.mark.parametrize("every", [200, 6, 5])
def test_a_fit_stopped_by_its_callback_has_ended(dataset, tmp_path, every):
    settings = {"checkpoint": tmp_path / "c", "checkpoint_every": every}
    first, again = (quick_fit(dataset, **settings, callback=lambda progress: progress.step == 6) for _ in range(2))
    assert len(first.history["loss"]) == len(again.history["loss"]) == 6
    assert torch.equal(first.reconstruct(), again.reconstruct())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs forked processes")
def test_kill_minus_nine_and_resume_give_the_codes_of_an_uninterrupted_fit(dataset, tmp_path):
    path = tmp_path / "c"

    def kill(progress):
        if progress.step == 8:
            os.kill(os.getpid(), signal.SIGKILL)

    assert run_ranks(1, lambda rank: quick_fit(dataset, checkpoint=path, checkpoint_every=3, callback=kill)) == [None]
    assert read_file(path, kind=CHECKPOINT)[1]["state"] == {"steps_done": 6, "restarts": 0, "is_stopped": 0}
    resumed = quick_fit(dataset, checkpoint=path)
    whole = quick_fit(dataset)
    assert torch.equal(resumed.codes.codes, whole.codes.codes)
    assert torch.equal(resumed.reconstruct(), whole.reconstruct())


@pytest.mark.parametrize(
    ("settings", "difference"),
    [
        ({"seed": 1}, "seed was 0, is 1"),
        ({"epochs": 7}, "steps was 12, is 14"),
        ({"lr": 0.5}, "lr was 0.01, is 0.5"),
    ],
)
def test_a_checkpoint_of_another_fit_is_refused(settings, difference, dataset, tmp_path):
    fit_until(4, dataset, tmp_path / "c")
    before = (tmp_path / "c").read_bytes()
    with pytest.raises(ValueError, match=f"is of another fit: {difference}.*delete the file or name another"):
        quick_fit(dataset, checkpoint=tmp_path / "c", **settings)
    assert (tmp_path / "c").read_bytes() == before


def test_a_checkpoint_of_other_images_is_refused(dataset, tmp_path):
    fit_until(4, dataset, tmp_path / "c")
    other = TensorDataset(smooth_images(8, seed=1), dataset.tensors[1])
    with pytest.raises(ValueError, match="the images, the labels or their order differ"):
        quick_fit(other, checkpoint=tmp_path / "c")


def test_a_file_that_is_no_checkpoint_is_not_overwritten(augment, dataset, tmp_path):
    augment.save(tmp_path / "a.safetensors")
    with pytest.raises(FileFormatError, match="expected a checkpoint: choose another checkpoint="):
        quick_fit(dataset, checkpoint=tmp_path / "a.safetensors")
    (tmp_path / "notes.txt").write_text("keep me")
    with pytest.raises(FileFormatError):
        quick_fit(dataset, checkpoint=tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "keep me"


def test_an_unwritable_checkpoint_is_refused_before_the_fit(dataset, tmp_path):
    with pytest.raises(OSError, match="there is no folder"):
        quick_fit(dataset, checkpoint=tmp_path / "nowhere" / "c")


def test_a_diverged_state_is_not_written(dataset, tmp_path):
    class TurnsNaN(torch.nn.Module):
        calls = 0

        def forward(self, outputs, targets):
            self.calls += 1
            return (outputs - targets).abs().mean() * (float("nan") if self.calls == 6 else 1.0)

    with pytest.raises(RuntimeError, match="diverged at step 6"):
        quick_fit(dataset, loss=TurnsNaN(), checkpoint=tmp_path / "c", checkpoint_every=2)
    tensors, info = read_file(tmp_path / "c", kind=CHECKPOINT)
    assert info["state"] == {"steps_done": 4, "restarts": 0, "is_stopped": 0}
    assert all(value.isfinite().all() for value in tensors.values() if value.is_floating_point())


def rewrite(path, change):
    """Change the tensors and numbers of a checkpoint, with a right checksum."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors, info = load(path.read_bytes()), json.loads(metadata["info"])
    change(tensors, info["state"])
    write_sealed(path, tensors, {**metadata, "info": json.dumps(info)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, numbers: tensors.pop("order"), "order"),
        (
            lambda tensors, numbers: tensors.pop("adam.networks.0.exp_avg"),
            "it lacks the tensor 'adam.networks.0.exp_avg'",
        ),
        (lambda tensors, numbers: tensors.pop("adam.networks.0.step"), "it lacks the tensor 'adam.networks.0.step'"),
        (lambda tensors, numbers: tensors.update(more=torch.ones(1)), "it has a tensor 'more' too many"),
        (lambda tensors, numbers: tensors.update({"model.\x1b": torch.ones(1)}), r"a tensor 'model.\\x1b' too many"),
        (lambda tensors, numbers: tensors.update(history=tensors["history"][:3].clone()), "'history' must be"),
        (lambda tensors, numbers: tensors.update(order=torch.tensor([8])), "order names images that are not there"),
        (lambda tensors, numbers: tensors.update(order_rng=tensors["order_rng"][:9].clone()), "'order_rng' must be"),
        (
            lambda tensors, numbers: tensors.update({"model.codes.codes": tensors["model.codes.codes"].double()}),
            "'model.codes.codes' must be torch.float32",
        ),
        (lambda tensors, numbers: tensors["model.codes.codes"].fill_(math.nan), "holds NaN"),
        (lambda tensors, numbers: numbers.update(steps_done=13), "steps_done must be .* at most 12"),
        (lambda tensors, numbers: numbers.update(steps_done=-1), "steps_done must be"),
        (lambda tensors, numbers: numbers.update(steps_done=4.0), "steps_done must be"),
        (lambda tensors, numbers: numbers.update(steps_done=True), "steps_done must be"),
        (lambda tensors, numbers: numbers.update(restarts=3), "restarts must be .* at most 2"),
        (lambda tensors, numbers: numbers.update(is_stopped=2), "is_stopped must be"),
        (lambda tensors, numbers: numbers.pop("restarts"), "restarts"),
    ],
)
def test_a_state_that_is_none_is_refused(change, message, dataset, tmp_path):
    fit_until(4, dataset, tmp_path / "c")
    rewrite(tmp_path / "c", change)
    with pytest.raises(FileFormatError, match=message):
        quick_fit(dataset, checkpoint=tmp_path / "c")


def test_rewriting_alone_changes_nothing(dataset, tmp_path):
    fit_until(4, dataset, tmp_path / "c")
    rewrite(tmp_path / "c", lambda tensors, numbers: None)
    assert torch.equal(quick_fit(dataset, checkpoint=tmp_path / "c").codes.codes, quick_fit(dataset).codes.codes)


def test_one_wrong_bit_in_a_checkpoint_is_refused_and_the_file_kept(dataset, tmp_path):
    fit_until(4, dataset, tmp_path / "c")
    content = bytearray((tmp_path / "c").read_bytes())
    for place in range(5, len(content), len(content) // 40):
        damaged = content.copy()
        damaged[place] ^= 16
        (tmp_path / "c").write_bytes(damaged)
        with pytest.raises(FileFormatError):
            quick_fit(dataset, checkpoint=tmp_path / "c")
        assert (tmp_path / "c").read_bytes() == damaged


def test_a_checkpoint_that_cannot_be_read_is_not_taken_for_none(dataset, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is a device, pipe or socket"):
        quick_fit(dataset, checkpoint=tmp_path / "pipe")


def test_a_state_broken_by_the_step_before_is_not_written(dataset, tmp_path):
    """A loss that is finite, of a step that breaks a code."""

    def break_code(progress):
        if progress.step == 6:
            progress.model.codes.codes.data[0] = math.inf

    with pytest.raises(DivergenceError, match=r"diverged at step [78] of 12"):
        quick_fit(dataset, checkpoint=tmp_path / "c", checkpoint_every=2, callback=break_code)
    assert read_file(tmp_path / "c", kind=CHECKPOINT)[1]["state"]["steps_done"] == 6
