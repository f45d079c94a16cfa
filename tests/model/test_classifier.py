import pytest
import torch
import torch.nn.functional as F
from torch import nn

from glico_augment.model.classifier import Classifier


def make(channels=3, n_classes=5, width=4):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Classifier(channels, n_classes, width)


def draw(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("channels", [1, 3, 4, 13])
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (28, 28), (33, 17)])
def test_images_of_any_size_and_channels_get_one_logit_a_class(channels, size):
    logits = make(channels, 7)(draw(2, channels, *size))
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()


@pytest.mark.parametrize("mode", [True, False])
def test_logits_depend_neither_on_the_batch_nor_on_train_and_eval(mode):
    classifier, images = make().train(mode), draw(3, 3, 16, 16)
    together = classifier(images)
    torch.testing.assert_close(together, torch.cat([classifier(image[None]) for image in images]))
    torch.testing.assert_close(together, classifier.train(not mode)(images))


def test_the_gradient_reaches_the_images_and_every_parameter():
    classifier, images = make(), draw(4, 3, 16, 16).requires_grad_()
    F.cross_entropy(classifier(images), torch.tensor([0, 1, 2, 3])).backward()
    for name, tensor in [("images", images), *classifier.named_parameters()]:
        assert tensor.grad.any(), name


def test_each_layer_doubles_the_width():
    convs = [module for module in make(width=6).modules() if isinstance(module, nn.Conv2d)]
    assert [conv.out_channels for conv in convs] == [6, 12, 24]


def test_it_learns_to_tell_textures_of_equal_colour_apart():
    classifier = make(1, 2, 8)
    stripes = torch.tensor([0.0, 1.0]).repeat(8).expand(16, 16)
    images = torch.stack([stripes, stripes.T])[:, None]
    labels = torch.tensor([0, 1])
    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(classifier(images), labels).backward()
        optimizer.step()
    assert F.cross_entropy(classifier(images), labels) < 0.1
