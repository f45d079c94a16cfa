import dataclasses
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from conftest import smooth_images, write_sealed
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scipy import stats
from torchvision.models import vgg16

from glico_augment import FitConfig, GLICOAugment, GLICODataset, SwapConfig
from glico_augment.cli import demo, demo_data, main
from glico_augment.cli.demo_training import accuracy, random_shift
from glico_augment.cli.parser import build_parser
from glico_augment.data.image_set import DEFAULT_SIZE

QUICK = ["--epochs", "2", "--latent-dim", "6", "--generator-width", "4", "--device", "cpu", "--quiet"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """train/ and test/ of two classes with four photographs each."""
    root = tmp_path_factory.mktemp("photos")
    for part, seed in (("train", 0), ("test", 1)):
        for index, image in enumerate(smooth_images(8, height=16, width=16, seed=seed)):
            path = root / part / ("cat", "dog")[index % 2] / f"{index}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return root


@pytest.fixture(scope="module")
def fitted(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("fits") / "photos.safetensors"
    assert main(["fit", str(folder / "train"), "-o", str(path), *QUICK]) == 0
    return path


def run(capsys, *arguments):
    """The exit code, standard output and standard error of ``glico``."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as error:
        code = error.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_fit_writes_a_file_and_says_so(capsys, folder, tmp_path):
    code, out, err = run(capsys, "fit", folder / "train", "-o", tmp_path / "a.safetensors", *QUICK)
    assert (code, err) == (0, "")
    assert str(tmp_path / "a.safetensors") in out
    assert GLICOAugment.load(tmp_path / "a.safetensors").classes == ("cat", "dog")


def test_fit_passes_its_options_on(capsys, folder, tmp_path):
    path = tmp_path / "a.safetensors"
    options = ["--per-class", 3, "--unlabeled", folder / "test", "--image-size", "12x8", "--noise-std", 0.3]
    options += ["--checkpoint", tmp_path / "c", "--batch-size", 4, "--loss", "random-vgg16", "--seed", 3]
    options += ["--p", 0.3, "--max-ratio", 0.7]
    assert run(capsys, "fit", folder / "train", "-o", path, *QUICK, *options)[0] == 0
    augment = GLICOAugment.load(path)
    assert augment.generator.image_shape == (3, 12, 8)
    assert (augment.codes.n_labeled, len(augment.codes)) == (6, 14)
    assert (augment.config.noise_std, augment.config.loss, augment.config.batch_size) == (0.3, "random-vgg16", 4)
    assert (augment.swap.p, augment.swap.max_ratio, augment.swap.noise_std) == (0.3, 0.7, 0.3)
    assert augment.record.seed == 3
    assert (tmp_path / "c").exists()


def test_fit_with_the_published_preset(capsys, folder, tmp_path):
    path = tmp_path / "a.safetensors"
    options = ["--preset", "published", "--epochs", 1, "--generator-width", 4, "--image-size", 16, "--device", "cpu"]
    weights = vgg_weights(tmp_path / "vgg.safetensors")
    code, _, err = run(capsys, "fit", folder / "train", "-o", path, "--quiet", *options, "--vgg-weights", weights)
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


def test_inspect_says_what_a_file_holds(capsys, fitted):
    code, out, _ = run(capsys, "inspect", fitted)
    assert code == 0
    for fact in ("8 labelled", "16 × 16, 3 channels", "class cat", "4 images", "setting epochs", "fingerprint"):
        assert fact in out


def test_sample_writes_a_grid_or_a_folder(capsys, fitted, tmp_path):
    assert run(capsys, "sample", fitted, "-o", tmp_path / "grid.png", "-n", 5, "--scale", 2)[0] == 0
    with PIL.Image.open(tmp_path / "grid.png") as grid:
        assert grid.size == (5 * 34 + 2, 2 * 34 + 2)
    assert run(capsys, "sample", fitted, "-o", tmp_path / "made", "-n", 3, "--max-ratio", 1)[0] == 0
    files = sorted(path.relative_to(tmp_path / "made").as_posix() for path in (tmp_path / "made").rglob("*.png"))
    assert files == [f"{name}/0000{index}.png" for name in ("cat", "dog") for index in range(3)]


def test_sample_repeats_for_a_seed(capsys, fitted, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(capsys, "sample", fitted, "-o", tmp_path / f"{name}.png", "--seed", seed)
    first, again, other = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert first == again != other


def test_interpolate_writes_a_grid(capsys, fitted, tmp_path):
    assert run(capsys, "interpolate", fitted, "-o", tmp_path / "grid.png", "--steps", 4, "--pairs", 2)[0] == 0
    with PIL.Image.open(tmp_path / "grid.png") as grid:
        assert grid.size == (4 * 17 + 1, 4 * 17 + 1)


def test_interpolate_puts_the_real_images_at_the_ends(capsys, folder, tmp_path):
    path, grid = tmp_path / "a.safetensors", tmp_path / "grid.png"
    trained = [*QUICK[2:], "--epochs", "150", "--min-steps", "1"]
    assert run(capsys, "fit", folder / "train", "-o", path, *trained)[0] == 0
    options = ["--data", folder / "train", "--classes", "dog", "--steps", 3]
    assert run(capsys, "interpolate", path, "-o", grid, *options)[0] == 0
    with PIL.Image.open(grid) as image:
        tiles = [np.array(image.crop((1 + 17 * k, 1, 17 + 17 * k, 17))).astype(float) for k in range(5)]
    assert image.size == (5 * 17 + 1, 17 + 1)
    real, first, last = tiles[0], tiles[1], tiles[3]
    assert np.abs(real - first).mean() < np.abs(real - last).mean()
    code, _, err = run(capsys, "interpolate", path, "-o", grid, "--data", folder / "test")
    assert code == 1
    assert "does not hold 2 of the images" in err


def test_demo_on_a_folder_compares_and_draws(capsys, folder, tmp_path):
    options = ["--data", folder, "--per-class", 3, "--seeds", 2, "--steps", 2, "--fit-steps", 3, "--device", "cpu"]
    code, out, _ = run(capsys, "demo", *options, "--image-size", "12x8", "-o", tmp_path / "grid.png")
    assert code == 0
    assert "3 training images of each of 2 classes, 8 test images, 12 × 8 pixels" in out
    assert re.search(r"draw 2 of 2: none .* %, glico .* %, style .* %, both .* %; R² of the fit", out)
    assert re.search(r"^none +[\d.]+ %$", out, re.MULTILINE)
    for name in ("glico", "style", "both"):
        assert re.search(rf"^{name} +[\d.]+ % +[+-][\d.]+ ± [\d.]+$", out, re.MULTILINE)
    assert re.search(r"R² of the fits: -?[\d.]+ on average, -?[\d.]+ at worst", out)
    assert "against none, by 95 % intervals (±) over 2 draws: " in out
    assert (tmp_path / "grid.png").exists()


def test_demo_on_digits(capsys, tmp_path):
    options = ["--seeds", 1, "--steps", 2, "--fit-steps", 3, "--device", "cpu"]
    code, out, _ = run(capsys, "demo", *options, "-o", tmp_path / "grid.png")
    assert code == 0
    assert "5 training images of each of 10 classes, 898 test images, 8 × 8 pixels" in out
    assert "one draw says nothing about the noise" in out


def test_demo_rows_are_paired_and_differ_in_what_they_add(dataset, augment):
    few = demo_data.Images(*dataset.tensors)
    rows = demo.rows(few, augment)
    assert list(rows) == ["none", "glico", "style", "both"]
    assert torch.equal(rows["none"][0][0], few.images[0])
    assert rows["style"].transform is rows["both"].transform
    assert [name for name, row in rows.items() if isinstance(row, GLICODataset)] == ["glico", "both"]


def test_demo_draws_as_many_of_each_class_and_others_for_another_seed():
    splits = demo_data.digits((12, 10))
    assert splits.train.images.shape[1:] == (1, 12, 10)
    few = demo_data.draw_few(splits, 3, seed=0)
    assert few.labels.bincount().tolist() == [3] * 10
    assert torch.equal(few.images, demo_data.draw_few(splits, 3, seed=0).images)
    assert not torch.equal(few.images, demo_data.draw_few(splits, 3, seed=1).images)


def test_demo_training_repeats_for_a_seed():
    splits = demo_data.digits()
    few = demo_data.draw_few(splits, 2, seed=0)
    options = {"n_classes": 10, "steps": 8, "device": torch.device("cpu")}
    first, again, other = (accuracy(few, splits.test, seed=seed, **options) for seed in (0, 0, 1))
    assert 0 <= first <= 100
    assert first == again != other


def test_demo_shifts_each_image_on_its_own_and_repeats_its_edge():
    images = torch.rand(40, 2, 5, 7)
    shifted = random_shift(images, at_most=1)
    padded = torch.nn.functional.pad(images, [1] * 4, mode="replicate")
    crops = torch.stack([padded[..., y : y + 5, x : x + 7] for y in range(3) for x in range(3)])
    found = (crops == shifted).flatten(2).all(dim=2)
    assert found.any(dim=0).all()
    assert found.any(dim=1).sum() > 4


def test_demo_intervals_are_those_of_student():
    before, after = [80.0, 84.0, 85.0, 81.0], [83.0, 85.0, 87.0, 83.0]
    gain, half = demo.gain_and_interval(before, after)
    expected = stats.ttest_rel(after, before).confidence_interval(0.95)
    assert gain == pytest.approx((expected.low + expected.high) / 2)
    assert half == pytest.approx((expected.high - expected.low) / 2, rel=2e-3)
    for degrees in range(1, 60):
        assert demo._student(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), abs=7e-3)


def test_demo_says_what_is_beyond_the_noise():
    none = [80.0, 84.0, 82.0]
    accuracies = {"none": none, "up": [x + 2 for x in none], "down": [78.0, 81.9, 80.1], "same": [85.0, 80.0, 83.0]}
    said = demo.verdict(accuracies)
    assert said.startswith("against none, by 95 % intervals (±) over 3 draws: ")
    assert said.endswith("better beyond the noise: up; worse beyond the noise: down; within the noise: same")
    assert "better" not in demo.verdict({"none": none, "same": accuracies["same"]})
    assert "±" not in demo.table({name: values[:1] for name, values in accuracies.items()})


def test_demo_without_scikit_learn_names_the_extra(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    code, _, err = run(capsys, "demo", "-o", tmp_path / "grid.png")
    assert code == 1
    assert "pip install 'glico-augment[demo]', or --data FOLDER" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "{tmp}/nothing", "-o", "{tmp}/a"], "no such folder"),
        (["fit", "{tmp}", "-o", "{tmp}/a"], "Couldn't find any class folder"),
        (["fit", "{folder}/train", "-o", "{tmp}/no/a"], "there is no folder"),
        (["fit", "{folder}/train", "-o", "{tmp}/a", "--latent-dim", "1"], "latent_dim must be"),
        (["fit", "{folder}/train", "-o", "{tmp}/a", "--per-class", "9"], "class 'cat' has 4"),
        (["fit", "{folder}/train", "-o", "{tmp}/a", "--batch-size", "9"], "batch_size must be at most the 8"),
        (["fit", "{folder}/train", "-o", "{tmp}/a", "--p", "1.5"], "p must be"),
        (["fit", "{folder}/train", "-o", "{tmp}/a", "--device", "abacus"], "device must be"),
        (["fit", "{folder}/train", "-o", "{tmp}/a", "--loss", "vgg16", "--vgg-weights", "{tmp}/v"], "laplacian"),
        (["inspect", "{tmp}/none.safetensors"], "no such file"),
        (["inspect", "{folder}/train/cat/0.jpg"], "not a safetensors file|truncated"),
        (["sample", "{fitted}", "-o", "{tmp}/a.jpg"], "ends in .png"),
        (["sample", "{fitted}", "-o", "{tmp}/a.png", "--max-ratio", "3"], "max_ratio must be"),
        (["interpolate", "{fitted}", "-o", "{tmp}/no/a.png"], "there is no folder"),
        (["interpolate", "{fitted}", "-o", "{tmp}/a.png", "--classes", "cow"], "cow not among cat, dog"),
        (["fit", "{folder}/train", "-o", "{tmp}/a", "--unlabeled", "{tmp}/no"], "no such folder"),
        (["fit", "{folder}/train", "-o", "{tmp}/a", "--unlabeled", "{tmp}"], "no images in"),
        (["demo", "--data", "{tmp}", "-o", "{tmp}/a.png"], "expected .* to hold train/ and test/"),
        (["demo", "--data", "{folder}", "--per-class", "9", "-o", "{tmp}/a.png"], "has 4 training images"),
    ],
)
def test_a_mistake_ends_with_one_line_and_exit_code_1(capsys, arguments, message, folder, fitted, tmp_path):
    places = {"tmp": tmp_path, "folder": folder, "fitted": fitted}
    code, _, err = run(capsys, *(argument.format(**places) for argument in arguments))
    assert code == 1
    assert err.startswith("glico: error: ")
    assert "Traceback" not in err
    assert re.search(message, err)


@pytest.mark.parametrize(
    "arguments",
    [[], ["dance"], ["fit"], ["fit", "x", "-o", "y", "--epochs", "many"], ["sample", "x", "-o", "y", "-n", "0"],
     ["demo", "--image-size", "0"],
     ["fit", "x", "-o", "y", "--image-size", "1x2x3"], ["fit", "x", "-o", "y", "--loss", "ssim"]],
)  # fmt: skip
def test_wrong_usage_ends_with_exit_code_2(capsys, arguments):
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert "usage: glico" in err


def test_an_interrupt_ends_with_exit_code_130(capsys, monkeypatch, fitted):
    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(GLICOAugment, "load", interrupted)
    assert run(capsys, "inspect", fitted) == (130, "", "glico: stopped\n")


def test_every_option_has_help():
    commands = next(action for action in build_parser()._actions if action.dest == "command")
    for command in commands.choices.values():
        assert all(action.help for action in command._actions)
        assert "SUPPRESS" not in command.format_help()


def test_help_of_fit_says_what_the_presets_have():
    fit = next(action for action in build_parser()._actions if action.dest == "command").choices["fit"]
    options = {action.dest: action.help for action in fit._actions}
    for config in (FitConfig(), SwapConfig()):
        for field in dataclasses.fields(config):
            if (value := getattr(config, field.name)) is not None and field.name in options:
                assert f"default preset: {value}" in options[field.name]
    assert not any("None" in text or "automatic" in text for text in options.values())
    unset = FitConfig().resolved(10**6, (3, 32, 32))
    assert f"{unset.steps * unset.batch_size // 10**6}, or as many" in options["epochs"]
    assert f"published: {FitConfig.published().epochs}" in options["epochs"]
    batch_sizes = [unset.batch_size, *(FitConfig.published(side).batch_size for side in (64, 65))]
    assert "{}; published: {}, or {} above 64 pixels".format(*batch_sizes) in options["batch_size"]
    assert f"or {DEFAULT_SIZE[0]} where sizes differ" in options["image_size"]


@pytest.mark.parametrize("name", ["../outside", "/outside", "..", ""])
def test_sample_does_not_write_outside_its_folder(capsys, name, fitted, tmp_path):
    path = tmp_path / "a.safetensors"
    with safe_open(fitted, framework="pt") as file:
        metadata = file.metadata()
    metadata["info"] = json.dumps({**json.loads(metadata["info"]), "class_names": ["cat", name]})
    write_sealed(path, load_file(fitted), metadata)
    code, _, err = run(capsys, "sample", path, "-o", tmp_path / "made")
    assert code == 1
    assert "cannot be folders" in err
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("document", ["README.md", "examples/gallery/README.md"])
def test_the_commands_of_a_document_parse(document):
    text = (Path(__file__).parents[1] / document).read_text().replace("\\\n", " ")
    commands = [command for command in re.findall(r"\bglico [^`|\n]+", text) if " -o " in command]
    assert len(commands) > 2
    for command in commands:
        build_parser().parse_args(shlex.split(command, comments=True)[1:])


def test_help_and_version_do_not_import_torch():
    for arguments in (["--help"], ["fit", "--help"], ["--version"]):
        code = f"import sys; sys.argv = ['glico', *{arguments}]\nfrom glico_augment.cli import main\ntry: main()\n"
        code += "finally: assert 'torch' not in sys.modules"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_python_minus_m_runs_the_command_line():
    command = [sys.executable, "-m", "glico_augment.cli", "--version"]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout.startswith("glico-augment ")


def test_a_sample_grid_shows_the_classes_in_rows(fitted, tmp_path, capsys):
    run(capsys, "sample", fitted, "-o", tmp_path / "grid.png", "-n", 4, "--max-ratio", 0)
    with PIL.Image.open(tmp_path / "grid.png") as grid:
        cell = torch.from_numpy(np.array(grid.crop((1, 1, 17, 17)))).reshape(-1, 3).float()
    reconstructions = GLICOAugment.load(fitted).reconstruct([0, 1, 2, 3]) * 255
    distances = (reconstructions.permute(0, 2, 3, 1).reshape(4, -1, 3) - cell).abs().mean(dim=(1, 2))
    assert distances.min() < 12  # the draw has noise
