import pytest
import torch
from torch import nn

from glico_augment.config import LOSS_NAMES, FitConfig
from glico_augment.losses import FeatureLoss, build_loss


@pytest.mark.parametrize("name", [name for name in LOSS_NAMES if name != "vgg16"])
def test_a_loss_is_built_by_its_name_with_its_weights(name):
    config = FitConfig(loss=name, loss_weights=(1, 0, 0, 0, 2), loss_normalize=False)
    loss = build_loss(config, (3, 64, 64))
    assert isinstance(loss, FeatureLoss)
    assert loss(torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)) > 0
    assert (loss.weights, loss.normalize) == ((1, 0, 0, 0, 2), False)


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
