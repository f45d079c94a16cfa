import json

import pytest
import torch
from conftest import write_sealed
from safetensors import safe_open

from glico_augment import FileFormatError, GLICOAugment, LocalStyle
from glico_augment.files.format import CHECKPOINT, FORMAT, FORMAT_VERSION, STYLE, read_file, write_file
from glico_augment.style import style_of

pytestmark = pytest.mark.usefixtures("seeded")


def test_a_saved_file_loads_to_the_same_transform_bit_for_bit(tmp_path, images):
    style = LocalStyle(images, p=0.8, max_ratio=0.7, grid=2)
    style.save(path := tmp_path / "style.safetensors")
    loaded = LocalStyle.load(str(path))
    assert torch.equal(loaded.styles, style.styles)
    assert repr(loaded) == repr(style)
    torch.manual_seed(1)
    made = style(images)
    torch.manual_seed(1)
    assert torch.equal(loaded(images), made)
    assert [file.name for file in tmp_path.iterdir()] == ["style.safetensors"]
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        style.save(tmp_path / "nowhere" / "style.safetensors")


def test_black_and_white_images_are_saved_and_loaded(tmp_path):
    checkered = (torch.arange(64)[:, None] + torch.arange(64)) % 2
    style = LocalStyle([checkered.float()[None].expand(3, -1, -1), torch.ones(3, 9, 9), torch.zeros(3, 9, 9)])
    style.save(tmp_path / "style")
    assert torch.equal(LocalStyle.load(tmp_path / "style").styles, style.styles)


STYLES = style_of(torch.rand(2, 3, 9, 9))


def with_value(value, part):
    styles = STYLES.clone()
    styles[1, part, 0, 0, 0] = value
    return styles


@pytest.mark.parametrize(
    ("styles", "info", "message"),
    [
        (STYLES, {"p": 0.5}, "lacks 'max_ratio'"),
        (STYLES, {"p": 2, "max_ratio": 1}, "p must be a number in"),
        (STYLES, {"p": 1, "max_ratio": "1"}, "max_ratio must be a number in"),
        (STYLES, {"p": 1, "max_ratio": 1.1}, "max_ratio must be a number in"),
        (STYLES.double(), {}, r"its styles must be float32 .* got torch.float64"),
        (STYLES[0], {}, r"must be float32 \(n, 2, channels, grid, grid\); got .*\(2, 3, 3, 3\)"),
        (STYLES[:, :1], {}, r"got .*\(2, 1, 3, 3, 3\)"),
        (STYLES[:0], {}, r"got .*\(0, 2, 3, 3, 3\)"),
        (STYLES[..., :2], {}, r"got .*\(2, 2, 3, 3, 2\)"),
        *[(with_value(value, 0), {}, "holds NaN or an infinite value") for value in (float("nan"), float("inf"))],
        *[(with_value(value, 0), {}, "must be means in") for value in (-0.1, 1.1)],
        *[(with_value(value, 1), {}, "must be means in") for value in (-0.1, 0.6)],
    ],
)
def test_a_file_that_holds_no_styles_is_refused(tmp_path, styles, info, message):
    info = json.dumps(info or {"p": 1.0, "max_ratio": 1.0})
    metadata = {"format": FORMAT, "format_version": str(FORMAT_VERSION), "kind": STYLE, "info": info}
    write_sealed(tmp_path / "style", {"styles": styles.contiguous()}, metadata)
    with pytest.raises(FileFormatError, match=f"style is damaged: .*{message}"):
        LocalStyle.load(tmp_path / "style")


def test_the_values_that_the_damaged_ones_are_made_from_are_good(tmp_path):
    write_file(tmp_path / "style", {"styles": STYLES}, {"p": 1.0, "max_ratio": 1.0}, kind=STYLE)
    assert torch.equal(LocalStyle.load(tmp_path / "style").styles, STYLES)


def test_a_file_without_styles_is_refused(tmp_path):
    write_file(tmp_path / "other", {"stiles": STYLES}, {"p": 1.0, "max_ratio": 1.0}, kind=STYLE)
    with pytest.raises(FileFormatError, match="other lacks the tensors styles"):
        LocalStyle.load(tmp_path / "other")


def test_a_file_of_another_kind_is_refused_with_what_to_do(tmp_path, style, augment):
    style.save(tmp_path / "style")
    augment.save(tmp_path / "fitted")
    write_file(tmp_path / "checkpoint", {"styles": STYLES}, {}, kind=CHECKPOINT)
    write_file(tmp_path / "other", {"styles": STYLES}, {}, kind="novel")
    with pytest.raises(FileFormatError, match=r"holds a style, expected a fit: read it with LocalStyle\.load"):
        GLICOAugment.load(tmp_path / "style")
    with pytest.raises(FileFormatError, match="holds a style, expected a checkpoint: choose another checkpoint="):
        read_file(tmp_path / "style", kind=CHECKPOINT)
    for name, holds, remedy in [
        ("fitted", "a fit", "read it with GLICOAugment.load"),
        ("checkpoint", "a checkpoint", r"a checkpoint is continued by the fit\(\) call"),
    ]:
        with pytest.raises(FileFormatError, match=f"holds {holds}, expected a style: {remedy}"):
            LocalStyle.load(tmp_path / name)
    with pytest.raises(FileFormatError, match="holds 'novel', expected a style: it is damaged, or not of this"):
        LocalStyle.load(tmp_path / "other")


def test_the_header_says_what_is_inside(tmp_path, images):
    LocalStyle(images, p=0.25, max_ratio=0.5).save(tmp_path / "style")
    with safe_open(tmp_path / "style", framework="pt") as file:
        metadata = file.metadata()
        assert list(file.keys()) == ["styles"]
    assert metadata["kind"] == "style"
    assert json.loads(metadata["info"]) == {"p": 0.25, "max_ratio": 0.5}
