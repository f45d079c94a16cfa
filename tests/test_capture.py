"""A step that is captured, or not."""

import pytest
import torch

from glico_augment.capture import CapturedStep, can_capture


def test_work_on_cuda_is_captured_unless_the_switch_or_the_allocator_or_another_capture_forbids_it(monkeypatch):
    cuda = torch.device("cuda")
    state = {"backend": "native", "is_capturing": False}
    monkeypatch.setattr(torch.cuda, "get_allocator_backend", lambda: state["backend"])
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: state["is_capturing"])
    for name in ("GLICO_CUDA_GRAPHS", "PYTORCH_NO_CUDA_MEMORY_CACHING"):
        monkeypatch.delenv(name, raising=False)
    assert can_capture(cuda)
    assert not can_capture(torch.device("cpu"))
    for name, value in (("GLICO_CUDA_GRAPHS", "0"), ("PYTORCH_NO_CUDA_MEMORY_CACHING", "1")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert not can_capture(cuda)
    for name, value in (("backend", "pluggable"), ("is_capturing", True)):
        with monkeypatch.context() as patch:
            patch.setitem(state, name, value)
            assert not can_capture(cuda)


def test_a_step_that_is_not_to_be_captured_is_the_function():
    seen = []

    def function(*inputs):
        seen.append(inputs)
        return inputs[0] + 1

    step = CapturedStep(function, is_wanted=False)
    for value in range(6):
        assert step(torch.tensor(value), None) == value + 1
    assert [inputs[1] for inputs in seen] == [None] * 6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_captured_step_takes_every_input_and_changes_the_same_memory():
    total = torch.zeros(3, device="cuda")
    calls = []

    def function(added, factor, nothing):
        assert nothing is None
        calls.append(1)
        total.add_(added * factor)
        return total.sum()

    step = CapturedStep(function, is_wanted=True)
    sums = []
    for value in range(8):
        added = torch.full((3,), float(value), device="cuda")
        sums.append(step(added, torch.tensor(2.0, device="cuda"), None).item())
    assert sums == [3 * 2 * sum(range(value + 1)) for value in range(8)]
    assert len(calls) == 4  # three by themselves and one to record
    assert step.is_captured
    step.forget()
    assert not step.is_captured
    step(torch.zeros(3, device="cuda"), torch.tensor(2.0, device="cuda"), None)
    assert len(calls) == 5
