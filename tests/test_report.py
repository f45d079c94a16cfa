import base64
import dataclasses
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import PIL.Image
import pytest
import torch
from conftest import quick_fit, smooth_images
from torch.utils.data import TensorDataset

from glico_augment.report import make_report, write_report

VOID = {"meta", "img", "br"}
HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style></title><b>&amp;")


class Page(HTMLParser):
    """Tags with their attributes, and the text, of a page whose tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def page(_fitted):
    """The page of the shared fit."""
    return make_report(_fitted, title="photos.safetensors")


def test_a_page_says_how_good_the_fit_is(page, augment):
    shown = Page(page)
    facts = (f"{augment.quality.r2:.3f}", augment.record.fingerprint, "photos.safetensors", "12 × 10", "share both")
    for fact in facts:
        assert fact in shown.text
    per_class = dict(zip(augment.classes, augment.quality.per_class, strict=True))
    rows = re.findall(r"<tr><td>(-?\d+)</td><td>\d</td><td>(-?\d\.\d{3})</td></tr>", page)
    worst_first = sorted(per_class, key=per_class.get)
    assert rows == [(name, f"{per_class[name]:.3f}") for name in worst_first]
    for name, value in augment.config.to_json().items():
        assert f"{name}{value}" in shown.text
    described = [attributes["alt"] for tag, attributes in shown.tags if tag == "img"]
    rebuilt = [int(re.search(r"\d+", alt)[0]) for alt in described if alt.startswith("Training image")]
    assert rebuilt == list(augment.quality.worst)
    swaps = [f"A training image of {name} and 5 images it is swapped for" for name in augment.classes]
    assert [alt for alt in described if "swapped" in alt] == swaps
    assert [alt for alt in described if "path" in alt] == [f"A path of {name}" for name in augment.classes]


def test_a_page_has_no_script_and_loads_nothing(page):
    shown = Page(page)
    addresses = [
        value
        for _, attributes in shown.tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "data", "action", "poster")
    ]
    assert addresses
    assert all(address.startswith("data:image/png;base64,") for address in addresses)
    assert not {tag for tag, _ in shown.tags} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    assert not [name for _, attributes in shown.tags for name in attributes if name.startswith("on")]
    assert "default-src 'none'" in next(a["content"] for _, a in shown.tags if "http-equiv" in a)
    style = page.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_names_are_text_whatever_they_are(page, augment):
    plain = Page(page)
    augment.record = dataclasses.replace(augment.record, class_names=HOSTILE)
    hostile = Page(make_report(augment, title=HOSTILE[0], names=dict(enumerate(HOSTILE))))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    assert [list(attributes) for _, attributes in hostile.tags] == [list(attributes) for _, attributes in plain.tags]
    for name in HOSTILE:
        assert name in hostile.text


def test_a_page_is_the_same_every_time_and_draws_from_no_global_generator(page, augment):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert make_report(augment, title="photos.safetensors") == page
    assert torch.equal(torch.get_rng_state(), before)


def test_files_are_named_where_they_are_known(augment):
    worst = augment.quality.worst
    named = make_report(augment, names={worst[0]: "cat/7.jpg"})
    assert "cat/7.jpg<br>off by" in named
    assert f"image {worst[1]}<br>off by" in named


def test_the_page_begins_with_the_verdict(page, augment):
    assert Page(page).text.index(augment.fitted.verdict) < Page(page).text.index("R² of the reconstructions")


def test_a_training_image_stands_before_what_it_is_swapped_for(augment):
    augment.p, augment.max_ratio, augment.noise_std, augment.carry = (
        1.0,
        0.0,
        0.0,
        True,
    )  # each swap is the image itself
    figure = re.search(r'src="data:image/png;base64,([^"]+)" alt="A training image of 3 ', make_report(augment))[1]
    with PIL.Image.open(io.BytesIO(base64.b64decode(figure))) as picture:
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    first, *others = pixels[:, 1:, 1:].unfold(2, 10, 11).permute(2, 0, 1, 3)[:, :, :12]
    assert any(torch.equal(first, image) for image in augment.images[:3])
    assert len(others) == 5
    assert all((other.int() - first.int()).abs().max() <= 1 for other in others)


@pytest.mark.parametrize(
    ("settings", "said"), [({"cells": 1, "carry": False}, False), ({"cells": 3, "carry": True}, True)]
)
def test_the_field_and_the_carried_detail_are_said(settings, said, augment):
    augment.swap = augment.swap.replace(**settings)
    assert ("a field of 3 × 3 ratios, detail carried" in make_report(augment)) is said


def test_a_page_of_many_classes_shows_some_and_hides_none():
    labels = torch.arange(20).repeat_interleave(2)
    dataset = TensorDataset(smooth_images(40, channels=1, height=8, width=8), labels)
    augment = quick_fit(dataset, epochs=1, unlabeled=TensorDataset(smooth_images(3, channels=1, height=8, width=8)))
    text = Page(make_report(augment)).text
    for said in ("The other 8 classes", "The first 8 classes are shown.", "8 × 8, 1 channels", "unlabelled images3"):
        assert said in text


def test_a_fit_without_labels_has_a_page(images):
    text = Page(make_report(quick_fit(images, epochs=1))).text
    assert "images8 without labels" in text
    assert "classesnone" in text


def test_a_page_is_written_whole_or_not_at_all(augment, tmp_path):
    augment.record = dataclasses.replace(
        augment.record, class_names=("caf\udce9", "b", "c")
    )  # bytes of a folder's name
    write_report(augment, tmp_path / "page.html")
    written = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert written == make_report(augment).replace("\udce9", "?")
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".safetensors"] == ["page.html"]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
@pytest.mark.parametrize("width", [400, 1400])
def test_a_browser_shows_the_page_and_logs_nothing(width, augment, tmp_path):
    write_report(augment, tmp_path / "page.html")
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    command = ["chromium", *options.split(), "--disable-component-update", "--disable-sync", "--enable-logging=stderr"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900"]
    command += [f"--screenshot={tmp_path / 'page.png'}", (tmp_path / "page.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "CONSOLE" not in done.stderr
    assert (tmp_path / "page.png").stat().st_size > 10_000


def test_the_command_writes_a_page_with_the_names_of_files(glico, photos, photos_fit, tmp_path):
    path = tmp_path / "page.html"
    code, out, _ = glico("report", photos_fit, "-o", path, "--data", photos / "train")
    assert code == 0
    assert str(path) in out
    written = path.read_text(encoding="utf-8")
    assert "photos.safetensors" in written
    named = set(re.findall(r"<figcaption>((?:cat|dog)/\d\.jpg)<br>off by", written))
    assert named == {found.relative_to(photos / "train").as_posix() for found in (photos / "train").rglob("*.jpg")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{fitted}", "-o", "{tmp}/page.pdf"], "ends in .html, not page.pdf"),
        (["{fitted}", "-o", "{tmp}/no/page.html"], "there is no folder"),
        (["{tmp}/output/is/checked/first", "-o", "{tmp}/page.pdf"], "ends in .html, not page.pdf"),
        (["{tmp}/output/is/checked/first", "-o", "{tmp}/no/page.html"], "there is no folder"),
        (["{tmp}/no.safetensors", "-o", "{tmp}/page.html"], "no such file"),
        (["{fitted}", "-o", "{tmp}/page.html", "--data", "{tmp}/no"], "no such folder"),
        (["{fitted}", "-o", "{tmp}/page.html", "--data", "{other}"], "holds none of the fitted images"),
    ],
)
def test_a_mistake_ends_the_command_with_one_line(glico, arguments, message, photos_fit, tmp_path):
    (tmp_path / "other" / "cow").mkdir(parents=True)
    PIL.Image.new("RGB", (12, 12)).save(tmp_path / "other" / "cow" / "0.png")
    places = {"fitted": photos_fit, "tmp": tmp_path, "other": tmp_path / "other"}
    code, _, error = glico("report", *(argument.format(**places) for argument in arguments))
    assert code == 1
    assert message in error
    assert not (tmp_path / "page.html").exists()
