"""safetensors files with a checksum of their content; those of older versions are upgraded as they are read.

The header's metadata holds ``format`` ("glico-augment"), ``format_version``, ``kind``, ``info`` (a JSON object) and
``checksum``, the SHA-256 of the other metadata and of the name, type, shape and bytes of every tensor. Nothing is ever
unpickled, and no tensor stays mapped to the file, where a later write would change it.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from glico_augment import checks
from glico_augment.checks import quoted
from glico_augment.errors import FileFormatError
from glico_augment.files.atomic import write_atomically
from glico_augment.images.identity import digest, fingerprint

FORMAT = "glico-augment"
FORMAT_VERSION = 5

FITTED = "fitted"
CHECKPOINT = "checkpoint"
STYLE = "style"
_SHOWN = {FITTED: "a fit", CHECKPOINT: "a checkpoint", STYLE: "a style"}

_REMEDIES = {
    FITTED: "read it with GLICOAugment.load",
    CHECKPOINT: "a checkpoint is continued by the fit() call that wrote it; save() its result",
    STYLE: "read it with LocalStyle.load",
}
_LENGTH = 8  # bytes that say how long the header is
_MAX_HEADER = 100_000_000  # bytes, as of the safetensors library
_FOREIGN = {b"PK\x03\x04": "a zip archive, as of torch.save", b"\x80": "a pickle"}
WRONG = (SafetensorError, LookupError, TypeError, ValueError, RuntimeError, OverflowError)

Content = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors, and the JSON object beside them."""


def write_file(path: str | Path, tensors: Mapping[str, Tensor], info: dict[str, Any], *, kind: str = FITTED) -> None:
    """Write tensors and a JSON object to one safetensors file, atomically.

    Raises:
        ValueError: if a tensor holds NaN or an infinite value; it names the tensor.
        OSError: if the file cannot be written; an older file of that name is left as it was.
    """
    _check_finite(tensors)
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "kind": kind,
        "info": json.dumps(info, sort_keys=True, allow_nan=False),
    }
    content = safetensors.torch.save(contiguous, {**metadata, "checksum": checksum(metadata, contiguous)})

    write_atomically(path, lambda partial: partial.write_bytes(content))


def read_file(path: str | Path, *, names: Iterable[str] | None = None, kind: str = FITTED) -> Content:
    """Read a file of :func:`write_file`: all of it is verified, and the tensors ``names`` returned, all if None.

    Raises:
        FileNotFoundError: if there is no such file.
        PermissionError, OSError: if it cannot be read.
        FileFormatError: if it is truncated, damaged, or not such a file, or of a newer version or another kind; the
            message says which.
    """
    path = Path(checks.path("a file's name", path))
    start = _read_start(path)
    try:
        # Whatever context and default the caller has.
        with torch.inference_mode(False), torch.device("cpu"), safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            version = _check_metadata(path, metadata, kind)
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        expected = _checksum_4(path.read_bytes()) if version == 4 else checksum(metadata, tensors)
        if metadata.get("checksum") != expected:
            raise FileFormatError(f"{path} is damaged: its checksum is not that of its content")
        _check_finite(tensors)
        info = json.loads(metadata.get("info", ""))
        if not isinstance(info, dict):
            raise ValueError("its header has no JSON object")
        for number in range(version, FORMAT_VERSION):
            tensors, info = _UPGRADES[number](tensors, info)
    except FileFormatError:
        raise
    except RecursionError:
        raise FileFormatError(f"{path} is damaged: the JSON in its header is nested too deeply") from None
    except SafetensorError as error:
        raise FileFormatError(f"{path} {_kind_of_file(start)}: {quoted(str(error))}") from error
    except WRONG as error:
        raise FileFormatError(f"{path} is damaged: {reason(error)}") from error
    wanted = sorted(tensors if names is None else set(names))
    if missing := [name for name in wanted if name not in tensors]:
        raise FileFormatError(f"{path} lacks the tensors {', '.join(missing)}: it is damaged")
    return {name: tensors[name] for name in wanted}, info


def reason(error: Exception) -> str:
    """What is wrong with a content that raised ``error`` as it was used."""
    return f"it lacks {error}" if isinstance(error, KeyError) else str(error)


def check_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless ``tensors`` has the names of ``expected`` and no others, with their types and shapes."""
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors:
            raise ValueError(f"it lacks the tensor {quoted(name)}")
        if name not in expected:
            raise ValueError(f"it has a tensor {quoted(name)} too many")
        found, wanted = tensors[name], expected[name]
        if (found.dtype, found.shape) != (wanted.dtype, wanted.shape):
            raise ValueError(
                f"the tensor {quoted(name)} must be {wanted.dtype} of shape {tuple(wanted.shape)}; got "
                f"{found.dtype} of shape {tuple(found.shape)}"
            )


def without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with ``prefix`` before their names."""
    return {prefix + name: value for name, value in tensors.items()}


