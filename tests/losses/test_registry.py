import copy
import functools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from glico_augment import LaplacianLoss
from glico_augment.losses import loss_name


class Power(nn.Module):
    def __init__(self, exponent, weight=1.0):
        super().__init__()
        self.exponent = exponent
        self.register_buffer("weight", torch.tensor(weight))

    def forward(self, outputs, targets):
        return self.weight * (outputs - targets).abs().pow(self.exponent).mean()


class OtherPower(Power):
    pass


def test_a_name_stays_as_it_is():
    assert loss_name("laplacian") == "laplacian"


def test_a_module_is_named_by_its_class_and_what_it_holds():
    name = loss_name(Power(1.0))
    assert name.startswith("<Power ")
    assert name == loss_name(Power(1.0))
    others = [Power(2.0), Power(1.0, weight=0.5), OtherPower(1.0), nn.Sequential(Power(1.0)), nn.L1Loss()]
    assert len({name, *map(loss_name, others)}) == 6
    assert loss_name(nn.Sequential(Power(1.0))) != loss_name(nn.Sequential(Power(3.0)))


class Holder(nn.Module):
    """A loss with one attribute."""

    def __init__(self, held):
        super().__init__()
        self.held = held


def scaled(factor):
    return lambda difference: factor * difference


HELD = {
    "list": ([1.0, 2.0], [2.0, 1.0]),
    "mapping": ({"a": [1]}, {"a": [2]}),
    "tensor": (torch.tensor([1.0]), torch.tensor([2.0])),
    "shape": (torch.zeros(2, 1), torch.zeros(1, 2)),
    "array": (np.ones(2), np.ones(2, dtype=np.float32)),
    "enclosed value": (scaled(1), scaled(2)),
    "function": (lambda x: x + 1, lambda x: x + 2),
    "partial": (functools.partial(torch.pow, exponent=1), functools.partial(torch.pow, exponent=2)),
    "builtin": (torch.abs, torch.square),
    "class": (nn.L1Loss, nn.MSELoss),
    "set": ({1, 2}, {1, 3}),
    "dtype": (torch.float32, torch.float64),
    "object of another class": (nn.Module(), object()),
}


@pytest.mark.parametrize("kind", HELD)
def test_two_losses_that_hold_different_values_have_different_names(kind):
    first, second = HELD[kind]
    assert loss_name(Holder(first)) != loss_name(Holder(second))
    assert loss_name(Holder(first)) == loss_name(copy.deepcopy(Holder(first)))


def test_the_name_is_the_same_in_another_process():
    code = "from test_registry import HELD, Holder, loss_name\n"
    code += "print([loss_name(Holder(first)) for first, _ in HELD.values()])"
    folder = Path(__file__).parent
    path = os.pathsep.join([str(folder), str(folder.parents[1])])
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": path}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str([loss_name(Holder(first)) for first, _ in HELD.values()])


@pytest.mark.parametrize("weights", [(1.0, 2.0), None])
def test_settings_of_the_librarys_losses_count(weights):
    plain = loss_name(LaplacianLoss())
    assert (loss_name(LaplacianLoss(weights)) == plain) is (weights is None)
    assert loss_name(LaplacianLoss(normalize=False)) != plain
