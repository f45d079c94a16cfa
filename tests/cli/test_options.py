"""What the command line takes, and how it ends."""

import dataclasses
import inspect
import re
import subprocess
import sys

import pytest

from glico_augment import FitConfig, GLICOAugment, SwapConfig
from glico_augment.cli.parser import build_parser

PARSER = build_parser()
COMMANDS = next(action for action in PARSER._actions if action.dest == "command").choices
SETTINGS = {
    field.name: (getattr(default, field.name), getattr(published, field.name))
    for default, published in ((SwapConfig(), SwapConfig.published()), (FitConfig(), FitConfig.published(None)))
    for field in dataclasses.fields(default)
}
"""The value of each setting in both presets; ``noise_std`` is that of the fit."""


def parsed(name, text):
    """What ``glico fit`` makes of the text of an option."""
    arguments = ["fit", "x", "-o", "y", f"--{name.replace('_', '-')}", text]
    return getattr(PARSER.parse_args(arguments), name)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_an_option_that_takes_the_values_its_help_shows(name):
    (shown,) = (action.help for action in COMMANDS["fit"]._actions if action.dest == name)
    default, published = re.search(r" \(default: ([^;)]+)(?:; published: (.+))?\)$", shown).groups()
    assert (parsed(name, default), parsed(name, published or default)) == SETTINGS[name]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("image_size", "64", 64),
        ("image_size", "64x96", (64, 96)),
        ("loss_weights", "1,0.5,0", (1.0, 0.5, 0.0)),
        ("loss_weights", "2", (2.0,)),
        ("loss_normalize", "False", False),
        ("max_grad_norm", "none", None),
        ("lr", "1e-3", 0.001),
        ("vgg_weights", "12", "12"),
        ("vgg_weights", "a,b x=1.pth", "a,b x=1.pth"),
        ("sampler", "other-class", "other-class"),
    ],
)
def test_the_text_of_an_option_becomes_the_value_that_the_setting_takes(name, text, expected):
    value = parsed(name, text)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["dance"], "invalid choice"),
        (["fit"], "required: FOLDER"),
        (["fit", "--epochs", "many"], "--epochs: value must be an integer of at least 1, or None; got 'many'"),
        (["fit", "--epochs", "2.5"], "--epochs: value must be an integer of at least 1, or None; got 2.5"),
        (["fit", "--latent-dim", "1"], "--latent-dim: value must be an integer of at least 2"),
        (["fit", "--lr", "0"], "--lr: value must be a finite number above 0; got 0"),
        (["fit", "--lr", "nan"], "--lr: value must be a finite number above 0; got nan"),
        (["fit", "--p", "1.5"], "--p: value must be a number in [0, 1]; got 1.5"),
        (["fit", "--image-size", "1x2x3"], "--image-size: value must be a pair (height, width)"),
        (["fit", "--image-size", "big"], "--image-size: value must be an integer of at least 1, or a pair"),
        (["fit", "--loss", "ssim"], "--loss: value must be one of 'laplacian', "),
        (["fit", "--loss", "<MyLoss>"], "--loss: invalid choice"),
        (["fit", "--loss-weights", "1,-1"], "--loss-weights: value must be a sequence of non-negative numbers"),
        (["fit", "--loss-normalize", "perhaps"], "--loss-normalize: value must be True or False"),
        (["fit", "--seed", "-1"], "--seed: value must be an integer of at least 0"),
        (["fit", "--workers", "99999"], "and at most 1024"),
        (["sample", "x", "-n", "0"], "must be an integer of at least 1"),
        (["sample", "x", "--seed", "9" * 30], "and at most 9223372036854775807"),
        (["sample", "x", "--max-ratio", "3"], "--max-ratio: value must be a number in [0, 1]"),
        (["compare", "x", "--image-size", "0"], "--image-size: value must be an integer of at least 1"),
    ],
)
def test_wrong_usage_ends_with_exit_code_2_and_names_the_option(glico, arguments, message):
    code, out, err = glico(*arguments)
    assert (code, out) == (2, "")
    assert "usage: glico" in err
    assert message in err


def test_an_interrupt_ends_with_exit_code_130(glico, monkeypatch, photos_fit):
    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(GLICOAugment, "load", interrupted)
    assert glico("inspect", photos_fit) == (130, "", "glico: stopped\n")


def test_every_option_has_help_that_shows_its_default(glico):
    assert all(action.help for command in COMMANDS.values() for action in command._actions)
    shown = " ".join(glico("fit", "--help")[1].split())
    every = inspect.signature(GLICOAugment.fit).parameters["checkpoint_every"].default
    assert f"steps between writes (default: {every})" in shown
    assert "of everything random (default: 0)" in shown
    assert not re.search(r"SUPPRESS|\(default: None\)", shown)


@pytest.mark.parametrize("line", ["--version", "fit --help", "fit x --lr 0", "--print-completion bash"])
def test_python_minus_m_runs_the_command_line_which_prints_without_importing_torch(line):
    command = [sys.executable, "-X", "importtime", "-m", "glico_augment.cli", *line.split()]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert "glico" in done.stdout + done.stderr.splitlines()[-1]
    assert not re.search(r"\| +torch$", done.stderr, re.MULTILINE)
