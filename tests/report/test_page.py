import dataclasses
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
import torch
from conftest import quick_fit, smooth_images
from torch.utils.data import TensorDataset

from glico_augment.report import make_report, write_report
from glico_augment.report.charts import angle_chart, loss_chart

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

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_a_page_says_how_good_the_fit_is(augment):
    page = Page(make_report(augment, title="photos.safetensors"))
    for fact in (f"{augment.quality.r2:.3f}", augment.record.fingerprint, "photos.safetensors", "12 × 10", "share"):
        assert fact in page.text
    for name, r2 in zip(augment.classes, augment.quality.per_class, strict=True):
        assert re.search(rf"{name}\d{r2:.3f}", page.text)
    for name, value in augment.config.to_json().items():
        assert f"{name}{value}" in page.text
    described = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert len([alt for alt in described if alt.startswith("Training image")]) == len(augment.quality.worst)
    assert len([alt for alt in described if "of a path" in alt]) == 3 * 10
    assert len([alt for alt in described if alt.startswith("A synthetic image")]) == 3 * 3


def test_a_page_has_no_script_and_fetches_nothing(augment):
    page = Page(make_report(augment))
    addresses = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "data", "action", "poster")
    ]
    assert addresses
    assert all(address.startswith("data:image/png;base64,") for address in addresses)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "default-src 'none'" in next(a["content"] for _, a in page.tags if "http-equiv" in a)
    style = make_report(augment).split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_names_are_text_whatever_they_are(augment):
    plain = Page(make_report(augment))
    augment.record = dataclasses.replace(augment.record, class_names=HOSTILE)
    hostile = Page(make_report(augment, title=HOSTILE[0], names=dict(enumerate(HOSTILE))))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    assert [list(attributes) for _, attributes in hostile.tags] == [list(attributes) for _, attributes in plain.tags]
    for name in HOSTILE:
        assert name in hostile.text


def test_a_page_is_the_same_every_time_and_draws_from_no_global_generator(augment):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = make_report(augment)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert make_report(augment) == first


def test_files_are_named_where_they_are_known(augment):
    worst = augment.quality.worst[0]
    page = make_report(augment, names={worst: "cat/7.jpg"})
    assert "cat/7.jpg<br>off by" in page
    assert f"image {augment.quality.worst[1]}<br>off by" in page


def test_a_fit_that_learned_nothing_is_said_to_be_poor(augment):
    assert "has not learned" not in make_report(augment) or augment.quality.is_poor
    for r2, is_said in ((0.3, True), (0.9, False)):
        quality = dataclasses.replace(augment.quality, r2=r2)
        augment.record = dataclasses.replace(augment.record, quality=quality)
        assert ("has not learned" in make_report(augment)) is is_said


def test_a_page_of_many_classes_shows_some_and_hides_none():
    labels = torch.arange(20).repeat_interleave(2)
    dataset = TensorDataset(smooth_images(40, channels=1, height=8, width=8), labels)
    augment = quick_fit(dataset, epochs=1, unlabeled=TensorDataset(smooth_images(3, channels=1, height=8, width=8)))
    page = Page(make_report(augment))
    assert "The other 8 classes" in page.text
    assert "The first 8 classes are shown." in page.text
    assert "8 × 8 × 1" in page.text
    assert "unlabelled images3" in page.text


def test_a_class_of_one_image_has_no_angles_within():
    dataset = TensorDataset(smooth_images(2, height=8, width=8), torch.tensor([0, 1]))
    page = Page(make_report(quick_fit(dataset, batch_size=2, epochs=1)))
    assert re.search(r"\d° within a class", page.text) is None
    assert re.search(r"\d° between classes on average", page.text)


def test_a_page_is_written_whole_or_not_at_all(augment, tmp_path):
    write_report(augment, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == make_report(augment)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".safetensors"] == ["page.html"]
    with pytest.raises(ValueError, match=r"ends in \.html, not page\.pdf"):
        write_report(augment, tmp_path / "page.pdf")
    with pytest.raises(OSError, match="there is no folder"):
        write_report(augment, tmp_path / "nothing" / "page.html")


def test_a_name_that_is_no_text_does_not_keep_the_page_from_being_written(augment, tmp_path):
    augment.record = dataclasses.replace(augment.record, class_names=("caf\udce9", "b", "c"))
    write_report(augment, tmp_path / "page.html")
    assert "caf?" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_loss_chart_has_a_curve_for_each_part_that_counts():
    history = {"loss": [3.0, 2.0, 0.5], "reconstruction": [2.0, 1.0, 0.02], "classification": [0.0, 0.0, 0.0]}
    chart = ElementTree.fromstring(loss_chart(history))
    curves = [curve.get("points").split() for curve in chart.findall("polyline")]
    assert [len(curve) for curve in curves] == [3, 3]
    heights = [[float(point.split(",")[1]) for point in curve] for curve in curves]
    assert all(curve == sorted(curve) for curve in heights)  # down the page, as the losses fall
    assert {"10", "1", "0.1", "0.01"} <= {text.text for text in chart.findall("text")}
    assert loss_chart({"loss": []}) == ""
    assert ElementTree.fromstring(loss_chart({"loss": [1.0]})) is not None


def test_the_angle_chart_is_highest_where_the_angles_are():
    chart = ElementTree.fromstring(angle_chart(torch.full((9,), 62.0), torch.full((5,), 91.0)))
    tops = []
    for area in chart.findall("polygon"):
        points = [tuple(map(float, point.split(","))) for point in area.get("points").split()]
        highest = min(y for _, y in points)
        tops.append([x for x, y in points if y == highest])
    left, right = (sum(top) / len(top) for top in tops)
    assert left < right
    assert 44 + (420 - 44 - 18) * 60 / 180 <= left <= 44 + (420 - 44 - 18) * 65 / 180
    assert angle_chart(torch.tensor([]), torch.tensor([])) == ""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
@pytest.mark.parametrize("width", [400, 1400])
def test_a_browser_shows_the_page_and_has_nothing_to_say(width, augment, tmp_path):
    write_report(augment, tmp_path / "page.html")
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    command = ["chromium", *options.split(), "--disable-component-update", "--disable-sync", "--enable-logging=stderr"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900"]
    command += [f"--screenshot={tmp_path / 'page.png'}", (tmp_path / "page.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "CONSOLE" not in done.stderr
    assert (tmp_path / "page.png").stat().st_size > 10_000


def test_the_page_needs_no_matplotlib(augment, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert make_report(augment)
