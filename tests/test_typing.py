"""What a type checker finds in the code of a user, and that it finds nothing where all is right."""

import inspect
import re
import typing
from pathlib import Path

import pytest

from glico_augment import FitConfig, GLICOAugment, SwapConfig
from glico_augment.latent import encode
from glico_augment.settings import Settings
from glico_augment.swap.augment import LoadOptions

ROOT = Path(__file__).parents[1]

# Checked as by --strict. A line that is wrong names the error that is to be found in it.
USER_CODE = """\
# mypy: disallow-subclassing-any, disallow-untyped-calls, warn-return-any
import torch
from torch.utils.data import DataLoader, TensorDataset

from glico_augment import FitConfig, FitProgress, GLICOAugment, LocalStyle, SwapConfig, SyntheticBank


def stop_early(progress: FitProgress) -> bool:
    return progress.losses["loss"] < 0.1


data = TensorDataset(torch.rand(4, 3, 8, 8), torch.tensor([0, 0, 1, 1]))
augment = GLICOAugment.fit(data, image_size=32, epochs=3, p=0.3, loss_weights=None, callback=stop_early)
augment = GLICOAugment.fit(data, config=FitConfig.published(64, n_images=4, epochs=2), swap=SwapConfig(sampler="noise"))
augment.p, augment.noise_std = 0.4, 0.1
bank = SyntheticBank(augment, per_image=2)
loader = DataLoader(augment.wrap(data, transform=LocalStyle(data), bank=bank), batch_size=2)
r2: float = augment.quality.r2
names: tuple[str, ...] = augment.extend(data, steps=3).classes
loaded: GLICOAugment = GLICOAugment.load("a.safetensors", device="cpu", max_ratio=0.2, label_key="y")
config: FitConfig = loaded.config.replace(epochs=None, steps=10)

GLICOAugment.fit(data, imagesize=32)  # call-arg
GLICOAugment.fit(data, epochs="3")  # arg-type
GLICOAugment.load("a.safetensors", pp=1)  # call-arg
GLICOAugment.from_pretrained("user/name", pp=1)  # call-arg
augment.p = "x"  # assignment
augment.pp = 0.5  # assignment
augment.wrap(data, transfrom=None)  # call-arg
augment.extend(data, step=3)  # call-arg
augment.swap.replace(max_ration=0.2)  # call-arg
FitConfig(imagesize=32)  # call-arg
FitConfig.published(imagesize=32)  # call-arg
SwapConfig(p="x")  # arg-type
SwapConfig.published(pp=1)  # call-arg
length: int = augment.p  # assignment
"""


def test_mypy_finds_what_is_wrong_and_nothing_else(tmp_path, monkeypatch):
    api = pytest.importorskip("mypy.api")
    monkeypatch.chdir(ROOT)  # for the options and the cache of the library's own check, which makes this one quick
    path = tmp_path / "user.py"
    path.write_text(USER_CODE)
    found, problem, _ = api.run([str(path), "--no-error-summary", "--hide-error-context"])
    assert not problem
    errors = re.findall(r"^.*user\.py:(\d+): error: .*\[([\w-]+)\]$", found, re.MULTILINE)
    wrong = {
        number: line.partition("  # ")[2] for number, line in enumerate(USER_CODE.splitlines(), 1) if "  # " in line
    }
    assert len(errors) == found.count(" error: "), found
    assert {int(number): code for number, code in errors} == wrong, found


def test_the_settings_are_the_fields_of_the_configs():
    both = {**typing.get_type_hints(FitConfig), **typing.get_type_hints(SwapConfig)}
    assert typing.get_type_hints(Settings) == both
    assert not Settings.__required_keys__


@pytest.mark.parametrize(
    ("options", "function"),
    [(LoadOptions, GLICOAugment.load), (encode.EncodeOptions, encode.encode)],
)
def test_the_options_passed_on_are_those_of_the_function_they_go_to(options, function):
    parameters = inspect.signature(function).parameters.values()
    own = {each.name: each.annotation for each in parameters if each.kind is each.KEYWORD_ONLY}
    settings = Settings.__annotations__ if options is LoadOptions else {}
    assert set(options.__annotations__) == own.keys() | settings.keys()
    assert all(options.__annotations__[name].__forward_arg__ == annotation for name, annotation in own.items())
