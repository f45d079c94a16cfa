import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from glico_augment.errors import FileFormatError
from glico_augment.files.format import (
    CHECKPOINT,
    FITTED,
    FORMAT_VERSION,
    check_writable,
    read_file,
    write_atomically,
    write_file,
)

TENSORS = {
    "codes": torch.randn(50, 8, generator=torch.Generator().manual_seed(0)),
    "labels": torch.tensor([-(2**62), 0, 2**62]),
    "bfloat16": torch.tensor([1.0, -0.0, math.inf, math.nan], dtype=torch.bfloat16),
    "float16": torch.tensor([[6e-8]], dtype=torch.float16),
    "float64": torch.tensor(math.pi, dtype=torch.float64),
    "uint8": torch.arange(256).to(torch.uint8),
    "bool": torch.tensor([True, False]),
    "empty": torch.zeros(0, 3),
}
INFO = {"text": "Größe ✓", "number": 0.1, "nothing": None, "list": [1, [2.5, True]], "object": {"a": -1}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture
def whole(path):
    write_file(path, TENSORS, INFO)
    return path


def bits(tensor):
    return (tensor.dtype, tensor.shape, tensor.contiguous().reshape(-1).view(torch.uint8).tolist())


def test_tensors_of_every_type_come_back_bit_for_bit_and_the_info_with_them(whole):
    tensors, info = read_file(str(whole))
    assert info == INFO
    assert {name: bits(tensor) for name, tensor in tensors.items()} == {name: bits(t) for name, t in TENSORS.items()}


def test_views_and_parameters_are_written_as_the_values_they_show(path):
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {"column": base[:, 1], "turned": base.T, "first": base[0], "parameter": torch.nn.Parameter(base[1])}
    write_file(path, tensors, {})
    read, _ = read_file(path)
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())
    assert not any(tensor.requires_grad for tensor in read.values())


def test_only_the_tensors_named_are_read(whole):
    assert set(read_file(whole, names=("codes", "labels"))[0]) == {"codes", "labels"}
    with pytest.raises(FileFormatError, match="lacks the tensors digests, losses: it is damaged"):
        read_file(whole, names=iter(["losses", "codes", "digests"]))


def test_writing_again_replaces_the_file_and_leaves_nothing_else(whole):
    write_file(whole, {"other": torch.ones(2)}, {"n": 2}, kind=CHECKPOINT)
    tensors, info = read_file(whole, kind=CHECKPOINT)
    assert (list(tensors), info) == (["other"], {"n": 2})
    assert list(whole.parent.iterdir()) == [whole]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_writer_that_fails_leaves_the_old_file_and_no_partial_one(path, error, is_there):
    if is_there:
        path.write_text("old")

    def write(partial):
        assert partial.parent == path.parent
        assert partial.suffix == path.suffix
        partial.write_text("half")
        raise error

    with pytest.raises(error):
        write_atomically(path, write)
    assert {file.name: file.read_text() for file in path.parent.iterdir()} == ({path.name: "old"} if is_there else {})


def test_info_that_is_no_json_leaves_the_old_file(whole):
    with pytest.raises(TypeError):
        write_file(whole, TENSORS, {"tensor": torch.ones(1)})
    assert read_file(whole)[1] == INFO
    assert list(whole.parent.iterdir()) == [whole]