def checksum(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of all metadata but the checksum and of the name, type, shape and bytes of every tensor."""
    named = sorted(tensors.items())
    texts = sorted(item for item in metadata.items() if item[0] != "checksum")
    described = [texts, [(name, str(tensor.dtype), list(tensor.shape)) for name, tensor in named]]
    hasher = hashlib.sha256(json.dumps(described).encode())
    for _, tensor in named:
        hasher.update(tensor.reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
    return hasher.hexdigest()


def _check_finite(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if (tensor.is_floating_point() or tensor.is_complex()) and not bool(tensor.isfinite().all()):
            raise ValueError(f"the tensor {quoted(name)} holds NaN or an infinite value")


def _read_start(path: Path) -> bytes:
    """The first bytes of a file, which is checked to be one that can be read to its end."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise FileFormatError(f"{path} is a folder; expected a file written by save()")
        if not stat.S_ISREG(mode):
            raise FileFormatError(f"{path} is a device, pipe or socket; expected a file written by save()")
        with path.open("rb") as file:
            return file.read(_LENGTH)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"no such file: {path}") from error
    except OSError as error:
        raise type(error)(f"{path} cannot be read: {error.strerror or error}") from error


def _kind_of_file(start: bytes) -> str:
    """What a file is that safetensors refuses, by its first bytes, in words."""
    if len(start) < _LENGTH or int.from_bytes(start, "little") <= _MAX_HEADER:
        return "is truncated or damaged"
    found = next((name for signature, name in _FOREIGN.items() if start.startswith(signature)), None)
    return "is not a safetensors file" if found is None else f"is {found}, whatever its name; it was not unpickled"


def _check_metadata(path: Path, metadata: Mapping[str, str], kind: str) -> int:
    """The version of a file, which is checked to be one of ours, of that kind."""
    if metadata.get("format") != FORMAT:
        raise FileFormatError(f"{path} is a safetensors file, but not one written by glico-augment")
    text, found = metadata.get("format_version", ""), metadata.get("kind")
    if not re.fullmatch("[0-9]{1,9}", text):
        raise FileFormatError(f"{path} has no valid format version (found {quoted(text)}): it is damaged")
    version = int(text)
    start = f"{path} has format version {version}, "
    if version > FORMAT_VERSION:
        raise FileFormatError(f"{start}newer than the version {FORMAT_VERSION} read here: update glico-augment")
    if version < min(_UPGRADES):
        raise FileFormatError(
            f"{start}older than the version {min(_UPGRADES)} read here: read it with the release that wrote it"
        )
    if version < FORMAT_VERSION and found == kind == CHECKPOINT:
        raise FileFormatError(
            f"{start}and a checkpoint is continued by the release that wrote it: delete it to fit anew"
        )
    if found != kind:
        holds = _SHOWN.get(found or "", quoted(found))
        remedy = _REMEDIES.get(found or "", "it is damaged, or not of this library")
        if kind == CHECKPOINT:
            remedy = "choose another checkpoint= path, so that the file is not overwritten"
        raise FileFormatError(f"{path} holds {holds}, expected {_SHOWN[kind]}: {remedy}")
    return version


def _checksum_4(content: bytes) -> str:
    """The checksum of a file of version 4: the SHA-256 of all of it, with zeros for the checksum's digits."""
    end = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    header = re.sub(rb'"checksum":"[0-9a-f]{64}"', b'"checksum":"%b"' % (b"0" * 64), content[:end], count=1)
    hasher = hashlib.sha256(header)
    hasher.update(memoryview(content)[end:])
    return hasher.hexdigest()


def _from_4(tensors: dict[str, Tensor], info: dict[str, Any]) -> Content:
    """One digest per image in place of two; a swap with one ratio, of images of the generator alone.

    Those of labelled images are of the images at the fitted size, which the file holds: where the dataset yields them
    at another, they are no longer recognised. Those of unlabelled images, which it does not hold, only have to differ.
    """
    if "digests" in tensors:
        tensors = {name: tensor for name, tensor in tensors.items() if name != "glimpses"}
        images, digests = tensors["images"], tensors["digests"].clone()
        new = [digest(image, images.shape[1]) for image in images]
        digests[: len(new)] = torch.tensor(new, dtype=torch.int64)
        tensors["digests"] = digests
        info = {**info, "fingerprint": fingerprint(digests, tensors["labels"])}
    if isinstance(swap := info.get("swap"), dict):
        info = {**info, "swap": {**swap, "cells": 1, "carry": False}}
    return tensors, info


_UPGRADES: dict[int, Callable[[dict[str, Tensor], dict[str, Any]], Content]] = {4: _from_4}
