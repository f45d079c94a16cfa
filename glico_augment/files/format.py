"""safetensors files with a checksum of every byte, and no claim of the header believed.

The header's metadata holds ``format`` ("glico-augment"), ``format_version``, ``kind``, ``info``, a JSON object, and
``checksum``, the SHA-256 of the file with these 64 digits as zeros. Nothing is ever unpickled, nor mapped into memory,
where what is written to the file later would change what was loaded.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from glico_augment import checks
from glico_augment.checks import quoted
from glico_augment.errors import FileFormatError
from glico_augment.files.atomic import write_atomically

FORMAT = "glico-augment"
FORMAT_VERSION = 4

FITTED = "fitted"
CHECKPOINT = "checkpoint"
STYLE = "style"

_NO_CHECKSUM = b"0" * 64
# Quotes within a JSON string have a backslash before them, so no name or value can look like this.
_CHECKSUM = re.compile(rb'"checksum":"([0-9a-f]{64})"')
_LENGTH = 8  # bytes that say how long the header is
_ALIGNMENT = 8  # of the tensors in a file
_LONGEST_HEADER = 100_000_000  # as of the safetensors library
_FOREIGN = {b"PK\x03\x04": "a zip archive, as of torch.save", b"\x80": "a pickle"}
_MOST_DIGITS = 4300  # those that Python converts, so that what was written can be read


def write_file(path: str | Path, tensors: dict[str, Tensor], info: dict[str, Any], *, kind: str = FITTED) -> None:
    """Write tensors and a JSON object to one safetensors file, atomically.

    Raises:
        ValueError: if a tensor holds NaN or an infinite value; it names the tensor.
        OSError: if the file cannot be written; an older file of that name is left as it was.
    """
    _check_finite(tensors)
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "kind": kind,
        "info": json.dumps(info, sort_keys=True, allow_nan=False),
        "checksum": _NO_CHECKSUM.decode(),
    }
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    head, body = _with_ordered_metadata(safetensors.torch.save(contiguous, metadata))
    place = _place_of_checksum(memoryview(head))
    assert place is not None
    start, end = place
    hasher = hashlib.sha256(head)
    hasher.update(body)

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            file.writelines((head[:start], hasher.hexdigest().encode(), head[end:], body))

    write_atomically(path, write)


def _with_ordered_metadata(content: bytes) -> tuple[bytes, memoryview]:
    """Header and body of a file; safetensors writes metadata in any order, and one content should be one file."""
    end = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    header = json.loads(content[_LENGTH:end])
    header = {"__metadata__": dict(sorted(header.pop("__metadata__").items())), **header}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(_LENGTH, "little") + text, memoryview(content)[end:]


def read_file(
    path: str | Path, *, names: Iterable[str] | None = None, kind: str = FITTED
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file of :func:`write_file`, all of which is looked at whatever is asked for.

    Args:
        path: the file.
        names: tensors to return; all if None.
        kind: what the file must hold.

    Returns:
        The tensors, on the CPU, and the JSON object.

    Raises:
        FileNotFoundError: if there is no such file.
        PermissionError, OSError: if it cannot be read.
        FileFormatError: if it is truncated, damaged, or not such a file, or of another version or kind; the message
            says which.
    """
    path = Path(checks.path("a file's name", path))
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise FileFormatError(f"{path} is a folder; expected a file written by save()")
        if not stat.S_ISREG(mode):
            raise FileFormatError(f"{path} is a device, pipe or socket; expected a file written by save()")
        with path.open("rb") as file:
            content, info = _read_checked(path, file, kind)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"no such file: {path}") from error
    except OSError as error:
        raise type(error)(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        # Whatever context and default the caller has.
        with torch.inference_mode(False), torch.device("cpu"):
            tensors = safetensors.torch.load(content)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise FileFormatError(f"{path} is damaged: {quoted(str(error))}") from error
    try:
        _check_finite(tensors)
    except ValueError as error:
        raise FileFormatError(f"{path} is damaged: {error}") from error
    wanted = sorted(tensors if names is None else set(names))
    if missing := [name for name in wanted if name not in tensors]:
        raise FileFormatError(f"{path} lacks the tensors {', '.join(missing)}: it is damaged")
    return {name: tensors[name] for name in wanted}, info


def _read_checked(path: Path, file: BinaryIO, kind: str) -> tuple[bytes, dict[str, Any]]:
    """The content of a file whose checksum is right, and the JSON object in it."""
    size = os.fstat(file.fileno()).st_size
    head = _read_head(path, file, size)
    metadata = _parse_metadata(path, head[_LENGTH:], size)
    _check_metadata(path, metadata, kind)
    file.seek(0)
    content = file.read()
    checksum = _checksum(content)
    if checksum is None or checksum != metadata.get("checksum"):
        raise FileFormatError(f"{path} is damaged: its checksum is not that of its content")
    try:
        info = _parse_json(metadata.get("info", ""))
    except ValueError as error:
        raise FileFormatError(f"{path} has a header that is not JSON: it is damaged ({error})") from error
    if not isinstance(info, dict):
        raise FileFormatError(f"{path} has a header that is no JSON object: it is damaged")
    return content, info


def _read_head(path: Path, file: BinaryIO, size: int) -> bytes:
    """The header and what says its length."""
    start = file.read(_LENGTH)
    length = int.from_bytes(start, "little")
    if len(start) < _LENGTH or length > _LONGEST_HEADER:  # else it may be a file of ours, whatever it begins with
        for signature, found in _FOREIGN.items():
            if start.startswith(signature):
                raise FileFormatError(f"{path} is {found}, whatever its name; it was not unpickled")
    if len(start) < _LENGTH or size < _LENGTH + length < _LENGTH + 2**32:
        raise FileFormatError(f"{path} is truncated: {size} bytes")
    if length > _LONGEST_HEADER:
        raise FileFormatError(f"{path} is not a safetensors file")
    return start + file.read(length)


def _parse_metadata(path: Path, header: bytes, size: int) -> dict[str, str]:
    """What the header says beside the tensors, if these end where the file does."""
    try:
        parsed = _parse_json(header.decode())
        metadata = parsed.pop("__metadata__", {})
        end = max((entry["data_offsets"][1] for entry in parsed.values()), default=0)
        if not all(isinstance(value, str) for value in metadata.values()) or not 0 <= end < 2**63:
            raise ValueError("a value of the wrong type")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise FileFormatError(f"{path} is not a safetensors file, or damaged: {error}") from error
    expected = _LENGTH + len(header) + end
    if size != expected:
        state = "truncated" if size < expected else "damaged"
        raise FileFormatError(f"{path} is {state}: {size} bytes instead of {expected}")
    return metadata


def _check_metadata(path: Path, metadata: dict[str, str], kind: str) -> None:
    if metadata.get("format") != FORMAT:
        raise FileFormatError(f"{path} is a safetensors file, but not one written by glico-augment")
    version = metadata.get("format_version", "")
    if version != str(FORMAT_VERSION):
        if not version.isdecimal() or len(version) > _MOST_DIGITS:
            raise FileFormatError(f"{path} has no valid format version (found {quoted(version)}): it is damaged")
        age, remedy = (
            ("newer", "update glico-augment")
            if int(version) > FORMAT_VERSION
            else ("older", "read it with the release that wrote it, or fit again")
        )
        raise FileFormatError(
            f"{path} has format version {quoted(int(version))}, {age} than the version {FORMAT_VERSION} read here: "
            f"{remedy}"
        )
    found = metadata.get("kind")
    if found != kind:
        shown_kind = found if found in _REMEDIES else quoted(found)
        raise FileFormatError(f"{path} holds a {shown_kind}, expected a {kind}: {_remedy(found, kind)}")


_REMEDIES = {
    FITTED: "read it with GLICOAugment.load",
    CHECKPOINT: "a checkpoint is continued by the fit() call that wrote it; save() its result",
    STYLE: "read it with LocalStyle.load",
}


def _remedy(found: str | None, expected: str) -> str:
    """What to do with a file of another kind."""
    if expected == CHECKPOINT:
        return "choose another checkpoint= path, so that the file is not overwritten"
    return _REMEDIES.get(found or "", "it is damaged, or not of this library")


def _place_of_checksum(content: memoryview) -> tuple[int, int] | None:
    """Where in a file the digits of its checksum begin and end."""
    end_of_header = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    found = _CHECKSUM.search(content[:end_of_header])
    return None if found is None else found.span(1)


def _checksum(content: bytes) -> str | None:
    """The checksum that a file should have; None if there is no place for one."""
    view = memoryview(content)
    place = _place_of_checksum(view)
    if place is None:
        return None
    hasher = hashlib.sha256(view[: place[0]])
    hasher.update(_NO_CHECKSUM)
    hasher.update(view[place[1] :])
    return hasher.hexdigest()


def _parse_json(text: str) -> Any:
    """JSON without what a writer of this library never writes.

    Raises:
        ValueError: if it is no JSON, names a key twice, is nested too deeply, or has a number that is not finite or too
            long.
    """
    try:
        return json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=_parse_integer,
            parse_float=_parse_float,
            parse_constant=_parse_float,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key is there twice")
    return values


def _parse_integer(text: str) -> int:
    if len(text.removeprefix("-")) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _parse_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {quoted(text)} is not finite")
    return number


def _check_finite(tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if (tensor.is_floating_point() or tensor.is_complex()) and not bool(tensor.isfinite().all()):
            raise ValueError(f"the tensor {quoted(name)} holds NaN or an infinite value")
