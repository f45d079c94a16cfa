import logging
import re
import signal
import sys

import numpy as np
import PIL.Image
import pytest
import torch
from conftest import QUICK_OPTIONS, save_photos, smooth_images
from safetensors.torch import save_file
from torchvision.datasets import ImageFolder
from torchvision.models import vgg16

from glico_augment import GLICOAugment, SwapConfig, load_image
from glico_augment.data.image_set import read_image_set
from glico_augment.fit.loop import Fit


def test_fit_writes_a_file_and_says_so(glico, photos, tmp_path):
    code, out, err = glico("fit", photos / "train", "-o", tmp_path / "a.safetensors", *QUICK_OPTIONS)
    assert (code, err) == (0, "")
    assert str(tmp_path / "a.safetensors") in out
    assert GLICOAugment.load(tmp_path / "a.safetensors").classes == ("cat", "dog")


def test_fit_passes_its_options_on(glico, photos, tmp_path):
    path = tmp_path / "a.safetensors"
    options = ["--per-class", 3, "--unlabeled", photos / "test", "--image-size", "12x8", "--noise-std", 0.3]
    options += ["--checkpoint", tmp_path / "c", "--batch-size", 4, "--loss", "random-vgg16", "--seed", 3]
    options += ["--p", 0.3, "--max-ratio", 0.7, "--loss-weights", "1,0.5,0,0,2", "--classifier-width", 5]
    options += ["--adam-beta1", 0.8, "--class-cosine", 0.25, "--checkpoint-every", 1]
    assert glico("fit", photos / "train", "-o", path, *QUICK_OPTIONS, *options)[0] == 0
    augment = GLICOAugment.load(path)
    config = augment.config
    assert augment.generator.image_shape == (3, 12, 8)
    assert (augment.codes.n_labeled, len(augment.codes)) == (6, 14)
    assert (config.noise_std, config.loss, config.batch_size) == (0.3, "random-vgg16", 4)
    assert (config.loss_weights, config.classifier_width) == ((1, 0.5, 0, 0, 2), 5)
    assert (config.adam_beta1, config.class_cosine) == (0.8, 0.25)
    assert (augment.swap.p, augment.swap.max_ratio, augment.swap.noise_std) == (0.3, 0.7, 0.3)
    assert augment.record.seed == 3
    assert (tmp_path / "c").exists()


def test_fit_with_the_published_preset(glico, photos, tmp_path):
    path = tmp_path / "a.safetensors"
    options = ["--preset", "published", "--epochs", 1, "--generator-width", 4, "--image-size", 16, "--device", "cpu"]
    weights = vgg_weights(tmp_path / "vgg.safetensors")
    code, _, err = glico("fit", photos / "train", "-o", path, "--quiet", *options, "--vgg-weights", weights)
    assert (code, err) == (0, "")
    augment = GLICOAugment.load(path)
    config = augment.config
    assert (config.loss, config.latent_dim, config.batch_size, config.image_size) == ("vgg16", 512, 8, (16, 16))
    assert augment.swap == SwapConfig.published()


def vgg_weights(path):
    """A VGG-16 trunk of small random weights, as torchvision names them."""
    with torch.device("meta"):
        trunk = vgg16(weights=None).features[:28]
    generator = torch.Generator().manual_seed(0)
    state = {
        f"features.{name}": 0.02 * torch.randn(value.shape, generator=generator)
        for name, value in trunk.state_dict().items()
    }
    save_file(state, path)
    return path


