import hashlib
import math
import os
import pickle
from pathlib import Path

import pytest
import torch
from conftest import sealed, write_sealed
from safetensors import safe_open
from safetensors.torch import save_file

from glico_augment.errors import FileFormatError
from glico_augment.files.format import CHECKPOINT, FITTED, FORMAT_VERSION, read_file, write_file

TENSORS = {
    "codes": torch.randn(50, 8, generator=torch.Generator().manual_seed(0)),
    "labels": torch.tensor([-(2**62), 0, 2**62]),
    "bfloat16": torch.tensor([1.0, -0.0, 3e38], dtype=torch.bfloat16),
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


def test_one_content_is_one_file(tmp_path):
    contents = set()
    for attempt in range(12):  # safetensors has five texts to put into some order
        write_file(tmp_path / f"{attempt}", TENSORS, INFO)
        contents.add((tmp_path / f"{attempt}").read_bytes())
    assert len(contents) == 1
    (content,) = contents
    assert int.from_bytes(content[:8], "little") % 8 == 0


def test_info_that_is_no_json_leaves_the_old_file(whole):
    with pytest.raises(TypeError):
        write_file(whole, TENSORS, {"tensor": torch.ones(1)})
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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX")
def test_a_pipe_and_a_device_are_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for special in (tmp_path / "pipe", Path("/dev/null"), Path("/dev/zero")):
        with pytest.raises(FileFormatError, match="is a device, pipe or socket; expected a file written by save"):
            read_file(special)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
def test_a_file_without_permission_is_no_missing_file(whole):
    whole.chmod(0)
    user = os.geteuid()
    os.seteuid(65534 if user == 0 else user)  # to root every file can be read
    try:
        with pytest.raises(PermissionError, match=f"{whole.name} cannot be read: Permission denied"):
            read_file(whole)
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("length", [0x80, 0x280, 0x480])
def test_a_file_whose_header_is_as_long_as_a_pickle_begins_is_none(path, length):
    for filling in range(1024):
        write_file(path, {}, {"filling": "x" * filling})
        if path.read_bytes()[:8] == length.to_bytes(8, "little"):
            assert read_file(path)[1] == {"filling": "x" * filling}
            return
    assert length == 0x80  # shorter than any


@pytest.mark.parametrize(
    "content", [b"just a line of text, nothing more", b"\xff\xd8\xff\xe0 a photograph" * 9, b"[" * 99]
)
def test_any_other_file_is_said_to_be_no_safetensors_file(path, content):
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=f"{path.name} is not a safetensors file"):
        read_file(path)


GOOD = {"format": "glico-augment", "format_version": str(FORMAT_VERSION), "kind": FITTED, "info": "{}"}
DIGITS = "9" * 5000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (None, "is a safetensors file, but not one written by glico-augment"),
        ({"format": "pt"}, "is a safetensors file, but not one written by glico-augment"),
        ({"format_version": "5"}, "has format version 5, newer than the version 4 .*: update glico-augment"),
        ({"format_version": "3"}, "has format version 3, older than the version 4 .*: read it with the release"),
        ({"format_version": DIGITS}, "has no valid format version .*9….*: it is damaged"),
        ({"format_version": "one"}, "has no valid format version .*'one'.*: it is damaged"),
        ({"format_version": ""}, "has no valid format version .*: it is damaged"),
        ({"format_version": "²"}, "has no valid format version .*: it is damaged"),
        ({"kind": CHECKPOINT}, "holds a checkpoint, expected a fitted: a checkpoint is continued by the fit"),
        ({"kind": "\x1b[2Jfitted"}, r"holds a '\\x1b\[2Jfitted', expected a fitted: it is damaged"),
        ({"info": '{"a": ' + DIGITS + "}"}, r"has a header that is not JSON: .*a number of 5000 digits"),
        ({"info": '{"a": NaN}'}, "has a header that is not JSON: .*the number 'NaN' is not finite"),
        ({"info": '{"a": 1e999}'}, "has a header that is not JSON: .*the number '1e999' is not finite"),
        ({"info": '{"a": 1, "a": 1}'}, "has a header that is not JSON: .*a key is there twice"),
        (
            {"info": '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"},
            "has a header that is not JSON: .*nested too deeply",
        ),
        ({"info": "{not json"}, "has a header that is not JSON: it is damaged"),
        ({"info": ""}, "has a header that is not JSON: it is damaged"),
        ({"info": "[1]"}, "has a header that is no JSON object: it is damaged"),
    ],
)
def test_a_foreign_header_is_refused_with_what_is_wrong(path, changes, message):
    write_sealed(path, {"codes": torch.ones(2)}, {} if changes is None else {**GOOD, **changes})
    with pytest.raises(FileFormatError, match=f"{path.name} {message}"):
        read_file(path)


