"""Sharing a fit: a folder with one safetensors file, a model card and a picture, on disk or on the Hugging Face Hub.

The Hub needs the extra ``hub``; folders need nothing.
"""

from __future__ import annotations

import html
import re
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from glico_augment.files.atomic import write_atomically
from glico_augment.files.fitted import save_model
from glico_augment.pictures.grids import save_grid
from glico_augment.pictures.plots import positions_of
from glico_augment.synthesis.synthesizer import Synthesizer

FILE, PICTURE, CARD = "glico.safetensors", "samples.png", "README.md"

_SCHEME = "hf://"
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_IN_REPOSITORY = re.compile(r"hf://(?P<name>[\w.-]+/[\w.-]+?)(@(?P<revision>[^/]+))?/(?P<file>.+)")
_COLUMNS, _MAX_ROWS, _MAX_NAMES = 8, 8, 50


def save(synthesizer: Synthesizer, folder: str | Path, name: str = "user/name") -> Path:
    """Write ``glico.safetensors``, ``samples.png`` and, unless there is one, a model card ``README.md``.

    Args:
        synthesizer: the fit.
        folder: made if there is none. It will hold the training images, as the file does.
        name: of the repository that the card names.

    Returns:
        The folder.

    Raises:
        OSError: if it cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder / FILE, synthesizer.fitted, synthesizer.swap)
    positions = positions_of(synthesizer, at_most=_MAX_ROWS)
    labels = synthesizer.codes.classes[positions].repeat_interleave(_COLUMNS)
    images, _ = synthesizer.synthesize(labels, generator=torch.Generator().manual_seed(0))
    save_grid(images, folder / PICTURE, columns=_COLUMNS, scale=max(1, 64 // images.shape[-2]))
    if not (folder / CARD).exists():
        card = model_card(synthesizer, name).encode(
            errors="replace"
        )  # names of folders may hold bytes that are no text

        def write(partial: Path) -> None:
            partial.write_bytes(card)

        write_atomically(folder / CARD, write)
    return folder


def fetch(
    name: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
) -> Path:
    """The file of a folder of :func:`save`, or of a repository of the Hub, downloaded.

    Args:
        name: a folder, or ``"user/name"`` where there is no folder of that name.
        revision: branch, tag or commit of the repository; None for its main branch. Name a commit where the same
            images must come out tomorrow.
        token: for the Hub; None for the one that ``hf auth login`` kept.
        cache_dir: where downloads are kept; None for the cache of the Hub.

    Raises:
        FileNotFoundError: for what is neither a folder nor the name of a repository.
        ModuleNotFoundError: without ``huggingface_hub``.
        OSError: if the Hub does not have it or cannot be reached.
    """
    if Path(name).is_dir():
        if revision is not None:
            raise ValueError(f"{name} is a folder and has no revision {revision}")
        return Path(name) / FILE
    if not _REPOSITORY.fullmatch(str(name)):
        raise FileNotFoundError(f"{name} is no folder, and no repository of the Hub, as user/name is")
    return _download(str(name), FILE, revision, token=token, cache_dir=cache_dir)


def push(
    synthesizer: Synthesizer,
    name: str,
    *,
    private: bool = True,
    revision: str | None = None,
    token: str | None = None,
    message: str = "Add a fit of GLICO",
) -> str:
    """Upload a fit to a repository of the Hub, made if there is none. A card that is there is left as it is.

    Args:
        synthesizer: the fit.
        name: ``"user/name"``.
        private: whether a new repository is; the default, since the file holds the training images.
        revision: an existing branch; None for the main one.
        token: with the right to write; None for the one that ``hf auth login`` kept.
        message: of the commit.

    Returns:
        The address of the commit.

    Raises:
        ValueError: for what is no name of a repository.
        ModuleNotFoundError: without ``huggingface_hub``.
        OSError: if the Hub refuses or cannot be reached.
    """
    if not _REPOSITORY.fullmatch(name):
        raise ValueError(f"a repository of the Hub is named as user/name is; got {name!r}")
    api = _hub().HfApi(token=token)
    api.create_repo(name, private=private, exist_ok=True)
    has_card = api.file_exists(name, CARD, revision=revision)
    with tempfile.TemporaryDirectory() as scratch:
        commit = api.upload_folder(
            repo_id=name,
            folder_path=save(synthesizer, scratch, name),
            revision=revision,
            commit_message=message,
            ignore_patterns=[CARD] if has_card else None,
        )
    return str(commit.commit_url)


def local_path(path: str | Path) -> str | Path:
    """``path``, or the file that ``"hf://user/name/file"`` or ``"hf://user/name@revision/file"`` names, downloaded.

    Raises:
        ValueError: for an address that begins so and is not of that form.
        ModuleNotFoundError, OSError: see :func:`fetch`.
    """
    if not isinstance(path, str) or not path.startswith(_SCHEME):
        return path
    found = _IN_REPOSITORY.fullmatch(path)
    if found is None:
        raise ValueError(f"expected hf://user/name/file or hf://user/name@revision/file; got {path}")
    return _download(found["name"], found["file"], found["revision"])


def model_card(augment: Synthesizer, name: str = "user/name") -> str:
    """The Markdown that says what a fit is, for a reader who has never heard of it; ``name`` is of its repository."""
    codes, (channels, height, width) = augment.codes, augment.generator.image_shape
    counts = torch.bincount(codes.class_indices).tolist()
    rows = [
        f"| {_as_text(name)} | {count} | {r2:.3f} |"
        for name, count, r2 in zip(augment.classes, counts, augment.quality.per_class, strict=True)
    ]
    left_out = len(rows) - _MAX_NAMES
    rest = f"\n\nand {left_out} more classes." if left_out > 0 else ""
    unlabeled = len(codes) - codes.n_labeled
    config = augment.config
    return _CARD.format(
        name=name,
        images=codes.n_labeled,
        unlabeled=f", and {unlabeled} unlabelled ones" if unlabeled else "",
        classes=len(augment.classes),
        size=f"{height} × {width} pixels, {channels} channels",
        r2=f"{augment.quality.r2:.3f}",
        verdict=_POOR if augment.quality.is_poor else "",
        steps=len(augment.record.losses),
        batch_size=config.batch_size,
        latent_dim=config.latent_dim,
        loss=_as_text(str(config.loss)),
        p=f"{augment.p:g}",
        way=augment.swap.description,
        fingerprint=augment.record.fingerprint,
        rows="\n".join(rows[:_MAX_NAMES]) + rest,
    )


def _as_text(name: str) -> str:
    """A name, which may be anybody's, as nothing but text in a cell of a table of Markdown."""
    return re.sub(r"([\\`*_{}\[\]()#+!|~:.@-])", r"\\\1", html.escape(" ".join(name.split()), quote=False))


