import math
import pickle
import urllib.error
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torchvision.transforms.functional import normalize

from glico_augment.losses import PerceptualLoss, RandomPerceptualLoss

# The rectified conv1_2, conv2_2, conv3_2, conv4_2 and conv5_2 among torchvision's vgg16().features
TORCHVISION_TAPS = (3, 8, 13, 20, 27)
CACHE_NAME = "vgg16-397923af.pth"
CACHED = f"{CACHE_NAME}|IMAGENET1K_V1"


def draw(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def trunk():
    """torchvision's VGG-16 up to conv5_2, with random weights."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        layers = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])[:28]
    layers = layers.to_empty(device="cpu").requires_grad_(False)
    for parameter in layers.parameters():
        std = math.sqrt(2 / math.prod(parameter.shape[1:])) if parameter.ndim == 4 else 0.1
        parameter.normal_(0, std, generator=generator)
    return layers


@pytest.fixture(scope="module")
def state_dict(trunk):
    state = {f"features.{name}": value for name, value in trunk.state_dict().items()}
    return {**state, "classifier.6.bias": torch.zeros(1000)}


@pytest.fixture(scope="module")
def files(state_dict, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    torch.save(state_dict, folder / "vgg16.pth")
    save_file(state_dict, folder / "vgg16.safetensors")
    yield {path.suffix: path for path in folder.iterdir()}
    for path in folder.iterdir():
        path.unlink()


@pytest.fixture(scope="module")
def pretrained(files):
    return PerceptualLoss(normalize=False, weights_file=files[".safetensors"])


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """An empty torchvision cache and no network; the folder of the cached weights."""

    def fail(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


class Evil:
    """Unpickling it would make a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_the_taps_are_those_of_torchvisions_vgg16_on_imagenet_normalised_images(trunk, pretrained):
    images = draw(2, 3, 40, 36)
    hidden, expected = normalize(images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), []
    for index, layer in enumerate(trunk):
        hidden = layer(hidden)
        if index in TORCHVISION_TAPS:
            expected.append(hidden.clone())  # rectifiers work in place
    taps = pretrained.features(images)
    assert [tap.shape[1] for tap in taps] == [64, 128, 256, 512, 512]
    torch.testing.assert_close(taps, expected, rtol=1e-4, atol=1e-4)


def test_a_pth_and_a_safetensors_file_give_equal_losses(files, pretrained):
    first, second = draw(1, 3, 32, 32), draw(1, 3, 32, 32, seed=1)
    loss = PerceptualLoss(normalize=False, weights_file=str(files[".pth"]))
    assert loss(first, second) == pretrained(first, second)


def test_the_gradient_flows_to_the_outputs_and_neither_to_targets_nor_weights(pretrained):
    outputs, targets = draw(1, 3, 32, 32).requires_grad_(), draw(1, 3, 32, 32, seed=1).requires_grad_()
    pretrained(outputs, targets).backward()
    assert outputs.grad.any()
    assert targets.grad is None
    assert all(parameter.grad is None for parameter in pretrained.parameters())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_missing_file_is_named_with_the_offline_choices(tmp_path, suffix):
    path = tmp_path / f"missing{suffix}"
    with pytest.raises(FileNotFoundError, match="loss='laplacian' or loss='random-vgg16'") as caught:
        PerceptualLoss(weights_file=path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("n_bytes", [0, 5, 3_000_000])
def test_a_truncated_file_is_refused_by_name(files, tmp_path, suffix, n_bytes):
    path = tmp_path / f"cut{suffix}"
    with files[suffix].open("rb") as file:
        path.write_bytes(file.read(n_bytes))
    with pytest.raises(ValueError, match=f"cut{suffix} is not a readable state dict|cut{suffix} holds more than"):
        PerceptualLoss(weights_file=path)


@pytest.mark.parametrize("write", [torch.save, lambda thing, path: path.write_bytes(pickle.dumps(thing))])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_pickle_of_anything_else_is_refused_and_not_unpickled(tmp_path, suffix, write):
    marker, path = tmp_path / "marker", tmp_path / f"evil{suffix}"
    write({"features.0.weight": Evil(marker)}, path)
    with pytest.raises(ValueError, match=f"evil{suffix}"):
        PerceptualLoss(weights_file=path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, r"expected features\.0\.weight of shape \(64, 3, 3, 3\), found nothing"),
        ({"features.0.weight": torch.zeros(64, 1, 3, 3)}, r"features\.0\.weight.*found \(64, 1, 3, 3\)"),
        (
            {"features.0.weight": torch.zeros(64, 3, 3, 3)},
            r"expected features\.0\.bias of shape \(64,\), found nothing",
        ),
        ([torch.zeros(3)], "is no state dict but of the type list"),
    ],
)
def test_a_file_of_something_else_is_refused_with_what_was_expected(tmp_path, state, message):
    path = tmp_path / "other.pth"
    torch.save(state, path)
    with pytest.raises(ValueError, match=message) as caught:
        PerceptualLoss(weights_file=path)
    assert str(path) in str(caught.value)


def test_without_a_file_the_weights_come_from_torchvisions_cache(offline, files, pretrained):
    (offline / CACHE_NAME).symlink_to(files[".pth"])
    first, second = draw(1, 3, 32, 32), draw(1, 3, 32, 32, seed=1)
    assert PerceptualLoss(normalize=False)(first, second) == pretrained(first, second)


