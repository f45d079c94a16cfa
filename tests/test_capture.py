"""A step that is captured, or not."""

import pytest
import torch

from glico_augment.capture import CapturedStep


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
