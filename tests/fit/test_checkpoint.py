import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from conftest import quick_fit, smooth_images
from torch.utils.data import TensorDataset

from glico_augment import FileFormatError
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


KILLED = """
    import os, signal, sys
    sys.path.insert(0, {tests!r})
    from conftest import LABELS, quick_fit, smooth_images
    from torch.utils.data import TensorDataset

    def kill(progress):
        if progress.step == 8:
            os.kill(os.getpid(), signal.SIGKILL)

    quick_fit(TensorDataset(smooth_images(8), LABELS), checkpoint={path!r}, checkpoint_every=3, callback=kill)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_kill_minus_nine_and_resume_give_the_codes_of_an_uninterrupted_fit(dataset, tmp_path):
    path = tmp_path / "c"
    script = textwrap.dedent(KILLED).format(tests=str(Path(__file__).parents[1]), path=str(path))
    killed = subprocess.run([sys.executable, "-c", script], env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL
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
    with pytest.raises(FileFormatError, match="holds a fitted, expected a checkpoint: choose another checkpoint="):
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