@pytest.mark.parametrize("kind", ["16 bits", "grey", "alpha", "grey among colour"])
def test_fit_reads_files_in_their_own_mode_as_load_image_does(glico, kind, tmp_path):
    for index, image in enumerate(smooth_images(8, height=16, width=16)):
        path = tmp_path / "in" / ("cat", "dog")[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = PIL.Image.fromarray(image.permute(1, 2, 0).numpy())
        if kind == "16 bits":
            picture = PIL.Image.fromarray(image[0].numpy().astype(np.uint16) * 257)
        elif kind == "grey" or (kind == "grey among colour" and index < 4):
            picture = picture.convert("L")
        elif kind == "alpha":
            picture.putalpha(100)
        picture.save(path)
    assert glico("fit", tmp_path / "in", "-o", tmp_path / "a.safetensors", *QUICK_OPTIONS)[0] == 0
    augment = GLICOAugment.load(tmp_path / "a.safetensors")
    channels = {"16 bits": 1, "grey": 1, "alpha": 4, "grey among colour": 3}[kind]
    assert augment.generator.image_shape == (channels, 16, 16)
    read = read_image_set(ImageFolder(tmp_path / "in", loader=load_image))
    assert torch.equal(augment.record.digests, read.digests)
    assert torch.equal(augment.images, read.images)
    assert 20 < augment.images.float().mean() < 235
    assert glico("interpolate", tmp_path / "a.safetensors", "-o", tmp_path / "a.png", "--data", tmp_path / "in")[0] == 0


@pytest.fixture
def spoiled(tmp_path):
    root = save_photos(tmp_path / "photos")
    (root / "dog" / "3.jpg").write_bytes(b"no picture")
    return root


def test_a_broken_file_is_named(glico, spoiled, tmp_path):
    code, _, err = glico("fit", spoiled, "-o", tmp_path / "a.safetensors", *QUICK_OPTIONS)
    assert code == 1
    assert f"({spoiled / 'dog' / '3.jpg'}) could not be read" in err
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.filterwarnings("default")
def test_broken_files_are_skipped_on_demand_and_listed(glico, spoiled, tmp_path):
    options = ["--unlabeled", spoiled, "--skip-broken", *QUICK_OPTIONS]
    code, _, err = glico("fit", spoiled, "-o", tmp_path / "a.safetensors", *options)
    assert code == 0
    assert "2 of 16 images were skipped:\n  image 5 (" in err
    assert f"\n  unlabeled image 5 ({spoiled / 'dog' / '3.jpg'}) could not be read" in err
    assert len(GLICOAugment.load(tmp_path / "a.safetensors").codes) == 14


def test_a_class_of_broken_files_is_an_error(glico, tmp_path):
    root = save_photos(tmp_path / "photos")
    for path in (root / "dog").iterdir():
        path.write_bytes(b"no picture")
    code, _, err = glico("fit", root, "-o", tmp_path / "a.safetensors", "--skip-broken", *QUICK_OPTIONS)
    assert code == 1
    assert "none of the images of class 'dog' could be read" in err


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
    assert re.search(r"step 20 of 50, .*: about \d+ seconds? to go", lines[1])
    assert [f"step {step} of 50" in "".join(lines) for step in (25, 30, 45)] == [not has_bar] * 3
    assert ("step/s" in err) == has_bar
    assert any("R² " in line for line in lines)
    assert "no progress bar" not in err
    assert logging.getLogger("glico_augment").handlers == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/nothing"], "no such folder"),
        (["{tmp}/notes.txt"], "notes.txt is no folder: give one that holds images"),
        (["{photos}/train", "-o", "{tmp}/no/a.safetensors"], "there is no folder"),
        (["{photos}/train", "-o", "{tmp}/m.pt"], "m.pt: a fit is written as safetensors; name it .*m.safetensors"),
        (["{photos}/train", "-o", "{tmp}/m"], "name it .*m.safetensors"),
        (["{photos}/train", "--checkpoint", "{tmp}/./a.safetensors"], "-o and --checkpoint are the same file"),
        (["{photos}/train", "--checkpoint", "{photos}/train/cat/0.jpg"], "0.jpg: a checkpoint is no image"),
        (["{photos}/train", "--checkpoint", "{tmp}/no/c"], "there is no folder"),
        (["{photos}/train", "--latent-dim", "1"], "--latent-dim must be"),
        (["{photos}/train", "--lr", "0"], "--lr must be a finite number above 0; got 0"),
        (["{photos}/train", "--loss-weights", "1,-1"], "--loss-weights must be"),
        (["{photos}/train", "--epochs", "3", "--steps", "3"], "got --epochs 3 and --steps 3"),
        (["{photos}/train", "--epochs", "100000000000000"], "Lower --epochs, --steps or --min-steps"),
        (["{photos}/train", "--image-size", "1000000"], "lower --batch-size, --generator-width or --image-size"),
        (["{photos}/train", "--per-class", "9"], "class 'cat' has 4"),
        (["{photos}/train", "--batch-size", "9"], "--batch-size must be at most the 8 .*or leave it out"),
        (["{photos}/train", "--p", "1.5"], "--p must be"),
        (["{photos}/train", "--device", "abacus"], "--?device must be"),
        (["{photos}/train", "--loss", "vgg16", "--vgg-weights", "{tmp}/v"], "laplacian"),
        (["{photos}/train", "--unlabeled", "{tmp}/no"], "no such folder"),
        (["{photos}/train", "--unlabeled", "{tmp}"], "no images in"),
    ],
)
def test_a_mistake_ends_with_one_line_and_exit_code_1(glico, arguments, message, photos, tmp_path):
    (tmp_path / "notes.txt").write_text("")
    given = [argument.format(tmp=tmp_path, photos=photos) for argument in arguments]
    output = [] if "-o" in given else ["-o", tmp_path / "a.safetensors"]
    code, out, err = glico("fit", *given, *output)
    assert (code, out) == (1, "")
    assert err.startswith("glico: error: ")
    assert err.count("\n") == 1
    assert re.search(message, err)
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.usefixtures("default_signals")
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
