"""The page: its sections from top to bottom, and the file."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import torch

from glico_augment import __version__
from glico_augment.files.atomic import write_atomically
from glico_augment.files.format import FORMAT_VERSION
from glico_augment.images.values import to_unit
from glico_augment.pictures.paths import paths, positions_of, random_pairs, with_ends
from glico_augment.report import charts, measure, pieces
from glico_augment.report.pieces import escape
from glico_augment.synthesis.synthesizer import Synthesizer

_MOST_CLASSES = 8
_STEPS = 8
_SAMPLES = 3
_CLASSES_IN_SIGHT = 12


def write_report(
    augment: Synthesizer, path: str | Path, *, title: str = "fit.safetensors", names: Mapping[int, str] | None = None
) -> None:
    """Write the page of a fit to one HTML file, atomically. It shows training images: share it as you would share them.

    Args:
        augment: the fit.
        path: the file, which ends in .html or .htm.
        title: the name of the file that the fit is in.
        names: the name of each labelled image that has one, by its index.

    Raises:
        ValueError: for another ending.
        OSError: if it cannot be written.
    """
    check_name(path)
    # Names of folders may hold bytes that are no text.
    page = make_report(augment, title=title, names=names).encode(errors="replace")

    def write(partial: Path) -> None:
        partial.write_bytes(page)

    write_atomically(path, write)


def check_name(path: str | Path) -> None:
    """Raise ValueError unless the name of a file is that of a page."""
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"the report is one HTML page; give a name that ends in .html, not {Path(path).name}")


def make_report(augment: Synthesizer, *, title: str = "fit.safetensors", names: Mapping[int, str] | None = None) -> str:
    """The page of a fit, complete: it has no script and fetches nothing. Arguments are those of :func:`write_report`.

    The same fit gives the same page, and nothing is drawn from a global generator.
    """
    sections = (
        _head(augment, title),
        _quality(augment, names or {}),
        _paths(augment),
        _samples(augment, names or {}),
        _sphere_and_losses(augment),
        _settings(augment),
        _use(title),
    )
    style = files("glico_augment.report").joinpath("page.css").read_text(encoding="utf-8")
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} – GLICO</title>\n<style>\n{style}</style></head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def _head(augment: Synthesizer, title: str) -> str:
    codes, (channels, height, width) = augment.codes, augment.generator.image_shape
    facts = {
        "R² of the reconstructions": f"{augment.quality.r2:.3f}",
        "labelled images": codes.n_labeled,
        "classes": len(augment.classes),
        "fitted at": f"{height} × {width}" + ("" if channels == 3 else f" × {channels}"),
        "steps": len(augment.record.losses),
    }
    if len(codes) > codes.n_labeled:
        facts["unlabelled images"] = len(codes) - codes.n_labeled
    poor = (
        '<p class="warning">The generator has not learned its images: a swap would cost accuracy. Fit longer, at a '
        "lower rate, or with a larger latent_dim.</p>"
    )
    return (
        f"<h1>{escape(title)}</h1><p>A fit of GLICO, looked at. The page shows training images, as the file holds "
        f"them: share both as you would share those.</p>{pieces.numbers(facts)}"
    ) + (poor if augment.quality.is_poor else "")


def _quality(augment: Synthesizer, names: Mapping[int, str]) -> str:
    counts = torch.bincount(augment.codes.class_indices).tolist()
    qualities = augment.quality.per_class
    order = sorted(range(len(counts)), key=qualities.__getitem__)
    in_sight = pieces.class_table(*_of_classes(augment, counts, order[:_CLASSES_IN_SIGHT]))
    rest = ""
    if others := order[_CLASSES_IN_SIGHT:]:
        rest = (
            f"<details><summary>The other {len(others)} classes</summary>"
            f"{pieces.class_table(*_of_classes(augment, counts, others))}</details>"
        )
    worst = list(augment.quality.worst)
    rebuilt = augment.reconstruct(worst)
    shown = []
    for index, reconstruction in zip(worst, rebuilt, strict=True):
        real = to_unit(augment.images[index])
        error = float((reconstruction - real).square().mean().sqrt())
        pair = [pieces.image(real, f"Training image {index}"), pieces.image(reconstruction, "Its reconstruction")]
        shown.append(pieces.figure(pair, [_named(augment, index, names), f"off by {error:.3f}"]))
    return (
        "<h2>How well it rebuilds its images</h2><p>R² is 1 for perfect reconstructions and 0 for a generator that "
        "draws the mean image whatever the code. The worst class comes first.</p>"
        f"{in_sight}{rest}<h3>The worst reconstructions</h3><p>Left the training image, right what the generator makes "
        "of its code. The number is the root mean squared difference of values between 0 and 1.</p>"
        f'<div class="pairs">{"".join(shown)}</div>'
    )


def _of_classes(
    augment: Synthesizer, counts: list[int], positions: list[int]
) -> tuple[list[str], list[int], list[float]]:
    names = [augment.classes[position] for position in positions]
    return names, [counts[position] for position in positions], [augment.quality.per_class[at] for at in positions]


def _paths(augment: Synthesizer) -> str:
    positions = positions_of(augment, at_most=_MOST_CLASSES)
    anchors, partners = random_pairs(augment, positions, generator=torch.Generator().manual_seed(0))
    between = paths(augment, anchors, partners, steps=_STEPS)
    images = with_ends(to_unit(augment.images[anchors]), between, to_unit(augment.images[partners]))
    rows = []
    for position, row in zip(positions.tolist(), images.split(_STEPS + 2), strict=True):
        name = augment.classes[position]
        tiles = [pieces.image(image, f"{name}, image {at + 1} of a path") for at, image in enumerate(row)]
        rows.append(f'<div class="path-name">{escape(name)}</div>{pieces.image_row(tiles, "path")}')
    return (
        "<h2>Paths</h2><p>Between the codes of two training images of a class, which stand at both ends, without "
        f"noise. A swapped image lies {escape(augment.swap.description)}.{_only_first(augment)}</p>{''.join(rows)}"
    )


def _samples(augment: Synthesizer, names: Mapping[int, str]) -> str:
    positions = positions_of(augment, at_most=_MOST_CLASSES)
    labels = augment.codes.classes[positions].repeat_interleave(_SAMPLES)
    samples, _ = augment.synthesize(labels, generator=torch.Generator().manual_seed(0))
    near = measure.nearest(samples, augment.images)
    found = zip(positions.repeat_interleave(_SAMPLES).tolist(), samples, near.indices.tolist(), strict=True)
    shown = []
    for (position, sample, index), distance in zip(found, near.distances.tolist(), strict=True):
        pair = [
            pieces.image(sample, f"A synthetic image of {augment.classes[position]}"),
            pieces.image(augment.images[index], f"The nearest training image, {index}"),
        ]
        caption = [augment.classes[position], f"nearest: {_named(augment, index, names)}", f"at {distance:.3f}"]
        shown.append(pieces.figure(pair, caption))
    usual = measure.usual_distance(augment.images)
    return (
        "<h2>Samples beside their nearest training images</h2><p>Left a synthetic image as a swap makes it, right the "
        "training image nearest to it, of any class, and the root mean squared difference of their values: "
        f"{near.distances.median():.3f} in the middle. Between a training image and the nearest other one it is "
        f"{usual:.3f}. A sample much nearer than that is a copy with a little noise.{_only_first(augment)}</p>"
        f'<div class="pairs">{"".join(shown)}</div>'
    )


def _sphere_and_losses(augment: Synthesizer) -> str:
    within, between = measure.angles(augment)
    means = [
        f"{values.mean():.0f}° {where}"
        for values, where in ((within, "within a class"), (between, "between classes"))
        if len(values)
    ]
    start = (
        f"The fit started with a cosine of {augment.config.class_cosine:g} within a class."
        if augment.config.class_cosine
        else "The fit started with codes anywhere."
    )
    return (
        '<div class="charts"><section><h2>The sphere</h2>'
        f"<p>Angles between random pairs of codes, {' and '.join(means)} on average. {start}</p>"
        f"{charts.angle_chart(within, between)}</section>"
        "<section><h2>The fit</h2><p>The loss and its parts before weighting, averaged over a fiftieth of the steps."
        f"</p>{charts.loss_chart(augment.history)}</section></div>"
    )


def _settings(augment: Synthesizer) -> str:
    record = augment.record
    made = {
        "fingerprint of images and labels": record.fingerprint,
        "seed": record.seed,
        "starts again at a lower rate": record.restarts,
        "code": f"{augment.codes.latent_dim} numbers on the unit sphere",
        "generator": f"{sum(value.numel() for value in augment.generator.parameters()):,} parameters",
        "file format": FORMAT_VERSION,
        "report by": f"glico-augment {__version__}",
    }
    swap = {**augment.swap.to_json(), "noise_std": augment.noise_std}
    return (
        f"<h2>Settings</h2><h3>The swap</h3>{pieces.table(swap)}<h3>The fit</h3>"
        f"<details><summary>All settings of the fit</summary>{pieces.table(augment.config.to_json())}</details>"
        f"<h3>What it was made of</h3>{pieces.table(made)}"
    )


def _use(title: str) -> str:
    code = (
        "from torchvision.datasets import ImageFolder\n"
        "from glico_augment import GLICOAugment\n\n"
        f"augment = GLICOAugment.load({title!r})\n"
        'swapped = augment.wrap(ImageFolder("FOLDER"), transform=...)  # the images it was fitted on\n'
        "image, label = augment(image, label)  # or as a transform, before normalisation\n"
        "images, labels = augment.synthesize(n_per_class=10)"
    )
    return f"<h2>How to use the file</h2><pre>{escape(code)}</pre>"


def _named(augment: Synthesizer, index: int, names: Mapping[int, str]) -> str:
    return names.get(index, f"{augment.classes[int(augment.codes.class_indices[index])]}, image {index}")


def _only_first(augment: Synthesizer) -> str:
    left_out = len(augment.classes) - _MOST_CLASSES
    return f" The first {_MOST_CLASSES} classes are shown." if left_out > 0 else ""
