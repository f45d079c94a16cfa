import itertools
import logging
import re
import signal
import sys

import numpy as np
import PIL.Image
import pytest
import torch
from conftest import QUICK_OPTIONS, save_photos
from safetensors.torch import save_file
from torchvision.datasets import ImageFolder
from torchvision.models import vgg16

from glico_augment import GLICOAugment, SwapConfig, load_image
from glico_augment.data.image_set import read_image_set
from glico_augment.fit.loop import Fit


def test_fit_passes_its_options_on(glico, photos, tmp_path):
    path = tmp_path / "a.safetensors"
    options = ["--per-class", 3, "--unlabeled", photos / "test", "--image-size", "12x8", "--noise-std", 0.3]
    options += ["--checkpoint", tmp_path / "c", "--checkpoint-every", 1, "--batch-size", 4, "--seed", 3, "--p", 0.3]
    code, out, err = glico("fit", photos / "train", "-o", path, *QUICK_OPTIONS, *options)
    assert (code, err) == (0, "")
    assert f"written to {path}\n" in out
    augment = GLICOAugment.load(path)
    assert augment.classes == ("cat", "dog")
    assert augment.generator.image_shape == (3, 12, 8)
    assert (augment.codes.n_labeled, len(augment.codes)) == (6, 14)
    assert (augment.config.noise_std, augment.config.batch_size, augment.record.seed) == (0.3, 4, 3)
    assert (augment.swap.p, augment.swap.noise_std) == (0.3, 0.3)
    assert (tmp_path / "c").exists()


def test_fit_with_the_published_preset(glico, photos, tmp_path):
    path = tmp_path / "a.safetensors"
    options = ["--preset", "published", "--epochs", 1, "--generator-width", 4, "--image-size", 16, "--device", "cpu"]
    weights = vgg_weights(tmp_path / "vgg.safetensors")
    assert glico("fit", photos / "train", "-o", path, "--quiet", *options, "--vgg-weights", weights)[0] == 0
    augment = GLICOAugment.load(path)
    config = augment.config
    assert (config.loss, config.latent_dim, config.batch_size, config.image_size) == ("vgg16", 512, 8, (16, 16))
    assert augment.swap == SwapConfig.published()


def vgg_weights(path):
    """A VGG-16 trunk of small random weights, as torchvision names them."""
    with torch.device("meta"):
        state = vgg16(weights=None).features[:28].state_dict()
    torch.manual_seed(0)
    save_file({f"features.{name}": 0.02 * torch.randn(value.shape) for name, value in state.items()}, path)
    return path


MODES = itertools.cycle(("L", "RGB"))


@pytest.mark.filterwarnings("ignore:images have different numbers of channels")
@pytest.mark.parametrize(
    ("change", "mode"),
    [
        (lambda picture: PIL.Image.fromarray(np.array(picture.convert("L")).astype(np.uint16) * 257), "L"),
        (lambda picture: picture.convert("L"), "L"),
        (lambda picture: picture.convert("RGBA"), "RGBA"),
        (lambda picture: picture.convert(next(MODES)), "RGB"),
    ],
    ids=["16 bits", "grey", "alpha", "grey among colour"],
)
def test_fit_reads_files_in_their_own_mode_as_load_image_does(glico, change, mode, tmp_path):
    folder, path = save_photos(tmp_path / "in", suffix="png", change=change), tmp_path / "a.safetensors"
    assert glico("fit", folder, "-o", path, *QUICK_OPTIONS)[0] == 0
    augment = GLICOAugment.load(path)
    assert augment.generator.image_shape == (len(mode), 16, 16)
    read = read_image_set(ImageFolder(folder, loader=load_image))
    assert torch.equal(augment.record.digests, read.digests)
    assert torch.equal(augment.images, read.images)
    assert 20 < augment.images.float().mean() < 235
    assert glico("interpolate", path, "-o", tmp_path / "a.png", "--data", folder)[0] == 0
    assert glico("sample", path, "-o", tmp_path / "made", "-n", 1)[0] == 0
    with PIL.Image.open(tmp_path / "made" / "cat" / "00000.png") as image:
        assert (image.mode, image.size) == (mode, (16, 16))


@pytest.fixture
def spoiled(tmp_path):
    root = save_photos(tmp_path / "photos")
    (root / "dog" / "3.jpg").write_bytes(b"no picture")
    return root


@pytest.mark.parametrize("name", ["3.jpg", "photo seed=3.png"])
def test_a_broken_file_is_named_as_it_is(glico, spoiled, tmp_path, name):
    broken = (spoiled / "dog" / "3.jpg").rename(spoiled / "dog" / name)
    code, _, err = glico("fit", spoiled, "-o", tmp_path / "a.safetensors", *QUICK_OPTIONS)
    assert code == 1
    assert f"({broken}) could not be read" in err
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.filterwarnings("default")
def test_broken_files_are_skipped_on_demand_and_listed(glico, spoiled, tmp_path):
    options = ["--unlabeled", spoiled, "--skip-broken", *QUICK_OPTIONS]
    code, _, err = glico("fit", spoiled, "-o", tmp_path / "a.safetensors", *options)
    assert code == 0
    assert "2 of 16 images were skipped:\n  image 5 (" in err
    assert f"\n  unlabeled image 5 ({spoiled / 'dog' / '3.jpg'}) could not be read" in err
    assert len(GLICOAugment.load(tmp_path / "a.safetensors").codes) == 14


@pytest.mark.parametrize("has_bar", [True, False])
def test_progress_is_told_with_and_without_a_bar(glico, photos, tmp_path, monkeypatch, has_bar):
    if has_bar:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm", None)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    options = [*QUICK_OPTIONS[2:-1], "--steps", 50]
    code, _, err = glico("fit", photos / "train", "-o", tmp_path / "a.safetensors", *options)
    assert code == 0
    lines = [line for line in re.split(r"[\n\r]", err) if "glico: " in line]
    assert "glico: fitting 8 images of 2 classes at 16 × 16 pixels, 3 channels: 50 steps of 8 images" in lines[0]
    assert [f"step {step} of 50, loss " in "".join(lines) for step in (5, 25, 50)] == [not has_bar] * 3
    assert ("step/s" in err) == has_bar
    assert any("R² " in line for line in lines)
    assert "no progress bar" not in err
    assert logging.getLogger("glico_augment").handlers == []


@pytest.fixture
def _interruptible():
    """SIGINT as in a terminal: under ``nohup … &`` it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_checkpoint_and_says_how_to_go_on(glico, photos, tmp_path, monkeypatch, number, expected):
    step = Fit.step

    def interrupted(self):
        step(self)
        if self.steps_done == 5:
            signal.raise_signal(number)

    checkpoint = tmp_path / "c"
    command = ["fit", photos / "train", "-o", tmp_path / "a.safetensors", "--checkpoint", checkpoint]
    command += ["--steps", 20, *QUICK_OPTIONS[2:]]
    with monkeypatch.context() as patch:
        patch.setattr(Fit, "step", interrupted)
        code, _, err = glico(*command)
    assert code == expected
    assert f"stopped after step 5 of 20, which is kept in {checkpoint}: the same call continues there" in err
    assert not (tmp_path / "a.safetensors").exists()
    assert glico(*command)[0] == 0
    assert len(GLICOAugment.load(tmp_path / "a.safetensors").record.losses) == 20
