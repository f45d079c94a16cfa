"""safetensors files: written beside and renamed into place, read with every claim of the header checked.

The header's metadata holds ``format`` ("glico-augment"), ``format_version``, ``kind`` and ``info``, a JSON object.
Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from glico_augment.errors import FileFormatError

FORMAT = "glico-augment"
FORMAT_VERSION = 3

FITTED = "fitted"
CHECKPOINT = "checkpoint"
STYLE = "style"


def write_file(path: str | Path, tensors: dict[str, Tensor], info: dict[str, Any], *, kind: str = FITTED) -> None:
    """Write tensors and a JSON object to one safetensors file, atomically.

    Raises:
        OSError: if the file cannot be written; an older file of that name is left as it was.
    """
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "kind": kind,
        "info": json.dumps(info, sort_keys=True),
    }
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def write(partial: Path) -> None:
        try:
            save_file(contiguous, partial, metadata)
        except SafetensorError as error:
            raise OSError(f"{path} could not be written: {error}") from error

    write_atomically(path, write)


def read_file(
    path: str | Path, *, names: Iterable[str] | None = None, kind: str = FITTED
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file of :func:`write_file`.

    Args:
        path: the file.
        names: tensors to read; all if None.
        kind: what the file must hold.

    Returns:
        The tensors, on the CPU, and the JSON object.

    Raises:
        FileNotFoundError: if there is no such file.
        FileFormatError: if it is truncated, or not such a file, or of another version or kind; the message says
            which.
    """
    path = Path(path)
    if path.is_dir():
        raise FileFormatError(f"{path} is a folder; expected a file written by save()")
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        with safe_open(path, framework="pt") as file:
            info = _check_metadata(path, file.metadata(), kind)
            stored = set(file.keys())
            wanted = stored if names is None else set(names)
            if missing := sorted(wanted - stored):
                raise FileFormatError(f"{path} lacks the tensors {', '.join(missing)}: it is damaged")
            return {name: file.get_tensor(name) for name in sorted(wanted)}, info
    except SafetensorError as error:
        raise FileFormatError(f"{path} {_why_unreadable(path)} ({error})") from error


def write_atomically(path: str | Path, write: Callable[[Path], None]) -> None:
    """Have ``write`` fill a file beside ``path``, then rename it into place.

    Whatever happens, ``path`` is either what it was or whole; an error removes the partial file.
    """
    path = Path(path)
    check_writable(path)
    # The suffix stays last: writers of images choose their format by it.
    partial = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.partial{path.suffix}")
    try:
        partial.touch(exist_ok=False)
        permissions = partial.stat().st_mode  # those of any new file; safetensors leaves the owner's alone
        write(partial)
        partial.chmod(permissions)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """Raise OSError unless a file can be made at ``path``, so that a long run need not find out at its end."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {path.parent}")
    probe = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.probe")
    try:
        probe.touch(exist_ok=False)
    except OSError as error:
        raise PermissionError(f"{path} cannot be written: {error}") from error
    probe.unlink()


def _check_metadata(path: Path, metadata: dict[str, str] | None, kind: str) -> dict[str, Any]:
    if not metadata or metadata.get("format") != FORMAT:
        raise FileFormatError(f"{path} is a safetensors file, but not one written by glico-augment")
    version = metadata.get("format_version", "")
    if version != str(FORMAT_VERSION):
        if not version.isdecimal():
            raise FileFormatError(f"{path} has no valid format version (found {version!r}): it is damaged")
        age, remedy = (
            ("newer", "update glico-augment")
            if int(version) > FORMAT_VERSION
            else ("older", "read it with the release that wrote it, or fit again")
        )
        raise FileFormatError(
            f"{path} has format version {version}, {age} than the version {FORMAT_VERSION} read here: {remedy}"
        )
    if metadata.get("kind") != kind:
        raise FileFormatError(
            f"{path} holds a {metadata.get('kind')}, expected a {kind}: {_remedy(metadata.get('kind'), kind)}"
        )
    try:
        info = json.loads(metadata.get("info", ""))
    except json.JSONDecodeError as error:
        raise FileFormatError(f"{path} has a header that is not JSON: it is damaged ({error})") from error
    if not isinstance(info, dict):
        raise FileFormatError(f"{path} has a header that is no JSON object: it is damaged")
    return info


def _remedy(found: str | None, expected: str) -> str:
    """What to do with a file of another kind."""
    if expected == CHECKPOINT:
        return "choose another checkpoint= path, so that the file is not overwritten"
    return {
        FITTED: "read it with GLICOAugment.load",
        CHECKPOINT: "a checkpoint is continued by the fit() call that wrote it; save() its result",
        STYLE: "read it with LocalStyle.load",
    }.get(found or "", "it is damaged, or not of this library")


def _why_unreadable(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(b"PK\x03\x04"):
        return "is a zip archive, as of torch.save, whatever its name; it was not unpickled"
    if start.startswith(b"\x80"):
        return "is a pickle, whatever its name; it was not unpickled"
    header_length = int.from_bytes(start, "little")
    size = path.stat().st_size
    if len(start) < 8 or (header_length + 8 > size and header_length < 2**32):
        return f"is truncated: {size} bytes"
    with path.open("rb") as file:
        file.seek(8)
        try:
            json.loads(file.read(min(header_length, size)))
        except ValueError:
            return "is not a safetensors file"
    return f"is truncated or damaged: {size} bytes"