def _download(name: str, file: str, revision: str | None, **options: Any) -> Path:
    api = _hub().HfApi(token=options.pop("token", None))
    return Path(api.hf_hub_download(name, file, revision=revision, **options))


def _hub() -> Any:
    try:
        return import_module("huggingface_hub")
    except ModuleNotFoundError as error:
        if error.name != "huggingface_hub":
            raise
        raise ModuleNotFoundError(
            "the Hub needs huggingface_hub: pip install 'glico-augment[hub]'", name="huggingface_hub"
        ) from error


_POOR = " **The generator has not learned its images: a swap by this fit would cost accuracy.**"

_CARD = """\
---
library_name: glico-augment
tags:
  - glico
  - data-augmentation
  - image-classification
---

# A fit of GLICO

A small generator and one code per image, learned from {images} labelled images of {classes} classes{unlabeled} and from
nothing else. It swaps training images for new ones of their class, made between the codes of two of them, while a
classifier is trained. Method: Azuri & Weinshall, *Generative Latent Implicit Conditional Optimization when Learning
from Small Sample*, ICPR 2020 ([arXiv 2003.14297](https://arxiv.org/abs/2003.14297)).

**The file holds the training images.** Whoever has it has them: share it as you would share those.

![Synthetic images, a row a class](samples.png)

## Use

```python
from glico_augment import GLICOAugment

augment = GLICOAugment.from_pretrained("{name}")  # this repository, or a folder
images, labels = augment.synthesize(n_per_class=10)
swapped = augment.wrap(dataset, transform=...)  # the dataset it was fitted on
```

## How good it is

R² of the reconstructions is {r2}: 1 is perfect, 0 is a generator that draws the mean image whatever the code.{verdict}

| class | images | R² |
|---|---|---|
{rows}

## How it was made

| | |
|---|---|
| fitted at | {size} |
| steps | {steps}, of {batch_size} images |
| codes | {latent_dim} numbers on the unit sphere |
| loss | {loss} |
| swap | with probability {p}, {way} |
| fingerprint of images and labels | {fingerprint} |
"""
