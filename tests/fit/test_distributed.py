"""A fit in several processes is the fit in one, and what goes wrong in one ends all of them with its message."""

import csv
import os
import signal
import socket

import numpy as np
import pytest
import torch
import torch.distributed as dist
from conftest import LABELS, QUICK, quick_fit, smooth_images
from processes import run_ranks
from torch.utils.data import TensorDataset
from torchvision.transforms.functional import to_pil_image

from glico_augment import DivergenceError, GLICOAugment
from glico_augment.cli import main
from glico_augment.data.image_set import read_image_set
from glico_augment.files.format import CHECKPOINT, read_file
from glico_augment.fit import checkpoint, distributed, loop
from glico_augment.fit.distributed import ProcessGroup
from glico_augment.fit.loop import Fit
from glico_augment.loggers import CSVLogger

pytestmark = pytest.mark.skipif(
    not dist.is_available() or not hasattr(os, "fork"), reason="needs forked processes in a group"
)


def set_of(kind=TensorDataset):
    return kind(smooth_images(len(LABELS)), LABELS)


def new_fit(**settings):
    image_set = read_image_set(set_of())
    config = QUICK.replace(**settings).resolved(len(image_set), image_set.image_shape)
    return Fit(image_set, config, device=torch.device("cpu"), seed=0)


def fit_arrays(**settings):
    """What can be seen of a fit, step by step and at its end, as arrays."""
    codes, r2 = [], []

    def watch(progress):
        codes.append(progress.model.codes.codes.detach().numpy().copy())
        r2.append(progress.augment.quality.r2)

    augment = quick_fit(set_of(), callback=watch, **settings)
    return {
        "codes": np.stack(codes),
        "r2": np.array([*r2, augment.quality.r2]),
        "losses": augment.record.losses.numpy(),
        "images": augment.reconstruct().numpy(),
        "restarts": np.array(augment.record.restarts),
    }


SETTINGS = {
    "default": {},
    "small batches": {"batch_size": 2},  # which leave a process without images
    "odd batches": {"batch_size": 5},  # in which an image is shown twice
    "no classifier": {"classifier_weight": 0.0, "pixel_weight": 0.5},
    "unlabelled": {"unlabeled": TensorDataset(smooth_images(3, seed=5))},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_all_processes_hold_the_same_model_at_every_step_and_it_is_that_of_one(name):
    first, *others = run_ranks(3, lambda rank: fit_arrays(**SETTINGS[name]))
    for other in others:
        for part, value in first.items():
            assert np.array_equal(other[part], value), part
    expected = fit_arrays(**SETTINGS[name])
    np.testing.assert_allclose(first["losses"], expected["losses"], atol=1e-5, rtol=1e-3)
    for part in ("codes", "images", "r2"):
        np.testing.assert_allclose(first[part], expected[part], atol=3e-3)


def test_a_fit_starts_again_in_all_processes(monkeypatch):
    monkeypatch.setattr(loop, "_TRIAL_STEPS", 1)
    monkeypatch.setattr(loop, "_TRIAL_R2", 2.0)  # more than any fit has
    first, second = run_ranks(2, lambda rank: fit_arrays())
    expected = fit_arrays()
    assert first["restarts"] == second["restarts"] == expected["restarts"] == loop.MAX_RESTARTS
    assert np.array_equal(first["codes"], second["codes"])
    np.testing.assert_allclose(first["codes"], expected["codes"], atol=3e-3)


def test_the_r2_that_is_logged_is_that_of_the_model_as_it_is(tmp_path):
    def fit(path):
        quick_fit(set_of(), epochs=20, callback=CSVLogger(path, every=5, grid_every=5))

    run_ranks(2, lambda rank: fit(tmp_path / "two.csv"))
    fit(tmp_path / "one.csv")
    two, one = (list(csv.DictReader((tmp_path / name).read_text().splitlines())) for name in ("two.csv", "one.csv"))
    assert [float(row["R2"]) for row in two] == pytest.approx([float(row["R2"]) for row in one], abs=3e-3)


def test_the_gradients_of_several_processes_are_those_of_one():
    def gradients(rank):
        fit = new_fit()
        fit.step()
        named = {name: value.grad.numpy() for name, value in fit.networks.named_parameters()}
        return named | {"codes": fit.code_adam.first.numpy()}  # of a first step: a fixed share of the gradient

    expected = gradients(0)
    for found in run_ranks(2, gradients):
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, atol=1e-6, rtol=1e-3, err_msg=name)


@pytest.mark.parametrize(("batch_size", "sizes"), [(8, [{2}, {3}, {3}]), (2, [set(), {1}, {1}])])
def test_a_process_computes_as_many_images_at_every_step(batch_size, sizes):
    def seen(rank):
        fit, seen = new_fit(batch_size=batch_size), set()
        fit.model.generator.register_forward_hook(lambda module, inputs, output: seen.add(len(output)))
        for _ in range(6):
            fit.step()
        return seen

    assert run_ranks(3, seen) == sizes


def test_a_step_is_one_exchange_of_the_processes(monkeypatch):
    def count(rank):
        fit, calls = new_fit(), []
        all_reduce = dist.all_reduce
        for name in ("all_reduce", "all_gather_object", "broadcast", "barrier"):
            monkeypatch.setattr(dist, name, lambda *args: (calls.append(1), all_reduce(*args)))
        for _ in range(3):
            fit.step()
        return len(calls)

    assert run_ranks(2, count) == [3, 3]


