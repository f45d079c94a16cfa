import dataclasses
import html
import re
import runpy
import sys

import numpy as np
import pytest
import torch
from conftest import LABELS

from glico_augment import GLICOAugment
from glico_augment.images.values import to_unit
from glico_augment.pictures.plots import moving_average

matplotlib = pytest.importorskip("matplotlib")
Figure = pytest.importorskip("matplotlib.figure").Figure
METHODS = ["plot_paths", "plot_swaps", "plot_reconstructions", "plot_samples", "plot_losses"]


def names(figure: Figure) -> tuple[list[str], list[str]]:
    """The names of rows and of columns."""
    axes = figure.axes[0]
    return [text.get_text() for text in axes.get_yticklabels()], [text.get_text() for text in axes.get_xticklabels()]


def tiles(figure: Figure, augment: GLICOAugment) -> torch.Tensor:
    """The images that a figure shows, ``(rows, columns, height, width, 3)``."""
    height, width = augment.images.shape[-2:]
    pixels = torch.from_numpy(np.asarray(figure.axes[0].images[0].get_array()))
    rows = pixels[1:, 1:]
    return rows.unfold(0, height, height + 1).unfold(1, width, width + 1).permute(0, 1, 3, 4, 2)


def bytes_of(images: torch.Tensor) -> torch.Tensor:
    return (to_unit(images) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


@pytest.mark.parametrize("method", METHODS)
def test_figures_draw_and_touch_no_global_state(method, augment):
    before = torch.get_rng_state()
    draws = method in ("plot_paths", "plot_swaps", "plot_samples")
    options = {"generator": torch.Generator().manual_seed(0)} if draws else {}
    figure = getattr(augment, method)(**options)
    assert isinstance(figure, Figure)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert torch.equal(torch.get_rng_state(), before)


def test_figures_leave_pyplot_alone(augment, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    monkeypatch.delattr(matplotlib, "pyplot", raising=False)
    for method in METHODS:
        getattr(augment, method)()


def test_paths_have_the_real_images_at_their_ends(augment):
    figure = augment.plot_paths([(0, 2), (6, 7)], steps=4)
    assert names(figure) == (["3", "40"], ["real", "0", "0.33", "0.67", "1", "real"])
    shown = tiles(figure, augment)
    assert torch.equal(shown[:, 0], bytes_of(augment.images[[0, 6]]))
    assert torch.equal(shown[:, -1], bytes_of(augment.images[[2, 7]]))
    for row, pair in zip(shown, ((0, 2), (6, 7)), strict=True):
        assert torch.equal(row[1:-1], bytes_of(augment.interpolate(*pair, steps=4)))


def test_paths_of_classes_stay_within_them(augment):
    figure = augment.plot_paths(classes=["40", "-1"], steps=2)
    assert names(figure)[0] == ["40", "-1"]
    for row, label in zip(tiles(figure, augment), (40, -1), strict=True):
        of_class = bytes_of(augment.images[label == LABELS])
        for end in (row[0], row[-1]):
            assert (of_class == end).flatten(1).all(1).any()


def test_paths_say_what_of_a_swap_they_leave_out(augment):
    assert "without noise; a swap goes up to 0.4" in augment.plot_paths().axes[0].get_xlabel()
    assert "field" not in augment.plot_paths().axes[0].get_xlabel()
    augment.cells = 3
    assert "with a field of 3 × 3 ratios r, where a path has one" in augment.plot_paths().axes[0].get_xlabel()


def test_swaps_stand_below_the_photographs_that_they_replace(augment):
    augment.swap = augment.swap.replace(max_ratio=1.0, carry=True)
    figure = augment.plot_swaps([6, 0], n_swaps=2, generator=torch.Generator().manual_seed(0))
    assert names(figure) == (["photograph", "swapped", "swapped"], ["40", "3"])
    assert "0.5" in figure.axes[0].get_xlabel()
    shown = tiles(figure, augment)
    assert torch.equal(shown[0], bytes_of(augment.images[[6, 0]]))
    anchors = torch.tensor([6, 0, 6, 0])
    params = augment.make_params(LABELS[anchors], anchors=anchors, generator=torch.Generator().manual_seed(0))
    assert torch.equal(shown[1:].flatten(0, 1), bytes_of(augment.transform(params)))


def test_swaps_of_no_indices_are_of_a_photograph_of_each_class(augment):
    figure = augment.plot_swaps()
    assert names(figure)[1] == list(augment.classes)
    for image, label in zip(tiles(figure, augment)[0], augment.codes.classes, strict=True):
        assert (bytes_of(augment.images[label == LABELS]) == image).flatten(1).all(1).any()


def test_reconstructions_are_the_worst_under_the_real_ones(augment):
    figure = augment.plot_reconstructions()
    worst = list(augment.quality.worst)
    rows, columns = names(figure)
    assert rows == ["real", "rebuilt"]
    assert [int(column.split("\n")[1]) for column in columns] == worst
    shown = tiles(figure, augment)
    assert torch.equal(shown[0], bytes_of(augment.images[worst]))
    assert torch.equal(shown[1], bytes_of(augment.reconstruct(worst)))
    assert names(augment.plot_reconstructions([5, 0]))[1] == ["-1\n5", "3\n0"]


def test_samples_are_those_of_the_swap(augment):
    figure = augment.plot_samples(3, classes=["3"], generator=torch.Generator().manual_seed(5))
    expected, _ = augment.synthesize([3, 3, 3], generator=torch.Generator().manual_seed(5))
    assert torch.equal(tiles(figure, augment)[0], bytes_of(expected))


def test_losses_have_a_line_and_its_average_for_each_part(augment):
    lines = augment.plot_losses().axes[0].lines
    assert len(lines) == 6
    for average, line, values in zip(lines[::2], lines[1::2], augment.history.values(), strict=True):
        assert list(line.get_ydata()) == values
        assert len(average.get_ydata()) == len(values)


def test_a_part_of_weight_0_has_no_line(augment):
    losses = augment.record.losses.clone()
    losses[:, 2] = 0
    augment.record = dataclasses.replace(augment.record, losses=losses)
    assert [text.get_text() for text in augment.plot_losses().axes[0].get_legend().get_texts()] == [
        "loss",
        "reconstruction",
    ]


def test_the_average_is_over_a_fiftieth():
    values = torch.rand(300).tolist()
    assert moving_average(values)[100] == pytest.approx(sum(values[97:104]) / 7)
    assert moving_average(values[:50]) == pytest.approx(values[:50])


def test_names_of_classes_are_text_and_stay_short(augment):
    augment.record = dataclasses.replace(augment.record, class_names=("$\\frac$", "x" * 200, "caf\udce9"))
    for method in METHODS:
        getattr(augment, method)()._repr_png_()
    rows, _ = names(augment.plot_samples(1))
    assert rows == ["$\\frac$", "x" * 23 + "…", "caf?"]


@pytest.mark.parametrize(
    ("method", "arguments", "error", "message"),
    [
        ("plot_paths", {"pairs": [(0, 1)], "classes": ["3"]}, ValueError, "either pairs or classes"),
        ("plot_paths", {"pairs": (0, 1)}, ValueError, r"as in \[\(0, 3\), \(4, 7\)\]; got \(0, 1\)"),
        ("plot_paths", {"pairs": [(0, 1, 2), (3, 4, 5)]}, ValueError, "must be pairs"),
        ("plot_paths", {"pairs": []}, ValueError, "nothing to show"),
        ("plot_paths", {"pairs": [(0, 8)]}, IndexError, r"in \[0, 8\); got"),
        ("plot_paths", {"steps": 1}, ValueError, "steps must be an integer of at least 2"),
        ("plot_paths", {"classes": ["5"]}, ValueError, "5 not among -1, 3, 40"),
        ("plot_samples", {"classes": "40"}, TypeError, "a sequence of names; got the string '40'"),
        ("plot_samples", {"classes": []}, ValueError, "no name was given"),
        ("plot_samples", {"n_per_class": 0}, ValueError, "n_per_class"),
        ("plot_reconstructions", {"indices": [-1]}, IndexError, "labelled images"),
        ("plot_reconstructions", {"indices": []}, ValueError, "nothing to show"),
    ],
)
def test_bad_input_is_told_apart(method, arguments, error, message, augment):
    with pytest.raises(error, match=message):
        getattr(augment, method)(**arguments)


@pytest.mark.parametrize("method", METHODS)
def test_without_matplotlib_the_extra_is_named(method, augment, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'glico-augment\[plots\]'"):
        getattr(augment, method)()


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_matplotlib_is_not_imported_before_the_first_figure(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    runpy.run_module("glico_augment.pictures.plots")


def test_a_notebook_shows_samples_and_the_quality_without_matplotlib(augment, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    before = torch.get_rng_state()
    shown = augment._repr_html_()
    assert torch.equal(torch.get_rng_state(), before)
    assert shown == augment._repr_html_()
    assert f"{augment.quality.r2:.3f}" in shown
    assert shown.count('<img src="data:image/png;base64,') == 1
    assert html.escape(repr(augment)) in shown


def test_a_notebook_shows_names_as_text(augment):
    augment.record = dataclasses.replace(augment.record, class_names=("<script>x</script>", '"', "&"))
    shown = augment._repr_html_()
    assert set(re.findall(r"</?(\w+)", shown)) == {"div", "p", "code", "img"}
