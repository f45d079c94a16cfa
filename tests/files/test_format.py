import contextlib
import json
import math
import os
import pickle
from pathlib import Path

import pytest
import torch
from conftest import sealed, write_sealed
from safetensors.torch import save, save_file

from glico_augment.errors import FileFormatError
from glico_augment.files.format import CHECKPOINT, FITTED, FORMAT_VERSION, checksum, read_file, write_file

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


def test_info_that_is_no_json_leaves_the_old_file(whole):
    with pytest.raises(TypeError):
        write_file(whole, TENSORS, {"tensor": torch.ones(1)})
    assert read_file(whole)[1] == INFO
    assert list(whole.parent.iterdir()) == [whole]


def test_every_truncation_is_refused_and_every_tail(path):
    write_file(path, {"x": torch.arange(3)}, {"n": 1})
    content = path.read_bytes()
    for damaged in (*(content[:length] for length in range(len(content))), content + b"x"):
        path.write_bytes(damaged)
        with pytest.raises(FileFormatError, match=f"{path.name} is truncated or damaged"):
            read_file(path)


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
        ({"format_version": "6"}, "has format version 6, newer than the version 5 .*: update glico-augment"),
        ({"format_version": "3"}, "has format version 3, older than the version 4 .*: read it with the release"),
        ({"format_version": DIGITS}, "has no valid format version .*9….*: it is damaged"),
        ({"format_version": "one"}, "has no valid format version .*'one'.*: it is damaged"),
        ({"format_version": ""}, "has no valid format version .*: it is damaged"),
        ({"format_version": "²"}, "has no valid format version .*: it is damaged"),
        ({"kind": CHECKPOINT}, "holds a checkpoint, expected a fit: a checkpoint is continued by the fit"),
        ({"kind": "\x1b[2Jfitted"}, r"holds '\\x1b\[2Jfitted', expected a fit: it is damaged"),
        ({"info": '{"a": ' + DIGITS + "}"}, "is damaged: .*digits"),
        ({"info": '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"}, "is damaged: .*nested too deeply"),
        ({"info": "{not json"}, "is damaged: Expecting property name"),
        ({"info": ""}, "is damaged: Expecting value"),
        ({"info": "[1]"}, "is damaged: its header has no JSON object"),
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


def change(metadata, tensors):
    """Every content that differs from this in one thing."""
    for key in metadata:
        yield {**metadata, key: metadata[key] + " "}, tensors
        yield {name: text for name, text in metadata.items() if name != key}, tensors
    yield {**metadata, "more": ""}, tensors
    yield metadata, {**tensors, "more": torch.zeros(0)}
    for name, tensor in tensors.items():
        others = {key: value for key, value in tensors.items() if key != name}
        yield metadata, others
        yield metadata, {**others, name + "s": tensor}
        yield metadata, {**others, name: tensor[None]}
        if tensor.numel():
            flipped = tensor.clone()
            flipped.view(-1).view(torch.uint8)[0] ^= 1
            yield metadata, {**others, name: flipped}
    yield metadata, {**tensors, "bfloat16": tensors["bfloat16"].view(torch.float16)}


def test_the_checksum_is_of_all_metadata_and_of_the_name_type_shape_and_bytes_of_every_tensor(path):
    metadata = {**GOOD, "info": json.dumps(INFO)}
    seal = checksum(metadata, TENSORS)
    assert checksum({**metadata, "checksum": "0"}, dict(reversed(TENSORS.items()))) == seal
    contents = list(change(metadata, TENSORS))
    for texts, tensors in contents:
        path.write_bytes(save(tensors, {**texts, "checksum": seal}))
        with pytest.raises(FileFormatError):
            read_file(path)
    assert len({checksum(*content) for content in contents}) == len(contents)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.replace('"codes":', '"codes":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"codes":'),
        lambda header: header.replace("[2]", f"[{DIGITS}]"),
        lambda header: header.replace("[0,8]", f"[0,{'9' * 4300}]"),
        lambda header: header.replace("[0,8]", "[0,-8]"),
        lambda header: header.replace("[0,8]", "[4,8]"),
        lambda header: header.replace("[0,8]", "[" * 100_000),
        lambda header: header.replace('"F32"', '"F4"'),
        lambda header: header.replace('"kind":"fitted"', '"kind":1'),
        lambda header: header.replace('"kind":"fitted"', '"kind":"fitted","kind":"style"'),
        lambda header: "[]",
        lambda header: '{"__metadata__":3}',
    ],
)
def test_a_forged_header_is_refused_or_reads_to_what_it_was(path, change):
    write_sealed(path, {"codes": torch.ones(2)}, GOOD)
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = change(content[8:end].decode()).encode()
    path.write_bytes(sealed(len(header).to_bytes(8, "little") + header + content[end:]))
    read = None
    with contextlib.suppress(FileFormatError):
        read = read_file(path)
    assert read is None or (read[0]["codes"].tolist() == [1, 1] and read[1] == {})


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
    with pytest.raises(FileFormatError, match="holds a fit, expected a checkpoint: choose another checkpoint= path"):
        read_file(whole, kind=CHECKPOINT)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file: .*nowhere"):
        read_file(tmp_path / "nowhere" / "model.safetensors")
    with pytest.raises(FileFormatError, match=f"{tmp_path.name} is a folder; expected a file"):
        read_file(tmp_path)
