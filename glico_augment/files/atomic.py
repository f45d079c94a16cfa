"""Files written whole or not at all: filled beside their place under a lock, then renamed into it."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from glico_augment import checks

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be removed
    fcntl = None  # type: ignore[assignment]

_SHOWN_CHARACTERS = 20  # of a file's name in that of its partial file, which must not be longer than a name can be
_LONGEST_SUFFIX = 16


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> None:
    """Have ``write`` fill a file beside ``path``, then rename it into place.

    Whatever happens, ``path`` is either what it was or whole; an error removes the partial file, and the next writer of
    ``path`` that of a killed one, unless others wrote ``path`` beside it. A symbolic link stays one, and the file it
    names is replaced; a replaced file keeps its permissions.

    Args:
        path: the file.
        write: fills the file whose path it is given, which is there, empty, and has the suffix of ``path``.

    Raises:
        OSError: as :func:`check_writable`, or if the disk is full; the message names ``path``.
    """
    target = check_writable(path)
    try:
        partial, file = _create(target)
        with file:
            try:
                write(partial)
                os.fsync(file.fileno())
                if fcntl is None:
                    file.close()
                partial.replace(target)
            except BaseException:  # and not in any case: the name may be that of another writer by now
                if fcntl is None:
                    file.close()
                partial.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise _in_words(path, error) from error


def check_writable(path: str | Path) -> Path:
    """The file that is written for ``path``, behind any symbolic links, checked before a long run and not at its end.

    Raises:
        IsADirectoryError, FileNotFoundError: for a folder, and for a file in a folder that is not there.
        PermissionError: for a file that is read-only, be it to the superuser, and for one in a read-only folder.
        OSError: for a device, pipe or socket.
    """
    path = checks.path("a file's name", path)
    target = Path(os.path.realpath(path))
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        if not target.parent.is_dir():
            raise FileNotFoundError(f"{path} cannot be written: there is no folder {target.parent}") from None
    except OSError as error:
        raise _in_words(path, error) from error
    else:
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(f"{path} is a folder; give the name of a file")
        if not stat.S_ISREG(mode):
            raise OSError(f"{path} is a device, pipe or socket, and is left as it is; give the name of a file")
        if not (mode & 0o222 and _may(target, os.W_OK)):
            raise PermissionError(f"{path} cannot be written: it is read-only. Make it writable or give another name")
    if not _may(target.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} cannot be written: no file can be made in {target.parent}")
    return target


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _create(target: Path) -> tuple[Path, BinaryIO]:
    """A new file beside ``target``, open; where files can be locked it is, and takes the place of a killed writer's."""
    # The suffix stays last: writers of images choose their format by it.
    suffix = target.suffix if len(target.suffix) <= _LONGEST_SUFFIX else ""
    key = hashlib.blake2b(os.fsencode(target.name), digest_size=8).hexdigest()
    start = f".{target.stem[:_SHOWN_CHARACTERS]}.{key}"
    partial = target.with_name(f"{start}.partial{suffix}")
    file = _locked(partial)
    if file is None:
        partial = target.with_name(f"{start}.{uuid.uuid4().hex}.partial{suffix}")
        file = partial.open("xb")
    with suppress(OSError):  # where there is no such file, its permissions are those of any new one
        partial.chmod(stat.S_IMODE(target.stat().st_mode))
    return partial, file


def _locked(partial: Path) -> BinaryIO | None:
    """The emptied file ``partial``, locked until it is closed; None if its writer lives, or files cannot be locked.

    The system drops a lock with the process that holds it, also in another container or on another machine. A process
    number in the name, or the age of the file, would not tell whether the writer lives.
    """
    try:
        file = partial.open("ab")
    except OSError:  # of another user, say
        return None
    try:
        if fcntl is None:
            raise OSError(errno.ENOSYS, "no locks")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with suppress(FileNotFoundError):
            if os.path.samestat(partial.stat(), os.fstat(file.fileno())):  # and not renamed since it was opened
                file.truncate(0)
                return file
        file.close()
    except OSError as error:
        file.close()
        if not isinstance(error, BlockingIOError):  # files cannot be locked here
            partial.unlink(missing_ok=True)
    return None


def _in_words(path: str | Path, error: OSError) -> OSError:
    told = type(error)(f"{path} cannot be written: {error.strerror or error}")
    told.errno = error.errno
    return told