@pytest.mark.parametrize(("look_every", "steps"), [(1, 4), (5, 5), (9, 9), (50, 12)])
def test_one_process_that_wants_to_stop_stops_all_once_they_look(look_every, steps):
    def work(rank):
        fit, seen = new_fit(), []
        fit.look_every = look_every
        fit.run([lambda progress: seen.append(progress.step) or (rank == 1 and progress.step == 3)])
        return seen, fit.steps_done, fit.is_stopped

    assert run_ranks(2, work) == [(list(range(1, steps + 1)), steps, True)] * 2


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 3)])
def test_a_fit_of_some_processes_goes_on_in_another_number_of_them(tmp_path, before, after):
    path = tmp_path / "fit.checkpoint"

    def killed(rank):
        def leave(progress):
            if progress.step == 6:
                if before > 1:
                    dist.barrier()
                os._exit(3)

        quick_fit(set_of(), checkpoint=path, checkpoint_every=5, callback=leave)

    assert run_ranks(before, killed) == [None] * before
    assert read_file(path, kind=CHECKPOINT)[1]["state"]["steps_done"] == 5
    found = run_ranks(after, lambda rank: fit_arrays(checkpoint=path, checkpoint_every=5))
    expected = fit_arrays()
    for arrays in found:
        np.testing.assert_allclose(arrays["codes"], expected["codes"][5:], atol=3e-3)
        np.testing.assert_allclose(arrays["losses"], expected["losses"], atol=1e-5, rtol=1e-3)


@pytest.mark.usefixtures("default_signals")
def test_a_signal_to_one_process_ends_all_with_the_checkpoint_written(tmp_path):
    path = tmp_path / "c"

    def work(rank):
        def callback(progress):
            if rank == 1 and progress.step == 3:
                signal.raise_signal(signal.SIGTERM)

        try:
            quick_fit(set_of(), checkpoint=path, callback=callback)
        except BaseException as end:
            return type(end)

    assert run_ranks(2, work) == [KeyboardInterrupt, SystemExit]
    assert read_file(path, kind=CHECKPOINT)[1]["state"]["steps_done"] == 4


def test_processes_that_read_different_images_are_told():
    def work(rank):
        return quick_fit(TensorDataset(smooth_images(len(LABELS)).roll(rank, 0), LABELS))

    for answer in run_ranks(2, work):
        assert "must be the same in all processes" in str(answer)


def test_the_command_line_fits_in_processes_and_writes_one_file(tmp_path, images, monkeypatch, capfd):
    for index, image in enumerate(images):
        folder = tmp_path / "photos" / str(index % 2)
        folder.mkdir(parents=True, exist_ok=True)
        to_pil_image(image).save(folder / f"{index}.png")
    fit = ["fit", str(tmp_path / "photos"), "--epochs", "2", "--batch-size", "4", "--device", "cpu", "-o"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launched = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # as torchrun says it

    def work(rank):
        os.environ.update(launched, RANK=str(rank), LOCAL_RANK=str(rank))
        return main([*fit, str(tmp_path / "two.safetensors")])

    assert run_ranks(2, work, in_group=False) == [0, 0]
    assert capfd.readouterr().out.count("written to") == 1
    assert main([*fit, str(tmp_path / "one.safetensors")]) == 0
    made, expected = (GLICOAugment.load(tmp_path / f"{name}.safetensors") for name in ("two", "one"))
    torch.testing.assert_close(made.reconstruct(), expected.reconstruct(), atol=3e-3, rtol=0)


def test_without_a_group_there_is_one_process_which_has_the_whole_batch():
    group = ProcessGroup()
    assert (group.rank, group.size, group.is_first) == (0, 1, True)
    assert torch.arange(5)[group.share(5)].tolist() == [0, 1, 2, 3, 4]


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
    def __init__(self, bad):
        super().__init__()
        self.bad = bad

    def forward(self, outputs, targets):
        return (outputs - targets).abs().mean() * (float("nan") if dist.get_rank() == self.bad else 1)


def unreadable(bad):
    return lambda rank: quick_fit(set_of(Unreadable if rank == bad else TensorDataset))


def callback_raises(bad, error, *, at=3):
    def callback(progress, rank):
        if rank == bad and progress.step == at:
            raise error

    return lambda rank: quick_fit(set_of(), callback=lambda progress: callback(progress, rank))


@pytest.mark.parametrize("bad", [0, 1])
@pytest.mark.parametrize(
    ("work_of", "kind", "message"),
    [
        (unreadable, ValueError, "image 3 could not be read: broken data stream"),
        (lambda bad: callback_raises(bad, KeyError("mine")), KeyError, "mine"),
        (lambda bad: callback_raises(bad, KeyError("last"), at=12), KeyError, "last"),
        (lambda bad: callback_raises(bad, StrangeError("strange")), Exception, "strange"),
        (
            lambda bad: lambda rank: quick_fit(set_of(), loss=TurnsNaN(bad)),
            DivergenceError,
            "the fit diverged at step 1 of 12",
        ),
    ],
    ids=["image", "callback", "last", "strange", "divergence"],
)
def test_an_error_in_one_process_is_raised_by_all(bad, work_of, kind, message):
    for answer in run_ranks(2, work_of(bad)):
        assert isinstance(answer, kind), answer
        assert message in str(answer)


def test_a_callback_that_failed_is_not_called_again_until_all_know():
    def work(rank):
        def callback(progress):
            seen.append(progress.step)
            if rank == 1 and progress.step == 3:
                raise KeyError("mine")

        fit, seen = new_fit(), []
        fit.look_every = 5
        with pytest.raises(KeyError):
            fit.run([callback])
        return seen

    assert run_ranks(2, work) == [[1, 2, 3, 4], [1, 2, 3]]


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
    monkeypatch.setattr(distributed, "PATIENCE", distributed.timedelta(seconds=0.5))
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