def test_the_header_that_the_foreign_ones_are_made_from_is_good(path):
    assert str(FORMAT_VERSION) == GOOD["format_version"]
    write_sealed(path, {"codes": torch.ones(2)}, GOOD)
    assert read_file(path)[1] == {}


def test_a_file_without_a_checksum_or_with_another_is_refused(path):
    for metadata in (GOOD, {**GOOD, "checksum": "0" * 64}, {**GOOD, "checksum": "x"}):
        save_file({"codes": torch.ones(2)}, path, metadata)
        with pytest.raises(FileFormatError, match=f"{path.name} is damaged: its checksum is not that of its content"):
            read_file(path)


def test_the_checksum_is_the_sha_256_of_the_file_with_zeros_in_its_place(whole):
    with safe_open(whole, framework="pt") as file:
        checksum = file.metadata()["checksum"]
    blank = whole.read_bytes().replace(checksum.encode(), b"0" * 64)
    assert hashlib.sha256(blank).hexdigest() == checksum


def test_a_name_that_looks_like_a_checksum_does_not_move_it(path):
    name = '"checksum":"' + "0" * 64 + '"'
    write_file(path, {name: torch.ones(1)}, {"names": [name, "0" * 64]})
    assert read_file(path)[1] == {"names": [name, "0" * 64]}


def with_header(path, change):
    """Change the text of the header, with the length and the checksum that it should have."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = change(content[8:end].decode()).encode()
    path.write_bytes(sealed(len(header).to_bytes(8, "little") + header + content[end:]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda header: header.replace(
                '"codes":', '"codes":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"codes":'
            ),
            "",
        ),
        (lambda header: header.replace("[2]", f"[{DIGITS}]"), "a number of 5000 digits"),
        (lambda header: header.replace("[0,8]", f"[0,{'9' * 4300}]"), "of the wrong type"),
        (lambda header: header.replace("[0,8]", "[0,8.0]"), ""),
        (lambda header: header.replace("[0,8]", '[0,"8"]'), ""),
        (lambda header: header.replace("[0,8]", "[0,-8]"), ""),
        (lambda header: header.replace("[0,8]", "[4,8]"), ""),
        (lambda header: header.replace("[0,8]", "[]"), ""),
        (lambda header: header.replace("[0,8]", "8"), ""),
        (lambda header: header.replace("[0,8]", "[" * 100_000), "nested too deeply"),
        (lambda header: header.replace('"F32"', '"F16"'), ""),
        (lambda header: header.replace('"F32"', '"F4"'), ""),
        (lambda header: header.replace('"F32"', '"C64"'), ""),
        (lambda header: header.replace('"kind":"fitted"', '"kind":1'), "of the wrong type"),
        (lambda header: header.replace('"kind":"fitted"', '"kind":"fitted","kind":"fitted"'), "a key is there twice"),
        (lambda header: "[]", ""),
        (lambda header: '{"__metadata__":3}', ""),
        (lambda header: "null", ""),
    ],
)
def test_a_forged_header_is_refused(path, change, message):
    write_sealed(path, {"codes": torch.ones(2)}, GOOD)
    with_header(path, change)
    with pytest.raises(FileFormatError, match=f"{path.name} .*{message}"):
        read_file(path)


def test_forging_alone_changes_nothing(path):
    write_sealed(path, {"codes": torch.ones(2)}, GOOD)
    before = path.read_bytes()
    with_header(path, lambda header: header)
    assert path.read_bytes() == before


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_values_that_are_not_finite_are_neither_written_nor_read(path, value, dtype):
    tensors = {"a\n": torch.tensor([1.0, value], dtype=dtype)}
    with pytest.raises(ValueError, match=r"the tensor 'a\\n' holds NaN or an infinite value"):
        write_file(path, tensors, {})
    assert not path.exists()
    write_sealed(path, tensors, GOOD)
    with pytest.raises(FileFormatError, match=r"is damaged: the tensor 'a\\n' holds NaN"):
        read_file(path)


@pytest.mark.parametrize("context", [torch.inference_mode, lambda: torch.device("meta")])
def test_the_context_of_the_caller_changes_nothing(whole, context):
    with context():
        tensors, _ = read_file(whole)
    assert {name: bits(tensor) for name, tensor in tensors.items()} == {name: bits(t) for name, t in TENSORS.items()}
    assert not any(tensor.is_inference() for tensor in tensors.values())


def test_a_fitted_file_is_no_checkpoint(whole):
    with pytest.raises(FileFormatError, match="holds a fitted, expected a checkpoint: choose another checkpoint= path"):
        read_file(whole, kind=CHECKPOINT)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file: .*nowhere"):
        read_file(tmp_path / "nowhere" / "model.safetensors")
    with pytest.raises(FileFormatError, match=f"{tmp_path.name} is a folder; expected a file"):
        read_file(tmp_path)
