import signal
import threading
from contextlib import contextmanager

import pytest
import torch
from conftest import quick_fit

from glico_augment.files.format import CHECKPOINT, read_file
from glico_augment.fit.loop import Fit

pytestmark = pytest.mark.usefixtures("default_signals")
ENDS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: SystemExit}


def raising(number, *, at, times=1):
    """A callback that sends this process a signal after a step."""

    def callback(progress):
        if progress.step == at:
            for _ in range(times):
                signal.raise_signal(number)

    return callback


@contextmanager
def handled(number, handler):
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", ENDS)
@pytest.mark.parametrize("step", [1, 5, 12])
def test_a_signal_in_a_step_keeps_that_step_and_the_fit_continues_to_the_same_bits(
    dataset, tmp_path, caplog, monkeypatch, number, step
):
    path = tmp_path / "c"
    before = signal.getsignal(number)
    make_step = Fit.step

    def interrupted(self):
        if self.steps_done == step - 1:
            signal.raise_signal(number)
        make_step(self)

    monkeypatch.setattr(Fit, "step", interrupted)
    with pytest.raises(ENDS[number]) as caught:
        quick_fit(dataset, checkpoint=path)
    monkeypatch.undo()
    assert signal.getsignal(number) is before
    if number == signal.SIGTERM:
        assert caught.value.code == 143
    assert read_file(path, kind=CHECKPOINT)[1]["state"]["steps_done"] == step
    assert f"stopped after step {step} of 12, which is kept in {path}: the same call continues" in caplog.text
    steps = []
    resumed = quick_fit(dataset, checkpoint=path, callback=lambda progress: steps.append(progress.step))
    whole = quick_fit(dataset)
    assert steps == list(range(step + 1, 13))
    assert torch.equal(resumed.codes.codes, whole.codes.codes)
    assert torch.equal(resumed.reconstruct(), whole.reconstruct())


def test_a_signal_after_the_last_step_waits_for_the_last_write(dataset, tmp_path, monkeypatch):
    measure = Fit.quality

    def interrupted(self):
        signal.raise_signal(signal.SIGINT)
        return measure(self)

    monkeypatch.setattr(Fit, "quality", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quick_fit(dataset, checkpoint=tmp_path / "c")
    assert read_file(tmp_path / "c", kind=CHECKPOINT)[1]["state"]["steps_done"] == 12


def test_a_second_signal_does_not_wait(dataset, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        quick_fit(dataset, checkpoint=tmp_path / "c", callback=raising(signal.SIGINT, at=5, times=2))
    assert not (tmp_path / "c").exists()


def test_a_handler_of_the_caller_decides_whether_the_fit_ends(dataset, tmp_path):
    seen = []
    with handled(signal.SIGTERM, lambda number, frame: seen.append(number)):
        augment = quick_fit(dataset, checkpoint=tmp_path / "c", callback=raising(signal.SIGTERM, at=5))
    assert seen == [signal.SIGTERM]
    assert len(augment.history["loss"]) == 12
    assert torch.equal(augment.reconstruct(), quick_fit(dataset).reconstruct())


def test_an_ignored_signal_stays_ignored(dataset, tmp_path):
    with handled(signal.SIGINT, signal.SIG_IGN):
        augment = quick_fit(dataset, checkpoint=tmp_path / "c", callback=raising(signal.SIGINT, at=5))
    assert len(augment.history["loss"]) == 12


def test_without_a_checkpoint_signals_are_left_alone(dataset):
    handlers = []
    quick_fit(dataset, callback=lambda progress: handlers.append(signal.getsignal(signal.SIGINT)))
    assert set(handlers) == {signal.getsignal(signal.SIGINT)}


def test_a_fit_in_another_thread_leaves_signals_alone(dataset, tmp_path):
    results, handlers = [], []
    callback = lambda progress: handlers.append(signal.getsignal(signal.SIGINT))  # noqa: E731
    thread = threading.Thread(
        target=lambda: results.append(quick_fit(dataset, checkpoint=tmp_path / "c", callback=callback))
    )
    thread.start()
    thread.join()
    assert len(results) == 1
    assert set(handlers) == {signal.getsignal(signal.SIGINT)}


def test_an_error_of_the_fit_gives_the_handlers_back(dataset, tmp_path):
    def fail(progress):
        raise ZeroDivisionError

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError):
        quick_fit(dataset, checkpoint=tmp_path / "c", callback=fail)
    assert signal.getsignal(signal.SIGINT) is before
