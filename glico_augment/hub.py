"""Sharing a fit: a folder with one safetensors file, a model card and a picture, on disk or on the Hugging Face Hub.

The Hub needs the extra ``hub``; folders need nothing.
"""

from __future__ import annotations

import html
import re
import tempfile
from pathlib import Path
from typing import Any

import torch

from glico_augment.devices import cpu_by_default
from glico_augment.files.atomic import write_atomically
from glico_augment.fit.fitted_file import save_model
from glico_augment.optional import import_optional
from glico_augment.pictures.grids import save_grid
from glico_augment.pictures.plots import positions_of, samples
from glico_augment.synthesis.synthesizer import Synthesizer

FILE, PICTURE, CARD = "glico.safetensors", "samples.png", "README.md"

_SCHEME = "hf://"
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_IN_REPOSITORY = re.compile(r"hf://(?P<name>[\w.-]+/[\w.-]+?)(@(?P<revision>[^/]+))?/(?P<file>.+)")
_COLUMNS, _MAX_ROWS, _MAX_NAMES = 8, 8, 50


@cpu_by_default()
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
    images = samples(synthesizer, positions, _COLUMNS, generator=torch.Generator().manual_seed(0))
    save_grid(images, folder / PICTURE, columns=_COLUMNS, scale=max(1, 64 // images.shape[-2]))
    if not (folder / CARD).exists():
        card = model_card(synthesizer, name).encode(errors="replace")  # names of folders may not be text
        write_atomically(folder / CARD, lambda partial: partial.write_bytes(card))
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
        revision: branch, tag or commit of the repository; None for its main branch. A commit always gives the same
            images.
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
        raise FileNotFoundError(f"{name} is neither a folder nor the name of a repository of the Hub, user/name")
    return Path(_hub().hf_hub_download(str(name), FILE, revision=revision, token=token, cache_dir=cache_dir))


def push(
    synthesizer: Synthesizer,
    name: str,
    *,
    private: bool = True,
    revision: str | None = None,
    token: str | None = None,
    message: str = "Add a fit of GLICO",
) -> str:
    """Upload a fit to a repository of the Hub, made if there is none. An existing card is kept.

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
        ValueError: for what is not the name of a repository.
        ModuleNotFoundError: without ``huggingface_hub``.
        OSError: if the Hub refuses or cannot be reached.
    """
    if not _REPOSITORY.fullmatch(name):
        raise ValueError(f"the name of a repository of the Hub is user/name; got {name!r}")
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
        ValueError: for another address that begins with ``hf://``.
        ModuleNotFoundError, OSError: see :func:`fetch`.
    """
    if not isinstance(path, str) or not path.startswith(_SCHEME):
        return path
    found = _IN_REPOSITORY.fullmatch(path)
    if found is None:
        raise ValueError(f"expected hf://user/name/file or hf://user/name@revision/file; got {path}")
    return Path(_hub().hf_hub_download(found["name"], found["file"], revision=found["revision"]))


def _hub() -> Any:
    return import_optional("huggingface_hub", "the Hub needs huggingface_hub: pip install 'glico-augment[hub]'")


def model_card(synthesizer: Synthesizer, name: str = "user/name") -> str:
    """The Markdown that tells a reader who does not know GLICO what the fit in the repository ``name`` is."""
    codes, (channels, height, width) = synthesizer.codes, synthesizer.generator.image_shape
    record, config, quality = synthesizer.record, synthesizer.config, synthesizer.quality
    images = f"{codes.n_labeled} images without labels"
    if record.is_labeled:
        n_unlabeled = len(codes) - codes.n_labeled
        images = f"{codes.n_labeled} labelled images of {len(synthesizer.classes)} classes"
        images += f", and {n_unlabeled} unlabelled ones" if n_unlabeled else ""
    poor = "**The generator has not learned its images: a swap by this fit would cost accuracy.**"
    return f"""\
---
library_name: glico-augment
tags:
  - glico
  - data-augmentation
  - image-classification
---

# A fit of GLICO

A small generator and one code per image, learned from {images} and from nothing else. While a classifier is trained,
training images are swapped for synthetic ones. Method: Azuri & Weinshall, *Generative Latent Implicit Conditional
Optimization when Learning from Small Sample*, ICPR 2020 ([arXiv 2003.14297](https://arxiv.org/abs/2003.14297)).

**The file holds the training images.** Share it as you would share those.

![Synthetic images]({PICTURE})

## Use

```python
from glico_augment import GLICOAugment

augment = GLICOAugment.from_pretrained("{name}")  # this repository, or a folder
images, labels = augment.synthesize(n_per_class=10)
swapped = augment.wrap(dataset, transform=...)  # the images it was fitted on
```

## Quality

R² of the reconstructions is {quality.r2:.3f}: 1 is perfect, 0 is a generator that draws the mean image whatever the
code. {poor if quality.is_poor else ""}
{_class_table(synthesizer) if record.is_labeled else ""}
## Settings

| | |
|---|---|
| fitted at | {height} × {width} pixels, {channels} channels |
| steps | {len(record.losses)}, of {config.batch_size} images |
| codes | {config.latent_dim} numbers on the unit sphere |
| loss | {_as_text(str(config.loss))} |
| swap | with probability {synthesizer.p:g}, {synthesizer.swap.description} |
| fingerprint | {record.fingerprint} |
"""


def _class_table(synthesizer: Synthesizer) -> str:
    counts = torch.bincount(synthesizer.codes.class_indices).tolist()
    rows = [
        f"| {_as_text(name)} | {count} | {r2:.3f} |"
        for name, count, r2 in zip(synthesizer.classes, counts, synthesizer.quality.per_class, strict=True)
    ]
    rest = f"\nand {len(rows) - _MAX_NAMES} more classes.\n" if len(rows) > _MAX_NAMES else ""
    return "\n".join(["\n| class | images | R² |", "|---|---|---|", *rows[:_MAX_NAMES], rest])


def _as_text(name: str) -> str:
    """Any name as plain text in a cell of a Markdown table."""
    return re.sub(r"([\\`*_{}\[\]()#+!|~:.@-])", r"\\\1", html.escape(" ".join(name.split()), quote=False))
