import dataclasses
import inspect
import subprocess
import sys

import pytest

from glico_augment import FitConfig, GLICOAugment, SwapConfig
from glico_augment.cli.parser import build_parser
from glico_augment.config import DEFAULT_SIDE


def options_of_fit():
    fit = next(action for action in build_parser()._actions if action.dest == "command").choices["fit"]
    return {action.dest: action.help for action in fit._actions}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["dance"], "invalid choice"),
        (["fit"], "required: FOLDER"),
        (["fit", "x", "-o", "y", "--epochs", "many"], "invalid int value: 'many'"),
        (["fit", "x", "-o", "y", "--image-size", "1x2x3"], "must be a side in pixels or HEIGHTxWIDTH, not 1x2x3"),
        (["fit", "x", "-o", "y", "--image-size", "big"], "must be a side in pixels or HEIGHTxWIDTH, not big"),
        (["fit", "x", "-o", "y", "--loss", "ssim"], "invalid choice: 'ssim'"),
        (["fit", "x", "-o", "y", "--loss-weights", "1,x"], "must be numbers with commas between them, not 1,x"),
        (["fit", "x", "-o", "y", "--seed", "-1"], "must be at least 0"),
        (["fit", "x", "-o", "y", "--workers", "99999"], "must be at most 1024"),
        (["sample", "x", "-o", "y", "-n", "0"], "must be at least 1"),
        (["sample", "x", "-o", "y", "--seed", "9" * 30], "must be at most"),
        (["demo", "--image-size", "0"], "must be at least 1"),
    ],
)
def test_wrong_usage_ends_with_exit_code_2(glico, arguments, message):
    code, _, err = glico(*arguments)
    assert code == 2
    assert "usage: glico" in err
    assert message in err


def test_an_interrupt_ends_with_exit_code_130(glico, monkeypatch, photos_fit):
    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(GLICOAugment, "load", interrupted)
    assert glico("inspect", photos_fit) == (130, "", "glico: stopped\n")


def test_every_option_has_help():
    commands = next(action for action in build_parser()._actions if action.dest == "command")
    for command in commands.choices.values():
        assert all(action.help for action in command._actions)
        assert "SUPPRESS" not in command.format_help()


def test_help_shows_a_default_of_0(glico):
    assert "of everything random (default: 0)" in " ".join(glico("fit", "--help")[1].split())


def test_help_of_fit_says_what_the_presets_have():
    options = options_of_fit()
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
    assert "published: 1, 1, 1, 0, 0 at 32 pixels" in options["loss_weights"]
    assert f"or {DEFAULT_SIDE} where sizes differ" in options["image_size"]
    every = inspect.signature(GLICOAugment.fit).parameters["checkpoint_every"].default
    assert f"default: {every}" in options["checkpoint_every"]


def test_help_and_version_do_not_import_torch():
    for arguments in (["--help"], ["fit", "--help"], ["--version"]):
        code = f"import sys; sys.argv = ['glico', *{arguments}]\nfrom glico_augment.cli import main\ntry: main()\n"
        code += "finally: assert 'torch' not in sys.modules"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_python_minus_m_runs_the_command_line():
    command = [sys.executable, "-m", "glico_augment.cli", "--version"]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout.startswith("glico-augment ")