FULL_DISK = """
import resource, signal, sys, torch
from glico_augment.files.format import write_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    write_file(sys.argv[1], {"large": torch.zeros(100_000)}, {})
except OSError as error:
    sys.exit(0 if sys.argv[1] in str(error) else f"the message lacks the path: {error}")
sys.exit("nothing was raised")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_a_full_disk_is_an_os_error_that_names_the_file_and_leaves_the_old_one(whole):
    command = [sys.executable, "-c", FULL_DISK, str(whole)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    assert read_file(whole)[1] == INFO
    assert list(whole.parent.iterdir()) == [whole]


@pytest.mark.parametrize("share", [0.0, 0.0005, 0.002, 0.1, 0.2, 0.5, 0.9, 0.9999])
def test_a_truncated_file_is_said_to_be_truncated(whole, share):
    content = whole.read_bytes()
    whole.write_bytes(content[: int(share * len(content))])
    with pytest.raises(FileFormatError, match=f"{whole.name} is truncated") as caught:
        read_file(whole)
    assert f"{int(share * len(content))} bytes" in str(caught.value)


def test_every_truncation_is_refused(path):
    write_file(path, {"x": torch.arange(3)}, {"n": 1})
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(FileFormatError, match="truncated"):
            read_file(path)


def test_a_file_with_a_damaged_header_or_a_tail_is_refused(whole):
    content = whole.read_bytes()
    for damaged in (content + b"more", content[:8] + b"x" + content[9:], content[:8] + b"\xff" * 50 + content[58:]):
        whole.write_bytes(damaged)
        with pytest.raises(FileFormatError, match=whole.name):
            read_file(whole)


class Evil:
    """Unpickling it would make a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (torch.save, "is a zip archive, as of torch.save, whatever its name; it was not unpickled"),
        (
            lambda thing, path: torch.save(thing, path, _use_new_zipfile_serialization=False),
            "is a pickle, whatever its name; it was not unpickled",
        ),
        (lambda thing, path: path.write_bytes(pickle.dumps(thing)), "is a pickle, .* not unpickled"),
        (lambda thing, path: path.write_bytes(pickle.dumps(thing, protocol=2)), "is a pickle, .* not unpickled"),
        (lambda thing, path: path.write_bytes(pickle.dumps(thing, protocol=0)), "is not a safetensors file"),
    ],
)
def test_a_pickle_is_named_one_and_never_unpickled(path, write, message):
    marker = path.with_name("marker")
    write({"codes": torch.ones(3), "evil": Evil(marker)}, path)
    with pytest.raises(FileFormatError, match=f"{path.name} {message}"):
        read_file(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "content", [b"just a line of text, nothing more", b"\xff\xd8\xff\xe0 a photograph" * 9, b"[" * 99]
)
def test_any_other_file_is_said_to_be_no_safetensors_file(path, content):
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=f"{path.name} is not a safetensors file"):
        read_file(path)


GOOD = {"format": "glico-augment", "format_version": str(FORMAT_VERSION), "kind": FITTED, "info": "{}"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (None, "is a safetensors file, but not one written by glico-augment"),
        ({"format": "pt"}, "is a safetensors file, but not one written by glico-augment"),
        ({"format_version": "4"}, "has format version 4, newer than the version 3 .*: update glico-augment"),
        ({"format_version": "1"}, "has format version 1, older than the version 3 .*: read it with the release"),
        ({"format_version": "one"}, "has no valid format version .*'one'.*: it is damaged"),
        ({"format_version": ""}, "has no valid format version .*: it is damaged"),
        ({"format_version": "²"}, "has no valid format version .*: it is damaged"),
        ({"kind": CHECKPOINT}, "holds a checkpoint, expected a fitted: a checkpoint is continued by the fit"),
        ({"info": "{not json"}, "has a header that is not JSON: it is damaged"),
        ({"info": ""}, "has a header that is not JSON: it is damaged"),
        ({"info": "[1]"}, "has a header that is no JSON object: it is damaged"),
    ],
)
def test_a_foreign_header_is_refused_with_what_is_wrong(path, changes, message):
    metadata = None if changes is None else {**GOOD, **changes}
    save_file({"codes": torch.ones(2)}, path, metadata)
    with pytest.raises(FileFormatError, match=f"{path.name} {message}"):
        read_file(path)


def test_the_header_that_the_foreign_ones_are_made_from_is_good(path):
    assert str(FORMAT_VERSION) == GOOD["format_version"]
    save_file({"codes": torch.ones(2)}, path, GOOD)
    assert read_file(path)[1] == {}


def test_a_fitted_file_is_no_checkpoint(whole):
    with pytest.raises(FileFormatError, match="holds a fitted, expected a checkpoint: choose another checkpoint= path"):
        read_file(whole, kind=CHECKPOINT)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file: .*nowhere"):
        read_file(tmp_path / "nowhere" / "model.safetensors")
    with pytest.raises(FileFormatError, match=f"{tmp_path.name} is a folder; expected a file"):
        read_file(tmp_path)


@pytest.mark.parametrize("write", [check_writable, lambda path: write_file(path, TENSORS, {})])
def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path, write):
    with pytest.raises(IsADirectoryError, match="is a folder; give the name of a file"):
        write(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        write(tmp_path / "nowhere" / "model.safetensors")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot be written"):
        write(tmp_path / "file" / "model.safetensors")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="cannot be written"):
        check_writable(tmp_path / "model.safetensors")
    tmp_path.chmod(0o700)


def test_checking_leaves_no_file_and_no_change(whole, tmp_path):
    before = whole.read_bytes()
    check_writable(whole)
    check_writable(tmp_path / "new.safetensors")
    assert list(tmp_path.iterdir()) == [whole]
    assert whole.read_bytes() == before


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX permissions")
def test_a_file_has_the_permissions_of_any_new_file(tmp_path):
    write_file(tmp_path / "a.safetensors", {"x": torch.zeros(1)}, {})
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
