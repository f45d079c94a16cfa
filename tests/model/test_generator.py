import pytest
import torch
import torch.nn.functional as F
from torch import nn

from glico_augment.model.generator import Generator, double_and_convolve
from glico_augment.model.sphere import sample_uniform

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")
given, settings = hypothesis.given, hypothesis.settings


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def make(image_shape=(3, 12, 10), *, latent_dim=6, noise_dim=3, width=8):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Generator(latent_dim, noise_dim, image_shape, width)


def draw(generator, count=4, seed=0):
    noise = torch.randn(count, generator.noise_dim, generator=rng(seed + 1)) if generator.noise_dim else None
    return sample_uniform(count, generator.latent_dim, generator=rng(seed)), noise


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(1, 5), st.integers(2, 40), st.integers(2, 40), st.integers(1, 12), st.sampled_from([0, 3]))
def test_images_of_any_size_and_channels_lie_between_black_and_white(channels, height, width_px, width, noise_dim):
    generator = make((channels, height, width_px), width=width, noise_dim=noise_dim)
    images = generator(*draw(generator, 2))
    assert images.shape == (2, channels, height, width_px)
    assert images.dtype == torch.float32
    assert ((images >= 0) & (images <= 1)).all()


@pytest.mark.parametrize("image_shape", [(13, 64, 3), (1, 28, 28), (3, 1, 50), (3, 100, 1), (1, 1, 1)])
@pytest.mark.parametrize("width", [4, 32])
def test_one_image_of_an_extreme_shape_is_generated(image_shape, width):
    generator = make(image_shape, width=width)
    assert generator(*draw(generator, 1)).shape == (1, *image_shape)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))
def test_doubling_and_convolving_in_one_is_the_same_as_one_after_the_other(n_in, n_out, height, width):
    features = torch.randn(2, n_in, height, width, generator=rng(), dtype=torch.float64)
    weight = torch.randn(n_out, n_in, 3, 3, generator=rng(1), dtype=torch.float64, requires_grad=True)
    bias = torch.randn(n_out, generator=rng(2), dtype=torch.float64)
    expected = F.conv2d(F.interpolate(features, scale_factor=2, mode="nearest"), weight, bias, padding=1)
    made = double_and_convolve(features, weight, bias)
    torch.testing.assert_close(made, expected)
    direction = torch.randn(expected.shape, generator=rng(3), dtype=torch.float64)
    gradients = [torch.autograd.grad(images, weight, direction)[0] for images in (made, expected)]
    torch.testing.assert_close(*gradients)


def test_no_noise_is_zero_noise():
    generator = make()
    codes, noise = draw(generator)
    torch.testing.assert_close(generator(codes), generator(codes, torch.zeros_like(noise)))
    assert not torch.allclose(generator(codes), generator(codes, noise))


def test_a_generator_without_noise_depends_on_the_code_alone():
    generator = make(noise_dim=0)
    codes, _ = draw(generator)
    images = generator(codes)
    assert torch.equal(images, generator(codes, None))
    assert (images[0] - images[1]).abs().max() > 1e-4


@pytest.mark.parametrize("mode", [True, False])
def test_an_image_depends_neither_on_its_batch_nor_on_train_and_eval(mode):
    generator = make().train(mode)
    codes, noise = draw(generator)
    together = generator(codes, noise)
    alone = torch.cat([generator(codes[i : i + 1], noise[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(together, generator.train(not mode)(codes, noise))


def test_the_gradient_reaches_codes_noise_and_every_parameter():
    generator = make((3, 32, 32))
    codes, noise = (tensor.requires_grad_() for tensor in draw(generator))
    target = torch.rand(4, 3, 32, 32, generator=rng(9))
    (generator(codes, noise) - target).square().mean().backward()
    for name, tensor in [("codes", codes), ("noise", noise), *generator.named_parameters()]:
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name
        assert tensor.grad.any(), name


def first_inputs(generator, codes, noise):
    """What enters the layer that makes the first feature map."""
    seen = []
    hook = generator.project.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    generator(codes, noise)
    hook.remove()
    return seen[0].detach()


def test_codes_enter_the_first_layer_with_unit_variance():
    generator = make(latent_dim=256, noise_dim=0)
    entries = first_inputs(generator, *draw(generator, 50))
    assert entries.square().mean().item() == pytest.approx(1, abs=1e-4)


def test_the_noise_enters_it_through_a_linear_projection_and_leaky_relu():
    generator = make(noise_dim=3)
    codes, noise = draw(generator, 50)
    linear = next(module for module in generator.project_noise.modules() if isinstance(module, nn.Linear))
    entries = first_inputs(generator, codes, noise)[:, generator.latent_dim :]
    projected = noise @ linear.weight.detach().T + linear.bias.detach()
    torch.testing.assert_close(entries, torch.where(projected > 0, projected, 0.2 * projected))
    assert (entries < 0).any()


def test_width_is_the_channels_of_the_feature_map_at_full_size():
    generator = make((3, 32, 32), width=6)
    last = [module for module in generator.modules() if isinstance(module, nn.Conv2d)][-1]
    assert (last.in_channels, last.out_channels) == (6, 3)


def test_a_fit_of_one_code_reproduces_its_image():
    generator = make((1, 8, 8), noise_dim=0)
    code, _ = draw(generator, 1)
    target = torch.rand(1, 1, 8, 8, generator=rng(3))
    optimizer = torch.optim.Adam(generator.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        (generator(code) - target).square().mean().backward()
        optimizer.step()
    assert (generator(code) - target).abs().mean() < 0.05


def test_repr_tells_what_goes_in_and_what_comes_out():
    assert "latent_dim=6, noise_dim=3, image_shape=(3, 12, 10)" in repr(make())
