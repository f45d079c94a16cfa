import copy
import functools

import numpy as np
import pytest
import torch
from torch import nn

from glico_augment.config import LOSS_NAMES, FitConfig
from glico_augment.losses import FeatureLoss, LaplacianLoss, build_loss, loss_name


class Power(nn.Module):
    def __init__(self, exponent, weight=1.0):
        super().__init__()
        self.exponent = exponent
        self.register_buffer("weight", torch.tensor(weight))

    def forward(self, outputs, targets):
        return self.weight * (outputs - targets).abs().pow(self.exponent).mean()


class OtherPower(Power):
    pass


@pytest.mark.parametrize("name", [name for name in LOSS_NAMES if name != "vgg16"])
def test_a_loss_is_built_by_its_name_with_its_weights(name):
    config = FitConfig(loss=name, loss_weights=(1, 0, 0, 0, 2), loss_normalize=False)
    loss = build_loss(config, (3, 64, 64))
    assert isinstance(loss, FeatureLoss)
    assert loss(torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)) > 0
    assert (loss.weights, loss.normalize) == ((1, 0, 0, 0, 2), False)
    assert loss_name(name) == name


def test_vgg16_is_built_of_the_file_that_is_named():
    with pytest.raises(FileNotFoundError, match=r"no VGG-16 weights at mine\.pth"):
        build_loss(FitConfig(loss="vgg16", vgg_weights="mine.pth"), (3, 32, 32))


def test_a_module_is_its_own_loss_and_its_mere_name_is_none():
    module = nn.L1Loss()
    built = build_loss(FitConfig(loss=module), (3, 8, 8))
    assert isinstance(built, nn.L1Loss)
    assert built is not module  # a fit moves and calibrates its own
    with pytest.raises(ValueError, match="<L1Loss> was a module"):
        build_loss(FitConfig(loss="<L1Loss>"), (3, 8, 8))


def test_images_that_the_named_loss_cannot_compare_are_refused():
    with pytest.raises(ValueError, match="got 2 channels: use loss='laplacian'"):
        build_loss(FitConfig(loss="random-vgg16"), (2, 32, 32))


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


def doubled(function):
    return lambda difference: 2 * function(difference)


def power(base):
    def raised(exponent):
        return base * raised(exponent - 1) if exponent else 1

    return raised


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
    "enclosed function": (doubled(lambda x: x + 1), doubled(lambda x: x + 2)),
    "inner function": (lambda x: [y + 1 for y in x], lambda x: [y + 2 for y in x]),
    "recursive function": (power(2), power(3)),
}


@pytest.mark.parametrize("kind", HELD)
def test_two_losses_that_hold_different_values_have_different_names(kind):
    first, second = HELD[kind]
    assert loss_name(Holder(first)) != loss_name(Holder(second))
    assert loss_name(Holder(first)) == loss_name(copy.deepcopy(Holder(first)))


def test_the_name_is_the_same_in_every_process():
    """Strings have another hash, and objects another address, in each: the literal is of another process than this."""
    values = {"b": [1.0, None], "a": (True, "x"), 3: {"c", "d", "e", "f"}, "dtype": torch.float32, "class": nn.L1Loss}
    values["tensors"] = [torch.arange(3.0), torch.ones(2, 1, dtype=torch.bool), np.arange(3, dtype=np.int64)]
    values["objects"] = [object(), functools.partial(nn.L1Loss, reduction="sum")]
    assert loss_name(Holder(values)) == "<Holder 56378529>"
    first, second = (eval("lambda x: [y for y in x if y not in {'a', 'b', 'c'}]") for _ in range(2))
    assert loss_name(Holder(first)) == loss_name(Holder(second))


@pytest.mark.parametrize("weights", [(1.0, 2.0), None])
def test_settings_of_the_librarys_losses_count(weights):
    plain = loss_name(LaplacianLoss())
    assert (loss_name(LaplacianLoss(weights)) == plain) is (weights is None)
    assert loss_name(LaplacianLoss(normalize=False)) != plain
