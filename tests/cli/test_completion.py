"""The completion of a real shell."""

import shlex
import shutil
import subprocess
import sys

import pytest

from glico_augment.cli.parser import build_parser

needs_bash = pytest.mark.skipif(shutil.which("bash") is None or sys.platform == "win32", reason="needs bash")


@pytest.fixture
def complete(glico, tmp_path):
    """What bash offers for the last word of a line, in a folder with a file and a folder."""
    pytest.importorskip("shtab")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos.safetensors").touch()
    script = glico("--print-completion", "bash")[1]

    def run(line):
        words = line.split(" ")
        code = (
            f"set -- $(complete -p glico); COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; "
            'while [ "$1" != -F ]; do shift; done; "$2"; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        command = [shutil.which("bash"), "-c", f"{script}\n{code}"]
        return set(subprocess.run(command, capture_output=True, check=True, text=True, cwd=tmp_path).stdout.split())

    return run


@needs_bash
def test_bash_completes_commands_and_options(complete):
    commands = next(action for action in build_parser()._actions if action.dest == "command").choices
    assert complete("glico ") == set(commands)
    assert complete("glico in") == {"inspect", "interpolate"}
    for name, command in commands.items():
        options = {option for action in command._actions for option in action.option_strings if option[:2] == "--"}
        assert complete(f"glico {name} --") == options
    assert complete("glico fit photos --loss ") >= {"laplacian", "vgg16"}
    assert complete("glico --print-completion ") == {"bash", "zsh", "tcsh"}


@needs_bash
@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("glico inspect ph", {"photos", "photos.safetensors"}),
        ("glico fit ph", {"photos"}),
        ("glico fit photos -o ph", {"photos", "photos.safetensors"}),
        ("glico fit photos --vgg-weights ph", {"photos", "photos.safetensors"}),
        ("glico fit photos --unlabeled ph", {"photos"}),
        ("glico report photos.safetensors --data ph", {"photos"}),
        ("glico fit photos --epochs ph", set()),
    ],
)
def test_bash_completes_files_where_a_file_is_meant_and_folders_where_a_folder_is(complete, line, found):
    assert complete(line) == found


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_the_scripts_of_other_shells_name_every_command(glico, shell):
    pytest.importorskip("shtab")
    code, out, _ = glico("--print-completion", shell)
    assert code == 0
    assert all(name in out for name in ("fit", "inspect", "sample", "interpolate", "report", "demo", "latent-dim"))


def test_without_shtab_the_extra_is_named(glico, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    code, out, err = glico("--print-completion", "bash")
    assert (code, out) == (1, "")
    assert err == "glico: error: completion needs shtab: pip install 'glico-augment[cli]'\n"
