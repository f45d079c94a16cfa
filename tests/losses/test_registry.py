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


@pytest.mark.parametrize("weights", [(1.0, 2.0), None])
def test_settings_of_the_librarys_losses_count(weights):
    plain = loss_name(LaplacianLoss())
    assert (loss_name(LaplacianLoss(weights)) == plain) is (weights is None)
    assert loss_name(LaplacianLoss(normalize=False)) != plain