def test_offline_the_error_names_the_file_the_folder_and_the_choices(offline):
    with pytest.raises(FileNotFoundError, match="no route to host") as caught:
        PerceptualLoss()
    for part in (CACHE_NAME, str(offline), "vgg_weights=", "loss='laplacian'", "loss='random-vgg16'"):
        assert part in str(caught.value)


def test_a_truncated_cache_is_refused_by_name(offline, files):
    with files[".pth"].open("rb") as file:
        (offline / CACHE_NAME).write_bytes(file.read(3_000_000))
    with pytest.raises(ValueError, match=CACHED):
        PerceptualLoss()


def test_a_download_of_something_else_is_refused_by_name(offline, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError('invalid hash value (expected "397923af", got "00000000")')

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises((FileNotFoundError, ValueError), match=CACHED):
        PerceptualLoss()


def test_a_pickle_in_the_cache_is_not_unpickled(offline, tmp_path):
    marker = tmp_path / "marker"
    torch.save({"features.0.weight": Evil(marker)}, offline / CACHE_NAME)
    with pytest.raises(ValueError, match=CACHED):
        PerceptualLoss()
    assert not marker.exists()


@pytest.fixture(scope="module")
def random():
    return RandomPerceptualLoss(normalize=False)


def test_random_weights_are_the_same_every_time_and_leave_the_global_generator_alone(random):
    before = torch.get_rng_state()
    again, other = RandomPerceptualLoss(normalize=False), RandomPerceptualLoss(normalize=False, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    first, second = draw(1, 3, 32, 32), draw(1, 3, 32, 32, seed=1)
    assert random(first, second) == again(first, second)
    assert random(first, second) != other(first, second)


def test_random_weights_keep_the_magnitude_of_activations(random):
    magnitudes = [tap.square().mean().sqrt().item() for tap in random.features(draw(2, 3, 32, 32) * 2 - 0.5)]
    assert all(0.1 < magnitude < 10 for magnitude in magnitudes)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (28, 28), (8, 20), (33, 50)])
def test_images_of_any_size_have_all_taps(random, size):
    outputs = draw(1, 3, *size).requires_grad_()
    taps = random.features(outputs)
    assert len(taps) == 5
    assert min(min(tap.shape[-2:]) for tap in taps) >= 2
    random(outputs, draw(1, 3, *size, seed=1)).backward()
    assert outputs.grad.isfinite().all()
    assert outputs.grad.any()


def test_images_at_least_32_pixels_wide_are_not_resized(random):
    assert [tuple(tap.shape[-2:]) for tap in random.features(draw(1, 3, 32, 70))] == [
        (32, 70),
        (16, 35),
        (8, 17),
        (4, 8),
        (2, 4),
    ]


def test_grey_is_compared_as_the_rgb_of_equal_channels(random):
    grey = draw(1, 1, 32, 32)
    torch.testing.assert_close(random.features(grey), random.features(grey.expand(-1, 3, -1, -1)))


def test_alpha_is_composited_over_grey(random):
    rgb, alpha = draw(1, 3, 32, 32), draw(1, 1, 32, 32, seed=1)
    opaque, clear = torch.ones_like(alpha), torch.zeros_like(alpha)
    for mask, seen in ((opaque, rgb), (clear, torch.full_like(rgb, 0.5)), (alpha, rgb * alpha + 0.5 * (1 - alpha))):
        torch.testing.assert_close(random.features(torch.cat([rgb, mask], 1)), random.features(seen))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_grey_rgb_and_rgba_are_taken(random, channels):
    random.check_images((channels, 32, 32))


@pytest.mark.parametrize("channels", [2, 5, 13])
def test_other_channels_are_refused_with_the_remedy(random, channels):
    with pytest.raises(ValueError, match=f"grey, RGB or RGBA images, got {channels} channels: use loss='laplacian'"):
        random.check_images((channels, 32, 32))


@pytest.mark.parametrize("tap", range(5))
def test_weights_select_taps(random, tap):
    first, second = draw(1, 3, 32, 32), draw(1, 3, 32, 32, seed=1)
    one = RandomPerceptualLoss([float(tap == index) for index in range(5)], normalize=False)
    expected = (random.features(first)[tap] - random.features(second)[tap]).abs().mean()
    torch.testing.assert_close(one(first, second), expected)


def test_calibrated_taps_count_alike_and_a_tap_of_weight_zero_stays_out():
    loss = RandomPerceptualLoss((1, 1, 0, 1, 0))
    real = draw(3, 3, 32, 32)
    loss.calibrate(real.split(2))
    taps = loss.features(real)
    for index in (0, 1, 3):
        deviation = (taps[index] - taps[index].mean(dim=0)).abs().mean()
        assert (deviation / loss.scales[index]).item() == pytest.approx(1, abs=1e-4)
    assert loss(draw(1, 3, 32, 32, seed=1), real[:1]).isfinite()


@pytest.mark.parametrize("weights", [(1, 1, 1), (1,) * 6])
def test_a_wrong_number_of_weights_is_refused_at_once(weights):
    with pytest.raises(ValueError, match=f"5 taps.*got {len(weights)} loss weights"):
        RandomPerceptualLoss(weights)
